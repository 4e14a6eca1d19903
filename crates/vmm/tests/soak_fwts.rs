//! The firmware test suite in a guest that OVMF has started, in a machine of ours and in QEMU's with the same OVMF and disk:
//! nothing fails in ours that does not fail there.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario says what it expects")]

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use lab::scenario::{Boot, Check, Scenario, run_all};
use lab::{Failure, Host};

fn main() -> ExitCode {
    run_all(&[Scenario {
        name: "the_firmware_test_suite_finds_no_failure_that_the_same_firmware_has_not_in_qemu",
        profile: "plain",
        programs: &["allod", "allod-vmm"],
        boot: Boot::Own,
        check: Check::Inside(compare),
    }])
}

/// The suite writes hundreds of lines by a serial port, twice, in the lab.
const LIMIT: Duration = Duration::from_secs(600);

/// What is run without firmware (`lab_boot`), and what only UEFI has, as far as Debian's kernel lets it be asked: tests of
/// runtime services want a module that it lacks (`efi_test`).
const TESTS: &str = "apicinstance checksum cstates dmicheck ebda facs fadt madt mcfg method mtrr osilinux rsdp rsdt \
                     syntaxcheck xsdt esrt uefibootpath uefivarinfo";

/// Makes a disk that starts Debian's kernel with the suite in its RAM disk, by the boot loader of a removable disk.
fn make_disk(host: &Host) -> Result<(), Failure> {
    let guest = format!(
        "mount -t tmpfs none /tmp; export PATH=/bin:/usr/local/bin; for m in msr efivarfs; do insmod /$m.ko; done; \
         mount -t efivarfs none /sys/firmware/efi/efivars; fwts --quiet -r /tmp/fwts.log {TESTS}; cat /tmp/fwts.log"
    );
    let made = host.run_within(
        &format!(
            "set -e; mkdir -p /tmp/sf/root /tmp/sf/mount; cd /tmp/sf/root\n\
             for m in msr efivarfs; do f=$(find /lib/modules/$(uname -r)/kernel -name $m.ko -o -name $m.ko.xz); \
             case $f in *.xz) xz -dc $f > $m.ko;; *) cp $f $m.ko;; esac; done\n\
             cat > script <<'END'\n{guest}\nEND\n\
             find . | busybox cpio -o -H newc > ../more 2> /dev/null; cd /\n\
             {{ printf 'usr\\nusr/local\\nusr/local/bin\\nopt\\n'; find opt/fwts; echo usr/local/bin/fwts; }} | \
             busybox cpio -o -H newc > /tmp/sf/fwts 2> /dev/null; cd /tmp/sf\n\
             cat > grub.cfg <<'END'\nsearch --file /vmlinuz --set=root\n\
             linux /vmlinuz console=ttyS0 quiet panic=-1 iomem=relaxed guest_end=poweroff\ninitrd /initrd\nboot\nEND\n\
             grub-mkimage -O x86_64-efi -o loader -p / -c grub.cfg part_msdos fat linux search search_fs_file normal boot\n\
             modprobe -a loop vfat; truncate -s 300M disk; busybox mkdosfs disk; mount -t vfat -o loop disk mount\n\
             mkdir -p mount/EFI/BOOT; cp loader mount/EFI/BOOT/BOOTX64.EFI; cp /boot/vmlinuz mount/vmlinuz\n\
             cat /boot/guest-initrd more fwts > mount/initrd; ls -l mount/initrd; umount mount; \
             cp /usr/share/OVMF/OVMF_VARS_4M.fd vars"
        ),
        LIMIT,
    )?;
    assert!(made.is_success(), "{made:?}");
    Ok(())
}

/// The lines of the suite's log that begin with `word`, without the numbers that differ from machine to machine.
fn lines(log: &str, word: &str) -> BTreeSet<String> {
    let found = log.lines().map(str::trim).filter(|line| line.starts_with(word));
    found.map(|line| line.chars().filter(|letter| !letter.is_ascii_digit()).collect()).collect()
}

fn compare(host: &Host) -> Result<(), Failure> {
    make_disk(host)?;
    let ours = host
        .run_within(
            "allod run --memory 1G --cpus 2 --firmware uefi --disk /tmp/sf/disk,ro < /dev/null",
            LIMIT,
        )?
        .stdout;
    let theirs = host
        .run_within(
            "cd /tmp/sf; qemu-system-x86_64 -machine q35,accel=kvm -cpu host -m 1G -smp 2 -nodefaults -display none \
             -no-reboot -serial stdio -drive if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd \
             -drive if=pflash,format=raw,file=vars -drive if=none,id=d,format=raw,readonly=on,file=disk \
             -device virtio-blk-pci,drive=d < /dev/null",
            LIMIT,
        )?
        .stdout;
    let (own, peer) = (lines(&ours, "FAILED"), lines(&theirs, "FAILED"));
    println!("failures in both: {:#?}", own.intersection(&peer));
    println!("failures in QEMU's machine alone: {:#?}", peer.difference(&own));
    for log in [&ours, &theirs] {
        let count = |word: &str| log.lines().filter(|line| line.trim().starts_with(word)).count();
        println!("passed {}, failed {}, skipped {}", count("PASSED"), count("FAILED"), count("SKIPPED"));
        assert!(count("PASSED: Test") > 20, "the suite ran: {log}");
    }
    let alone: Vec<_> = own.difference(&peer).collect();
    assert!(alone.is_empty(), "failures in our machine alone: {alone:#?} in {ours}");
    Ok(())
}
