//! Is there memory for seats, and may it be locked.

use spec::Bytes;
use spec::inventory::{Finding, HostInventory, Severity};

use super::boot;
use super::finding::{self, command, good, step};

/// Below this much available memory not even one desktop fits beside the host.
const LITTLE: Bytes = Bytes::gib(3);

/// The amount, and what pages it comes in.
pub(super) fn amount(inventory: &HostInventory) -> Vec<Finding> {
    let memory = &inventory.memory;
    let Some(available) = memory.available else {
        let finding = finding::new("memory-unknown", Severity::Warning)
            .is("how much memory is available is not known")
            .because("/proc/meminfo could not be read")
            .so("whether seats fit can be seen only when they start");
        return vec![finding.done()];
    };
    let mut findings = Vec::new();
    let reserved = hugepage_bytes(inventory);
    if available.0 < LITTLE.0 && reserved == 0 {
        let finding = finding::new("memory-little", Severity::Warning)
            .is(format!("{} of memory are available", gib(available)))
            .because("MemAvailable in /proc/meminfo")
            .so("a seat's memory is locked as a whole while a device can write to it: there is room for a small one at most")
            .fix(step("end programs that use much memory, or add memory"));
        findings.push(finding.done());
    } else {
        let pages = match reserved {
            0 => String::new(),
            bytes => format!(", and {} in huge pages", gib(Bytes(bytes))),
        };
        let is = format!("{} of memory are available{pages}", gib(available));
        findings.push(good("memory", is, "/proc/meminfo and the pools of each node"));
    }
    findings.extend(pages(inventory, reserved));
    findings
}

/// Huge pages make a seat start faster and its memory accesses cheaper.
fn pages(inventory: &HostInventory, reserved: u64) -> Option<Finding> {
    if reserved > 0 {
        return None;
    }
    let never = inventory.memory.transparent_hugepages.as_deref() == Some("never");
    let severity = if never { Severity::Warning } else { Severity::Note };
    let available = inventory.memory.available.unwrap_or_default();
    // Half of it as whole GiB leaves the host its share.
    let count = (available.0 >> 31).max(1);
    let pools = inventory.memory.nodes.iter().flat_map(|node| &node.hugepages);
    let parameter = match pools.map(|pool| pool.page_size).max() {
        Some(size) if size >= Bytes::gib(1) => format!("hugepagesz=1G hugepages={count}"),
        _ => format!("hugepages={}", count * 512),
    };
    let finding = finding::new("no-hugepages", severity)
        .is(match never {
            true => "no huge pages are reserved, and transparent ones are switched off",
            false => "no huge pages are reserved",
        })
        .because("the pools below /sys/devices/system/node are empty")
        .so(match never {
            true => "seats start slowly (every small page is pinned for itself) and run slower",
            false => "transparent huge pages are used instead: a little slower to start, and fragmented memory has fewer",
        })
        .fix_if(
            never,
            command(
                "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
                "lets seats have transparent huge pages until the next start",
            ),
        )
        .fix_all(boot::add(&inventory.host, &parameter));
    Some(finding.done())
}

fn hugepage_bytes(inventory: &HostInventory) -> u64 {
    let pools = inventory.memory.nodes.iter().flat_map(|node| &node.hugepages);
    pools.map(|pool| pool.page_size.0.saturating_mul(pool.total)).fold(0, u64::saturating_add)
}

/// The limit on locked memory.
pub(super) fn locked(inventory: &HostInventory) -> Vec<Finding> {
    let locked = &inventory.memory.locked;
    if locked.exempt || locked.known && locked.hard.is_none() {
        let because = if locked.exempt { "CAP_IPC_LOCK" } else { "/proc/self/limits" };
        return vec![good("locked-memory", "any amount of memory may be locked", because)];
    }
    let Some(hard) = locked.hard else {
        let finding = finding::new("locked-memory-unknown", Severity::Warning)
            .is("the limit on locked memory is not known")
            .because("/proc/self/limits could not be read")
            .so("a seat that is not started by root may not start");
        return vec![finding.done()];
    };
    let finding = finding::new("locked-memory-limit", Severity::Warning)
        .is(format!("this user may lock {} of memory", gib(hard)))
        .because("`Max locked memory` in /proc/self/limits; VFIO locks a seat's whole memory")
        .so("seats started by root are given the limit they need; started by this user, larger ones fail with ENOMEM")
        .fix(command(
            "printf '@kvm - memlock unlimited\\n' > /etc/security/limits.d/allod.conf",
            "lifts the limit for members of the group kvm from the next login on",
        ))
        .fix(step("for a service, set `LimitMEMLOCK=infinity` in its unit"));
    vec![finding.done()]
}

/// Bytes as GiB with one decimal, which is what people compare.
fn gib(bytes: Bytes) -> String {
    let tenths = bytes.0 / (Bytes::gib(1).0 / 10);
    match bytes.0 {
        0..0x4000_0000 => format!("{} MiB", bytes.0 >> 20),
        _ => format!("{}.{} GiB", tenths / 10, tenths % 10),
    }
}
