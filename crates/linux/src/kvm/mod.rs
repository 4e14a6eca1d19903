//! KVM: the virtual machine, its vCPUs, interrupt routes and event fds.
//!
//! Thin over the `kvm-ioctls` crate; what is added is ownership (a memory slot holds its memory), exits as typed
//! values, and errors that name the call.

mod coalesced;
mod events;
mod exit;
mod vcpu;
mod vm;

use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};

pub use events::{IoEvent, IrqFd};
pub use exit::Exit;
pub use kvm_bindings::{
    kvm_cpuid_entry2 as CpuidEntry, kvm_dtable as DescriptorTable, kvm_segment as Segment,
};
pub use vcpu::{Kick, Registers, StartState, Vcpu};
pub use vm::{IrqLine, MsiRoute, Slot, VfioDevice, Vm};

/// A KVM call failed.
#[derive(Debug, thiserror::Error)]
#[error("KVM: {call}")]
pub struct KvmError {
    /// The ioctl and its parameters.
    pub call: String,
    /// What the kernel said.
    #[source]
    pub errno: std::io::Error,
}

impl KvmError {
    fn new(call: impl Into<String>) -> impl FnOnce(kvm_ioctls::Error) -> Self {
        let call = call.into();
        move |error| Self { call, errno: std::io::Error::from_raw_os_error(error.errno()) }
    }
}

/// The host's KVM.
#[derive(Debug)]
pub struct Kvm {
    kvm: kvm_ioctls::Kvm,
}

/// The file is no KVM that can be used.
#[derive(Debug, thiserror::Error)]
#[error("the KVM device answers {answer} for the version of its interface, not 12; is it /dev/kvm?")]
pub struct NotKvm {
    /// What it answered; -1 for no answer.
    answer: i32,
}

/// Hyper-V has some ten leaves (arch/x86/kvm/hyperv.c).
const HYPERV_LEAVES: usize = 32;

/// `_IOWR(KVMIO, 0xc1, struct kvm_cpuid2)` (include/uapi/linux/kvm.h).
const SUPPORTED_HYPERV: libc::Ioctl = 0xc008_aec1_u32 as libc::Ioctl;

/// The one stable version of the KVM interface (Linux Documentation/virt/kvm/api.rst, KVM_GET_API_VERSION).
const API_VERSION: i32 = 12;

impl Kvm {
    /// Uses the open KVM device `file`, which is `/dev/kvm` of the host.
    pub fn from_file(file: OwnedFd) -> Result<Self, NotKvm> {
        // SAFETY: the fd is open and now has no other owner. That it is KVM's is checked next.
        let kvm = unsafe { kvm_ioctls::Kvm::from_raw_fd(file.into_raw_fd()) };
        let answer = kvm.get_api_version();
        if answer != API_VERSION {
            return Err(NotKvm { answer });
        }
        Ok(Self { kvm })
    }

    /// The largest number of vCPUs a machine can have.
    pub fn max_vcpus(&self) -> usize {
        self.kvm.get_max_vcpus()
    }

    /// Whether the in-kernel local APIC has the TSC-deadline timer, which supported CPUID leaves out.
    pub fn has_tsc_deadline(&self) -> bool {
        self.kvm.check_extension(kvm_ioctls::Cap::TscDeadlineTimer)
    }

    /// The CPUID leaves that the host's CPU and KVM can show to a guest.
    pub fn supported_cpuid(&self) -> Result<Vec<CpuidEntry>, KvmError> {
        let cpuid = self
            .kvm
            .get_supported_cpuid(kvm_bindings::KVM_MAX_CPUID_ENTRIES)
            .map_err(KvmError::new("KVM_GET_SUPPORTED_CPUID"))?;
        Ok(cpuid.as_slice().to_vec())
    }

    /// The CPUID leaves of Hyper-V that KVM implements (Documentation/virt/kvm/api.rst, KVM_GET_SUPPORTED_HV_CPUID).
    pub fn supported_hyperv(&self) -> Result<Vec<CpuidEntry>, KvmError> {
        let call = "KVM_GET_SUPPORTED_HV_CPUID";
        let last = || KvmError { call: call.to_owned(), errno: std::io::Error::last_os_error() };
        let mut leaves = kvm_bindings::CpuId::new(HYPERV_LEAVES)
            .map_err(|_| KvmError { call: call.to_owned(), errno: std::io::ErrorKind::OutOfMemory.into() })?;
        // kvm-ioctls has no such call.
        // SAFETY: the structure has room for as many entries as it says, and KVM writes no more.
        match unsafe { libc::ioctl(self.kvm.as_raw_fd(), SUPPORTED_HYPERV, leaves.as_mut_fam_struct_ptr()) } {
            0.. => Ok(leaves.as_slice().to_vec()),
            _ => Err(last()),
        }
    }

    /// Makes an empty virtual machine.
    pub fn create_vm(&self) -> Result<Vm, KvmError> {
        Vm::create(&self.kvm)
    }
}
