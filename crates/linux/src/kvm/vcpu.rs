//! One virtual CPU: its start state, running it, and kicking it out of the guest from another thread.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU8, Ordering};

use kvm_bindings::{
    CpuId, KVM_CAP_HYPERV_SYNIC2, Msrs, kvm_dtable, kvm_enable_cap, kvm_msr_entry, kvm_regs, kvm_run,
    kvm_segment,
};
use kvm_ioctls::VcpuFd;

use super::exit::{self, Exit};
use super::vm::Vm;
use super::{CpuidEntry, KvmError, coalesced};
use crate::memory::Mapping;

/// A virtual CPU. It belongs to the thread that runs it.
#[derive(Debug)]
pub struct Vcpu {
    fd: VcpuFd,
    vm: Vm,
    id: u32,
    run: Arc<Mapping>,
    thread: Arc<AtomicI32>,
}

/// Makes a vCPU leave the guest, from any thread.
#[derive(Clone, Debug)]
pub struct Kick {
    run: Arc<Mapping>,
    thread: Arc<AtomicI32>,
}

/// General registers at start; all others are zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// The first instruction.
    pub rip: u64,
    /// RBX, where PVH expects its start info.
    pub rbx: u64,
    /// RSI, where the Linux boot protocol expects its boot parameters.
    pub rsi: u64,
}

/// The processor mode and segments a vCPU starts in.
#[derive(Clone, Copy, Debug)]
pub struct StartState {
    /// General registers.
    pub registers: Registers,
    /// CR0.
    pub cr0: u64,
    /// The code segment.
    pub code: kvm_segment,
    /// The data, stack and extra segments.
    pub data: kvm_segment,
    /// The task segment.
    pub task: kvm_segment,
    /// The global descriptor table.
    pub gdt: kvm_dtable,
}

/// The signal that makes `KVM_RUN` return. Real-time signals are free of meaning for every library.
fn kick_signal() -> i32 {
    libc::SIGRTMIN()
}

extern "C" fn on_kick(_: i32) {}

impl Vcpu {
    pub(super) fn new(vm: Vm, fd: VcpuFd, id: u32) -> Result<Self, KvmError> {
        // A second mapping of the run area, beside the one of kvm-ioctls: it outlives the vCPU's thread, so that a
        // kick never meets memory that is gone.
        let run = Mapping::file(BorrowedVcpu(&fd), 0, vm.fd().run_size()).map_err(|error| KvmError {
            call: format!("map the run area of vCPU {id}"),
            errno: error.errno.into(),
        })?;
        Ok(Self { fd, vm, id, run: Arc::new(run), thread: Arc::new(AtomicI32::new(0)) })
    }

    /// The vCPU's number, which is also its APIC id.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Shows these CPUID leaves to the guest.
    pub fn set_cpuid(&self, leaves: &[CpuidEntry]) -> Result<(), KvmError> {
        let call = || format!("KVM_SET_CPUID2 with {} leaves", leaves.len());
        let cpuid = CpuId::from_entries(leaves)
            .map_err(|_| KvmError { call: call(), errno: std::io::Error::from_raw_os_error(libc::E2BIG) })?;
        self.fd.set_cpuid2(&cpuid).map_err(KvmError::new(call()))
    }

    /// Writes model-specific registers, pairs of index and value.
    pub fn set_msrs(&self, values: &[(u32, u64)]) -> Result<(), KvmError> {
        let call = || format!("KVM_SET_MSRS {values:#x?}");
        let entries: Vec<_> =
            values.iter().map(|&(index, data)| kvm_msr_entry { index, data, ..Default::default() }).collect();
        let too_many = |_| KvmError { call: call(), errno: std::io::Error::from_raw_os_error(libc::E2BIG) };
        let msrs = Msrs::from_entries(&entries).map_err(too_many)?;
        let written = self.fd.set_msrs(&msrs).map_err(KvmError::new(call()))?;
        if written != entries.len() {
            return Err(KvmError { call: call(), errno: std::io::Error::from_raw_os_error(libc::EINVAL) });
        }
        Ok(())
    }

    /// Gives the vCPU Hyper-V's synthetic interrupt controller.
    pub fn enable_synic(&self) -> Result<(), KvmError> {
        let cap = kvm_enable_cap { cap: KVM_CAP_HYPERV_SYNIC2, ..Default::default() };
        self.fd.enable_cap(&cap).map_err(KvmError::new("KVM_ENABLE_CAP KVM_CAP_HYPERV_SYNIC2"))
    }

