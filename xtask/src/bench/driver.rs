//! What all benchmarks do alike: build, start the host, measure ours and QEMU's in turn, print the table.
//!
//! A benchmark is data: a [`Plan`] per file beside this one. Not here: how a figure is taken; that is the lab's
//! `allod-lab-measure`.

use super::figures::{Figures, Vmm};
use super::programs;
use super::session::{Measurement, Session};
use super::table::{self, Row};
use crate::report::{Findings, Report, Tally};
use crate::workspace::Workspace;
use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

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

/// A measurement, and whose.
pub(crate) type Step = (Measurement, &'static [Vmm]);

/// A benchmark.
pub(crate) struct Plan {
    /// Its name as a phase.
    pub(crate) phase: &'static str,
    /// The machine, in the headline of the table.
    pub(crate) machine: &'static str,
    /// The host's profile, and a shell command that makes the host ready.
    pub(crate) host: (&'static str, &'static str),
    /// Measured once after each start of the host, its figures thrown away.
    pub(crate) warm_up: Measurement,
    /// Counted once before what is timed, where it warms that up.
    pub(crate) before: &'static [Step],
    /// Timed once a repetition.
    pub(crate) timed: &'static [Step],
    /// Counted once behind all that.
    pub(crate) after: &'static [Step],
    /// Counted once a repetition in a host with an ordinary clock.
    pub(crate) by_wall_clock: &'static [Step],
    /// The table.
    pub(crate) rows: &'static [Row],
    /// What the figures depend on that we choose.
    pub(crate) method: &'static [(&'static str, &'static str)],
}

/// The emulator's words, which the figures of every benchmark depend on.
const EMULATOR: (&str, &str) =
    ("emulator", "-accel tcg,thread=single -icount shift=0,sleep=off -cpu max,+svm,+npt,-erms,-fsrm -smp 1");

/// What was found, and under which conditions.
struct Outcome {
    figures: Figures,
    conditions: Vec<(&'static str, String)>,
    reps: u32,
    stalls: u32,
}

impl Outcome {
    /// Goes through `steps` in a host.
    fn take(&mut self, mut session: Session, steps: impl Iterator<Item = &'static Step>) -> Result<()> {
        for (measurement, vmms) in steps {
            for vmm in *vmms {
                self.figures.add(*vmm, measurement.name, session.measure(*vmm, *measurement)?);
            }
        }
        self.stalls += session.stalls;
        Ok(())
    }
}

impl Plan {
    /// Measures as phases of `report` and prints the table.
    pub(crate) fn run(&self, options: &Options, workspace: &Workspace, report: &mut Report) -> Result<()> {
        let built = options.no_build || report.phase("release build", programs::build);
        if !built {
            return Ok(());
        }
        report.phase(self.phase, || {
            let share = workspace.target.join("bench");
            programs::pack(&workspace.target.join("release"), &share)?;
            let outcome = self.measure(&share, options.reps)?;
            eprintln!("{}", self.text(&outcome));
            if let Some(path) = &options.save {
                let json = serde_json::to_string_pretty(&self.json(&outcome))?;
                fs::write(path, json + "\n").with_context(|| format!("write {}", path.display()))?;
            }
            let (passed, problems) = table::verdicts(self.rows, &outcome.figures);
            let tests = Some(Tally { passed, failed: problems.len(), skipped: 0 });
            Ok(Findings { tests, problems, skips: Vec::new() })
        });
        Ok(())
    }

    fn measure(&self, share: &Path, reps: u32) -> Result<Outcome> {
        let (profile, ready) = self.host;
        let mut session = Session::new(share, profile, ready, self.warm_up)?;
        let conditions = session.conditions()?;
        let mut outcome = Outcome { figures: Figures::default(), conditions, reps, stalls: 0 };
        let timed = (0..reps).flat_map(|_| self.timed);
        outcome.take(session, self.before.iter().chain(timed).chain(self.after))?;
        if !self.by_wall_clock.is_empty() {
            let session = Session::by_wall_clock(share, profile, ready, self.warm_up)?;
            outcome.take(session, (0..reps).flat_map(|_| self.by_wall_clock))?;
        }
        Ok(outcome)
    }

    fn conditions<'a>(&self, outcome: &'a Outcome) -> impl Iterator<Item = (&'static str, &'a str)> {
        let found = outcome.conditions.iter().map(|(name, value)| (*name, value.as_str()));
        found.chain([EMULATOR]).chain(self.method.iter().copied())
    }

    fn text(&self, outcome: &Outcome) -> String {
        let Outcome { figures, reps, stalls, .. } = outcome;
        let mut text = format!(
            "\n{}; median [min-max] of {reps}; 1 ms = a million instructions of VMM, host kernel and guest\n\n{}\n",
            self.machine,
            table::text(self.rows, figures)
        );
        for (name, value) in self.conditions(outcome) {
            text.push_str(&format!("{name}: {value}\n"));
        }
        text.push_str(&format!("repetitions that stalled and were done again: {stalls}\n"));
        text
    }

    fn json(&self, outcome: &Outcome) -> Value {
        let Outcome { figures, reps, stalls, .. } = outcome;
        let conditions: serde_json::Map<_, _> =
            self.conditions(outcome).map(|(name, value)| (name.to_owned(), Value::from(value))).collect();
        json!({
            "conditions": conditions, "repetitions": reps, "stalls": stalls,
            "rows": table::json(self.rows, figures), "facts": figures.facts(),
        })
    }
}
