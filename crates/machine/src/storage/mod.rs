//! What stores the bytes of a disk, whatever shows them to the guest.
//!
//! Not here: files (`linux::disk`), and what a guest may ask for (`virtio::block`, `ahci`).

pub(crate) mod qcow2;
pub(crate) mod told;

use std::io;
use std::sync::Arc;

use linux::memory::VolatileSlice;

use qcow2::Qcow2;

/// An open image: how a file's bytes are a disk's.
#[derive(Clone, Debug)]
pub enum Image {
    /// One to one.
    Raw(Arc<linux::disk::Disk>),
    /// As its tables say.
    Qcow2(Arc<Qcow2>),
}

impl Image {
    /// Bytes of the disk.
    pub fn len(&self) -> u64 {
        match self {
            Self::Raw(file) => file.len(),
            Self::Qcow2(image) => Storage::len(image),
        }
    }

    /// Whether the disk has no byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn storage(&self) -> Box<dyn Storage> {
        match self {
            Self::Raw(file) => Box::new(Arc::clone(file)),
            Self::Qcow2(image) => Box::new(Arc::clone(image)),
        }
    }
}

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

impl Storage for Arc<linux::disk::Disk> {
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
