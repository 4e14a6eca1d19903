//! What a machine's process is shut into from outside: its own user, its limits, its control group.
//!
//! What it shuts itself into (system calls, files) is `linux::sandbox`. `launch` is the caller.

use rustix::process::{Pid, Resource, Rlimit};
use spec::plan::SeatPlan;
use spec::{Bytes, CpuSet};

use crate::cgroup::{Cgroup, Limits};
use crate::launch::LaunchError;

/// The first of the users that machines run as, one for each. It is past what systemd and container tools hand out
/// (systemd's list of user ids, `docs/UIDS-GIDS.md`, leaves 1879048192 to 2147483647 unused); a supervisor's process
/// number, which is below 2^22, is added to it.
const FIRST_USER: u32 = 2_000_000_000;
/// Open files of a process: more than a machine with a full board has.
const FILES: u64 = 4096;
/// What the process locks besides guest memory.
const LOCKED_BESIDE: Bytes = Bytes::mib(16);
/// What the process uses besides guest memory, and the part of that memory which goes into tables: 8 bytes for each 4 KiB
/// page for the processor and again for the IOMMU, doubled to be sure.
const USED_BESIDE: Bytes = Bytes::mib(192);
const TABLE_SHARE: u64 = 128;
/// Threads besides the vCPUs: devices, resets, events.
const THREADS_BESIDE: u32 = 64;

/// What a process is shut into.
#[derive(Debug)]
pub struct Confinement {
    /// The user it runs as; none: as its starter.
    pub user: Option<u32>,
    /// How much memory it may lock.
    pub locked: Bytes,
    /// Its control group, where the host has them.
    pub cgroup: Option<Cgroup>,
}

impl Confinement {
    /// Shuts the process `pid` in, which waits for its spec meanwhile.
    pub(crate) fn hold(&self, pid: u32) -> Result<(), LaunchError> {
        if let Some(cgroup) = &self.cgroup {
            cgroup.add(pid).map_err(|error| LaunchError::Confine {
                what: error.to_string(),
                errno: std::io::Error::other("the control group takes no process"),
            })?;
        }
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        for (what, resource, limit) in [
            ("limit locked memory", Resource::Memlock, self.locked.0),
            ("limit open files", Resource::Nofile, FILES),
            ("forbid core dumps", Resource::Core, 0),
        ] {
            let limit = Rlimit { current: Some(limit), maximum: Some(limit) };
            rustix::process::prlimit(pid, resource, limit)
                .map_err(|errno| LaunchError::Confine { what: what.to_owned(), errno: errno.into() })?;
        }
        Ok(())
    }
}

/// The user of the machine that the supervisor with this process number looks after. No other supervisor has the number
/// while this one is there, and the machine ends with it.
pub fn user(supervisor: u32) -> u32 {
    FIRST_USER + supervisor % (1 << 22)
}

/// How much memory the machine of a seat may lock: all of the guest's, for DMA.
pub fn locked(seat: &SeatPlan) -> Bytes {
    Bytes(seat.memory.size.0.saturating_add(LOCKED_BESIDE.0))
}

/// What the machine of a seat may use.
pub fn limits(seat: &SeatPlan) -> Limits {
    let size = seat.memory.size.0;
    let beside = USED_BESIDE.0 + size / TABLE_SHARE;
    let pinned: CpuSet = seat.cpus.pins.iter().copied().collect();
    Limits {
        memory: Bytes(size.saturating_add(beside)),
        cpus: pinned,
        threads: seat.cpus.count.saturating_add(THREADS_BESIDE),
    }
}
