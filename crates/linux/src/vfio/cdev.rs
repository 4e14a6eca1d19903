//! The newer way to a device: its own file, bound to an iommufd.

use std::mem::offset_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use vfio_bindings::bindings::vfio::vfio_device_attach_iommufd_pt;

use super::error::{DeviceError, Operation};
use super::ioctl::{self, Block};
use super::kernel_device::KernelDevice;
use crate::iommu::{Ioas, Iommufd};

/// Bytes of `struct vfio_device_bind_iommufd` up to the device id, which is all that every kernel knows.
const BIND_SIZE: usize = 16;

/// The open file of a device that may not be bound yet.
#[derive(Debug)]
pub struct Cdev {
    name: String,
    file: OwnedFd,
}

impl Cdev {
    /// Takes the open file of a device, own or inherited; `name` is for messages.
    pub fn from_fd(name: String, file: OwnedFd) -> Self {
        Self { name, file }
    }

    /// Binds the device to `iommufd` unless it is bound, and opens it; the kernel resets it here.
    ///
    /// It can do no DMA before [`attach`].
    pub fn bind(self, iommufd: &Iommufd) -> Result<KernelDevice, DeviceError> {
        let mut block = vec![0; 8];
        block.extend(iommufd.as_fd().as_raw_fd().to_le_bytes());
        block.resize(BIND_SIZE, 0);
        let fail = |errno| DeviceError::new(Operation::Bind { name: self.name }, errno);
        match ioctl::block(self.file.as_fd(), Block::BindIommufd, &mut block) {
            Ok(_) => KernelDevice::from_fd(self.file),
            // A device is bound once (drivers/vfio/device_cdev.c): whoever passed the file on may have done it, and
            // then the device answers; else another has bound it by a file of his own.
            Err(Errno::INVAL) => KernelDevice::from_fd(self.file).map_err(|_| fail(Errno::BUSY)),
            Err(errno) => Err(fail(errno)),
        }
    }
}

impl AsFd for Cdev {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Lets the DMA of a bound device go through `space`.
pub fn attach(device: &KernelDevice, space: &Ioas) -> Result<(), DeviceError> {
    let mut block = [0; offset_of!(vfio_device_attach_iommufd_pt, pasid)];
    let place = offset_of!(vfio_device_attach_iommufd_pt, pt_id);
    if let Some(id) = block.get_mut(place..place + 4) {
        id.copy_from_slice(&space.id().to_le_bytes());
    }
    ioctl::block(device.as_fd(), Block::AttachIoas, &mut block)
        .map(drop)
        .map_err(|errno| DeviceError::new(Operation::Attach { space: space.id() }, errno))
}
