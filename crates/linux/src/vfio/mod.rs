//! Assigned PCI functions as the kernel's VFIO gives them: regions, interrupts, reset.
//!
//! A thin layer: every call states what was tried and gives the kernel's error number back. Not here: any decision
//! about what a guest may see or do, and DMA, which is [`crate::iommu`]. The machine's assigned functions call
//! [`Device`]; the process that opens or inherits the files calls [`Access`].
//!
//! Dropping anything here closes files of this process and does no more. The kernel then disables interrupts and
//! bus mastering and resets the function when its last file is closed (`drivers/vfio/pci/vfio_pci_core.c`).

mod access;
mod cdev;
pub mod config;
mod error;
pub mod fake;

mod group;
mod hot_reset;
pub(crate) mod info;
pub(crate) mod ioctl;
mod irq;
mod kernel_device;
mod kvm;
mod rom;
mod vectors;

pub use access::{Access, AccessError, Inherited};
pub use cdev::{Cdev, attach};
pub use error::{Cause, DeviceError, Operation};
pub use group::{Group, GroupStatus};
pub use hot_reset::{ConcernedFunction, Holder, Ownership, ResetScope};
pub use info::{Area, AtomicCompletion, DeviceInfo, RegionIndex, RegionInfo, RegionKind};
pub use irq::{IrqAction, IrqIndex, IrqInfo, MAX_VECTORS};
pub use kernel_device::KernelDevice;
pub use kvm::{KvmFileError, add_to_kvm, remove_from_kvm};
pub use rom::{MAX_ROM_BYTES, Rom, RomContent, read_rom, rom_bar_size};
pub use rustix::io::Errno;
pub use vectors::MessageVectors;

use std::os::fd::BorrowedFd;

use crate::memory::Mapping;

/// The page in which the kernel maps device memory, in bytes.
pub const PAGE_SIZE: u64 = 4096;

/// An open PCI function: the kernel's, or a scripted one ([`fake::FakeDevice`]).
///
/// All calls take `&self`; the kernel orders those that must not meet. A function that was removed answers with
/// errors or with all-ones; it never makes a call panic.
pub trait Device: Send + Sync {
    /// What the device is; asked once when it was opened.
    fn info(&self) -> DeviceInfo;

    /// Describes a region. One that is not there has size 0 or is an error, as the kernel answers.
    fn region(&self, region: RegionIndex) -> Result<RegionInfo, DeviceError>;

    /// Reads all of `data` at `offset` of a region; fewer bytes are an error.
    fn read(&self, region: RegionIndex, offset: u64, data: &mut [u8]) -> Result<(), DeviceError>;

    /// Writes all of `data` at `offset` of a region; fewer bytes are an error.
    fn write(&self, region: RegionIndex, offset: u64, data: &[u8]) -> Result<(), DeviceError>;

    /// Lets the kernel write `value` at `offset` of a region whenever `event` is signalled; `None` ends that.
    ///
    /// A dword of a BAR outside the MSI-X table, at a multiple of four (`vfio_pci_rdwr.c`, vfio_pci_ioeventfd). It ends
    /// with the open device too. The same write can be wanted once.
    fn write_on_event(
        &self,
        region: RegionIndex,
        offset: u64,
        value: u32,
        event: Option<BorrowedFd<'_>>,
    ) -> Result<(), DeviceError>;

    /// Maps part of a region; the area must lie in one of [`RegionInfo::areas`]. A region below a page is
    /// mapped as a whole page.
    fn map(&self, region: RegionIndex, area: Area) -> Result<Mapping, DeviceError>;

    /// Describes a kind of interrupt; one the function does not have has count 0 or is an error.
    fn irq(&self, irq: IrqIndex) -> Result<IrqInfo, DeviceError>;

    /// Changes interrupts. Only one of INTx, MSI and MSI-X is enabled at a time.
    fn set_irqs(&self, irq: IrqIndex, action: IrqAction<'_>) -> Result<(), DeviceError>;

    /// Resets the function alone. May take seconds, and may never return on hardware that is broken.
    ///
    /// `EAGAIN` when the host has the function locked, as it has while it waits to get it back; `ENOTTY` when no way
    /// of resetting worked, as after a removal.
    fn reset(&self) -> Result<(), DeviceError>;

    /// Tells which functions a reset of the slot or bus concerns.
    fn reset_scope(&self) -> Result<ResetScope, DeviceError>;

    /// Resets the slot or bus, when `ownership` covers every function concerned.
    fn hot_reset(&self, ownership: Ownership<'_>) -> Result<(), DeviceError>;
}
