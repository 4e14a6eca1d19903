//! Firmware over and over with a card of the host, and killed at its writes; and Debian's installer from a disc.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario says what it expects")]

#[path = "../firmware/mod.rs"]
#[allow(dead_code, reason = "shared with the scenarios of firmware")]
mod firmware;

use std::process::ExitCode;
use std::time::Duration;

use firmware::disks::greeting_disks;
use firmware::kills;
use lab::scenario::{run_all, shared};
use lab::{Failure, Host, Output, greeting};

fn main() -> ExitCode {
    run_all(&[
        shared("a_bios_starts_twenty_times_with_an_assigned_primary_display", "vga", bios),
        shared("uefi_firmware_starts_twenty_times_with_two_assigned_cards", "cards", uefi),
        shared("variables_stay_over_twenty_kills_at_writes", "plain", variables),
        shared("the_installer_of_debian_starts_from_a_disc", "plain", installer),
    ])
}

/// Starts in each scenario, all of which must go well.
const STARTS: usize = 20;

/// What a machine, or making what it starts from, may take; minutes less on a machine that has nothing else to do.
const LIMIT: Duration = Duration::from_secs(400);

/// Runs a shell line in the host.
fn run(host: &Host, script: &str) -> Result<Output, Failure> {
    host.run_within(script, LIMIT)
}

/// Runs a shell line in the host; it must go well.
fn does(host: &Host, script: &str) -> Result<String, Failure> {
    let output = run(host, script)?;
    assert!(output.is_success(), "{script}: {output:?}");
    Ok(output.stdout)
}

/// Hands the functions with these ids to vfio-pci, and gives their addresses.
fn take(host: &Host, ids: &[&str]) -> Result<Vec<String>, Failure> {
    let taken = |id: &&str| {
        does(
            host,
            &format!(
                "set -e; modprobe vfio-pci; a=$(lspci -Dn -d {id} | cut -d' ' -f1 | head -1); d=/sys/bus/pci/devices/$a; \
                 echo vfio-pci > $d/driver_override; [ ! -e $d/driver ] || echo $a > $d/driver/unbind; \
                 echo $a > /sys/bus/pci/drivers_probe; echo $a"
            ),
        )
        .map(|address| address.trim().to_owned())
    };
    ids.iter().map(taken).collect()
}

/// What firmware says when it has found nothing to start.
const NOTHING: &str = r"No bootable device\|UEFI Interactive Shell";

/// Runs a machine until it says `word` on its serial port, then ends it; gives all it said.
fn until(host: &Host, flags: &str, word: &str) -> Result<Output, Failure> {
    run(
        host,
        &format!(
            "rm -f /tmp/sf-*; allod run --firmware-log /tmp/sf-log --control /tmp/sf-control {flags} < /dev/null \
             > /tmp/sf-said 2>&1 & m=$!; for i in $(seq 3000); do grep -aqs '{word}' /tmp/sf-said && break; \
             grep -aqs '{NOTHING}' /tmp/sf-said && break; kill -0 $m 2> /dev/null || break; sleep 0.1; done; echo '{{\"command\":\"quit\"}}' | \
             socat -t 60 - UNIX-CONNECT:/tmp/sf-control; wait $m; cat /tmp/sf-said; \
             grep -aq '{word}' /tmp/sf-said || {{ tail -n 40 /tmp/sf-log; exit 1; }}"
        ),
    )
}

fn starts(host: &Host, flags: &str, word: &str) -> Result<(), Failure> {
    let mut failed = Vec::new();
    for number in 1..=STARTS {
        let output = until(host, flags, word)?;
        if !output.is_success() {
            failed.push(format!("start {number}: {output:?}"));
        }
    }
    assert!(failed.is_empty(), "{} of {STARTS} failed: {failed:#?}", failed.len());
    println!("        {STARTS} of {STARTS} starts with {flags}");
    Ok(())
}

fn bios(host: &Host) -> Result<(), Failure> {
    let disks = greeting_disks(host)?;
    let cards = take(host, &["1013:00b8"])?;
    let rom = "rom=/usr/share/seabios/vgabios-cirrus.bin";
    starts(
        host,
        &format!("--firmware bios --primary {},{rom} {}", cards[0], disks.by_bios),
        greeting::BY_BIOS,
    )
}

fn uefi(host: &Host) -> Result<(), Failure> {
    let disks = greeting_disks(host)?;
    // A graphics card and an NVMe controller.
    let cards = take(host, &["1234:1111", "1b36:0010"])?;
    let devices: String = cards.iter().map(|card| format!("--device {card} ")).collect();
    starts(host, &format!("--firmware uefi {devices} {}", disks.by_uefi), greeting::BY_UEFI)
}

/// Ten machines killed at a write each, and ten between a write and what flushes it.
fn variables(host: &Host) -> Result<(), Failure> {
    let kills: Vec<(&str, u32)> =
        ["pwritev", "fdatasync"].iter().flat_map(|call| (1..=10).map(|number| (*call, number))).collect();
    kills::leave_variables(host, &kills)
}

/// Makes a disc as that of the installer for networks is made: isolinux for a BIOS, GRUB for UEFI. busybox makes FAT32 alone,
/// which by its definition (Microsoft FAT specification, section 3.5) is no smaller than 33 MiB: of a smaller one UEFI says
/// that there is nothing to start.
const MAKE_DISC: &str = "set -e; cd /tmp; rm -rf sd-*; mkdir -p sd-iso/isolinux sd-mount; modprobe -a loop vfat; \
    from=$(dirname $(find /usr/lib/debian-installer -path '*/text/*' -name initrd.gz)); cp $from/linux $from/initrd.gz sd-iso; \
    cp /usr/lib/ISOLINUX/isolinux.bin $from/boot-screens/ldlinux.c32 sd-iso/isolinux; \
    printf 'serial 0 115200\\ndefault install\\nprompt 0\\nlabel install\\nkernel /linux\\nappend initrd=/initrd.gz \
    console=ttyS0 ---\\n' > sd-iso/isolinux/isolinux.cfg; \
    printf 'serial\\nterminal_output serial\\nsearch --file /linux --set=root\\nlinux /linux console=ttyS0 ---\\n\
    initrd /initrd.gz\\nboot\\n' > sd-grub.cfg; \
    grub-mkimage -O x86_64-efi -o sd-loader -p / -c sd-grub.cfg linux serial search search_fs_file normal boot iso9660; \
    truncate -s 40M sd-iso/efi.img; busybox mkdosfs sd-iso/efi.img; mount -t vfat -o loop sd-iso/efi.img sd-mount; \
    mkdir -p sd-mount/EFI/BOOT; cp sd-loader sd-mount/EFI/BOOT/BOOTX64.EFI; umount sd-mount; \
    xorriso -as mkisofs -quiet -o sd.iso -V DEBIAN -b isolinux/isolinux.bin -c isolinux/boot.cat -no-emul-boot \
    -boot-load-size 4 -boot-info-table -eltorito-alt-boot -e efi.img -no-emul-boot sd-iso";

fn installer(host: &Host) -> Result<(), Failure> {
    does(host, MAKE_DISC)?;
    for firmware in ["bios", "uefi"] {
        // Its first question; with so little memory it says first that it goes on in English.
        let output = until(
            host,
            &format!("--memory 768M --firmware {firmware} --cdrom /tmp/sd.iso"),
            r"proceed in English\|Select a language",
        )?;
        assert!(output.is_success(), "{firmware}: {output:?}");
        println!("        {firmware}: the installer is at its first screen");
    }
    Ok(())
}
