//! What firmware starts from first, among disks, discs and disks of the host's own.
//!
//! Not here: the order that a person or a guest has chosen (`lab_firmware`), and the network (there too).
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario says what it expects")]

#[path = "firmware/mod.rs"]
#[allow(dead_code, reason = "shared with the other scenarios of firmware")]
mod firmware;

use std::process::ExitCode;

use firmware::disks::{greeting_disks, new_volume};
use firmware::run;
use lab::scenario::{Scenario, run_all, shared};
use lab::{Failure, Host, Output, greeting};

fn main() -> ExitCode {
    run_all(SCENARIOS)
}

const SCENARIOS: &[Scenario] = &[
    shared(
        "a_disc_is_started_before_a_disk_when_asked_for",
        "plain",
        a_disc_is_started_before_a_disk_when_asked_for,
    ),
    shared(
        "a_system_on_an_assigned_disk_starts_beside_an_empty_disk_of_ours",
        "cards",
        a_system_on_an_assigned_disk_starts_beside_an_empty_disk_of_ours,
    ),
];

/// Runs a machine until a program says who it is, or firmware says that there is none.
fn start(host: &Host, flags: &str) -> Result<Output, Failure> {
    run(
        host,
        &format!(
            "cd /tmp; rm -f bo-control; allod run {flags} --control bo-control < /dev/null | while read -r line; do \
             echo \"$line\"; case \"$line\" in *'greeting of'*|*'this is the disc'*|*'No bootable'*|*'Shell>'*) \
             echo '{{\"command\":\"quit\"}}' | socat -t 60 - UNIX-CONNECT:bo-control;; esac; done"
        ),
    )
}

fn a_disc_is_started_before_a_disk_when_asked_for(host: &Host) -> Result<(), Failure> {
    const DISC: &str = "this is the disc";
    let disks = greeting_disks(host)?;
    let made = run(
        host,
        &format!(
            "set -e; cd /tmp; printf 'serial\\nterminal_output serial\\necho {DISC}\\nsleep 600\\n' > bo-cfg; mkdir -p bo-iso; \
             grub-mkimage -O i386-pc-eltorito -o bo-iso/bios.img -p / -c bo-cfg biosdisk iso9660 serial echo sleep\n\
             grub-mkimage -O x86_64-efi -o bo-loader -p / -c bo-cfg serial echo sleep\n\
             {}\nmkdir -p fw-mount/EFI/BOOT; cp bo-loader fw-mount/EFI/BOOT/BOOTX64.EFI; umount fw-mount; mv bo-efi.img bo-iso\n\
             xorriso -as mkisofs -quiet -o bo.iso -V DISC -b bios.img -no-emul-boot -boot-load-size 4 -boot-info-table \
             -eltorito-alt-boot -e bo-efi.img -no-emul-boot bo-iso",
            new_volume("bo-efi.img", "40M")
        ),
    )?;
    assert!(made.is_success(), "{made:?}");
    for (firmware, disk, by_disk) in
        [("bios", disks.by_bios, greeting::BY_BIOS), ("uefi", disks.by_uefi, greeting::BY_UEFI)]
    {
        for (boot, expected) in [("", by_disk), ("--boot cdrom", DISC)] {
            let output = start(host, &format!("--firmware {firmware} {disk} --cdrom /tmp/bo.iso {boot}"))?;
            assert!(output.stdout.contains(expected), "{firmware} {boot}: {output:?}");
        }
    }
    Ok(())
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
