//! Machines whose disk images and variables lie on a file system that has no room left.

use lab::{Failure, Host, greeting};

use crate::firmware::disks::greeting_disks;
use crate::run;

/// A file system with images of 64 MiB of which hardly any can be written.
const FULL: &str = "set -e; mkdir -p /tmp/full; mount -t tmpfs -o size=24M none /tmp/full; cd /tmp/full; truncate -s 64M raw; \
    qemu-img create -q -f qcow2 packed.qcow2 64M; cp /usr/share/OVMF/OVMF_VARS_4M.fd old.vars; \
    dd if=/dev/zero of=fill bs=1M count=22 2> /dev/null; \
    cat /boot/guest-initrd /boot/guest-modules > /tmp/full-initrd";

/// What the guest does: three megabytes to each disk, which there is no room for, and once more when it says so and there is.
const GUEST: &str = "cd /lib/modules/*/; modprobe virtio_blk; cat *.ko | head -c 3145728 > /d; \
    w() { dd if=/d of=/dev/$1 bs=64k seek=16 conv=fsync 2> /dev/null; }; \
    for d in vda vdb; do w $d && echo no error from $d; done; echo FULL; \
    for d in vda vdb; do until w $d; do sleep 1; done; done; echo WROTE $(md5sum < /d)";

/// A machine beside it, which has room.
const OTHER: &str = "cd /lib/modules/*/; modprobe virtio_blk; head -c 3145728 /dev/urandom > /d; \
    dd if=/d of=/dev/vda bs=64k conv=fsync 2> /dev/null && echo OTHER WROTE";

pub(crate) fn file_system(host: &Host) -> Result<(), Failure> {
    let disks = greeting_disks(host)?;
    let ready = run(host, FULL)?;
    assert!(ready.is_success(), "{ready:?}");
    let machine = |disks: &str, guest: &str| {
        format!(
            "allod run --memory 256M {disks} --kernel /boot/vmlinux --initrd /tmp/full-initrd \
             --cmdline 'console=ttyS0 quiet panic=-1 guest_run=\"{guest}\"' < /dev/null"
        )
    };
    let full = machine("--disk /tmp/full/raw --disk /tmp/full/packed.qcow2", GUEST);
    let other = machine("--disk /tmp/full-other", OTHER);
    let said = run(
        host,
        &format!(
            "truncate -s 16M /tmp/full-other; ({other} > /tmp/full-other-said 2>&1) & {full} 2> /tmp/full-errors | \
             while read -r line; do echo \"$line\"; case \"$line\" in FULL*) qemu-img check /tmp/full/packed.qcow2 -U; \
             rm /tmp/full/fill;; esac; done; wait; cat /tmp/full-other-said /tmp/full-errors; cd /tmp/full; \
             qemu-img check packed.qcow2; qemu-img convert -O raw packed.qcow2 /tmp/full-back; \
             for f in raw /tmp/full-back; do echo FOUND $(dd if=$f bs=64k skip=16 count=48 2> /dev/null | md5sum); done"
        ),
    )?;
    let text = said.stdout.replace('\r', "");
    assert!(!text.contains("no error from"), "{said:?}");
    for words in [
        "disk 1 (/tmp/full/raw) cannot be written: No space left",
        "disk 2 (/tmp/full/packed.qcow2) cannot be written: No space left",
    ] {
        assert!(text.contains(words), "no `{words}` in {said:?}");
    }
    assert!(
        text.contains("disk 1 (/tmp/full/raw) can be written again") && text.contains("OTHER WROTE"),
        "{said:?}"
    );
    assert_eq!(text.matches("No errors were found").count(), 2, "{said:?}");
    let wrote = text.lines().find_map(|line| line.strip_prefix("WROTE ")).unwrap_or("nothing");
    assert_eq!(text.matches(&format!("FOUND {wrote}")).count(), 2, "{said:?}");
    variables(host, disks.by_uefi)
}

/// Variables have their room from when they are made: there is none to be had later, and none is needed.
fn variables(host: &Host, disk: &str) -> Result<(), Failure> {
    let said = run(
        host,
        &format!(
            "cd /tmp/full; dd if=/dev/zero of=fill bs=64k 2> /dev/null; \
             allod run --firmware uefi --vars /tmp/full/new.vars {disk} < /dev/null; ls; \
             allod run --memory 512M --firmware uefi --vars /tmp/full/old.vars --control /tmp/full-control {disk} < /dev/null \
             2>&1 | while read -r line; do echo \"$line\"; case \"$line\" in *'greeting of'*) \
             echo '{{\"command\":\"quit\"}}' | socat -t 60 - UNIX-CONNECT:/tmp/full-control;; esac; done; \
             cmp -s old.vars /usr/share/OVMF/OVMF_VARS_4M.fd || echo VARIABLES WRITTEN; cd /; umount /tmp/full"
        ),
    )?;
    assert!(said.stderr.contains("new.vars: No space left on device"), "{said:?}");
    assert!(!said.stdout.contains("new.vars"), "{said:?}");
    assert!(said.stdout.contains(greeting::BY_UEFI), "{said:?}");
    assert!(said.stdout.contains("VARIABLES WRITTEN"), "{said:?}");
    assert!(!said.stdout.contains("cannot be written"), "{said:?}");
    Ok(())
}
