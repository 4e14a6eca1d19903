//! Message interrupts: what functions have programmed, carried out as KVM routes and irqfds.
//!
//! Each vector of each function has an event fd, its *trigger* ([`Triggers`]); whoever signals it sends the vector's
//! message, without an exit or a system call of ours when it is the host's kernel (an assigned function). While the
//! guest masks the vector nobody listens to the trigger: a signal stays in it, which makes it the pending bit, and KVM
//! finds it there when it listens again (virt/kvm/eventfd.c, kvm_irqfd_assign).
//!
//! Changes that overtake each other on the way here are put right by [`Latest`]. Pins are [`Lines`]. Not here: the registers
//! (`pci::Msi`, `pci::Msix`), and who signals. The chipset is the caller.

mod latest;
mod lines;
mod triggers;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use linux::EventFd;
use linux::kvm::{KvmError, MsiRoute, Vm};
use pci::{Bdf, FunctionId, Message, MsiChange, MsixChange};

pub(crate) use latest::Latest;
pub(crate) use lines::{Lines, SharedLine};
pub(crate) use triggers::Triggers;

/// The first GSI for messages: those below are the pins of the IOAPIC.
const FIRST_GSI: u32 = 24;

/// One past the last GSI (KVM_MAX_IRQ_ROUTES in arch/x86/include/asm/kvm_host.h limits GSIs and routes alike; the pins of
/// PIC and IOAPIC take 39 routes).
const GSI_LIMIT: u32 = 4096 - 39;

/// Vectors that MSI can have.
const MSI_VECTORS: u8 = 32;

/// The interrupt controllers as this module needs them.
pub(crate) trait Controllers: Send + Sync {
    /// Makes these the only message routes.
    fn route(&self, routes: &[MsiRoute]) -> Result<(), KvmError>;

    /// Sends the message of `gsi` whenever `trigger` is signalled, and at once if it is; until the result is dropped.
    fn listen(&self, gsi: u32, trigger: Arc<EventFd>) -> Result<Box<dyn Send>, KvmError>;
}

/// A message could not be wired.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// KVM refused a call.
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// No event fd could be made.
    #[error(
        "make an event fd for an interrupt vector; a machine needs one for each, so raise the limit of open files"
    )]
    Event(#[source] std::io::Error),
    /// All GSIs are in use.
    #[error("the machine's functions use more than {} interrupt vectors at once", GSI_LIMIT - FIRST_GSI)]
    Full,
}

/// The messages of all functions in one life of the machine.
pub(crate) struct Messages {
    controllers: Box<dyn Controllers>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    functions: BTreeMap<FunctionId, Wiring>,
    // What KVM was last told, less what nobody uses any more: a route without a listener does nothing, so it stays
    // until other routes change.
    routes: BTreeMap<u32, MsiRoute>,
    free: Vec<u32>,
    // GSIs below this one have been in use.
    used: u32,
}

#[derive(Default)]
struct Wiring {
    triggers: Triggers,
    vectors: BTreeMap<u16, Vector>,
}

struct Vector {
    gsi: u32,
    // Dropped when the vector is masked.
    listener: Option<Box<dyn Send>>,
}

/// What is to be done for a vector.
#[derive(Clone, Copy)]
struct Order {
    vector: u16,
    message: Option<Message>,
    fire: bool,
}

impl Messages {
    pub(crate) fn new(controllers: impl Controllers + 'static) -> Self {
        Self { controllers: Box::new(controllers), state: Mutex::default() }
    }

    /// Lets the function `id` send its messages by `triggers`, which its owner signals. To be called when it is plugged
    /// in; a function that signals nothing itself need not.
    pub(crate) fn plug(&self, id: FunctionId, triggers: Triggers) {
        self.lock().functions.insert(id, Wiring { triggers, vectors: BTreeMap::new() });
    }

    /// Follows what a function's MSI-X has become. `requester` is the function's address, when it has one.
    pub(crate) fn follow_msix(
        &self,
        id: FunctionId,
        change: &MsixChange,
        requester: Option<Bdf>,
    ) -> Result<(), MessageError> {
        if !change.enabled {
            self.lock().release(id);
            return Ok(());
        }
        let orders: Vec<_> = change
            .vectors
            .iter()
            .map(|change| Order { vector: change.vector, message: change.message, fire: change.fire })
            .collect();
        self.carry_out(id, &orders, requester)
    }

