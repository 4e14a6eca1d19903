//! A Debian system on a disk of its own, as an installer leaves it: a table of partitions by GPT, one that GRUB starts from by
//! BIOS, one by UEFI, and a root file system with kernel, users and a login prompt.

use lab::{Failure, Host};

use crate::run;

/// Where the partition begins that GRUB is in for a BIOS, and the sector behind: GRUB's first sectors name both.
const GRUB_AT: u8 = 40;

/// Makes the disk `/tmp/fd-disk` of 200 MiB, whose last 40 belong to nobody.
pub(crate) fn make(host: &Host) -> Result<(), Failure> {
    let made = run(
        host,
        &format!(
            "set -e; cd /tmp; rm -rf fd-*; mkdir -p fd-ram/modules fd-root/boot fd-mount; modprobe -a loop vfat\n\
             {RAM_DISK}\n{ROOT}\n{GRUB_CONFIG}\n\
             truncate -s 200M fd-disk; sfdisk -q fd-disk <<'END'\n\
             label: gpt\nfirst-lba: 34\nstart={GRUB_AT}, size=2000, type=21686148-6449-6E6F-744E-656564454649\n\
             start=2048, size=73728, type=uefi\nstart=77824, size=249856, type=linux, name=root\nEND\n\
             grub-mkimage -O i386-pc -o fd-core -p /boot -c fd-grub.cfg biosdisk {GRUB}\n\
             head -c 440 /usr/lib/grub/i386-pc/boot.img | dd of=fd-disk conv=notrunc 2> /dev/null\n\
             dd if=fd-core of=fd-disk seek={GRUB_AT} conv=notrunc 2> /dev/null\n\
             byte() {{ printf \"\\\\$(printf %o $2)\" | dd of=fd-disk bs=1 seek=$1 conv=notrunc 2> /dev/null; }}\n\
             byte 92 {GRUB_AT}; byte $(({GRUB_AT} * 512 + 500)) $(({GRUB_AT} + 1))\n\
             truncate -s 36M fd-esp; busybox mkdosfs fd-esp; mount -t vfat -o loop fd-esp fd-mount\n\
             mkdir -p fd-mount/EFI/BOOT\n\
             grub-mkimage -O x86_64-efi -o fd-mount/EFI/BOOT/BOOTX64.EFI -p /boot -c fd-grub.cfg {GRUB}; umount fd-mount\n\
             dd if=fd-esp of=fd-disk bs=1M seek=1 conv=notrunc 2> /dev/null\n\
             truncate -s 122M fd-ext4; busybox mke2fs -F -L root fd-ext4 > /dev/null; mount -t ext4 -o loop fd-ext4 fd-mount\n\
             cp -a fd-root/. fd-mount; umount fd-mount\n\
             dd if=fd-ext4 of=fd-disk bs=1M seek=38 conv=notrunc 2> /dev/null; rm -r fd-ram fd-root fd-ext4 fd-esp"
        ),
    )?;
    assert!(made.is_success(), "{made:?}");
    Ok(())
}

/// A RAM disk that finds the root file system on whatever kind of disk it is, and hands over to its init.
const RAM_DISK: &str = "for m in crc32c_generic ext4 virtio_blk nvme button evdev; do \
    for f in $(modprobe --show-depends $m | sed -n 's/^insmod \\([^ ]*\\).*/\\1/p'); do b=$(basename $f); b=${b%.xz}; \
    case $f in *.xz) xz -dc $f > fd-ram/modules/$b;; *) cp $f fd-ram/modules/$b;; esac; echo $b >> fd-ram/order; done; done\n\
    cat > fd-ram/init <<'END'\n#!/bin/busybox sh\nPATH=/bin\nmount -t proc proc /proc; mount -t devtmpfs devtmpfs /dev\n\
    for m in $(cat /order); do insmod /modules/$m 2> /dev/null; done\n\
    until root=$(findfs LABEL=root); do sleep 0.1; done\n\
    mkdir /system; mount -t ext4 $root /system && mount --move /dev /system/dev && exec switch_root /system /sbin/init\nEND\n\
    chmod 755 fd-ram/init; (cd fd-ram; find . | busybox cpio -o -H newc 2> /dev/null) | cat /boot/guest-initrd - > fd-root/boot/initrd; \
    cp /boot/vmlinuz fd-root/boot/vmlinuz";

/// A root file system by Debian's busybox: init, getty and login.
const ROOT: &str = "cd fd-root; mkdir -p bin sbin etc proc sys dev root; cp /usr/bin/busybox bin; \
    for a in $(busybox --list | grep -vx busybox); do ln -sf busybox bin/$a; done; ln -s /bin/init sbin/init; \
    printf '::sysinit:/bin/mount -t proc proc /proc\\n::sysinit:/bin/mount -t sysfs sysfs /sys\\n::sysinit:/bin/hostname fromdisk\\n\
    ttyS0::respawn:/bin/getty -L ttyS0 115200 vt100\\n::shutdown:/bin/umount -a -r\\n' > etc/inittab; \
    echo 'root::0:0:root:/root:/bin/sh' > etc/passwd; echo 'root:x:0:' > etc/group; cd ..";

const GRUB_CONFIG: &str = "cat > fd-grub.cfg <<'END'\nserial\nterminal_output serial\nsearch --label root --set=root\n\
    linux /boot/vmlinuz console=ttyS0 quiet panic=-1\ninitrd /boot/initrd\nboot\nEND\n";

/// Modules that GRUB needs to find the files and to say so on the serial port.
const GRUB: &str = "part_gpt ext2 fat linux serial search search_label normal boot";

/// Starts a machine from a disk, logs in at its prompt and does what `work` says, a line without quotes; then powers it off.
/// Where that says PRESS, its power button is pressed. Gives what was on the serial console.
pub(crate) fn logs_in(host: &Host, flags: &str, work: &str) -> Result<String, Failure> {
    let session = run(
        host,
        &format!(
            "cd /tmp; rm -f fd-keys fd-control; mkfifo fd-keys; exec 3<>fd-keys; : > fd-said\n\
             allod run --no-reboot --control fd-control {flags} <&3 > fd-said 2> fd-errors & m=$!\n\
             said() {{ until grep -aq \"$1\" fd-said; do kill -0 $m || return 1; sleep 0.1; done; }}\n\
             said 'fromdisk login:' && echo root >&3 && said '~ #' && echo '{work}; poweroff' >&3\n\
             case '{work}' in *PRESS*) said '^PRESS' && echo '{{\"command\":\"power-button\"}}' | \
             socat -t 60 - UNIX-CONNECT:fd-control;; esac\n\
             wait $m; s=$?; cat fd-said fd-errors; exit $s"
        ),
    )?;
    assert!(session.is_success(), "{flags}: {session:?}");
    Ok(session.stdout)
}
