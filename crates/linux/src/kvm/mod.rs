//! KVM: the virtual machine, its vCPUs, interrupt routes and event fds.
//!
//! Thin over the `kvm-ioctls` crate; what is added is ownership (a memory slot holds its memory), exits as typed
//! values, and errors that name the call.

mod coalesced;
mod events;
mod exit;
mod vcpu;
mod vm;

use std::path::Path;

pub use events::{IoEvent, IrqFd};
pub use exit::Exit;
pub use kvm_bindings::{
    kvm_cpuid_entry2 as CpuidEntry, kvm_dtable as DescriptorTable, kvm_segment as Segment,
};
pub use vcpu::{Kick, Registers, StartState, Vcpu};
pub use vm::{IrqLine, MsiRoute, Slot, Vm};

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

/// The host has no KVM that can be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenKvmError {
    /// The device could not be opened.
    #[error("open {path}")]
    Open {
        /// The device file.
        path: String,
        /// What the kernel said.
        #[source]
        errno: std::io::Error,
    },
    /// It speaks another version of the interface.
    #[error("{path} speaks version {version} of the KVM interface, not 12")]
    Version {
        /// The device file.
        path: String,
        /// What it said.
        version: i32,
    },
}

/// The one stable version of the KVM interface (Linux Documentation/virt/kvm/api.rst, KVM_GET_API_VERSION).
const API_VERSION: i32 = 12;

impl Kvm {
    /// Opens the KVM device at `path`, usually `/dev/kvm`.
    pub fn open(path: &Path) -> Result<Self, OpenKvmError> {
        let name = path.display().to_string();
        let open = |errno| OpenKvmError::Open { path: name.clone(), errno };
        let text = std::ffi::CString::new(path.as_os_str().as_encoded_bytes())
            .map_err(|error| open(std::io::Error::other(error)))?;
        let kvm = kvm_ioctls::Kvm::new_with_path(text)
            .map_err(|error| open(std::io::Error::from_raw_os_error(error.errno())))?;
        let version = kvm.get_api_version();
        if version != API_VERSION {
            return Err(OpenKvmError::Version { path: name, version });
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
