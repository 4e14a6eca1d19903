//! The host's memory: nodes, huge pages, and how much may be locked.

use spec::Bytes;
use spec::inventory::{HugepagePool, LockedMemory, MemoryFacts, NumaNode};

use super::machine::{bracketed, status_field};
use super::reader::Reader;

const NODES: &str = "/sys/devices/system/node";
/// `CAP_IPC_LOCK` (Linux `include/uapi/linux/capability.h`): its owner may lock without limit.
const CAP_IPC_LOCK: u32 = 14;

/// Reads the facts about the memory.
pub(super) fn read(reader: &Reader<'_>) -> MemoryFacts {
    let meminfo = reader.needed_table("/proc/meminfo").unwrap_or_default();
    MemoryFacts {
        total: kibibytes(&meminfo, "MemTotal:"),
        available: kibibytes(&meminfo, "MemAvailable:"),
        transparent_hugepages: reader
            .text("/sys/kernel/mm/transparent_hugepage/enabled")
            .and_then(|text| bracketed(&text)),
        locked: locked(reader),
        nodes: nodes(reader, &meminfo),
    }
}

/// The value after a name in the format of meminfo, `MemTotal:  32768 kB`.
fn kibibytes(table: &str, name: &str) -> Option<Bytes> {
    let line = table.lines().find(|line| line.split_whitespace().any(|word| word == name))?;
    let mut words = line.split_whitespace().skip_while(|word| *word != name).skip(1);
    let count = words.next()?.parse::<u64>().ok()?;
    count.checked_mul(1024).map(Bytes)
}

fn nodes(reader: &Reader<'_>, meminfo: &str) -> Vec<NumaNode> {
    let numbers = reader.list(NODES).into_iter().filter_map(|name| name.strip_prefix("node")?.parse().ok());
    let mut nodes: Vec<NumaNode> = numbers.map(|number| node(reader, number)).collect();
    nodes.sort_by_key(|node| node.number);
    if nodes.is_empty() {
        // A kernel without NUMA: everything is one node.
        nodes.push(NumaNode {
            number: 0,
            cpus: reader.parsed("/sys/devices/system/cpu/online").unwrap_or_default(),
            total: kibibytes(meminfo, "MemTotal:"),
            free: kibibytes(meminfo, "MemFree:"),
            distances: vec![10],
            hugepages: pools(reader, "/sys/kernel/mm/hugepages"),
        });
    }
    nodes
}

fn node(reader: &Reader<'_>, number: u32) -> NumaNode {
    let directory = format!("{NODES}/node{number}");
    let meminfo = reader.text(&format!("{directory}/meminfo")).unwrap_or_default();
    let distances = reader.text(&format!("{directory}/distance")).unwrap_or_default();
    NumaNode {
        number,
        cpus: reader.parsed(&format!("{directory}/cpulist")).unwrap_or_default(),
        total: kibibytes(&meminfo, "MemTotal:"),
        free: kibibytes(&meminfo, "MemFree:"),
        distances: distances.split_whitespace().filter_map(|word| word.parse().ok()).collect(),
        hugepages: pools(reader, &format!("{directory}/hugepages")),
    }
}

/// The pools of a directory with one `hugepages-2048kB` for each size.
fn pools(reader: &Reader<'_>, directory: &str) -> Vec<HugepagePool> {
    let pools = reader.list(directory).into_iter().filter_map(|name| {
        let size = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<u64>().ok()?;
        let count = |file: &str| reader.parsed(&format!("{directory}/{name}/{file}")).unwrap_or(0);
        let page_size = Bytes(size.checked_mul(1024)?);
        Some(HugepagePool { page_size, total: count("nr_hugepages"), free: count("free_hugepages") })
    });
    let mut pools: Vec<HugepagePool> = pools.collect();
    pools.sort_by_key(|pool| pool.page_size);
    pools
}

/// The line `Max locked memory  8388608  8388608  bytes` of this process.
fn locked(reader: &Reader<'_>) -> LockedMemory {
    let limits = reader.table("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"));
    let mut words = line.unwrap_or_default().split_whitespace();
    let mut limit = || words.next().map(|word| word.parse().ok().map(Bytes));
    let (soft, hard) = (limit(), limit());
    let capabilities = status_field(reader, "CapEff:");
    let capabilities = capabilities.and_then(|text| u64::from_str_radix(&text, 16).ok()).unwrap_or(0);
    LockedMemory {
        known: soft.is_some() && hard.is_some(),
        soft: soft.flatten(),
        hard: hard.flatten(),
        exempt: capabilities >> CAP_IPC_LOCK & 1 == 1,
    }
}
