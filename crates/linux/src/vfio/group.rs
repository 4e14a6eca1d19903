//! The older way to a device: the file of its IOMMU group, in a container.

use std::ffi::CString;
use std::mem::offset_of;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use spec::PciAddress;
use vfio_bindings::bindings::vfio::{
    VFIO_GROUP_FLAGS_CONTAINER_SET, VFIO_GROUP_FLAGS_VIABLE, vfio_group_status,
};

use super::error::{Cause, DeviceError, Operation};
use super::ioctl::{self, Block};
use super::kernel_device::KernelDevice;
use crate::iommu::{IommuError, IommuOperation};

/// An open IOMMU group.
#[derive(Debug)]
pub struct Group {
    id: u32,
    file: OwnedFd,
    taken_over: GroupStatus,
}

/// The state of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupStatus {
    /// Whether no function of the group is in the hands of a host driver.
    pub viable: bool,
    /// Whether it lies in a container.
    pub in_container: bool,
}

impl Group {
    /// Takes the open file of group `id`, own or inherited; anything else is refused.
    pub fn from_fd(id: u32, file: OwnedFd) -> Result<Self, IommuError> {
        let taken_over = status(id, file.as_fd())?;
        Ok(Self { id, file, taken_over })
    }

    /// The state in which it was taken over.
    pub(crate) fn taken_over(&self) -> GroupStatus {
        self.taken_over
    }

    /// The number of the group.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Asks for the state.
    pub fn status(&self) -> Result<GroupStatus, IommuError> {
        status(self.id, self.file.as_fd())
    }

    /// Opens a function of the group, which must lie in a container.
    ///
    /// The kernel resets a function that can be reset before this returns, so a reset right after it is waste;
    /// function-level reset takes 100 ms and more, and different functions can be opened at once.
    pub fn open_device(&self, address: PciAddress) -> Result<KernelDevice, DeviceError> {
        let name = address.to_string();
        let fail = |cause| DeviceError::new(Operation::Open { name: name.clone() }, cause);
        let name = CString::new(name.clone()).map_err(|_| fail(Cause::Malformed("a zero in the name")))?;
        let file =
            ioctl::get_device_fd(self.file.as_fd(), &name).map_err(|errno| fail(Cause::Errno(errno)))?;
        KernelDevice::from_fd(file)
    }
}

fn status(group: u32, file: BorrowedFd<'_>) -> Result<GroupStatus, IommuError> {
    let mut block = [0; size_of::<vfio_group_status>()];
    ioctl::block(file, Block::GroupStatus, &mut block)
        .map_err(|errno| IommuError::new(IommuOperation::GroupStatus { group }, errno))?;
    let flags = ioctl::u32_at(&block, offset_of!(vfio_group_status, flags)).unwrap_or(0);
    Ok(GroupStatus {
        viable: flags & VFIO_GROUP_FLAGS_VIABLE != 0,
        in_container: flags & VFIO_GROUP_FLAGS_CONTAINER_SET != 0,
    })
}

impl AsFd for Group {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
