//! Virtio devices under Debian's own drivers, in machines inside the lab: entropy from the host, and disks whose bytes are
//! those of their files.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario says what it expects")]

use std::process::ExitCode;
use std::time::Duration;

use lab::scenario::{self, Scenario, run_all};
use lab::{Failure, Host, Output};

fn main() -> ExitCode {
    run_all(SCENARIOS)
}

const SCENARIOS: &[Scenario] = &[
    shared("the_guest_s_entropy_comes_from_the_host", the_guest_s_entropy_comes_from_the_host),
    shared(
        "what_the_guest_writes_is_what_the_file_holds_and_back",
        what_the_guest_writes_is_what_the_file_holds_and_back,
    ),
    shared(
        "a_disk_that_is_read_only_or_in_use_stays_as_it_is",
        a_disk_that_is_read_only_or_in_use_stays_as_it_is,
    ),
    shared("a_disk_is_there_again_after_a_reset", a_disk_is_there_again_after_a_reset),
];

const fn shared(name: &'static str, check: fn(&Host) -> Result<(), Failure>) -> Scenario {
    scenario::shared(name, "plain", check)
}

/// A guest with its modules boots in ten seconds in the lab; in many times that when the machine under it is busy.
const LIMIT: Duration = Duration::from_secs(300);

/// A boot with two disks, and a kilobyte said on the console, take some two thousand exits to user space; what a request
/// costs comes on top.
const EXITS_WITHOUT_REQUESTS: u64 = 4000;

/// Runs a shell line in the host; it must go well.
fn does(host: &Host, script: &str) -> Result<String, Failure> {
    let output = host.run_within(script, LIMIT)?;
    assert!(output.is_success(), "{script}: {output:?}");
    Ok(output.stdout)
}

/// Runs a machine with these flags whose guest has its modules at hand and runs `script` in their folder.
fn machine(host: &Host, flags: &str, script: &str) -> Result<(Output, serde_json::Value), Failure> {
    does(host, "cat /boot/guest-initrd /boot/guest-modules > /tmp/virtio-initrd; rm -f /tmp/virtio-report")?;
    let output = host.run_within(
        &format!(
            "allod run --report /tmp/virtio-report {flags} --kernel /boot/vmlinux --initrd /tmp/virtio-initrd \
             --cmdline 'console=ttyS0 quiet panic=-1 guest_run=\"cd /lib/modules/*/; {script}\"' < /dev/null"
        ),
        LIMIT,
    )?;
    let report = host.run_within("cat /tmp/virtio-report", LIMIT)?.stdout;
    Ok((output, serde_json::from_str(&report).unwrap_or_default()))
}

fn the_guest_s_entropy_comes_from_the_host(host: &Host) -> Result<(), Failure> {
    // How often the device has told its driver: before and after.
    let told = "grep virtio0 /proc/interrupts | tr -s \\  | cut -d\\  -f3";
    let script = format!(
        "insmod virtio-rng.ko; cat /sys/class/misc/hw_random/rng_current; echo told $({told}); \
         dd if=/dev/hwrng of=/tmp/a bs=1k count=64 iflag=fullblock; dd if=/dev/hwrng of=/tmp/b bs=1k count=64 \
         iflag=fullblock; echo told $({told}); wc -c /tmp/a; cmp /tmp/a /tmp/b; gzip /tmp/a; wc -c /tmp/a.gz"
    );
    let (output, report) = machine(host, "", &script)?;
    let text = &output.stdout;
    assert!(text.contains("virtio_rng.0") && text.contains("65536 /tmp/a\r\n"), "{output:?}");
    assert!(text.contains("/tmp/a /tmp/b differ"), "two reads are the same: {output:?}");
    let numbers = |mark: &str| -> Vec<u64> {
        let lines = text.lines().filter_map(|line| line.trim().strip_prefix(mark));
        lines.map(|number| number.trim().parse().unwrap()).collect()
    };
    let told = numbers("told");
    assert!(told.len() == 2 && told[1] > told[0], "no interrupt for {told:?}: {output:?}");
    let packed = text.lines().find_map(|line| line.trim().strip_suffix(" /tmp/a.gz"));
    assert!(packed.unwrap().parse::<u64>().unwrap() > 65_536, "what can be packed is not random: {output:?}");
    assert_eq!(report["cause"], "power-off", "{report}");

    let (output, _) = machine(host, "--no-rng", "ls /sys/bus/pci/devices; echo looked")?;
    assert!(output.stdout.contains("looked") && !output.stdout.contains("00:01.0"), "{output:?}");
    Ok(())
}

