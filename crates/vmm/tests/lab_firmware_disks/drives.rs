//! Machines that start from a disc, from a disk, and from a packed image shown as an NVMe disk: firmware, boot loader, and
//! Debian's own drivers read them alike.

use lab::{Failure, Host};

use crate::{run, system};

/// Makes what the guests of this file start from: a kernel, and a RAM disk whose `load` loads a module.
const GUEST: &str = "cd /tmp; rm -rf dr-tree dr-iso; mkdir -p dr-tree/mods dr-iso dr-mount; modprobe -a loop vfat; \
    for m in ahci sr_mod isofs; do for f in $(modprobe --show-depends $m | sed -n 's/^insmod \\([^ ]*\\).*/\\1/p'); do \
    b=$(basename $f); b=${b%.xz}; case $f in *.xz) xz -dc $f > dr-tree/mods/$b;; *) cp $f dr-tree/mods/$b;; esac; \
    echo $b >> dr-tree/mods/$m.list; done; done; \
    (cd dr-tree; find . | busybox cpio -o -H newc 2> /dev/null) | cat /boot/guest-initrd - > dr-iso/initrd; \
    cp /boot/vmlinuz dr-iso/vmlinuz";

/// A shell line of the guest that loads modules and waits for a device.
fn load(modules: &str, device: &str) -> String {
    format!(
        "for l in {modules}; do for m in $(cat /mods/$l.list); do insmod /mods/$m 2>/dev/null; done; done; \
         for i in 1 2 3 4 5 6 7 8 9; do [ -e {device} ] && break; sleep 1; done"
    )
}

/// Writes GRUB's script, by which the guest runs a line without quotes.
fn script(line: &str) -> String {
    format!(
        "cat > dr-grub.cfg <<'END'\nserial\nterminal_output serial\nsearch --file /vmlinuz --set=root\n\
         linux /vmlinuz console=ttyS0 quiet panic=-1 guest_end=poweroff guest_run='{line}'\ninitrd /initrd\nboot\nEND\n"
    )
}

/// Modules that GRUB needs to find the files and to say so on the serial port.
const GRUB: &str = "part_msdos linux serial search search_fs_file normal boot";

pub(crate) fn debian_starts_from_a_disc_by_bios_and_by_uefi(host: &Host) -> Result<(), Failure> {
    let guest = load("ahci sr_mod isofs", "/dev/sr0");
    let line = format!("{guest}; mkdir /m; mount -t iso9660 /dev/sr0 /m; echo disc $(md5sum < /m/initrd)");
    let made = run(
        host,
        &format!(
            "set -e; {GUEST}\n{}grub-mkimage -O i386-pc-eltorito -o dr-iso/bios.img -p / -c dr-grub.cfg biosdisk iso9660 {GRUB}\n\
             grub-mkimage -O x86_64-efi -o dr-loader -p / -c dr-grub.cfg iso9660 {GRUB}\n\
             truncate -s 40M dr-iso/efi.img; busybox mkdosfs dr-iso/efi.img; mount -t vfat -o loop dr-iso/efi.img dr-mount\n\
             mkdir -p dr-mount/EFI/BOOT; cp dr-loader dr-mount/EFI/BOOT/BOOTX64.EFI; umount dr-mount\n\
             xorriso -as mkisofs -quiet -o dr.iso -V DISC -b bios.img -no-emul-boot -boot-load-size 4 -boot-info-table \
             -eltorito-alt-boot -e efi.img -no-emul-boot dr-iso; md5sum < dr-iso/initrd; truncate -s 64K dr-none.iso",
            script(&line)
        ),
    )?;
    assert!(made.is_success(), "{made:?}");
    let sum =
        made.stdout.lines().last().and_then(|line| line.split(' ').next()).unwrap_or_default().to_owned();
    for firmware in ["bios", "uefi"] {
        let output = run(
            host,
            &format!("allod run --no-reboot --firmware {firmware} --cdrom /tmp/dr.iso < /dev/null"),
        )?;
        assert!(output.is_success(), "{firmware}: {output:?}");
        assert!(output.stdout.contains(&format!("disc {sum}")), "{firmware}: no {sum} in {output:?}");
    }
    let refused = run(host, "allod run --firmware bios --cdrom /tmp/dr-none.iso < /dev/null")?;
    assert!(refused.status == 1 && refused.stderr.contains("is not an ISO image"), "{refused:?}");
    Ok(())
}

/// What the guest does behind its login prompt: eight megabytes to the end of its disk, which no partition has.
const WORK: &str = "cat /sys/class/nvme/nvme0/model; dd if=/dev/urandom of=/dev/r bs=1M count=8 2> /dev/null; \
                    dd if=/dev/r of=/dev/nvme0n1 bs=1M seek=170 conv=fsync 2> /dev/null; echo wrote $(md5sum < /dev/r)";

pub(crate) fn debian_reaches_its_login_prompt_from_a_disk_and_from_a_packed_nvme_disk(
    host: &Host,
) -> Result<(), Failure> {
    system::make(host)?;
    let said = system::logs_in(
        host,
        "--firmware uefi --disk /tmp/fd-disk",
        "sed -n /ext4/p /proc/mounts; echo PRESS; head -c 24 /dev/input/event0 | wc -c",
    )?;
    assert!(said.contains("/dev/vda3 / ext4") && said.contains("\n24\r"), "{said}");
    let packed = run(host, "cd /tmp; qemu-img convert -c -O qcow2 fd-disk fd-packed.qcow2; rm fd-disk")?;
    assert!(packed.is_success(), "{packed:?}");
    for firmware in ["bios", "uefi"] {
        let flags = format!("--firmware {firmware} --disk /tmp/fd-packed.qcow2,as=nvme");
        let said = system::logs_in(host, &flags, WORK)?;
        assert!(said.contains("Allod NVMe"), "{firmware}: {said}");
        // QEMU's own reader finds the image sound, and what the guest has written; what was there before, the next start
        // finds.
        let checked = run(
            host,
            "cd /tmp; qemu-img check fd-packed.qcow2 && qemu-img convert -O raw fd-packed.qcow2 fd-back && \
             echo wrote $(dd if=fd-back bs=1M skip=170 count=8 2> /dev/null | md5sum); rm fd-back",
        )?;
        let wrote = checked.stdout.lines().last().unwrap_or_default();
        assert!(
            checked.is_success() && wrote.starts_with("wrote ") && said.contains(wrote),
            "{firmware}: {checked:?} {said}"
        );
    }
    let in_use = run(
        host,
        "flock /tmp/fd-packed.qcow2 allod run --firmware uefi --disk /tmp/fd-packed.qcow2,as=nvme < /dev/null",
    )?;
    assert!(in_use.status == 1 && in_use.stderr.contains("in use by another machine"), "{in_use:?}");
    Ok(())
}
