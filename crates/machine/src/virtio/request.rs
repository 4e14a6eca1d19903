//! A request as a device sees it: memory to read, then memory to write, taken from a descriptor chain.
//!
//! Not here: what devices make of it, and the queue it came from.

use linux::memory::{Address, GuestMemory};
use virtio_queue::DescriptorChain;

use super::Broken;
use crate::parts::Parts;

/// Descriptors in a chain at most. A chain may be no longer than its queue (section 2.7.5.3.1), but drivers count
/// differently when a table is indirect; no queue of ours comes near this.
const DESCRIPTORS: usize = 1024;

/// A request.
pub(crate) struct Request<'m> {
    /// What the driver wrote for the device.
    pub(super) readable: Parts<'m>,
    /// Where the device writes.
    pub(super) writable: Parts<'m>,
}

impl<'m> Request<'m> {
    /// Collects what a chain describes.
    ///
    /// # Errors
    /// When the chain is broken in any way.
    pub(super) fn collect(
        memory: &'m GuestMemory,
        chain: DescriptorChain<&GuestMemory>,
    ) -> Result<Self, Broken> {
        let (mut readable, mut writable) = (Parts::default(), Parts::default());
        let mut complete = false;
        // The iterator ends by itself after as many descriptors as the table has, and where it meets nonsense.
        for (count, descriptor) in chain.enumerate() {
            // The device's part follows the driver's (section 2.7.4.2).
            let out_of_order = !descriptor.is_write_only() && !writable.is_empty();
            if count == DESCRIPTORS || out_of_order {
                return Err(Broken::Chain);
            }
            let parts = if descriptor.is_write_only() { &mut writable } else { &mut readable };
            parts.add(memory, descriptor.addr().raw_value(), descriptor.len().into()).ok_or(Broken::Chain)?;
            complete = !descriptor.has_next();
        }
        if complete { Ok(Self { readable, writable }) } else { Err(Broken::Chain) }
    }
}