fn what_the_guest_writes_is_what_the_file_holds_and_back(host: &Host) -> Result<(), Failure> {
    does(
        host,
        "cd /tmp; rm -f virtio-raw virtio-fs; truncate -s 64M virtio-raw; truncate -s 32M virtio-fs; \
         head -c 4M /dev/urandom > virtio-random; dd if=virtio-random of=virtio-raw bs=1M seek=32 conv=notrunc",
    )?;
    // Six thousand reads of a page each, past the guest's cache: none of them may cost an exit to user space.
    let script = "insmod virtio_blk.ko; cat /sys/block/vda/size; \
                  cat /sys/block/vda/serial; echo; head -c 8388608 /dev/urandom > /tmp/r; \
                  dd if=/tmp/r of=/dev/vda bs=1M seek=1 conv=fsync; echo written $(sha256sum < /tmp/r); \
                  echo found $(dd if=/dev/vda bs=1M skip=32 count=4 | sha256sum); \
                  dd if=/dev/vda of=/dev/null bs=4k count=6000 iflag=direct 2> /dev/null; \
                  mke2fs -F -L guest-made /dev/vdb > /dev/null; \
                  grep virtio /proc/interrupts";
    let flags = "--disk /tmp/virtio-raw --disk /tmp/virtio-fs";
    let (output, report) = machine(host, flags, script)?;
    let text = &output.stdout;
    assert!(text.contains("131072\r\ndisk0\r\n"), "size and serial: {output:?}");
    assert!(text.contains("PCI-MSIX-0000:00:02.0   1-edge      virtio1-req.0"), "{output:?}");
    let sum = |mark: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(mark));
        line.unwrap_or_else(|| panic!("no `{mark}` in {output:?}")).trim_end_matches(" -").trim().to_owned()
    };
    let raw = does(host, "dd if=/tmp/virtio-raw bs=1M skip=1 count=8 status=none | sha256sum")?;
    assert_eq!(raw.trim_end_matches("-\n").trim(), sum("written"), "guest to file");
    let random = does(host, "sha256sum < /tmp/virtio-random")?;
    assert_eq!(random.trim_end_matches("-\n").trim(), sum("found"), "file to guest");
    // What the guest formatted, the host's own driver takes for sound.
    let listed = does(
        host,
        "modprobe loop; mkdir -p /tmp/virtio-mount && blkid -o value -s LABEL /tmp/virtio-fs && \
         mount -o loop,ro /tmp/virtio-fs /tmp/virtio-mount && ls /tmp/virtio-mount && umount /tmp/virtio-mount",
    )?;
    assert_eq!(listed, "guest-made\nlost+found\n", "{output:?}");
    let exits = report["exits"].as_u64().unwrap();
    println!("two disks, 6000 reads and 36 MiB in all: {exits} exits to user space");
    assert!(exits < EXITS_WITHOUT_REQUESTS, "{exits} exits: requests leave the kernel");
    Ok(())
}

fn a_disk_that_is_read_only_or_in_use_stays_as_it_is(host: &Host) -> Result<(), Failure> {
    let before = does(
        host,
        "head -c 1M /dev/urandom > /tmp/virtio-ro; : > /tmp/virtio-empty; sha256sum < /tmp/virtio-ro",
    )?;
    let script = "insmod virtio_blk.ko; cat /sys/block/vda/ro; echo seen $(sha256sum < /dev/vda); \
                  dd if=/dev/zero of=/dev/vda bs=1M count=1 conv=fsync || echo refused";
    let (output, _) = machine(host, "--disk /tmp/virtio-ro,ro", script)?;
    assert!(output.stdout.contains(&format!("seen {}", before.trim_end_matches("-\n").trim())), "{output:?}");
    assert!(output.stdout.contains("refused"), "{output:?}");
    assert_eq!(does(host, "sha256sum < /tmp/virtio-ro")?, before);

    // The name of the lock's holder does not matter: flock(1) holds it as a machine does.
    for (shell, words) in [
        (
            "flock /tmp/virtio-ro allod run --kernel /boot/vmlinux --disk /tmp/virtio-ro",
            "in use by another machine",
        ),
        ("allod run --kernel /boot/vmlinux --disk /tmp/virtio-empty", "disk 1 (/tmp/virtio-empty) is empty"),
        ("allod run --kernel /boot/vmlinux --disk /tmp/nothing", "open the disk /tmp/nothing"),
        ("allod run --kernel /boot/vmlinux --disk /dev/ttyS0", "/dev/ttyS0 is no disk"),
        (
            "mkfifo /tmp/virtio-pipe; allod run --kernel /boot/vmlinux --disk /tmp/virtio-pipe,ro",
            "/tmp/virtio-pipe is no disk",
        ),
    ] {
        let output = host.run_within(&format!("{shell} < /dev/null"), LIMIT)?;
        assert_eq!(output.status, 1, "{shell}: {output:?}");
        assert!(output.stderr.contains(words) && output.stderr.lines().count() == 1, "{shell}: {output:?}");
    }
    Ok(())
}

fn a_disk_is_there_again_after_a_reset(host: &Host) -> Result<(), Failure> {
    does(host, "rm -f /tmp/virtio-mark; truncate -s 1M /tmp/virtio-mark")?;
    let script = "insmod virtio_blk.ko; if grep -q MARK /dev/vda; then echo second life; else echo MARK > /tmp/mark; \
                  dd if=/tmp/mark of=/dev/vda conv=fsync; reboot -f; fi";
    let (output, report) = machine(host, "--disk /tmp/virtio-mark", script)?;
    assert!(output.stdout.contains("second life"), "{output:?}");
    assert_eq!((&report["cause"], &report["resets"]), (&"power-off".into(), &1.into()), "{report}");
    Ok(())
}
