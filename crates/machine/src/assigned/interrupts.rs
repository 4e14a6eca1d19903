//! The interrupts of an assigned function: VFIO signals an event fd, KVM turns it into the guest's interrupt, and nothing
//! of ours runs in between.
//!
//! Pin, MSI and MSI-X exclude each other, in the hardware and in VFIO. The message routes are `messages`'; it has
//! listened to a vector's trigger before this module arms the vector. Nothing here is undone by masking: a masked
//! vector's signals wait in its trigger.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use linux::EventFd;
use linux::event::fd_of;
use linux::kvm::KvmError;
use linux::vfio::{Cause, Device, DeviceError, IrqAction, IrqIndex, MessageVectors};
use pci::{Change, MsiChange, MsixChange};

use super::hardware::Hardware;
use super::health::explain;
use crate::messages::Triggers;

/// The pin's wire to the interrupt controllers of one life.
pub(crate) struct PinWire {
    /// What VFIO signals when the pin is asserted.
    pub(crate) trigger: Arc<EventFd>,
    /// What KVM signals when the guest has served the interrupt.
    pub(crate) resample: Arc<EventFd>,
    /// Keeps KVM listening; dropped to end that.
    pub(crate) _listener: Box<dyn Send>,
}

/// Makes a pin's wire.
pub(crate) type Wiring = Box<dyn Fn() -> Result<PinWire, WireError> + Send>;

