//! `cargo xtask bench boot`: one vCPU, 512 MiB, no device; ours and QEMU's figures in turn, in one host.
//!
//! Times are those of a processor that does one instruction in a nanosecond, so that they repeat; a world switch and
//! a cache miss cost nothing on it, so read them together with the exits. Not here: how a figure is taken; that is the
//! lab's `allod-lab-measure`.

use super::figures::{Figures, Vmm};
use super::session::{Measurement, Session};
use super::table;
use crate::process::{cargo, run as run_command};
use crate::report::{Findings, Report, Tally};
use crate::workspace::Workspace;
use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// What is measured inside the host.
const PROGRAMS: [&str; 3] = ["allod", "allod-vmm", "allod-lab-measure"];
/// Room for them, with some to spare.
const IMAGE_SIZE: &str = "32M";

const START: Measurement = Measurement { what: "start", guest: "micro-elf" };
const BOOT: Measurement = Measurement { what: "boot", guest: "debian-elf" };
/// Counts repeat within a percent: one before the timed rounds, where it warms the boot up, and one behind them.
const EXITS: Measurement = Measurement { what: "exits", guest: "debian-elf" };
const SYSCALLS: Measurement = Measurement { what: "syscalls", guest: "micro-elf" };

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
    let built = options.no_build || report.phase("release build", build);
    if !built {
        return Ok(());
    }
    report.phase("bench boot", || {
        let share = workspace.target.join("bench");
        pack_programs(&workspace.target.join("release"), &share)?;
        let mut session = Session::new(&share, START)?;
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
        let (passed, problems) = table::verdicts(&figures);
        let tests = Some(Tally { passed, failed: problems.len(), skipped: 0 });
        Ok(Findings { tests, problems, skips: Vec::new() })
    });
    Ok(())
}

fn build() -> Result<Findings> {
    // The lab takes its first process from beside this very program, which is no release binary.
    run_command(&mut cargo(&["build", "-p", "lab", "--bin", "allod-lab-init"]))?;
    run_command(&mut cargo(&["build", "--release", "-p", "cli", "-p", "vmm", "-p", "lab"]))?;
    Ok(Findings::default())
}

/// Makes an image of a small file system with the programs in it: on tmpfs every page of a program would count as
/// dirty, and on the share none would stay in memory.
fn pack_programs(release: &Path, share: &Path) -> Result<()> {
    let folder = share.join("programs");
    let image = share.join("programs.img");
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    for program in PROGRAMS {
        let source = release.join(program);
        fs::copy(&source, folder.join(program)).with_context(|| format!("copy {}", source.display()))?;
    }
    if image.exists() {
        fs::remove_file(&image).with_context(|| format!("remove {}", image.display()))?;
    }
    let mut command = lab::tool::command("mke2fs");
    run_command(command.args(["-q", "-t", "ext4", "-d"]).arg(&folder).arg(&image).arg(IMAGE_SIZE))
}

fn measure(reps: u32, session: &mut Session, figures: &mut Figures) -> Result<()> {
    let counts = [EXITS, SYSCALLS];
    let timed = (0..reps).flat_map(|_| [START, BOOT]);
    for measurement in counts.into_iter().chain(timed).chain(counts) {
        for vmm in Vmm::ALL {
            figures.add(vmm, measurement.what, session.measure(vmm, measurement)?);
        }
    }
    Ok(())
}

fn text(figures: &Figures, conditions: &[(&'static str, String)], reps: u32, stalls: u32) -> String {
    let mut text = format!(
        "\n1 vCPU, 512 MiB, no device; median [min-max] of {reps}; 1 ms = a million instructions of VMM, host kernel \
         and guest\n\n{}\n",
        table::text(figures)
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
        "rows": table::json(figures), "facts": figures.facts(),
    })
}