    /// Follows what a function's MSI has become. `requester` is the function's address, when it has one.
    pub(crate) fn follow_msi(
        &self,
        id: FunctionId,
        change: &MsiChange,
        requester: Option<Bdf>,
    ) -> Result<(), MessageError> {
        if !change.state.enabled {
            self.lock().release(id);
            return Ok(());
        }
        let orders: Vec<_> = (0..MSI_VECTORS)
            .map(|vector| Order {
                vector: vector.into(),
                message: change.state.message(vector),
                fire: change.fire >> vector & 1 != 0,
            })
            .collect();
        self.carry_out(id, &orders, requester)
    }

    /// Masks first, then sets all routes at once if any is new, then listens: a trigger that is signalled meanwhile, or
    /// was before, is heard with the message that the guest has programmed last.
    fn carry_out(
        &self,
        id: FunctionId,
        orders: &[Order],
        requester: Option<Bdf>,
    ) -> Result<(), MessageError> {
        let mut state = self.lock();
        let requester = requester.map(Bdf::requester_id);
        let mut new_routes = false;
        for order in orders {
            match order.message {
                Some(message) => new_routes |= state.set_message(id, order.vector, message, requester)?,
                None => state.silence(id, order.vector),
            }
        }
        if new_routes {
            let routes: Vec<_> = state.routes.values().copied().collect();
            self.controllers.route(&routes)?;
        }
        for order in orders.iter().filter(|order| order.message.is_some()) {
            self.listen(&mut state, id, order.vector)?;
        }
        let wiring = state.functions.get(&id);
        for order in orders.iter().filter(|order| order.fire) {
            if let Some(wiring) = wiring {
                wiring.triggers.signal(order.vector);
            }
        }
        Ok(())
    }

    fn listen(&self, state: &mut State, id: FunctionId, vector: u16) -> Result<(), MessageError> {
        let Some(wiring) = state.functions.get_mut(&id) else { return Ok(()) };
        let Some(wired) = wiring.vectors.get_mut(&vector) else { return Ok(()) };
        if wired.listener.is_none() {
            let trigger = wiring.triggers.event(vector).map_err(MessageError::Event)?;
            wired.listener = Some(self.controllers.listen(wired.gsi, trigger)?);
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Gives the vector this message; true when KVM does not know it yet.
    fn set_message(
        &mut self,
        id: FunctionId,
        vector: u16,
        message: Message,
        requester: Option<u16>,
    ) -> Result<bool, MessageError> {
        let known = self.functions.get(&id).and_then(|wiring| wiring.vectors.get(&vector));
        let gsi = match known {
            Some(vector) => vector.gsi,
            None => {
                let gsi = self.take_gsi()?;
                let wiring = self.functions.entry(id).or_default();
                wiring.vectors.insert(vector, Vector { gsi, listener: None });
                gsi
            }
        };
        let route = MsiRoute { gsi, address: message.address, data: message.data, requester };
        Ok(self.routes.insert(gsi, route) != Some(route))
    }

    /// Stops listening; the route stays for when the vector is unmasked.
    fn silence(&mut self, id: FunctionId, vector: u16) {
        let wiring = self.functions.get_mut(&id);
        if let Some(vector) = wiring.and_then(|wiring| wiring.vectors.get_mut(&vector)) {
            vector.listener = None;
        }
    }

    /// Gives up everything of a function but its triggers.
    fn release(&mut self, id: FunctionId) {
        let Some(wiring) = self.functions.get_mut(&id) else { return };
        for vector in std::mem::take(&mut wiring.vectors).into_values() {
            self.routes.remove(&vector.gsi);
            self.free.push(vector.gsi);
        }
    }

    fn take_gsi(&mut self) -> Result<u32, MessageError> {
        if let Some(gsi) = self.free.pop() {
            return Ok(gsi);
        }
        let gsi = self.used.max(FIRST_GSI);
        if gsi >= GSI_LIMIT {
            return Err(MessageError::Full);
        }
        self.used = gsi + 1;
        Ok(gsi)
    }
}

impl Controllers for Vm {
    fn route(&self, routes: &[MsiRoute]) -> Result<(), KvmError> {
        self.set_msi_routes(routes)
    }

    fn listen(&self, gsi: u32, trigger: Arc<EventFd>) -> Result<Box<dyn Send>, KvmError> {
        Ok(Box::new(self.irqfd(gsi, trigger, None)?))
    }
}

#[cfg(test)]
mod tests;
