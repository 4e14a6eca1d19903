//! What the kernel writes to a fake device whenever an eventfd is signalled (`drivers/vfio/pci/vfio_pci_rdwr.c`,
//! vfio_pci_ioeventfd).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::interrupts::drain;
use crate::vfio::RegionIndex;

/// A region, an offset there, and the dword that is written.
pub(super) type Write = (RegionIndex, u64, u32);

/// All that were asked for.
#[derive(Debug, Default)]
pub(super) struct WrittenOnEvent {
    writes: Vec<(Write, OwnedFd)>,
}

impl WrittenOnEvent {
    /// Asks for a write, once, or takes it away.
    pub(super) fn set(&mut self, write: Write, event: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
        let known = self.writes.iter().position(|(known, _)| *known == write);
        match (known, event) {
            (Some(_), Some(_)) => return Err(Errno::EXIST),
            (None, None) => return Err(Errno::NODEV),
            (Some(index), None) => drop(self.writes.swap_remove(index)),
            (None, Some(event)) => self.writes.push((write, rustix::io::dup(event)?)),
        }
        Ok(())
    }

    /// The writes whose events were signalled, which they are no longer.
    pub(super) fn due(&self) -> Vec<Write> {
        let signalled = self.writes.iter().filter(|(_, event)| drain(event.as_fd()));
        signalled.map(|(write, _)| *write).collect()
    }
}
