//! A request as a device sees it: memory to read, then memory to write, taken from a descriptor chain.
//!
//! Not here: what devices make of it, and the queue it came from.

use linux::memory::{GuestBytes, GuestMemory, GuestMemoryBackend, VolatileSlice};
use virtio_queue::DescriptorChain;

use super::Broken;

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

/// Stretches of guest memory, one after another.
#[derive(Clone, Default)]
pub(crate) struct Parts<'m>(Vec<VolatileSlice<'m>>);

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
            let out_of_order = !descriptor.is_write_only() && !writable.0.is_empty();
            if count == DESCRIPTORS || out_of_order {
                return Err(Broken::Chain);
            }
            let parts = if descriptor.is_write_only() { &mut writable } else { &mut readable };
            for slice in memory.get_slices(descriptor.addr(), descriptor.len() as usize) {
                parts.0.push(slice.map_err(|_| Broken::Chain)?);
            }
            complete = !descriptor.has_next();
        }
        if complete { Ok(Self { readable, writable }) } else { Err(Broken::Chain) }
    }
}

impl<'m> Parts<'m> {
    /// Bytes in all.
    pub(super) fn len(&self) -> u64 {
        self.0.iter().map(|part| part.len() as u64).sum()
    }

    /// The stretches.
    pub(super) fn slices(&self) -> &[VolatileSlice<'m>] {
        &self.0
    }

    /// Cuts after `at` bytes; `None` when there are not so many.
    pub(super) fn split_at(mut self, at: u64) -> Option<(Self, Self)> {
        let mut left = usize::try_from(at).ok()?;
        let mut index = 0;
        while let Some(part) = self.0.get(index).filter(|part| part.len() <= left) {
            left -= part.len();
            index += 1;
        }
        let mut rest = self.0.split_off(index);
        if left > 0 {
            let first = rest.first_mut()?;
            let (before, after) = first.split_at(left).ok()?;
            self.0.push(before);
            *first = after;
        }
        Some((self, Self(rest)))
    }

    /// Copies the first bytes out; gives how many there were.
    pub(super) fn read(&self, bytes: &mut [u8]) -> usize {
        let mut done = 0;
        for part in &self.0 {
            let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) else { break };
            done += part.copy_to(rest);
        }
        done
    }

    /// Copies into the first bytes; gives for how many there was room.
    pub(super) fn write(&self, bytes: &[u8]) -> usize {
        let mut done = 0;
        for part in &self.0 {
            let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) else { break };
            let count = rest.len().min(part.len());
            // A part is as long as it says, so this moves all of `count`.
            done += part.write(rest.get(..count).unwrap_or_default(), 0).unwrap_or(0);
        }
        done
    }
}
