//! A process's own memory out of `/proc/PID/smaps` and `/proc/PID/status`.
//!
//! *Own* leaves out every mapping of 64 MiB and more: that is guest RAM, which every VMM has. Pure parsing.

/// Mappings of this size and more are guest RAM.
const GUEST_RAM_KIB: u64 = 64 * 1024;

/// Sums over the mappings that are the process's own, in KiB.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct OwnMemory {
    /// Proportional set size.
    pub(crate) pss: u64,
    /// Written pages that nobody shares.
    pub(crate) private_dirty: u64,
    /// Number of mappings.
    pub(crate) mappings: u64,
    /// Name (or `anonymous`) and private dirty KiB of the mappings that have any, in file order.
    pub(crate) dirty: Vec<(String, u64)>,
    /// What of guest RAM is resident.
    pub(crate) guest_ram_resident: u64,
    /// What of that lies on huge pages.
    pub(crate) guest_ram_huge: u64,
}

/// Sums `text`, the content of an smaps file.
pub(crate) fn own_memory(text: &str) -> OwnMemory {
    let mut sums = OwnMemory::default();
    let mut size = 0;
    let mut name = "";
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(key) = words.next() else { continue };
        let Some(field) = key.strip_suffix(':') else {
            // A mapping's first line: range, rights, offset, device, inode, name.
            name = words.nth(4).unwrap_or("anonymous");
            continue;
        };
        let Some(kib) = words.next().and_then(|word| word.parse::<u64>().ok()) else { continue };
        if field == "Size" {
            size = kib;
            sums.mappings += 1;
        }
        match (field, size >= GUEST_RAM_KIB) {
            ("Rss", true) => sums.guest_ram_resident += kib,
            ("AnonHugePages" | "ShmemPmdMapped", true) => sums.guest_ram_huge += kib,
            ("Pss", false) => sums.pss += kib,
            ("Private_Dirty", false) if kib > 0 => {
                sums.private_dirty += kib;
                sums.dirty.push((name.to_owned(), kib));
            }
            _ => {}
        }
    }
    sums
}

/// Returns the number that stands at `field` in the content of a status file.
pub(crate) fn status_field(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
55d0c0000000-55d0c0010000 r-xp 00000000 00:1b 77                         /home/seat/vmm
Size:                 64 kB
Rss:                  60 kB
Pss:                  30 kB
Pss_Dirty:             8 kB
Private_Dirty:         8 kB
VmFlags: rd ex mr mw me sd
7f0000000000-7f0020000000 rw-p 00000000 00:00 0
Size:             524288 kB
Rss:                4096 kB
Pss:                4096 kB
Private_Dirty:      4096 kB
AnonHugePages:      2048 kB
7f0030000000-7f0030001000 rw-p 00000000 00:00 0
Size:                  4 kB
Pss:                   4 kB
Private_Dirty:         4 kB
";

    #[test]
    fn guest_ram_is_not_the_process_s_own() {
        let expected = OwnMemory {
            pss: 34,
            private_dirty: 12,
            mappings: 3,
            dirty: vec![("/home/seat/vmm".to_owned(), 8), ("anonymous".to_owned(), 4)],
            guest_ram_huge: 2048,
            guest_ram_resident: 4096,
        };
        assert_eq!(own_memory(SMAPS), expected);
    }

    #[test]
    fn a_status_field_is_found_by_its_whole_name() {
        let status = "VmPTE:\t     40 kB\nThreads:\t3\n";
        let rows = [("Threads", Some(3)), ("VmPTE", Some(40)), ("VmPT", None), ("VmSwap", None)];
        for (field, expected) in rows {
            assert_eq!(status_field(status, field), expected, "{field}");
        }
    }
}
