//! Many rounds of up and down in one boot, and what they leave.

use std::collections::BTreeMap;

use lab::{Failure, Host};

use crate::seats::{DISK, does, driver, functions, obedient, seat, write};

/// Rounds before anything is counted: the kernel and its caches settle.
const WARM: u32 = 3;
/// Memory that a host of the lab may miss after all rounds: caches of the kernel, which come and go.
const MEMORY_SLACK_KIB: i64 = 24 << 10;

/// What could leak.
#[derive(Debug, PartialEq, Eq)]
struct Counted {
    processes: i64,
    files: i64,
    groups: i64,
    sockets: i64,
}

fn count(host: &Host) -> Result<(Counted, i64), Failure> {
    let text = does(
        host,
        "echo 3 > /proc/sys/vm/drop_caches; ls -d /proc/[0-9]* | while read p; do [ -s $p/cmdline ] || [ -e $p/exe ] && echo $p; \
         done | wc -l; cut -f1 /proc/sys/fs/file-nr; find /sys/fs/cgroup -type d | wc -l; wc -l < /proc/net/unix; \
         awk '/MemAvailable/ {print $2}' /proc/meminfo",
    )?;
    let numbers: Vec<i64> = text.lines().map(|line| line.trim().parse().unwrap()).collect();
    let [processes, files, groups, sockets, memory] = numbers[..] else { panic!("{text}") };
    Ok((Counted { processes, files, groups, sockets }, memory))
}

/// Brings a seat up and down `rounds` times, once the host has settled; prints what each step took.
pub(crate) fn leave_nothing_behind(host: &Host, rounds: u32) -> Result<(), Failure> {
    let disk = functions(host, DISK)?[0];
    write(host, "/tmp/round.toml", &[seat("anna", &obedient(host)?, &[disk], "")])?;
    let mut before = None;
    let mut steps: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for round in 0..WARM + rounds {
        if round == WARM {
            before = Some(count(host)?);
        }
        let told = does(host, "allod up /tmp/round.toml --json && allod down anna --json")?;
        for line in told.lines() {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            if let (Some(what), Some(ms)) = (event["what"].as_str(), event["ms"].as_u64()) {
                let (sum, most) = steps.entry(what.to_owned()).or_default();
                (*sum, *most) = (*sum + ms, ms.max(*most));
            }
        }
        assert!(told.contains("powered-off"), "round {round}: {told}");
        assert_eq!(driver(host, disk)?, "nvme", "round {round}");
    }
    let ((before, memory), (after, left)) = (before.unwrap(), count(host)?);
    println!("each step over {} rounds, mean and most:", WARM + rounds);
    for (what, (sum, most)) in &steps {
        println!("  {:<64} {:>5} ms {most:>5} ms", what, sum / u64::from(WARM + rounds));
    }
    println!("memory available: {memory} KiB before, {left} KiB after {rounds} rounds");
    assert_eq!(before.groups, after.groups, "control groups");
    assert_eq!(before.processes, after.processes, "processes");
    // The command that counts is among them, and the kernel frees files a little later.
    assert!((after.files - before.files).abs() < 64, "open files: {before:?} {after:?}");
    assert!((after.sockets - before.sockets).abs() < 4, "sockets: {before:?} {after:?}");
    assert!(memory - left < MEMORY_SLACK_KIB, "memory: {memory} KiB before, {left} KiB after");
    Ok(())
}
