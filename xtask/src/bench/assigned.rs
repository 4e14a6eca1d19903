//! `cargo xtask bench assigned`: one vCPU and an NVMe controller of the host with function level reset; ours and QEMU's
//! figures in turn, in one host.
//!
//! Times are those of a processor that does one instruction in a nanosecond; waits for hardware are real: a function-level
//! reset takes its 100 ms. Exits per request are counts. Data only: `driver` goes through it.

use super::driver::{Plan, Step};
use super::figures::Vmm;
use super::session::Measurement;
use super::table::{Row, row};

/// Hands the four controllers of the profile to vfio-pci, and keeps words for the measuring program about them.
const READY: &str = "set -e; modprobe vfio-pci; rm -f /run/functions; for d in /sys/bus/pci/devices/*; do \
    [ $(cat $d/class) = 0x010802 ] || continue; f=$(basename $d); echo vfio-pci > $d/driver_override; \
    if [ -e $d/driver ]; then echo $f > $d/driver/unbind; fi; echo $f > /sys/bus/pci/drivers_probe; \
    echo --function $f >> /run/functions; done; [ $(wc -l < /run/functions) = 4 ]";

const ONE: &str = "$(head -n1 /run/functions)";
const FOUR: &str = "$(cat /run/functions)";
const START: Measurement = micro("start", "start", ONE);
const START_FOUR: Measurement = micro("start four", "start", FOUR);
const RESERVED: Measurement = micro("reserved", "start", "--reserved-pages $(head -n1 /run/functions)");
const RESERVED_2G: Measurement =
    micro("reserved 2G", "start", "--reserved-pages --memory 2048 $(head -n1 /run/functions)");
const RESERVED_4G: Measurement =
    micro("reserved 4G", "start", "--reserved-pages --memory 4096 $(head -n1 /run/functions)");
const RESETS: Measurement = micro("resets", "resets", ONE);
const RESETS_FOUR: Measurement = micro("resets four", "resets", FOUR);
const SYSCALLS: Measurement = micro("syscalls", "syscalls", ONE);
const DISK: Measurement = Measurement { name: "disk", what: "disk-io", guest: "debian-disk", shape: ONE };
const DISK_AWAKE: Measurement =
    Measurement { name: "disk awake", what: "disk-io", guest: "debian-disk-awake", shape: ONE };

const BOTH: &[Vmm] = &Vmm::ALL;
const OURS: &[Vmm] = &[Vmm::Allod];

const TIMED: &[Step] = &[
    (START, BOTH),
    (RESERVED, BOTH),
    (RESERVED_2G, OURS),
    (RESERVED_4G, OURS),
    (START_FOUR, OURS),
    (DISK, BOTH),
];
/// Counted, which repeats to the last digit; the disk's but nearly, and it stalls too often to be had once a repetition.
const COUNTED: &[Step] = &[(RESETS, BOTH), (RESETS_FOUR, OURS), (SYSCALLS, BOTH), (DISK, BOTH)];

/// No exit a read: a few in all the reads of a phase are its start and end.
const NONE: f64 = 0.01;

const ROWS: &[Row] = &[
    row("exec to first guest instruction, ms", "start.entry_ms", 1, "kvmtool 428, CH 438").at_most(225.0),
    row("  with four functions", "start four.entry_ms", 1, "").at_most(225.0),
    row("  in reserved 2 MiB pages", "reserved.entry_ms", 1, "kvmtool 332, CH 342").at_most(125.0),
    row("  the same, 2 GiB", "reserved 2G.entry_ms", 1, "kvmtool 664, CH 666").at_most(450.0),
    row("  the same, 4 GiB", "reserved 4G.entry_ms", 1, "CH 1102").at_most(890.0),
    row("function-level resets from start to kill", "resets.resets", 0, "crosvm 2, others 3").at_most(2.0),
    row("  with four functions", "resets four.resets", 0, "").at_most(8.0),
    row("exits per read at depth 1", "disk.depth1_exits_per_request", 3, "CH 1.06").at_most(1.06),
    row("exits per read at depth 32", "disk.depth32_exits_per_request", 3, "CH 0.056").at_most(0.056),
    row("  for registers in memory, depth 1", "disk awake.depth1_register_exits_per_request", 3, "0")
        .at_most(0.0),
    row("  for registers in memory, depth 32", "disk awake.depth32_register_exits_per_request", 3, "0")
        .at_most(0.0),
    row("  to user space, depth 1", "disk awake.depth1_user_exits_per_request", 3, "0").at_most(NONE),
    row("  to user space, depth 32", "disk awake.depth32_user_exits_per_request", 3, "0").at_most(NONE),
    row("kill to process gone, ms", "start.kill_ms", 1, "CH 192, kvmtool 193").at_most(192.0),
    row("  in reserved 2 MiB pages", "reserved.kill_ms", 1, ""),
    row("  with four functions", "start four.kill_ms", 1, ""),
    row("system calls before the first KVM_RUN", "syscalls.syscalls", 0, "kvmtool 271, CH 617")
        .at_most(180.0),
    row("own private dirty memory, KiB", "start.private_dirty_kib", 0, "kvmtool 236, CH 752").at_most(819.2),
    row("own PSS, KiB", "start.pss_kib", 0, "kvmtool 1449, CH 6045").at_most(2048.0),
];

const fn micro(name: &'static str, what: &'static str, shape: &'static str) -> Measurement {
    Measurement { name, what, guest: "micro-elf", shape }
}

/// The benchmark.
pub(super) const PLAN: Plan = Plan {
    phase: "bench assigned",
    machine: "1 vCPU, 512 MiB unless said, an NVMe controller assigned",
    host: ("bench", READY),
    warm_up: START,
    before: &[],
    timed: TIMED,
    after: COUNTED,
    by_wall_clock: &[(DISK_AWAKE, BOTH)],
    rows: ROWS,
    method: &[
        (
            "function",
            "QEMU's nvme on a root port, its MSI-X table in the same BAR as its registers; behind it null-co, which answers after \
             100 us, when a guest has halted",
        ),
        (
            "reads",
            "4 KiB, 1500 at depth 1 and 3000 at depth 32; exits for clocks, for the console, and of the same fio without \
             a disk are taken off; those for registers and to user space by a guest that waits awake, in a host with an \
             ordinary clock",
        ),
    ],
};
