//! Whether all of a guest's memory can be kept in place for DMA: what the host has, and what this process may lock.
//!
//! Looked at before anything is opened, because a process that the kernel ends for want of memory says nothing. `functions`
//! asks.

use linux::sysfs::Tree;
use rustix::process::{Resource, Rlimit, getrlimit, getuid, setrlimit};
use spec::Bytes;

use super::reason::Reason;

/// The capability to lock any amount of memory (include/uapi/linux/capability.h).
const CAP_IPC_LOCK: u32 = 14;

/// Whose account the kernel adds locked memory to before it compares with the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Account {
    /// The process's own: containers of groups (`vfio_lock_acct` in drivers/vfio/vfio_iommu_type1.c).
    Process,
    /// One that all processes of a user share: iommufd (`incr_user_locked_vm` in drivers/iommu/iommufd/pages.c).
    User,
}

/// Makes sure that `need` bytes may be locked, by this process's own limit if that helps (the machine inherits it), and that
/// the host has them.
pub(super) fn check(tree: &dyn Tree, need: Bytes, account: Account) -> Result<(), Reason> {
    if let Some(there) = obtainable(tree).filter(|there| *there < need) {
        return Err(Reason::HostMemory { need, there });
    }
    if may_lock_all(tree) {
        return Ok(());
    }
    let held = match account {
        Account::Process => Bytes(0),
        Account::User => held_by(tree, getuid().as_raw()),
    };
    let Rlimit { current, maximum } = getrlimit(Resource::Memlock);
    let enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= need.0.saturating_add(held.0));
    if enough(current) {
        return Ok(());
    }
    let lifted = Rlimit { current: maximum, maximum };
    if enough(maximum) && setrlimit(Resource::Memlock, lifted).is_ok() {
        return Ok(());
    }
    Err(Reason::LockedMemory { need, limit: Bytes(maximum.unwrap_or(0)), held })
}

/// What the host can give at most: free or to be freed, swapped out, or kept in large pages for machines.
fn obtainable(tree: &dyn Tree) -> Option<Bytes> {
    let table = tree.table("/proc/meminfo").ok()?;
    let kib = |name: &str| field(&table, name);
    let large = kib("HugePages_Free:").unwrap_or(0).saturating_mul(kib("Hugepagesize:").unwrap_or(0));
    let all = kib("MemAvailable:")?.saturating_add(kib("SwapFree:").unwrap_or(0)).saturating_add(large);
    Some(Bytes(all.saturating_mul(1024)))
}

/// What other processes of a user keep in place for iommufd (`pinned_vm` of each, which counts there, too).
fn held_by(tree: &dyn Tree, user: u32) -> Bytes {
    let processes = tree.list("/proc").unwrap_or_default();
    let held =
        processes.iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).filter_map(|name| {
            let status = tree.table(&format!("/proc/{name}/status")).ok()?;
            (field(&status, "Uid:")? == u64::from(user)).then(|| field(&status, "VmPin:"))?
        });
    Bytes(held.fold(0, u64::saturating_add).saturating_mul(1024))
}

/// The first number behind a name.
fn field(table: &str, name: &str) -> Option<u64> {
    let rest = table.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Whether no limit holds for this process. A process that cannot tell is held to its limit.
fn may_lock_all(tree: &dyn Tree) -> bool {
    let status = tree.table("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0);
    bits >> CAP_IPC_LOCK & 1 != 0
}

#[cfg(test)]
mod tests {
    use linux::sysfs::FakeTree;
    use spec::Bytes;

    use super::super::reason::Reason;
    use super::{Account, check, held_by, obtainable};

    fn host(meminfo: &str) -> FakeTree {
        let tree = FakeTree::new();
        tree.edit(|nodes| {
            nodes.put_file("/proc/meminfo", meminfo);
            for (process, status) in [
                (1, "Name: init\nUid:\t0\t0\t0\t0\nVmPin:\t 4096 kB\n"),
                (77, "Name: allod-vmm\nUid:\t1000\t1000\t1000\t1000\nVmLck:\t 8 kB\nVmPin:\t 65536 kB\n"),
                (78, "Name: allod-vmm\nUid:\t1000\t1000\t1000\t1000\nVmPin:\t 1024 kB\n"),
                (79, "Name: kthreadd\nUid:\t0\t0\t0\t0\n"),
            ] {
                nodes.put_file(&format!("/proc/{process}/status"), status);
            }
        });
        tree
    }

    #[test]
    fn what_a_user_has_locked_is_added_up() {
        let tree = host("");
        for (user, mebibytes) in [(1000, 65), (0, 4), (7, 0)] {
            assert_eq!(held_by(&tree, user), Bytes::mib(mebibytes), "{user}");
        }
    }

    #[test]
    fn the_host_has_what_is_free_or_can_be_made_so() {
        let free = "MemTotal: 9437184 kB\nMemAvailable: 1048576 kB\n";
        for (meminfo, there) in [
            (free.to_owned(), Some(Bytes::gib(1))),
            (format!("{free}SwapFree: 1048576 kB\n"), Some(Bytes::gib(2))),
            (format!("{free}HugePages_Free: 512\nHugepagesize: 2048 kB\n"), Some(Bytes::gib(2))),
            (String::new(), None),
        ] {
            let tree = host(&meminfo);
            assert_eq!(obtainable(&tree), there, "{meminfo}");
            if let Some(there) = there {
                let refused = check(&tree, Bytes::gib(3), Account::Process);
                assert_eq!(refused, Err(Reason::HostMemory { need: Bytes::gib(3), there }), "{meminfo}");
            }
        }
    }
}
