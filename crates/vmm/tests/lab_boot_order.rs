//! What firmware starts from first, among disks, discs and disks of the host's own.
//!
//! Not here: the order that a person or a guest has chosen (`lab_firmware`), and the network (there too).
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario says what it expects")]

#[path = "firmware/mod.rs"]
#[allow(dead_code, reason = "shared with the other scenarios of firmware")]
mod firmware;

use std::process::ExitCode;

use firmware::disks::greeting_disks;
use firmware::run;
use lab::scenario::{Boot, Check, Scenario, run_all};
use lab::{Failure, Host, Output, greeting};

fn main() -> ExitCode {
    run_all(&SCENARIOS)
}

const SCENARIOS: [Scenario; 1] = [in_host(
    "cards",
    "a_system_on_an_assigned_disk_starts_beside_an_empty_disk_of_ours",
    a_system_on_an_assigned_disk_starts_beside_an_empty_disk_of_ours,
)];

const fn in_host(
    profile: &'static str,
    name: &'static str,
    check: fn(&Host) -> Result<(), Failure>,
) -> Scenario {
    let programs = &["allod", "allod-vmm"];
    Scenario { name, profile, programs, boot: Boot::Shared, check: Check::Inside(check) }
}

/// Runs a machine until a program says who it is, or firmware says that there is none.
fn start(host: &Host, flags: &str) -> Result<Output, Failure> {
    run(
        host,
        &format!(
            "cd /tmp; rm -f bo-control; allod run {flags} --control bo-control < /dev/null | while read -r line; do \
             echo \"$line\"; case \"$line\" in *'greeting of'**|*'No bootable'*|*'Shell>'*) \
             echo '{{\"command\":\"quit\"}}' | socat -t 60 - UNIX-CONNECT:bo-control;; esac; done"
        ),
    )
}

/// OVMF forgets what is on a PCI function that the order does not name, though it can start it.
fn a_system_on_an_assigned_disk_starts_beside_an_empty_disk_of_ours(host: &Host) -> Result<(), Failure> {
    greeting_disks(host)?;
    let card = run(
        host,
        "set -e; cd /tmp; truncate -s 8M bo-empty; sysfs=$(grep -l LABDISK0 /sys/class/nvme/*/serial | xargs dirname); \
         card=$(basename $(readlink -f $sysfs/device)); dd if=fw-greets-uefi of=/dev/$(basename $sysfs)n1 bs=1M conv=fsync; \
         modprobe vfio-pci; device=/sys/bus/pci/devices/$card; echo vfio-pci > $device/driver_override; \
         echo $card > $device/driver/unbind; echo $card > /sys/bus/pci/drivers_probe; echo $card",
    )?;
    assert!(card.is_success(), "{card:?}");
    let flags = format!("--firmware uefi --disk /tmp/bo-empty --device {}", card.stdout.trim());
    let output = start(host, &flags)?;
    assert!(output.stdout.contains(greeting::BY_UEFI), "{output:?}");
    Ok(())
}
