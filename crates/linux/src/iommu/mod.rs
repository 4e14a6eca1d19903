//! DMA of assigned functions: which memory they reach, and at which addresses.
//!
//! One trait over the two ways the kernel offers: a type1 container with groups, and an I/O address space of
//! iommufd. The memory followers of the machine call it; nobody else maps by hand. Not here: which memory is
//! mapped where.

pub mod fake;
mod iommufd;
mod type1;

use std::ops::RangeInclusive;

pub use iommufd::{Ioas, Iommufd};
pub use type1::Type1;

use rustix::io::Errno;

use crate::memory::MappingRange;

/// What a device sees as memory.
pub trait AddressSpace: Send + Sync {
    /// Tells what can be mapped now: this changes as devices are added.
    fn limits(&self) -> Result<Limits, IommuError>;

    /// Lets devices reach `memory` from address `iova` on; the pages are locked in memory until unmapped.
    ///
    /// Address and length must be multiples of the smallest page; an address already in use is refused.
    fn map(&self, iova: u64, memory: &MappingRange, access: DmaAccess) -> Result<(), IommuError>;

    /// Takes `len` bytes from `iova` on away again. Must cover whole maps and leave no gap: anything else is an
    /// error, though what lay inside may be gone.
    fn unmap(&self, iova: u64, len: u64) -> Result<(), IommuError>;
}

/// What devices may do with mapped memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DmaAccess {
    /// Read only; a write is blocked and logged by the host.
    Read,
    /// Read and write.
    ReadWrite,
}

/// What can be mapped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Page sizes of the IOMMU as a bitmap: bit 12 is 4 KiB. 0 when the kernel does not tell.
    pub page_sizes: u64,
    /// The addresses that can be mapped, by rising address; the gaps belong to the platform.
    pub ranges: Vec<RangeInclusive<u64>>,
    /// Maps that can still be made; `None` when nothing limits them but memory.
    pub maps_left: Option<u32>,
}

/// An operation on an address space that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{operation}")]
pub struct IommuError {
    /// What was tried.
    pub operation: IommuOperation,
    /// Why it failed.
    #[source]
    pub cause: IommuCause,
}

/// An operation on an address space, with its parameters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are the parameters of the operation, named as there")]
pub enum IommuOperation {
    /// Opening the control file.
    #[error("open {path}")]
    Open { path: String },
    /// Asking what a file is.
    #[error("ask what the IOMMU file is")]
    Identify,
    /// Asking for the state of a group.
    #[error("ask for the state of IOMMU group {group}")]
    GroupStatus { group: u32 },
    /// Putting a group into the container.
    #[error("put IOMMU group {group} into the container")]
    AddGroup { group: u32 },
    /// Choosing the kind of IOMMU of the container.
    #[error("choose the type1 v2 IOMMU")]
    ChooseType1,
    /// Making an I/O address space.
    #[error("make an I/O address space")]
    Allocate,
    /// Asking what can be mapped.
    #[error("ask what the IOMMU can map")]
    Limits,
    /// Mapping memory.
    #[error("map {len:#x} bytes for DMA ({access:?}) at {iova:#x}")]
    Map { iova: u64, len: u64, access: DmaAccess },
    /// Unmapping memory.
    #[error("unmap {len:#x} bytes of DMA at {iova:#x}")]
    Unmap { iova: u64, len: u64 },
}

/// Why an operation on an address space failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IommuCause {
    /// The kernel's error number.
    #[error(transparent)]
    Errno(Errno),
    /// More or less than asked for was mapped there.
    #[error("{unmapped:#x} bytes were mapped there")]
    Partial {
        /// Bytes that were mapped and are not now.
        unmapped: u64,
    },
    /// The answer contradicts the kernel's own rules.
    #[error("the answer is malformed: {0}")]
    Malformed(&'static str),
    /// The file speaks another version of the interface.
    #[error("the kernel speaks version {0} of VFIO, not 0")]
    Version(u32),
    /// A function of the group is in the hands of a host driver.
    #[error("a host driver holds a function of the group")]
    NotViable,
    /// The kernel does not offer what is needed.
    #[error("the kernel does not offer it")]
    NotOffered,
}

impl IommuError {
    /// Makes the error of `operation` from `cause`.
    pub fn new(operation: IommuOperation, cause: impl Into<IommuCause>) -> Self {
        Self { operation, cause: cause.into() }
    }

    /// The kernel's error number, when it gave one.
    pub fn errno(&self) -> Option<Errno> {
        match self.cause {
            IommuCause::Errno(errno) => Some(errno),
            _ => None,
        }
    }
}

impl From<Errno> for IommuCause {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}
