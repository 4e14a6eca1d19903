//! `cargo xtask bench firmware`: SeaBIOS and OVMF on their way to the first line of what a disk has to start, without and
//! with cards of the host: an NVMe controller, and a display, which for a BIOS is the first one and runs its own BIOS; ours
//! and QEMU's figures in turn, in one host.
//!
//! Times are those of a processor that does one instruction in a nanosecond; the firmware's own waits are real. Data only:
//! `driver` goes through it.

use super::driver::{Plan, Step};
use super::figures::Vmm;
use super::session::Measurement;
use super::table::{Row, row};

/// Hands the cards of the profile to vfio-pci, and keeps words for the measuring program about each.
const READY: &str = "set -e; modprobe vfio-pci; take() { f=$(lspci -Dn -d $1 | cut -d' ' -f1); d=/sys/bus/pci/devices/$f; \
    echo vfio-pci > $d/driver_override; if [ -e $d/driver ]; then echo $f > $d/driver/unbind; fi; \
    echo $f > /sys/bus/pci/drivers_probe; }; take 1b36:0010; echo --function $f > /run/disk; \
    take 1234:1111; echo --function $f > /run/screen; take 1013:00b8; \
    echo --primary $f,/usr/share/seabios/vgabios-cirrus.bin > /run/vga";

const ONE: &str = "$(cat /run/disk)";
const VGA: &str = "$(cat /run/vga)";
const SCREEN: &str = "$(cat /run/screen)";
const BIOS: Measurement = greeting("bios", "greeting", "bios-disk", "");
const UEFI: Measurement = greeting("uefi", "greeting", "uefi-disk", "");
const BIOS_CARD: Measurement = greeting("bios card", "greeting", "bios-disk", ONE);
const UEFI_CARD: Measurement = greeting("uefi card", "greeting", "uefi-disk", ONE);
const BIOS_VGA: Measurement = greeting("bios vga", "greeting", "bios-disk", VGA);
const UEFI_SCREEN: Measurement = greeting("uefi screen", "greeting", "uefi-disk", SCREEN);
const BIOS_EXITS: Measurement = greeting("bios exits", "greeting-exits", "bios-disk", "");
const UEFI_EXITS: Measurement = greeting("uefi exits", "greeting-exits", "uefi-disk", "");
const BIOS_CARD_EXITS: Measurement = greeting("bios card exits", "greeting-exits", "bios-disk", ONE);
const UEFI_CARD_EXITS: Measurement = greeting("uefi card exits", "greeting-exits", "uefi-disk", ONE);

const TIMED: &[Step] = &[
    (BIOS, &Vmm::ALL),
    (BIOS_CARD, &Vmm::ALL),
    (BIOS_VGA, &Vmm::ALL),
    (UEFI, &Vmm::ALL),
    (UEFI_CARD, &Vmm::ALL),
    (UEFI_SCREEN, &Vmm::ALL),
];
const COUNTED: &[Step] = &[
    (BIOS_EXITS, &Vmm::ALL),
    (BIOS_CARD_EXITS, &Vmm::ALL),
    (UEFI_EXITS, &Vmm::ALL),
    (UEFI_CARD_EXITS, &Vmm::ALL),
];

const ROWS: &[Row] = &[
    as_qemu("SeaBIOS, exec to boot sector's line, ms", "bios.greeting_ms", 1),
    as_qemu("  with an NVMe controller assigned", "bios card.greeting_ms", 1),
    as_qemu("  with a VGA as first display, by its ROM", "bios vga.greeting_ms", 1),
    row("  exits to user space", "bios exits.user_exits", 0, ""),
    row("  the same with the controller", "bios card exits.user_exits", 0, ""),
    as_qemu("OVMF, exec to UEFI program's line, ms", "uefi.greeting_ms", 0),
    as_qemu("  with an NVMe controller assigned", "uefi card.greeting_ms", 0),
    as_qemu("  with a display assigned", "uefi screen.greeting_ms", 0),
    row("  exits to user space", "uefi exits.user_exits", 0, ""),
    row("  the same with the controller", "uefi card exits.user_exits", 0, ""),
];

/// A line whose goal is QEMU's figure of the same run.
const fn as_qemu(title: &'static str, figure: &'static str, decimals: usize) -> Row {
    row(title, figure, decimals, "").at_most(1.0).scaled_from(1.0)
}

const fn greeting(
    name: &'static str,
    what: &'static str,
    guest: &'static str,
    shape: &'static str,
) -> Measurement {
    Measurement { name, what, guest, shape }
}

/// The benchmark.
pub(super) const PLAN: Plan = Plan {
    phase: "bench firmware",
    machine: "1 vCPU, 512 MiB, a disk (virtio-blk) and Debian's firmware",
    host: ("bench-firmware", READY),
    warm_up: BIOS,
    // They warm both kinds of firmware up.
    before: COUNTED,
    timed: TIMED,
    after: &[],
    by_wall_clock: &[],
    rows: ROWS,
    method: &[
        (
            "firmware",
            "Debian's seabios and ovmf, the same files for both; UEFI variables as the package has them",
        ),
        (
            "what is started",
            "a program that writes a line to the serial port: boot sector, and BOOTX64.EFI on FAT",
        ),
    ],
};
