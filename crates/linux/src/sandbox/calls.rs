//! The system calls of a machine's process, from the moment it is shut in: those it makes, and nothing beside.
//!
//! Found by tracing machines that boot, reset, pause, drive disks, displays and assigned functions, and by reading what
//! Rust's and glibc's threads and allocator do. Whoever adds a call to the machine adds it here.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen as Width, SeccompCmpOp as Op, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

/// Calls that are harmless with any argument: the files they act on are those that the process was given.
const ANY: &[c_long] = &[
    // files, sockets and pipes that are open
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_preadv2,
    libc::SYS_pwritev2,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_fstat,
    libc::SYS_fcntl,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_fallocate,
    libc::SYS_ftruncate,
    libc::SYS_accept4,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_shutdown,
    // events and time
    libc::SYS_eventfd2,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_signalfd4,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_restart_syscall,
    // memory
    libc::SYS_memfd_create,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_getrandom,
    // threads
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Types of ioctl requests (Documentation/userspace-api/ioctl/ioctl-number.rst): KVM, and VFIO with iommufd. The process
/// has no file that takes others but those below.
const IOCTL_TYPES: [u8; 2] = [0xae, b';'];
/// The requests of other types: non-blocking sockets.
const IOCTLS: [u64; 1] = [libc::FIONBIO];
/// The byte of a request that is its type (`_IOC_TYPESHIFT`, include/uapi/asm-generic/ioctl.h).
const IOCTL_TYPE_MASK: u64 = 0xff00;
/// Names a stretch of memory, as glibc's allocator does (`PR_SET_VMA`, include/uapi/linux/prctl.h).
const PR_SET_VMA: u64 = 0x5356_4d41;

/// Asks for what the kernel told the process at its start (`PR_GET_AUXV`, include/uapi/linux/prctl.h).
const PR_GET_AUXV: u64 = 0x4155_5856;

/// Calls that glibc tries first and goes without: opening files for its own information, and starting a thread in the
/// newer way, whose flags no filter can see.
const ABSENT: [c_long; 2] = [libc::SYS_openat, libc::SYS_clone3];

type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

/// The filters, all of which hold at once.
pub(super) fn filters() -> Result<[BpfProgram; 2], seccompiler::Error> {
    let program = |rules: Rules, otherwise, found| -> Result<BpfProgram, Error> {
        let filter = SeccompFilter::new(rules, otherwise, found, TargetArch::x86_64);
        Ok(filter.and_then(TryInto::try_into)?)
    };
    let absent: Rules = ABSENT.iter().map(|call| (*call, Vec::new())).collect();
    let nowhere = SeccompAction::Errno(libc::ENOSYS as u32);
    Ok([
        program(absent, SeccompAction::Allow, nowhere)?,
        program(allowed()?, SeccompAction::KillProcess, SeccompAction::Allow)?,
    ])
}

fn allowed() -> Result<Rules, Error> {
    let mut rules: Rules = ANY.iter().chain(&ABSENT).map(|call| (*call, Vec::new())).collect();
    let mut requests: Vec<SeccompRule> = Vec::new();
    for kind in IOCTL_TYPES {
        requests.push(rule(1, Op::MaskedEq(IOCTL_TYPE_MASK), u64::from(kind) << 8)?);
    }
    for request in IOCTLS {
        requests.push(rule(1, Op::Eq, request)?);
    }
    rules.insert(libc::SYS_ioctl, requests);
    // Memory that is run as code is not made.
    let code = libc::PROT_EXEC as u64;
    rules.insert(libc::SYS_mmap, vec![rule(2, Op::MaskedEq(code), 0)?]);
    rules.insert(libc::SYS_mprotect, vec![rule(2, Op::MaskedEq(code), 0)?]);
    // Threads, no processes.
    let thread = libc::CLONE_THREAD as u64;
    rules.insert(libc::SYS_clone, vec![rule(0, Op::MaskedEq(thread), thread)?]);
    // Signals to its own threads: vCPUs are kicked so.
    rules.insert(libc::SYS_tgkill, vec![rule(0, Op::Eq, u64::from(std::process::id()))?]);
    // What an open file is like, not one by its name.
    let unnamed = libc::AT_EMPTY_PATH as u64;
    rules.insert(libc::SYS_newfstatat, vec![rule(3, Op::MaskedEq(unnamed), unnamed)?]);
    rules.insert(libc::SYS_statx, vec![rule(2, Op::MaskedEq(unnamed), unnamed)?]);
    // Sockets whose other end it gives to a program that it speaks with already.
    rules.insert(libc::SYS_socketpair, vec![rule(0, Op::Eq, libc::AF_UNIX as u64)?]);
    // Where its own threads run.
    rules.insert(libc::SYS_sched_setaffinity, vec![rule(0, Op::Eq, 0)?]);
    let names = [libc::PR_SET_NAME as u64, PR_SET_VMA, PR_GET_AUXV];
    let names = names.into_iter().map(|name| rule(0, Op::Eq, name)).collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_prctl, names);
    Ok(rules)
}

/// A rule about one argument, whose upper half the kernel ignores in these calls.
fn rule(argument: u8, operation: Op, value: u64) -> Result<SeccompRule, Error> {
    let condition = SeccompCondition::new(argument, Width::Dword, operation, value);
    Ok(condition.and_then(|condition| SeccompRule::new(vec![condition]))?)
}
