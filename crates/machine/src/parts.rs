//! Stretches of guest memory that make up one transfer, as a device reads and fills them.
//!
//! Not here: where they come from (descriptor chains, region tables, page lists). The disks and virtio are the callers.

use linux::memory::{GuestAddress, GuestBytes, GuestMemory, GuestMemoryBackend, VolatileSlice};

/// Stretches of guest memory, one after another.
#[derive(Clone, Default)]
pub(crate) struct Parts<'m>(Vec<VolatileSlice<'m>>);

impl<'m> Parts<'m> {
    /// Adds `len` bytes at `address`; `None` when they are not all RAM.
    pub(crate) fn add(&mut self, memory: &'m GuestMemory, address: u64, len: u64) -> Option<()> {
        for slice in memory.get_slices(GuestAddress(address), usize::try_from(len).ok()?) {
            self.0.push(slice.ok()?);
        }
        Some(())
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes in all.
    pub(crate) fn len(&self) -> u64 {
        self.0.iter().map(|part| part.len() as u64).sum()
    }

    /// The stretches.
    pub(crate) fn slices(&self) -> &[VolatileSlice<'m>] {
        &self.0
    }

    /// Cuts after `at` bytes; `None` when there are not so many.
    pub(crate) fn split_at(mut self, at: u64) -> Option<(Self, Self)> {
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
    pub(crate) fn read(&self, bytes: &mut [u8]) -> usize {
        let mut done = 0;
        for part in &self.0 {
            let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) else { break };
            done += part.copy_to(rest);
        }
        done
    }

    /// Copies into the first bytes; gives for how many there was room.
    pub(crate) fn write(&self, bytes: &[u8]) -> usize {
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
