//! Small disks for guests to start from, made inside the lab's host with Debian's GRUB.

use lab::{Failure, Host, greeting};

use super::run;

/// Flags of the disks from which the small guest starts.
pub(crate) struct GuestDisks {
    /// By BIOS: GRUB on one disk, and the files on another.
    pub(crate) by_bios: &'static str,
    /// By UEFI: the boot loader of a removable disk, beside the files.
    pub(crate) by_uefi: &'static str,
}

/// Modules that GRUB needs to find the files and to say so on the serial port.
const GRUB_MODULES: &str = "part_msdos fat linux serial search search_fs_file normal boot";

/// Makes disks with Debian's kernel and the small guest, which runs `script`, a line without quotes.
pub(crate) fn guest_disk(host: &Host, script: &str) -> Result<GuestDisks, Failure> {
    let made = run(
        host,
        &format!(
            "set -e; cd /tmp; cat > fw-grub.cfg <<'END'\n\
             serial\nterminal_output serial\nsearch --file /vmlinuz --set=root\n\
             linux /vmlinuz console=ttyS0 quiet panic=-1 guest_end=poweroff guest_run='{script}'\n\
             initrd /initrd\nboot\nEND\n\
             grub-mkimage -O x86_64-efi -o fw-loader -p / -c fw-grub.cfg {GRUB_MODULES}\n\
             grub-mkimage -O i386-pc -o fw-core -p / -c fw-grub.cfg biosdisk {GRUB_MODULES}\n\
             cat /usr/lib/grub/i386-pc/boot.img fw-core > fw-grub; truncate -s 1M fw-grub\n\
             {new_volume}\n\
             mkdir -p fw-mount/EFI/BOOT; cp fw-loader fw-mount/EFI/BOOT/BOOTX64.EFI\n\
             cp /boot/vmlinuz fw-mount/vmlinuz; cp /boot/guest-initrd fw-mount/initrd; umount fw-mount",
            new_volume = new_volume("fw-files", "64M"),
        ),
    )?;
    assert!(made.is_success(), "{made:?}");
    Ok(GuestDisks { by_bios: "--disk /tmp/fw-grub --disk /tmp/fw-files", by_uefi: "--disk /tmp/fw-files" })
}

/// Makes a disk whose script the UEFI shell runs, as there is nothing else to start; gives its path.
pub(crate) fn shell_disk(host: &Host, script: &str) -> Result<&'static str, Failure> {
    let escaped = script.replace('\r', "\\r").replace('\n', "\\n").replace('%', "%%");
    let made = run(
        host,
        &format!(
            "set -e; cd /tmp; {}\nprintf '{escaped}' > fw-mount/startup.nsh; umount fw-mount",
            new_volume("fw-script", "40M")
        ),
    )?;
    assert!(made.is_success(), "{made:?}");
    Ok("/tmp/fw-script")
}

/// Makes disks with a program that says by which firmware it was started: a boot sector, and the loader of a removable disk.
pub(crate) fn greeting_disks(host: &Host) -> Result<GuestDisks, Failure> {
    let program: String = greeting::program().iter().map(|byte| format!("\\{byte:03o}")).collect();
    let made = run(
        host,
        &format!(
            "set -e; cd /tmp; printf '{program}' > fw-greeting; cp fw-greeting fw-greets-bios; truncate -s 1M fw-greets-bios\n\
             {}\nmkdir -p fw-mount/EFI/BOOT; cp fw-greeting fw-mount/EFI/BOOT/BOOTX64.EFI; umount fw-mount",
            new_volume("fw-greets-uefi", "40M")
        ),
    )?;
    assert!(made.is_success(), "{made:?}");
    Ok(GuestDisks { by_bios: "--disk /tmp/fw-greets-bios", by_uefi: "--disk /tmp/fw-greets-uefi" })
}

/// Shell lines that make a file system of FAT in `file` and mount it at `fw-mount`.
pub(crate) fn new_volume(file: &str, size: &str) -> String {
    format!(
        "modprobe -a loop vfat; mkdir -p fw-mount; rm -f {file}; truncate -s {size} {file}; busybox mkdosfs {file}; \
         mount -t vfat -o loop {file} fw-mount"
    )
}
