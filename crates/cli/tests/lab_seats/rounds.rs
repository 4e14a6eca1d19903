//! Many rounds of up and down in one boot, and what they leave.

use std::collections::BTreeMap;

use lab::{Failure, Host};

use crate::seats::{DISK, does, driver, functions, obedient, seat, until, write};

/// Rounds before anything is counted: the kernel and its caches settle.
const WARM: u32 = 3;
/// Free memory that a round may lose.
const LOSS_LIMIT_KIB: i64 = 256;
/// How far two looks at free memory lie apart though nothing is lost: the kernel's own lists and caches breathe.
const BREATH_KIB: i64 = 2048;

/// What could leak.
#[derive(Debug, PartialEq, Eq)]
struct Counted {
    processes: i64,
    files: i64,
    groups: i64,
    sockets: i64,
}

fn count(host: &Host) -> Result<Counted, Failure> {
    let text = does(
        host,
        // By the shell alone: processes that count would come and go in what is counted.
        "n=0; for p in /proc/[0-9]*; do [ -s $p/cmdline ] && n=$((n + 1)); done; echo $n; \
         cut -f1 /proc/sys/fs/file-nr; find /sys/fs/cgroup -type d | wc -l; wc -l < /proc/net/unix",
    )?;
    let numbers: Vec<i64> = text.lines().map(|line| line.trim().parse().unwrap()).collect();
    let [processes, files, groups, sockets] = numbers[..] else { panic!("{text}") };
    Ok(Counted { processes, files, groups, sockets })
}

/// Memory that could be had, what the kernel's allocators for each processor hold, and what lies in files, in KiB.
fn memory(host: &Host) -> Result<[i64; 3], Failure> {
    let text = does(
        host,
        "sync; echo 3 > /proc/sys/vm/drop_caches; awk '/^(MemAvailable|Percpu|Shmem):/ {print $2}' /proc/meminfo",
    )?;
    let numbers: Vec<i64> = text.lines().map(|line| line.trim().parse().unwrap()).collect();
    // In the order of the kernel's list.
    let [available, shmem, percpu] = numbers[..] else { panic!("{text}") };
    Ok([available, percpu, shmem])
}

/// Brings a seat up and down `rounds` times, once the host has settled; prints what each step took.
pub(crate) fn leave_nothing_behind(host: &Host, rounds: u32) -> Result<(), Failure> {
    let disk = functions(host, DISK)?[0];
    // Each round has a user of its own, to which what the TPM keeps must be given.
    write(host, "/tmp/round.toml", &[seat("anna", &obedient(host)?, &[disk], "tpm = true")])?;
    let mut before = None;
    let mut memories = Vec::new();
    let mut steps: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for round in 0..WARM + rounds {
        if round == WARM {
            before = Some(count(host)?);
        }
        if round >= WARM {
            memories.push(memory(host)?);
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
        // A supervisor says that its seat has ended, and then ends.
        does(host, &until("! pgrep -x allod > /dev/null"))?;
    }
    memories.push(memory(host)?);
    let (before, after) = (before.unwrap(), count(host)?);
    println!("each step over {} rounds, mean and most:", WARM + rounds);
    for (what, (sum, most)) in &steps {
        println!("  {:<64} {:>5} ms {most:>5} ms", what, sum / u64::from(WARM + rounds));
    }
    println!("available, per processor and in files, in KiB: {memories:?}");
    assert_eq!(before.groups, after.groups, "control groups");
    assert_eq!(before.processes, after.processes, "processes");
    // The command that counts is among them, and the kernel frees files a little later.
    assert!((after.files - before.files).abs() < 64, "open files: {before:?} {after:?}");
    assert!((after.sockets - before.sockets).abs() < 4, "sockets: {before:?} {after:?}");
    // A leak takes from every round, and so from all of them together. What the kernel takes for itself once shows in the
    // sum alone, and what it takes and gives back shows in single rounds alone.
    let mut losses: Vec<i64> = memories.windows(2).map(|pair| pair[0][0] - pair[1][0]).collect();
    let sum: i64 = losses.iter().sum();
    losses.sort_unstable();
    let median = losses[losses.len() / 2];
    let limit = LOSS_LIMIT_KIB * i64::from(rounds);
    assert!(
        median < LOSS_LIMIT_KIB || sum < limit.max(BREATH_KIB),
        "lost {sum} KiB, in most rounds {median}: {losses:?}"
    );
    Ok(())
}
