//! The interrupts of an assigned function: VFIO signals an event fd, KVM turns it into the guest's interrupt, and nothing
//! of ours runs in between.
//!
//! Pin, MSI and MSI-X exclude each other, in the hardware and in VFIO. The message routes are `messages`'; it has
//! listened to a vector's trigger before this module arms the vector. Nothing here is undone by masking: a masked
//! vector's signals wait in its trigger.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use linux::EventFd;
use linux::event::fd_of;
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

/// The interrupts of one function in one life of the machine.
pub(crate) struct Interrupts {
    hardware: Arc<Hardware>,
    triggers: Triggers,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    pin: Option<PinWire>,
    enabled: Enabled,
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
}

impl Interrupts {
    /// Nothing is enabled until [`start`](Self::start). A function without a pin has no wire.
    pub(crate) fn new(hardware: Arc<Hardware>, triggers: Triggers) -> Self {
        Self { hardware, triggers, state: Mutex::default() }
    }

    /// Connects the pin.
    pub(crate) fn connect_pin(&self, wire: PinWire) {
        self.lock().pin = Some(wire);
    }

    /// Enables the pin, as it is after power-on, before the guest runs.
    pub(crate) fn start(&self) {
        let mut state = self.lock();
        let outcome = state.connect_pin(self.device());
        self.tell("its interrupt pin does not work", outcome);
    }

    /// Enables the pin again after a reset that the guest asked for.
    pub(crate) fn restart(&self) {
        let mut state = self.lock();
        let outcome = state.enable_pin(self.device());
        self.tell("its interrupt pin does not work", outcome);
    }

    /// Disables whatever is enabled.
    pub(crate) fn stop(&self) {
        let mut state = self.lock();
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
        if !change.enabled {
            if on {
                self.back_to_pin(state);
            }
            return;
        }
        let speaking = change.vectors.iter().filter(|vector| vector.message.is_some());
        let vectors: Vec<_> = speaking.map(|vector| u32::from(vector.vector)).collect();
        if !on {
            let outcome = self.enable(state, IrqIndex::Msix, &vectors);
            self.tell("its MSI-X interrupts do not work", outcome);
        } else if let Enabled::Messages(_, messages) = &mut state.enabled {
            for vector in vectors {
                if !messages.is_armed(vector) {
                    let outcome = self.arm(messages, vector);
                    self.tell(&format!("its MSI-X vector {vector} does not work"), outcome);
                }
            }
        }
    }

    fn back_to_pin(&self, state: &mut State) {
        let outcome = state.disable(self.device()).and_then(|()| state.enable_pin(self.device()));
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
    /// Enables the pin under a guest that runs.
    fn enable_pin(&mut self, device: &dyn Device) -> Result<(), DeviceError> {
        if self.pin.is_none() {
            return Ok(());
        }
        self.connect_pin(device)?;
        // An interrupt between its two calls may have been served by now, and its unmasking lost.
        device.set_irqs(IrqIndex::Intx, IrqAction::Unmask)
    }

    /// Enables the pin as long as nobody can serve it: the guest does not run.
    fn connect_pin(&mut self, device: &dyn Device) -> Result<(), DeviceError> {
        let Some(wire) = &self.pin else { return Ok(()) };
        let set = |action: IrqAction<'_>| device.set_irqs(IrqIndex::Intx, action);
        set(IrqAction::Signal { start: 0, fds: &[Some(fd_of(&wire.trigger))] })?;
        self.enabled = Enabled::Pin;
        set(IrqAction::UnmaskOn(Some(fd_of(&wire.resample))))
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
