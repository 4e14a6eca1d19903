//! Everything that is asked of the Linux kernel, as owned and typed handles.
//!
//! This is the only crate with unsafe code. Not here: any policy, any decision about a device or a machine.

pub mod disk;
pub mod event;
pub mod heap;
pub mod inherit;
pub mod iommu;
pub mod kvm;
pub mod link;
pub mod memory;
pub mod net;
pub mod processor;
pub mod random;
pub mod sandbox;
pub mod stream;
pub mod sysfs;
pub mod vfio;
pub mod zone;

pub use vmm_sys_util::eventfd::EventFd;
