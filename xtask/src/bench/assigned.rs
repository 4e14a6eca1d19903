//! `cargo xtask bench assigned`: one vCPU and an NVMe controller of the host with function level reset; ours and QEMU's
//! figures in turn, in one host.
//!
//! Times are those of a processor that does one instruction in a nanosecond; waits for hardware are real: a function-level
//! reset takes its 100 ms. Exits per request are counts. Not here: how a figure is taken; that is the lab's
//! `allod-lab-measure`.

use super::figures::{Figures, Vmm};
use super::programs;
use super::session::{Measurement, Session};
use super::table::{self, Row, row};
use crate::report::{Findings, Report, Tally};
use crate::workspace::Workspace;
use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;

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

/// Timed once a round.
const TIMED: [(Measurement, &[Vmm]); 5] = [
    (START, &Vmm::ALL),
    (RESERVED, &Vmm::ALL),
    (RESERVED_2G, &[Vmm::Allod]),
    (RESERVED_4G, &[Vmm::Allod]),
    (START_FOUR, &[Vmm::Allod]),
];
/// Counted, which repeats to the last digit: once.
const COUNTED: [(Measurement, &[Vmm]); 3] =
    [(RESETS, &Vmm::ALL), (RESETS_FOUR, &[Vmm::Allod]), (SYSCALLS, &Vmm::ALL)];
/// Counted twice by the wall clock: a guest that reads its disk stalls in a host that counts instructions.
const DISK_REPS: u32 = 2;

const ROWS: [Row; 19] = [
    row("exec to first guest instruction, ms", "start.entry_ms", 1, "kvmtool 428, CH 438").at_most(225.0),
    row("  with four functions", "start four.entry_ms", 1, "").at_most(225.0),
    row("  in reserved 2 MiB pages", "reserved.entry_ms", 1, "kvmtool 332, CH 342").at_most(125.0),
    row("  the same, 2 GiB", "reserved 2G.entry_ms", 1, "kvmtool 664, CH 666").at_most(450.0),
    row("  the same, 4 GiB", "reserved 4G.entry_ms", 1, "CH 1102").at_most(890.0),
    row("function-level resets from start to kill", "resets.resets", 0, "crosvm 2, others 3").at_most(2.0),
    row("  with four functions", "resets four.resets", 0, "").at_most(8.0),
    row("exits per read at depth 1", "disk.depth1_exits_per_request", 3, "CH 1.43 (1.06 awake)")
        .at_most(1.43),
    row("exits per read at depth 32", "disk.depth32_exits_per_request", 3, "CH 0.082 (0.056 awake)")
        .at_most(0.082),
    row("  for registers in memory, depth 1", "disk.depth1_register_exits_per_request", 3, "0").at_most(0.0),
    row("  for registers in memory, depth 32", "disk.depth32_register_exits_per_request", 3, "0")
        .at_most(0.0),
    row("  to user space, depth 1", "disk.depth1_user_exits_per_request", 3, "0").at_most(0.0),
    row("  to user space, depth 32", "disk.depth32_user_exits_per_request", 3, "0").at_most(0.0),
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

/// How to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// Repetitions of what is timed, after one warm-up.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    reps: u32,
    /// Write figures, conditions and what explains them to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Measure the release binaries there are, without building them.
    #[arg(long)]
    no_build: bool,
}

/// Measures as phases of `report` and prints the table.
pub(crate) fn run(options: &Options, workspace: &Workspace, report: &mut Report) -> Result<()> {
    let built = options.no_build || report.phase("release build", programs::build);
    if !built {
        return Ok(());
    }
    report.phase("bench assigned", || {
        let share = workspace.target.join("bench");
        programs::pack(&workspace.target.join("release"), &share)?;
        let mut session = Session::new(&share, "bench", READY, START)?;
        let conditions = session.conditions()?;
        let mut figures = Figures::default();
        let timed = (0..options.reps).flat_map(|_| TIMED);
        for (measurement, vmms) in timed.chain(COUNTED) {
            for vmm in vmms {
                figures.add(*vmm, measurement.name, session.measure(*vmm, measurement)?);
            }
        }
        let stalls = session.stalls;
        drop(session);
        let mut session = Session::by_wall_clock(&share, "bench", READY, RESETS)?;
        for vmm in (0..DISK_REPS).flat_map(|_| Vmm::ALL) {
            figures.add(vmm, DISK.name, session.measure(vmm, DISK)?);
        }
        eprintln!("{}", text(&figures, &conditions, options.reps, stalls + session.stalls));
        if let Some(path) = &options.save {
            let json = serde_json::to_string_pretty(&json(&figures, &conditions, options.reps))?;
            fs::write(path, json + "\n").with_context(|| format!("write {}", path.display()))?;
        }
        let (passed, problems) = table::verdicts(&ROWS, &figures);
        let tests = Some(Tally { passed, failed: problems.len(), skipped: 0 });
        Ok(Findings { tests, problems, skips: Vec::new() })
    });
    Ok(())
}

/// What the figures depend on that we choose.
const METHOD: [(&str, &str); 3] = [
    ("emulator", "-accel tcg,thread=single -icount shift=0,sleep=off -cpu max,+svm,+npt,-erms,-fsrm -smp 1"),
    (
        "function",
        "QEMU's nvme on a root port, null-co behind it, its MSI-X table in the same BAR as its registers",
    ),
    (
        "reads",
        "4 KiB, 1500 at depth 1 and 3000 at depth 32, counted in a host with an ordinary clock, where a guest that waits \
         sleeps, which is an exit too; exits of the same fio without a disk are taken off",
    ),
];

fn text(figures: &Figures, conditions: &[(&'static str, String)], reps: u32, stalls: u32) -> String {
    let mut text = format!(
        "\n1 vCPU, 512 MiB unless said, an NVMe controller assigned; median [min-max] of {reps}; 1 ms = a million \
         instructions of VMM, host kernel and guest\n\n{}\n",
        table::text(&ROWS, figures)
    );
    for (name, value) in conditions.iter().map(|(name, value)| (*name, value.as_str())).chain(METHOD) {
        text.push_str(&format!("{name}: {value}\n"));
    }
    text.push_str(&format!("repetitions that stalled and were done again: {stalls}\n"));
    text
}

fn json(figures: &Figures, conditions: &[(&'static str, String)], reps: u32) -> Value {
    let conditions: serde_json::Map<_, _> = conditions
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .chain(METHOD)
        .map(|(name, value)| (name.to_owned(), Value::from(value)))
        .collect();
    json!({
        "conditions": conditions, "repetitions": reps,
        "rows": table::json(&ROWS, figures), "facts": figures.facts(),
    })
}
