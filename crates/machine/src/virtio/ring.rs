//! A split virtqueue in use: requests out of it, answers into it, and whether the driver wants to hear of them.
//!
//! Thin over the `virtio-queue` crate, which walks rings and chains. Added here: what the crate passes over in silence
//! is an error, and drivers without event indexes can say that they want no interrupt.

use std::sync::Arc;

use linux::memory::{GuestAddress, GuestBytes, GuestMemory};
use virtio_queue::{Queue, QueueOwnedT, QueueT};

use super::Broken;
use super::request::Request;

/// The feature bit by which driver and device say when they want to hear of each other (VIRTIO_F_EVENT_IDX).
pub(super) const EVENT_INDEX: u64 = 1 << 29;

/// The driver wants no interrupts (VIRTQ_AVAIL_F_NO_INTERRUPT, section 2.7.6), in the first word of its ring.
const NO_INTERRUPT: u16 = 1;

/// Where a driver has put a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Placement {
    /// Descriptors.
    pub(super) size: u16,
    /// The descriptor table.
    pub(super) descriptors: u64,
    /// The driver's ring of requests.
    pub(super) available: u64,
    /// The device's ring of answers.
    pub(super) used: u64,
}

/// A queue in use.
pub(super) struct Ring {
    queue: Queue,
    memory: Arc<GuestMemory>,
}

/// Whether the next request is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proceed {
    /// It is.
    Yes,
    /// Not before the device has something for it; it says when.
    Later,
    /// Not now.
    Stop,
}

impl From<bool> for Proceed {
    fn from(proceed: bool) -> Self {
        if proceed { Self::Yes } else { Self::Stop }
    }
}

/// What serving a queue came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Served {
    /// Nothing is left that can be served; driver or device ring when there is more.
    All,
    /// It was not to go on.
    More,
}

impl Ring {
    /// Begins to use a queue.
    ///
    /// # Errors
    /// When it does not lie in RAM, aligned, and of a size that is a power of two.
    pub(super) fn new(memory: Arc<GuestMemory>, at: &Placement, features: u64) -> Result<Self, Broken> {
        let ring = |_| Broken::Ring;
        let mut queue = Queue::new(at.size).map_err(ring)?;
        queue.try_set_desc_table_address(GuestAddress(at.descriptors)).map_err(ring)?;
        queue.try_set_avail_ring_address(GuestAddress(at.available)).map_err(ring)?;
        queue.try_set_used_ring_address(GuestAddress(at.used)).map_err(ring)?;
        queue.set_event_idx(features & EVENT_INDEX != 0);
        queue.set_ready(true);
        if queue.is_valid(&*memory) { Ok(Self { queue, memory }) } else { Err(Broken::Ring) }
    }

    /// Lets `answer` carry requests out, each giving the bytes it wrote, for as long as `proceed` says so and up to
    /// `limit`; calls `interrupt` for those that the driver wants to hear of.
    ///
    /// # Errors
    /// When the driver put nonsense into the queue.
    pub(super) fn serve<P: Into<Proceed>>(
        &mut self,
        limit: u16,
        mut proceed: impl FnMut() -> P,
        mut answer: impl FnMut(Request<'_>) -> Result<u32, Broken>,
        interrupt: impl Fn(),
    ) -> Result<Served, Broken> {
        let mut left = limit;
        loop {
            self.queue.disable_notification(&*self.memory).map_err(|_| Broken::Ring)?;
            loop {
                // Before a request is taken: one that was taken must be answered.
                if left == 0 {
                    return Ok(Served::More);
                }
                match proceed().into() {
                    Proceed::Yes => {}
                    Proceed::Later => return Ok(Served::All),
                    Proceed::Stop => return Ok(Served::More),
                }
                let Some((head, request)) = next(&mut self.queue, &self.memory)? else { break };
                let written = answer(request)?;
                self.queue.add_used(&*self.memory, head, written).map_err(|_| Broken::Ring)?;
                if self.wants_interrupt()? {
                    interrupt();
                }
                left -= 1;
            }
            let more = self.queue.enable_notification(&*self.memory).map_err(|_| Broken::Ring)?;
            if !more {
                return Ok(Served::All);
            }
        }
    }

    fn wants_interrupt(&mut self) -> Result<bool, Broken> {
        let wanted = self.queue.needs_notification(&*self.memory).map_err(|_| Broken::Ring)?;
        if !wanted || self.queue.event_idx_enabled() {
            return Ok(wanted);
        }
        // `needs_notification` has put a fence before this read.
        let flags: u16 =
            self.memory.read_obj(GuestAddress(self.queue.avail_ring())).map_err(|_| Broken::Ring)?;
        Ok(u16::from_le(flags) & NO_INTERRUPT == 0)
    }
}

/// The oldest request that has not been answered, and the index by which it is.
fn next<'m>(queue: &mut Queue, memory: &'m GuestMemory) -> Result<Option<(u16, Request<'m>)>, Broken> {
    // More requests than descriptors is an error of `iter`; a chain that starts past the table's end is empty.
    let mut available = queue.iter(memory).map_err(|_| Broken::Ring)?;
    let Some(chain) = available.next() else { return Ok(None) };
    let head = chain.head_index();
    Ok(Some((head, Request::collect(memory, chain)?)))
}

#[cfg(test)]
mod tests;