    /// Puts the vCPU at the start of a kernel.
    pub fn set_start_state(&self, state: &StartState) -> Result<(), KvmError> {
        let mut sregs = self.fd.get_sregs().map_err(KvmError::new("KVM_GET_SREGS"))?;
        sregs.cr0 = state.cr0;
        sregs.cs = state.code;
        for segment in [&mut sregs.ds, &mut sregs.es, &mut sregs.fs, &mut sregs.gs, &mut sregs.ss] {
            *segment = state.data;
        }
        sregs.tr = state.task;
        sregs.gdt = state.gdt;
        self.fd.set_sregs(&sregs).map_err(KvmError::new("KVM_SET_SREGS"))?;
        let registers = kvm_regs {
            rip: state.registers.rip,
            rbx: state.registers.rbx,
            rsi: state.registers.rsi,
            // Bit 1 is always one (Intel SDM volume 1, section 3.4.3).
            rflags: 2,
            ..Default::default()
        };
        self.fd.set_regs(&registers).map_err(KvmError::new("KVM_SET_REGS"))
    }

    /// The address of the next instruction, for messages.
    pub fn instruction_pointer(&self) -> Result<u64, KvmError> {
        Ok(self.fd.get_regs().map_err(KvmError::new("KVM_GET_REGS"))?.rip)
    }

    /// Makes the calling thread the one that [`Kick`] signals. To be called once on that thread, before [`run`](Self::run).
    pub fn enter_thread(&self) -> Result<(), KvmError> {
        // SAFETY: an empty handler touches nothing; without SA_RESTART the signal makes KVM_RUN return.
        let installed = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_kick as extern "C" fn(i32) as usize;
            libc::sigaction(kick_signal(), &action, std::ptr::null_mut())
        };
        if installed != 0 {
            return Err(KvmError {
                call: "sigaction for the kick signal".to_owned(),
                errno: std::io::Error::last_os_error(),
            });
        }
        self.thread.store(rustix::thread::gettid().as_raw_nonzero().get(), Ordering::Release);
        Ok(())
    }

    /// Tells a guest that uses kvmclock that it is about to stand still, so that its watchdogs do not bark.
    pub fn note_pause(&self) -> Result<(), KvmError> {
        self.fd.kvmclock_ctrl().map_err(KvmError::new("KVM_KVMCLOCK_CTRL"))
    }

    /// A handle that makes this vCPU leave the guest.
    pub fn kick(&self) -> Kick {
        Kick { run: Arc::clone(&self.run), thread: Arc::clone(&self.thread) }
    }

    /// Runs the guest until its next exit. Port writes that the kernel has buffered since (see
    /// [`Vm::coalesce_port`]) are handed to `buffered` first, since they happened before.
    pub fn run(&mut self, mut buffered: impl FnMut(u16, &[u8])) -> Result<Exit<'_>, KvmError> {
        // SAFETY: KVM_RUN takes no argument; the run area it fills in is mapped for as long as `self` lives.
        let result = unsafe { libc::ioctl(self.fd.as_raw_fd(), kvm_run_request(), 0) };
        if result < 0 {
            let errno = std::io::Error::last_os_error();
            return match errno.raw_os_error() {
                Some(libc::EINTR | libc::EAGAIN) => {
                    immediate_exit(&self.run).store(0, Ordering::Release);
                    Ok(Exit::Interrupted)
                }
                _ => Err(KvmError { call: format!("KVM_RUN of vCPU {}", self.id), errno }),
            };
        }
        coalesced::drain(&self.run, self.vm.buffered_writes(), &mut buffered);
        let run = self.run.address() as *mut kvm_run;
        // SAFETY: the area is mapped with that length; the exclusive borrow of `self`, which the result keeps, shuts out
        // another run. A kick touches one byte only, which no exit's data covers.
        Ok(unsafe { exit::decode(run, self.run.len()) })
    }
}

impl Kick {
    /// Makes the vCPU's present or next run of the guest end with [`Exit::Interrupted`].
    pub fn kick(&self) {
        // First the flag, then the signal: a vCPU that is just about to enter the guest sees the flag, one that is
        // inside is driven out by the signal.
        immediate_exit(&self.run).store(1, Ordering::Release);
        let thread = self.thread.load(Ordering::Acquire);
        if thread != 0 {
            // SAFETY: a signal to a thread of this very process; if the thread is gone, the call fails and that is fine.
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, kick_signal()) };
        }
    }
}

/// The `immediate_exit` byte of a run area.
fn immediate_exit(run: &Mapping) -> &AtomicU8 {
    let offset = std::mem::offset_of!(kvm_run, immediate_exit);
    // SAFETY: the byte lies in the mapping, which lives as long as the result; this process touches it only through
    // this function, atomically.
    unsafe { AtomicU8::from_ptr((run.address() + offset) as *mut u8) }
}

/// The number of the KVM_RUN request: `_IO(KVMIO, 0x80)` (include/uapi/linux/kvm.h).
fn kvm_run_request() -> libc::Ioctl {
    (kvm_bindings::KVMIO as libc::Ioctl) << 8 | 0x80
}

/// A vCPU's fd for calls that want to borrow one: kvm-ioctls shows it as a raw number only.
struct BorrowedVcpu<'a>(&'a VcpuFd);

impl std::os::fd::AsFd for BorrowedVcpu<'_> {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        // SAFETY: the fd belongs to the vCPU, which the borrow keeps open.
        unsafe { std::os::fd::BorrowedFd::borrow_raw(self.0.as_raw_fd()) }
    }
}
