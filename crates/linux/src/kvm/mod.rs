//! KVM: the virtual machine, its vCPUs, interrupt routes and event fds.
//!
//! Thin over the `kvm-ioctls` crate; what is added is ownership (a memory slot holds its memory), exits as typed
//! values, and errors that name the call.

mod coalesced;
mod events;
mod exit;
mod vcpu;
mod vm;

use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

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

    /// Makes an empty virtual machine.
    pub fn create_vm(&self) -> Result<Vm, KvmError> {
        Vm::create(&self.kvm)
    }
}
