//! `allod bench` in the lab: what it does when devices are not to be had, and what is left when it is interrupted or dies.
//! Its figures are no scenario's matter: those of a busy machine say nothing.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario says what it expects")]

use std::process::ExitCode;
use std::time::Duration;

use lab::scenario::{Boot, Check, Scenario, run_all};
use lab::{Failure, Host, Output};

fn main() -> ExitCode {
    run_all(SCENARIOS)
}

const SCENARIOS: &[Scenario] = &[
    shared("a_device_that_is_claimed_is_refused_with_its_owner", a_device_that_is_claimed_is_refused),
    shared(
        "a_bench_that_could_not_be_gone_on_with_does_not_begin",
        a_bench_that_lacks_something_does_not_begin,
    ),
    shared("an_interrupted_bench_gives_its_disk_back_itself", an_interrupted_bench_gives_back),
    shared("a_killed_bench_leaves_no_machine_and_its_disk_comes_back", a_killed_bench_leaves_no_machine),
];

const fn shared(name: &'static str, check: fn(&Host) -> Result<(), Failure>) -> Scenario {
    let programs = &["allod", "allod-vmm", "allod-scene"];
    Scenario { name, profile: "sriov", programs, boot: Boot::Shared, check: Check::Inside(check) }
}

/// A command takes a few seconds; many times that when the machine under the lab is busy.
const LIMIT: Duration = Duration::from_secs(120);
/// Measures the processor for a second, in a seat with the disk. Its guest never listens, which is enough here.
const BENCH: &str =
    "allod bench /tmp/seats.toml --guest /boot/guest-initrd --workload cpu --rounds 1 --seconds 1";

fn run(host: &Host, script: &str) -> Result<Output, Failure> {
    host.run_within(script, LIMIT)
}

/// Runs a shell line that must succeed.
fn does(host: &Host, script: &str) -> Result<String, Failure> {
    let output = run(host, script)?;
    assert!(output.is_success(), "{script}: {output:?}");
    Ok(output.stdout.trim().to_owned())
}

/// Writes a seat file with the one NVMe disk, and returns the disk's address.
fn write(host: &Host) -> Result<String, Failure> {
    let disk = does(host, "basename $(readlink -f /sys/class/nvme/nvme0/device)")?;
    let text = format!(
        "[[seat]]\nname = \"left\"\ncpus = {{ count = 1, shared = true }}\nmemory.size = \"256MiB\"\n\
         kernel.image = \"/boot/vmlinux\"\ndevice = [{{ address = \"{disk}\" }}]\n"
    );
    does(host, &format!("cat > /tmp/seats.toml <<'END-OF-SEATS'\n{text}END-OF-SEATS"))?;
    Ok(disk)
}

fn a_device_that_is_claimed_is_refused(host: &Host) -> Result<(), Failure> {
    let disk = write(host)?;
    does(host, &format!("allod claim {disk} --name the-owner"))?;
    let refused = run(host, BENCH)?;
    does(host, "allod release the-owner")?;
    assert_eq!(refused.status, 1, "{refused:?}");
    assert!(refused.stdout.contains(&disk) && refused.stdout.contains("the-owner"), "{refused:?}");
    assert!(!refused.stderr.contains("native"), "it began to measure: {refused:?}");
    Ok(())
}

fn a_bench_that_lacks_something_does_not_begin(host: &Host) -> Result<(), Failure> {
    let disk = write(host)?;
    let allod = does(host, "command -v allod")?;
    let without = BENCH
        .replace("allod bench", &format!("{allod} bench"))
        .replace("/boot/guest-initrd", "/nowhere/initrd");
    let rows: [(String, i32, &[&str]); 3] = [
        (
            format!("PATH=/nowhere {without} --engine qemu"),
            1,
            &["qemu-system-x86_64", "taskset", "the guests' RAM disk, /nowhere/initrd", "No such file"],
        ),
        (format!("{BENCH} --svg /nowhere/bars.svg"), 1, &["cannot write the picture /nowhere/bars.svg"]),
        (format!("setpriv --reuid=65534 --clear-groups {BENCH}"), 5, &["needs root"]),
    ];
    for (command, status, words) in rows {
        let refused = run(host, &command)?;
        assert_eq!(refused.status, status, "{command}: {refused:?}");
        for word in words {
            assert!(refused.stderr.contains(word), "{command}: no `{word}` in {refused:?}");
        }
        assert!(!refused.stderr.contains("native"), "it began to measure: {refused:?}");
    }
    has_its_driver(host, &disk)
}

/// Starts the bench, and does something with it (`$bench`) as soon as it has a machine; then no machine may be left.
fn while_its_machine_runs(host: &Host, then: &str) -> Result<String, Failure> {
    let gone = "n=0; while pgrep -x allod-vmm; do n=$((n+1)); [ $n -lt 100 ] || exit 9; sleep 0.1; done";
    does(
        host,
        &format!(
            "{BENCH} > /tmp/said 2>&1 & bench=$!; n=0; until pgrep -x allod-vmm; do n=$((n+1)); \
             [ $n -lt 600 ] || {{ cat /tmp/said; exit 9; }}; sleep 0.1; done > /dev/null; {then}; {gone}"
        ),
    )
}

fn has_its_driver(host: &Host, disk: &str) -> Result<(), Failure> {
    let driver = does(host, &format!("basename $(readlink /sys/bus/pci/devices/{disk}/driver)"))?;
    assert_eq!(driver, "nvme");
    Ok(())
}

fn an_interrupted_bench_gives_back(host: &Host) -> Result<(), Failure> {
    let disk = write(host)?;
    let said =
        while_its_machine_runs(host, "kill -INT $bench; wait $bench; echo ended with $?; cat /tmp/said")?;
    // Nobody else has looked after the disk since.
    has_its_driver(host, &disk)?;
    for words in [
        "ended with 1",
        "giving the devices back",
        "the run broke off: interrupted",
        "rounds of workloads were not made",
    ] {
        assert!(said.contains(words), "no `{words}` in {said}");
    }
    let claims = does(host, "allod claims")?;
    assert!(!claims.contains(&disk), "{claims}");
    Ok(())
}

fn a_killed_bench_leaves_no_machine(host: &Host) -> Result<(), Failure> {
    let disk = write(host)?;
    while_its_machine_runs(host, "kill -9 $bench")?;
    // What it took is still in the ledger; the next change pays that first.
    does(host, "allod release --all")?;
    has_its_driver(host, &disk)
}