/// A pin has no way to the guest.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("make an event fd")]
    Event(#[source] std::io::Error),
    #[error(transparent)]
    Kvm(#[from] KvmError),
}

/// The interrupts of one function in one life of the machine.
pub(crate) struct Interrupts {
    hardware: Arc<Hardware>,
    triggers: Triggers,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    wiring: Option<Wiring>,
    // Made when first needed: most drivers ask for messages, and a wire costs time at the start and the end of a machine.
    wire: Option<PinWire>,
    // Whether the guest has let the function decode: no driver makes one that does not use its pin.
    awake: bool,
    enabled: Enabled,
    // The vectors of MSI-X that the guest lets speak now.
    speaking: BTreeSet<u32>,
}

/// The one kind of interrupt that VFIO has enabled.
#[derive(Default)]
enum Enabled {
    #[default]
    Nothing,
    Pin,
    Messages(IrqIndex, MessageVectors),
}

/// A vector could not be armed.
#[derive(Debug, thiserror::Error)]
enum ArmError {
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error("make an event fd")]
    Event(#[source] std::io::Error),
    #[error(transparent)]
    Wire(#[from] WireError),
}

impl Interrupts {
    /// Nothing is enabled until [`wake`](Self::wake). A function without a pin has no wire.
    pub(crate) fn new(hardware: Arc<Hardware>, triggers: Triggers) -> Self {
        Self { hardware, triggers, state: Mutex::default() }
    }

    /// Says how the pin is wired, if it is needed.
    pub(crate) fn connect_pin(&self, wiring: Wiring) {
        self.lock().wiring = Some(wiring);
    }

    /// The guest lets the function decode: from now on its pin works, where no messages are enabled. To be called before
    /// the function hears of it.
    pub(crate) fn wake(&self) {
        let mut state = self.lock();
        if std::mem::replace(&mut state.awake, true) || !matches!(state.enabled, Enabled::Nothing) {
            return;
        }
        let outcome = state.connect_pin(self.device()).map(drop);
        self.tell("its interrupt pin does not work", outcome);
    }

    /// Disables whatever is enabled, until the next [`wake`](Self::wake).
    pub(crate) fn stop(&self) {
        let mut state = self.lock();
        state.awake = false;
        let outcome = state.disable(self.device());
        self.tell("its interrupts cannot be switched off", outcome);
    }

    /// Follows what the guest made of MSI and MSI-X.
    pub(crate) fn follow(&self, change: &Change) {
        let mut state = self.lock();
        match change {
            Change::Msi(change) => self.follow_msi(&mut state, change),
            Change::Msix(change) => self.follow_msix(&mut state, change),
            _ => {}
        }
    }

    fn follow_msi(&self, state: &mut State, change: &MsiChange) {
        let on = matches!(state.enabled, Enabled::Messages(IrqIndex::Msi, _));
        if !change.state.enabled {
            if on {
                self.back_to_pin(state);
            }
            return;
        }
        // How many vectors there are is decided when the guest enables them; masks are heeded behind the trigger.
        if !on {
            let vectors: Vec<_> = (0..change.state.vectors.into()).collect();
            let outcome = self.enable(state, IrqIndex::Msi, &vectors);
            self.tell("its message interrupts do not work", outcome);
        }
    }

    fn follow_msix(&self, state: &mut State, change: &MsixChange) {
        let on = matches!(state.enabled, Enabled::Messages(IrqIndex::Msix, _));
        for changed in &change.vectors {
            let vector = changed.vector.into();
            let _ = match changed.message {
                Some(_) => state.speaking.insert(vector),
                None => state.speaking.remove(&vector),
            };
        }
        if !change.enabled {
            if on {
                self.back_to_pin(state);
            }
            return;
        }
        if !on {
            // All of them: what the host could not give before, it may have now.
            let vectors: Vec<_> = state.speaking.iter().copied().collect();
            let outcome = self.enable(state, IrqIndex::Msix, &vectors);
            self.tell("its MSI-X interrupts do not work", outcome);
        } else if let Enabled::Messages(_, messages) = &mut state.enabled {
            let speak = change.vectors.iter().filter(|vector| vector.message.is_some());
            for vector in speak.map(|vector| u32::from(vector.vector)) {
                if !messages.is_armed(vector) {
                    let outcome = self.arm(messages, vector);
                    self.tell(&format!("its MSI-X vector {vector} does not work"), outcome);
                }
            }
        }
    }

    fn back_to_pin(&self, state: &mut State) {
        let outcome = state.disable(self.device()).map_err(ArmError::from);
        let outcome = outcome.and_then(|()| state.enable_pin(self.device()));
        self.tell("its interrupt pin does not work", outcome);
    }

    /// Enables messages with `vectors` armed.
    fn enable(&self, state: &mut State, irq: IrqIndex, vectors: &[u32]) -> Result<(), ArmError> {
        let device = self.device();
        state.disable(device)?;
        let mut messages = MessageVectors::new(device, irq)?;
        for vector in vectors {
            self.arm(&mut messages, *vector)?;
        }
        let mut outcome = messages.enable(device);
        if let Err(DeviceError { cause: Cause::FewerVectors { available }, .. }) = outcome {
            // The host is short of vectors: those it has are better than none.
            for vector in vectors.iter().filter(|vector| **vector >= available) {
                messages.disarm(device, *vector)?;
            }
            outcome = messages.enable(device);
            self.hardware
                .health
                .note(&format!("the host has only {available} of its {} {irq} vectors", vectors.len()));
        }
        outcome?;
        state.enabled = Enabled::Messages(irq, messages);
        Ok(())
    }

    fn arm(&self, messages: &mut MessageVectors, vector: u32) -> Result<(), ArmError> {
        let trigger = u16::try_from(vector)
            .map_err(std::io::Error::other)
            .and_then(|vector| self.triggers.event(vector));
        let fd = trigger.and_then(|trigger| copy(&trigger)).map_err(ArmError::Event)?;
        Ok(messages.arm(self.device(), vector, fd)?)
    }

    fn device(&self) -> &dyn Device {
        self.hardware.device.as_ref()
    }

    /// Tells what failed. A function whose interrupts fail is the guest's to cope with, as on a machine with a broken
    /// card; one that is gone ends the machine.
    fn tell(&self, what: &str, outcome: Result<(), impl Into<ArmError>>) {
        if let Err(error) = outcome {
            let error = error.into();
            self.hardware.health.suspect(self.device());
            self.hardware.health.note(&format!("{what}: {}", explain(&error)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Enables the pin under a function that may be using it.
    fn enable_pin(&mut self, device: &dyn Device) -> Result<(), ArmError> {
        if !self.awake || !self.connect_pin(device)? {
            return Ok(());
        }
        // An interrupt between the two calls of that may have been served by now, and its unmasking lost.
        Ok(device.set_irqs(IrqIndex::Intx, IrqAction::Unmask)?)
    }

    /// Enables the pin, if there is one; enough for a function that has nothing to tell yet.
    fn connect_pin(&mut self, device: &dyn Device) -> Result<bool, ArmError> {
        let Some(wiring) = &self.wiring else { return Ok(false) };
        let wire = match self.wire.take() {
            Some(wire) => wire,
            None => wiring()?,
        };
        let wire = self.wire.insert(wire);
        let set = |action: IrqAction<'_>| device.set_irqs(IrqIndex::Intx, action);
        set(IrqAction::Signal { start: 0, fds: &[Some(fd_of(&wire.trigger))] })?;
        self.enabled = Enabled::Pin;
        set(IrqAction::UnmaskOn(Some(fd_of(&wire.resample))))?;
        Ok(true)
    }

    fn disable(&mut self, device: &dyn Device) -> Result<(), DeviceError> {
        match std::mem::take(&mut self.enabled) {
            Enabled::Nothing => Ok(()),
            Enabled::Pin => device.set_irqs(IrqIndex::Intx, IrqAction::Disable),
            Enabled::Messages(_, mut messages) => messages.disable(device),
        }
    }
}

fn copy(event: &EventFd) -> std::io::Result<OwnedFd> {
    fd_of(event).try_clone_to_owned()
}
