//! What a machine's process is shut into from outside: its own user, its limits, its control group.
//!
//! What it shuts itself into (system calls, files) is `linux::sandbox`. `launch` is the caller.

use rustix::process::{Pid, Resource, Rlimit};
use spec::plan::{PlannedNetwork, SeatPlan};
use spec::seat_file::{DiskFormat, DiskMedia, DiskRequest, DisplayKind};
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
/// What the memory of an emulated display has, and what the largest picture takes: four bytes for each pixel of 3840 by 2160.
/// There is one in the process while it is drawn, and one in the file of each who looks, whose pages count as the
/// process's: it writes them first.
const VIDEO_MEMORY: Bytes = Bytes::mib(64);
const PICTURE: Bytes = Bytes::mib(32);
/// Who may look at one time: as many as the control socket serves.
const LOOKERS: u64 = 16;
/// What is kept of the tables of an image that is not raw: those of one TiB, with room for the writing of them.
const IMAGE_TABLES: Bytes = Bytes::mib(128);
/// What passt has at most: its buffers and its table of connections, nearly all of it static.
const PASST: Bytes = Bytes::mib(64);
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
    let display = match seat.display {
        DisplayKind::Emulated => VIDEO_MEMORY.0 + PICTURE.0 * (1 + LOOKERS),
        DisplayKind::Primary | DisplayKind::None => 0,
    };
    // One whose format is not said may be one of these.
    let has_tables =
        |disk: &&DiskRequest| disk.media == DiskMedia::Disk && disk.format != Some(DiskFormat::Raw);
    let images = seat.disks.iter().filter(has_tables).count() as u64 * IMAGE_TABLES.0;
    let by_passt = |card: &&PlannedNetwork| card.bridge.is_none() && card.tap.is_none();
    let networks = seat.networks.iter().filter(by_passt).count() as u64 * PASST.0;
    let beside = USED_BESIDE.0 + size / TABLE_SHARE + display + images + networks;
    let pinned: CpuSet = seat.cpus.pins.iter().copied().collect();
    Limits {
        memory: Bytes(size.saturating_add(beside)),
        cpus: pinned,
        threads: seat.cpus.count.saturating_add(THREADS_BESIDE),
    }
}

#[cfg(test)]
mod tests {
    use host::{fixtures, inventory};
    use spec::Bytes;
    use spec::seat_file::SeatFile;

    use super::limits;

    #[test]
    fn a_seat_may_use_what_its_display_and_its_images_need() {
        let memory = |rest: &str| {
            let text = format!(
                "[[seat]]\nname = \"anna\"\ncpus.count = 2\nmemory.size = \"1GiB\"\nkernel.image = \"/k\"\n{rest}"
            );
            let file = SeatFile::parse("seats.toml", &text).unwrap();
            let inventory = inventory::read(&fixtures::desktop_with_two_gpus());
            limits(&plan::plan(&inventory, &file, &[], &[]).unwrap().seats[0]).memory
        };
        let bare = Bytes(Bytes::gib(1).0 + Bytes::mib(192 + 8).0);
        for (rest, more_mib) in [
            ("", 0),
            // Seventeen pictures of 32 MiB, beside what they are pictures of.
            ("display = \"emulated\"\n", 64 + 17 * 32),
            ("disk = [{ path = \"/d\", format = \"raw\" }, { path = \"/c\", media = \"cdrom\" }]\n", 0),
            ("disk = [{ path = \"/d\", format = \"qcow2\" }, { path = \"/e\" }]\n", 2 * 128),
            ("network = [{}, { tap = \"t\" }, { bridge = \"b\" }, {}]\n", 2 * 64),
        ] {
            assert_eq!(memory(rest), Bytes(bare.0 + Bytes::mib(more_mib).0), "{rest}");
        }
    }
}
