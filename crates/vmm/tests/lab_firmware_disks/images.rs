//! What becomes of images whose machine is killed, and of those that are damaged.

use lab::{Failure, Host};

use crate::run;

/// Two images of each kind, empty.
const EMPTY: &str = "cd /tmp; rm -f im-*; truncate -s 16M im-a.raw im-b.raw; for n in c d; do \
    qemu-img create -q -f qcow2 im-$n.qcow2 16M; done; cat /boot/guest-initrd /boot/guest-modules > im-initrd";

const DISKS: &str = "--disk im-a.raw --disk im-c.qcow2 --disk im-b.raw,as=nvme --disk im-d.qcow2,as=nvme";

/// What both guests do first.
const DRIVERS: &str = "cd /lib/modules/*/; modprobe -a virtio_blk nvme; \
    for d in vda vdb nvme0n1 nvme1n1; do until [ -b /dev/$d ]; do sleep 0.1; done; done";

/// Four megabytes to each disk, which it asks to have flushed; then as much to another place of each, again and again.
const WRITE: &str = "cat *.ko | head -c 4194304 > /d; for d in vda vdb nvme0n1 nvme1n1; do \
    dd if=/d of=/dev/$d bs=64k seek=16 conv=fsync 2> /dev/null && echo flushed $d; done; echo FLUSHED $(md5sum < /d); \
    while :; do for d in vdb nvme1n1 vda nvme0n1; do dd if=/dev/urandom of=/dev/$d bs=64k count=32 seek=128 2> /dev/null; done; done";

const READ: &str = "for d in vda vdb nvme0n1 nvme1n1; do \
    echo FOUND $(dd if=/dev/$d bs=64k skip=16 count=64 2> /dev/null | md5sum); done";

/// A shell line that starts a machine with all four disks, whose guest runs `script`.
fn machine(script: &str) -> String {
    format!(
        "allod run {DISKS} --kernel /boot/vmlinux --initrd im-initrd \
         --cmdline 'console=ttyS0 quiet panic=-1 guest_run=\"{DRIVERS}; {script}\"' < /dev/null"
    )
}

pub(crate) fn what_was_flushed_outlives_its_machine(host: &Host) -> Result<(), Failure> {
    let made = run(host, EMPTY)?;
    assert!(made.is_success(), "{made:?}");
    let killed = run(
        host,
        &format!(
            "cd /tmp; strace -f -y -qq -e trace=fdatasync -e signal=none -o im-calls {} | while read -r line; do \
             echo \"$line\"; case \"$line\" in FLUSHED*) cp im-calls im-synced; allod run --disk im-a.raw --kernel /boot/vmlinux < /dev/null 2>&1; kill -9 $(pidof allod-vmm);; esac; done; \
             cat im-synced; for n in c d; do qemu-img check im-$n.qcow2; echo checked $?; done",
            machine(WRITE)
        ),
    )?;
    let text = killed.stdout.replace('\r', "");
    let sum = text.lines().find_map(|line| line.strip_prefix("FLUSHED ")).unwrap_or("nothing");
    // The kernel was told of each before the guest heard that it is done.
    for name in ["im-a.raw", "im-b.raw", "im-c.qcow2", "im-d.qcow2"] {
        assert!(
            text.lines().any(|line| line.contains("fdatasync") && line.contains(name)),
            "{name}: {killed:?}"
        );
    }
    assert!(text.contains("in use by another machine"), "{killed:?}");
    // At worst clusters are counted that nobody has.
    assert_eq!(text.matches("checked 0").count() + text.matches("checked 3").count(), 2, "{killed:?}");
    let back = run(
        host,
        "cd /tmp; for n in c d; do qemu-img convert -O raw im-$n.qcow2 im-$n.raw; done; \
         for n in a b c d; do echo FOUND $(dd if=im-$n.raw bs=64k skip=16 count=64 2> /dev/null | md5sum); done",
    )?;
    assert_eq!(back.stdout.matches(&format!("FOUND {sum}\n")).count(), 4, "{sum}: {back:?}");
    let again = run(host, &format!("cd /tmp; {}", machine(READ)))?;
    assert_eq!(
        again.stdout.replace('\r', "").matches(&format!("FOUND {sum}\n")).count(),
        4,
        "{sum}: {again:?}"
    );
    Ok(())
}

/// Images that QEMU made and that something has happened to: header, tables and data are 64 KiB each, in this order header,
/// table of reference counts, counts, first table, second table.
const DAMAGED: &str = "cd /tmp; rm -f im-*; qemu-img create -q -f qcow2 im-whole 8M; qemu-io -c 'write 0 1M' im-whole > /dev/null; \
    damage() { cp im-whole im-$1.qcow2; printf \"$3\" | dd of=im-$1.qcow2 bs=1 seek=$2 conv=notrunc 2> /dev/null; }; \
    damage count 131080 '\\000\\000'; damage dirty 79 '\\001'; damage marked 79 '\\002'; damage loop 262152 '\\200\\0\\0\\0\\0\\005\\0\\0'; \
    head -c 200K im-whole > im-cut.qcow2; head -c 50 im-whole > im-short.qcow2; md5sum im-*.qcow2 > im-sums";

pub(crate) fn damaged_ones_are_refused_and_left_alone(host: &Host) -> Result<(), Failure> {
    let made = run(host, DAMAGED)?;
    assert!(made.is_success(), "{made:?}");
    for (name, words) in [
        ("count", "a cluster's reference count is not true"),
        ("dirty", "it was not closed"),
        ("marked", "it is marked as corrupt"),
        ("loop", "two places have one cluster"),
        ("cut", "a table refers to what is not in the file"),
        ("short", "im-short.qcow2"),
    ] {
        let output =
            run(host, &format!("allod run --disk /tmp/im-{name}.qcow2 --kernel /boot/vmlinux < /dev/null"))?;
        assert_eq!((output.status, output.stderr.lines().count()), (1, 1), "{name}: {output:?}");
        assert!(output.stderr.contains(words), "{name}: no `{words}` in {output:?}");
    }
    let same = run(host, "cd /tmp; md5sum -c im-sums")?;
    assert!(same.is_success(), "{same:?}");
    Ok(())
}
