//! `cargo xtask bench boot`: one vCPU, 512 MiB, no device; ours and QEMU's figures in turn, in one host.
//!
//! Times are those of a processor that does one instruction in a nanosecond, so that they repeat; a world switch and
//! a cache miss cost nothing on it, so read them together with the exits. Data only: `driver` goes through it.

use super::driver::{Plan, Step};
use super::figures::Vmm;
use super::session::Measurement;
use super::table::{Row, row};

const START: Measurement = Measurement::plain("start", "micro-elf");
const BOOT: Measurement = Measurement::plain("boot", "debian-elf");
/// Counts repeat within a percent: one before the timed rounds, where it warms the boot up, and one behind them.
const EXITS: Measurement = Measurement::plain("exits", "debian-elf");
const SYSCALLS: Measurement = Measurement::plain("syscalls", "micro-elf");

const ROWS: &[Row] = &[
    row("exec to first guest instruction, ms", "start.entry_ms", 1, "kvmtool 10.0, CH 13.7").at_most(6.0),
    row("exec to first serial byte, ms", "start.byte_ms", 1, "kvmtool 10.0, CH 13.7"),
    row("Debian kernel to user space, ms", "boot.user_space_ms", 0, "CH 1149").at_most(1120.0),
    row("  the same, goal moved with QEMU, ms", "boot.user_space_ms", 0, "CH 1149, QEMU 1519")
        .at_most(1120.0)
        .scaled_from(1519.1),
    row("  of it before the guest ran, ms", "boot.entry_ms", 1, "CH 46.7"),
    row("  of it in the guest, ms", "boot.guest_ms", 0, "CH 1103"),
    row("exec to the end of that boot, ms", "boot.gone_ms", 0, "CH 1205"),
    row("exits to user space in that boot", "exits.user_exits", 0, "CH 1584").at_most(900.0),
    row("all exits in that boot", "exits.exits", 0, "CH 3591"),
    row("own private dirty memory, KiB", "start.private_dirty_kib", 0, "kvmtool 224, CH 740").at_most(819.2),
    row("own PSS, KiB", "start.pss_kib", 0, "kvmtool 1379, CH 5883").at_most(2048.0),
    row("page tables, KiB", "start.page_tables_kib", 0, ""),
    row("threads", "start.threads", 0, "CH 6, kvmtool 7"),
    row("kill to process gone, ms", "start.kill_ms", 1, ""),
    row("system calls before the first KVM_RUN", "syscalls.syscalls", 0, "kvmtool 258, CH 465")
        .at_most(150.0),
];

const COUNTED: &[Step] = &[(EXITS, &Vmm::ALL), (SYSCALLS, &Vmm::ALL)];

/// The benchmark.
pub(super) const PLAN: Plan = Plan {
    phase: "bench boot",
    machine: "1 vCPU, 512 MiB, no device",
    host: ("plain", "true"),
    warm_up: START,
    before: COUNTED,
    timed: &[(START, &Vmm::ALL), (BOOT, &Vmm::ALL)],
    after: COUNTED,
    by_wall_clock: &[],
    rows: ROWS,
    method: &[
        ("guest kernel's command line", "console=ttyS0 quiet panic=-1 cryptomgr.notests"),
        (
            "peers",
            "measured earlier by the same method, with the ciphers' self-tests running beside the boot: compare times of \
             the kernel's boot by the row whose goal is moved with QEMU",
        ),
    ],
};
