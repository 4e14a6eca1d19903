//! `cargo xtask bench boot`: one vCPU, 512 MiB, no device; ours and QEMU's figures in turn, in one host.
//!
//! Times are those of a processor that does one instruction in a nanosecond, so that they repeat; a world switch and
//! a cache miss cost nothing on it, so read them together with the exits. Not here: how a figure is taken; that is the
//! lab's `allod-lab-measure`.

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

const START: Measurement = Measurement::plain("start", "micro-elf");
const BOOT: Measurement = Measurement::plain("boot", "debian-elf");
/// Counts repeat within a percent: one before the timed rounds, where it warms the boot up, and one behind them.
const EXITS: Measurement = Measurement::plain("exits", "debian-elf");
const SYSCALLS: Measurement = Measurement::plain("syscalls", "micro-elf");

const ROWS: [Row; 15] = [
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
    report.phase("bench boot", || {
        let share = workspace.target.join("bench");
        programs::pack(&workspace.target.join("release"), &share)?;
        let mut session = Session::new(&share, "plain", "true", START)?;
        let conditions = session.conditions()?;
        let mut figures = Figures::default();
        measure(options.reps, &mut session, &mut figures)?;
        let text = text(&figures, &conditions, options.reps, session.stalls);
        eprintln!("{text}");
        if let Some(path) = &options.save {
            let json = json(&figures, &conditions, options.reps, session.stalls);
            let json = serde_json::to_string_pretty(&json)?;
            fs::write(path, json + "\n").with_context(|| format!("write {}", path.display()))?;
        }
        let (passed, problems) = table::verdicts(&ROWS, &figures);
        let tests = Some(Tally { passed, failed: problems.len(), skipped: 0 });
        Ok(Findings { tests, problems, skips: Vec::new() })
    });
    Ok(())
}

fn measure(reps: u32, session: &mut Session, figures: &mut Figures) -> Result<()> {
    let counts = [EXITS, SYSCALLS];
    let timed = (0..reps).flat_map(|_| [START, BOOT]);
    for measurement in counts.into_iter().chain(timed).chain(counts) {
        for vmm in Vmm::ALL {
            figures.add(vmm, measurement.name, session.measure(vmm, measurement)?);
        }
    }
    Ok(())
}

fn text(figures: &Figures, conditions: &[(&'static str, String)], reps: u32, stalls: u32) -> String {
    let mut text = format!(
        "\n1 vCPU, 512 MiB, no device; median [min-max] of {reps}; 1 ms = a million instructions of VMM, host kernel \
         and guest\n\n{}\n",
        table::text(&ROWS, figures)
    );
    for (name, value) in conditions.iter().map(|(name, value)| (*name, value.as_str())).chain(METHOD) {
        text.push_str(&format!("{name}: {value}\n"));
    }
    text.push_str(&format!("repetitions that stalled and were done again: {stalls}\n"));
    text
}

/// What the figures depend on that we choose.
const METHOD: [(&str, &str); 3] = [
    ("emulator", "-accel tcg,thread=single -icount shift=0,sleep=off -cpu max,+svm,+npt,-erms,-fsrm -smp 1"),
    ("guest kernel's command line", "console=ttyS0 quiet panic=-1 cryptomgr.notests"),
    (
        "peers",
        "measured earlier by the same method, with the ciphers' self-tests running beside the boot: compare times of \
         the kernel's boot by the row whose goal is moved with QEMU",
    ),
];

fn json(figures: &Figures, conditions: &[(&'static str, String)], reps: u32, stalls: u32) -> Value {
    let conditions: serde_json::Map<_, _> = conditions
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .chain(METHOD)
        .map(|(name, value)| (name.to_owned(), Value::from(value)))
        .collect();
    json!({
        "conditions": conditions, "repetitions": reps, "stalls": stalls,
        "rows": table::json(&ROWS, figures), "facts": figures.facts(),
    })
}
