//! What stores the bytes of a disk, whatever shows them to the guest.
//!
//! Not here: files (`linux::disk`), and what a guest may ask for (`virtio::block`, `ahci`).

use std::io;

use linux::memory::VolatileSlice;

/// What stores the bytes of a disk.
pub(crate) trait Storage: Send {
    /// Its length in bytes.
    fn len(&self) -> u64;
    /// Fills the parts from an offset.
    fn read_at(&self, offset: u64, parts: &[VolatileSlice<'_>]) -> io::Result<()>;
    /// Writes the parts at an offset.
    fn write_at(&self, offset: u64, parts: &[VolatileSlice<'_>]) -> io::Result<()>;
    /// Makes all that was written last.
    fn flush(&self) -> io::Result<()>;
    /// Forgets a range.
    fn discard(&self, offset: u64, len: u64) -> io::Result<()>;
}

impl Storage for std::sync::Arc<linux::disk::Disk> {
    fn len(&self) -> u64 {
        linux::disk::Disk::len(self)
    }

    fn read_at(&self, offset: u64, parts: &[VolatileSlice<'_>]) -> io::Result<()> {
        linux::disk::Disk::read_at(self, offset, parts)
    }

    fn write_at(&self, offset: u64, parts: &[VolatileSlice<'_>]) -> io::Result<()> {
        linux::disk::Disk::write_at(self, offset, parts)
    }

    fn flush(&self) -> io::Result<()> {
        linux::disk::Disk::flush(self)
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        linux::disk::Disk::discard(self, offset, len)
    }
}
