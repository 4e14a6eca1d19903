//! The processors and what they share: cores, packages, last-level caches, NUMA nodes.

use spec::CpuSet;
use spec::inventory::{Cpu, CpuFacts, Virtualization};

use super::reader::Reader;

const CPUS: &str = "/sys/devices/system/cpu";
/// The most cache levels of one processor that are looked at; real ones have four entries.
const MOST_CACHES: usize = 16;

/// Reads the facts about the processors.
pub(super) fn read(reader: &Reader<'_>) -> CpuFacts {
    let cpuinfo = reader.needed_table("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let value = cpuinfo.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == name).then(|| value.trim().to_owned())
        });
        value.filter(|value| !value.is_empty())
    };
    let online: CpuSet = reader.parsed(&format!("{CPUS}/online")).unwrap_or_default();
    CpuFacts {
        vendor: field("vendor_id"),
        model: field("model name"),
        physical_bits: field("address sizes").and_then(|text| text.split_whitespace().next()?.parse().ok()),
        virtualization: virtualization(field("flags").as_deref()),
        smt: reader.flag(&format!("{CPUS}/smt/active")),
        isolated: reader.parsed(&format!("{CPUS}/isolated")).unwrap_or_default(),
        online: online.iter().map(|number| cpu(reader, number)).collect(),
    }
}

fn virtualization(flags: Option<&str>) -> Virtualization {
    let Some(flags) = flags else { return Virtualization::Unknown };
    let has = |name: &str| flags.split_whitespace().any(|flag| flag == name);
    match (has("vmx"), has("svm")) {
        (true, _) => Virtualization::Vmx,
        (_, true) => Virtualization::Svm,
        _ => Virtualization::None,
    }
}

fn cpu(reader: &Reader<'_>, number: u32) -> Cpu {
    let directory = format!("{CPUS}/cpu{number}");
    // -1: the kernel does not know.
    let topology = |name: &str| {
        let id = reader.parsed::<i64>(&format!("{directory}/topology/{name}"))?;
        u32::try_from(id).ok()
    };
    let node = reader.list(&directory).iter().find_map(|name| name.strip_prefix("node")?.parse().ok());
    Cpu {
        number,
        package: topology("physical_package_id"),
        core: topology("core_id"),
        threads: reader
            .parsed(&format!("{directory}/topology/thread_siblings_list"))
            .unwrap_or_else(|| CpuSet::from_iter([number])),
        l3: last_level_cache(reader, &directory),
        node,
        max_khz: reader.parsed(&format!("{directory}/cpufreq/cpuinfo_max_freq")),
    }
}

fn last_level_cache(reader: &Reader<'_>, directory: &str) -> Option<CpuSet> {
    let caches = reader.list(&format!("{directory}/cache"));
    let caches = caches.iter().filter(|name| name.starts_with("index")).take(MOST_CACHES);
    let mut paths = caches.map(|name| format!("{directory}/cache/{name}"));
    let third = paths.find(|path| reader.parsed::<u32>(&format!("{path}/level")) == Some(3))?;
    reader.parsed(&format!("{third}/shared_cpu_list"))
}
