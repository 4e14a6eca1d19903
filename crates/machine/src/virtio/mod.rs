//! Virtio devices on PCI, modern only (Virtual I/O Device 1.2): the transport once, each device a small trait.
//!
//! [`VirtioFunction`] is what the guest sees on PCI; its [`Engine`] owns the queues and the device and is shared with
//! whoever serves them: the machine's event thread, or a [`Worker`](crate::worker::Worker) for devices that wait for the host. Doorbells are
//! ioeventfds and interrupts irqfds, so a request costs no exit to user space.
//!
//! Everything in a queue is the guest's and may lie: what makes no sense breaks the device until its driver resets it
//! (DEVICE_NEEDS_RESET), and nothing else.

mod block;
mod doorbells;
mod engine;
mod function;
mod interrupt;
mod net;
mod pci_layout;
mod registers;
mod request;
mod ring;
mod rng;
mod tablet;
#[cfg(test)]
mod testing;

pub(crate) use block::{Block, SECTOR};
pub(crate) use doorbells::Doorbells;
pub(crate) use engine::Engine;
pub use function::FunctionError;
pub(crate) use function::VirtioFunction;
pub(crate) use interrupt::Interrupt;
pub(crate) use net::{Net, serve_network};
pub(crate) use rng::Rng;
pub(crate) use tablet::{Point, Pointer, Tablet};

use std::sync::Arc;

use request::Request;

/// What a device is, besides what it does: constant for as long as it lives.
#[derive(Clone, Debug)]
pub(crate) struct Kind {
    /// Its name in messages.
    pub(crate) name: String,
    /// The virtio device id (section 5).
    pub(crate) id: u16,
    /// The PCI class code.
    pub(crate) class: u32,
    /// Feature bits of its own, below those of the transport.
    pub(crate) features: u64,
    /// The largest size of each queue: powers of two.
    pub(crate) queues: Vec<u16>,
    /// Whether it leaves out what its driver can do without: messages (it tells by pin then) and the way to the BAR
    /// through config space. A guest that looks for a capability reads all of them, about ten times, and each read is
    /// an exit; for a device that answers once a minute that is the larger part of its cost.
    pub(crate) frugal: bool,
    /// Its configuration as the driver reads it; devices without have none.
    pub(crate) config: Vec<u8>,
    /// Its option ROM; most have none.
    pub(crate) rom: Option<Arc<[u8]>>,
}

/// A virtio device: what it is, and what it does with requests.
pub(crate) trait VirtioDevice: Send {
    /// Says what it is.
    fn kind(&self) -> Kind;

    /// Learns which of its features the driver has accepted. Requests follow.
    fn accept(&mut self, features: u64) {
        let _ = features;
    }

    /// Takes what the driver writes to its configuration, and gives the configuration as it is then; `None` for devices
    /// whose configuration is only read.
    fn configure(&mut self, offset: usize, data: &[u8]) -> Option<Vec<u8>> {
        let _ = (offset, data);
        None
    }

    /// Whether it can carry a request of this queue out now; one that cannot has itself served again when it can.
    fn is_ready(&mut self, queue: usize) -> bool {
        let _ = queue;
        true
    }

    /// Carries a request out and gives the number of bytes written to it.
    ///
    /// # Errors
    /// When the request makes no sense: the device is broken then, until it is reset.
    fn answer(&mut self, queue: usize, request: Request<'_>) -> Result<u32, Broken>;
}

/// A driver put nonsense into a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// Indexes, addresses or sizes of the queue itself.
    Ring,
    /// A descriptor chain that loops, ends nowhere, leaves RAM, is too long, or has its parts out of order.
    Chain,
    /// A request without the parts that its device needs.
    Request,
}
