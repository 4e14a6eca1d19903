//! KVM's list of assigned devices: KVM learns from it that DMA may bypass caches.
//!
//! Not here: making the KVM device (`KVM_CREATE_DEVICE` of type VFIO), which the caller's VM does.

use std::os::fd::{AsFd, BorrowedFd};

use kvm_bindings::{KVM_DEV_VFIO_FILE_ADD, KVM_DEV_VFIO_FILE_DEL};
use rustix::io::Errno;

use super::ioctl;

/// KVM did not take or give back a VFIO file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{action} a VFIO file at KVM")]
pub struct KvmFileError {
    /// What was tried.
    pub action: &'static str,
    /// What the kernel said.
    #[source]
    pub errno: Errno,
}

/// Tells KVM of an assigned device: by its group's file, or by its own when bound to an iommufd.
pub fn add_to_kvm(kvm_device: impl AsFd, file: BorrowedFd<'_>) -> Result<(), KvmFileError> {
    ioctl::kvm_vfio_file(kvm_device.as_fd(), KVM_DEV_VFIO_FILE_ADD, file)
        .map_err(|errno| KvmFileError { action: "add", errno })
}

/// Takes back what [`add_to_kvm`] told.
pub fn remove_from_kvm(kvm_device: impl AsFd, file: BorrowedFd<'_>) -> Result<(), KvmFileError> {
    ioctl::kvm_vfio_file(kvm_device.as_fd(), KVM_DEV_VFIO_FILE_DEL, file)
        .map_err(|errno| KvmFileError { action: "remove", errno })
}
