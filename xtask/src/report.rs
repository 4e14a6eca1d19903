//! What a command has to say at its end: its phases with their times, what failed, what was skipped and why.
//!
//! Not here: running the phases' work. Every verb adds phases; `main` prints the report once.

use crate::process::say;
use anyhow::Result;
use serde::Serialize;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

/// Counts of tests; a phase without tests counts as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

impl Tally {
    /// Adds the counts of `other`.
    pub(crate) fn add(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// What a phase found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Its tests, where it has any.
    pub(crate) tests: Option<Tally>,
    /// Everything wrong, a paragraph each.
    pub(crate) problems: Vec<String>,
    /// What was not done, and what was missing for it.
    pub(crate) skips: Vec<String>,
}

impl Findings {
    /// Says that the whole phase was left out, and why.
    pub(crate) fn skipped(reason: impl Into<String>) -> Findings {
        Findings {
            tests: Some(Tally { skipped: 1, ..Tally::default() }),
            skips: vec![reason.into()],
            ..Findings::default()
        }
    }
}

#[derive(Debug, Serialize)]
struct Phase {
    name: String,
    seconds: f64,
    #[serde(flatten)]
    tally: Tally,
    problems: Vec<String>,
    skips: Vec<String>,
}

impl Phase {
    fn new(name: &str, seconds: f64, findings: Result<Findings>) -> Phase {
        let findings = findings
            .unwrap_or_else(|error| Findings { problems: vec![format!("{error:#}")], ..Findings::default() });
        let mut tally = findings.tests.unwrap_or_default();
        if tally == Tally::default() && findings.problems.is_empty() {
            tally.passed = 1;
        }
        if tally.failed == 0 && !findings.problems.is_empty() {
            tally.failed = 1;
        }
        Phase { name: name.to_owned(), seconds, tally, problems: findings.problems, skips: findings.skips }
    }

    /// Does `work`, times it and says at once how it went.
    fn timed(name: &str, work: impl FnOnce() -> Result<Findings>) -> Phase {
        say(format_args!("==> {name}"));
        let started = Instant::now();
        let findings = work();
        let phase = Phase::new(name, started.elapsed().as_secs_f64(), findings);
        for problem in &phase.problems {
            say(format_args!("    problem: {problem}"));
        }
        for skip in &phase.skips {
            say(format_args!("    SKIPPED: {skip}"));
        }
        say(format_args!("    {name}: {} after {:.1} s", phase.verdict(), phase.seconds));
        phase
    }

    fn verdict(&self) -> &'static str {
        match self.tally {
            Tally { failed: 1.., .. } => "FAILED",
            Tally { passed: 0, .. } => "skipped",
            _ => "ok",
        }
    }
}

/// All phases of one command.
#[derive(Debug, Default)]
pub(crate) struct Report {
    phases: Vec<Phase>,
    /// What to look at when everything has been said.
    closing: Vec<String>,
}

impl Report {
    /// Runs `work` as a phase called `name`, times it and says at once how it went; tells whether it went well.
    pub(crate) fn phase(&mut self, name: &str, work: impl FnOnce() -> Result<Findings>) -> bool {
        self.add(Phase::timed(name, work))
    }

    /// Runs one phase for each of `names`, up to `lanes` of them at a time, begun in their order.
    pub(crate) fn side_by_side(
        &mut self,
        lanes: usize,
        names: &[String],
        work: impl Fn(usize) -> Result<Findings> + Sync,
    ) {
        let next = AtomicUsize::new(0);
        let (sender, ended) = mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..lanes.clamp(1, names.len().max(1)) {
                let (sender, next, work) = (sender.clone(), &next, &work);
                scope.spawn(move || {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some(name) = names.get(index) else { return };
                        sender.send((index, Phase::timed(name, || work(index)))).ok();
                    }
                });
            }
            drop(sender);
        });
        let mut phases: Vec<(usize, Phase)> = ended.into_iter().collect();
        phases.sort_by_key(|(index, _)| *index);
        self.phases.extend(phases.into_iter().map(|(_, phase)| phase));
    }

    fn add(&mut self, phase: Phase) -> bool {
        let well = phase.tally.failed == 0;
        self.phases.push(phase);
        well
    }

    /// Tells whether any phase failed.
    pub(crate) fn failed(&self) -> bool {
        self.total().failed > 0
    }

    /// Has `words` said behind all else, where nobody has to search for them.
    pub(crate) fn close_with(&mut self, words: String) {
        self.closing.push(words);
    }

    /// Prints the report on standard output, and the closing words behind it on standard error.
    pub(crate) fn print(&self, json: bool) {
        if json {
            println!("{}", self.json())
        } else {
            print!("{}", self.text())
        }
        self.closing.iter().for_each(say);
    }

    fn total(&self) -> Tally {
        let mut total = Tally::default();
        self.phases.iter().for_each(|phase| total.add(phase.tally));
        total
    }

    fn json(&self) -> serde_json::Value {
        let seconds: f64 = self.phases.iter().map(|phase| phase.seconds).sum();
        serde_json::json!({ "phases": self.phases, "total": self.total(), "seconds": seconds })
    }

    fn text(&self) -> String {
        let width = self.phases.iter().map(|phase| phase.name.len()).max().unwrap_or(0).max("phase".len());
        let mut text = format!("\n{:width$}  result    passed  failed  skipped     time\n", "phase");
        for phase in &self.phases {
            let Phase { name, seconds, tally: Tally { passed, failed, skipped }, .. } = phase;
            let verdict = phase.verdict();
            writeln!(
                text,
                "{name:width$}  {verdict:<8}  {passed:>6}  {failed:>6}  {skipped:>7}  {seconds:>5.1} s"
            )
            .ok();
        }
        for phase in &self.phases {
            for problem in &phase.problems {
                writeln!(text, "\nFAILED {}: {problem}", phase.name).ok();
            }
        }
        for phase in &self.phases {
            for skip in &phase.skips {
                writeln!(text, "\nSKIPPED {}: {skip}", phase.name).ok();
            }
        }
        let Tally { passed, failed, skipped } = self.total();
        write!(text, "\n{passed} passed, {failed} failed").ok();
        if skipped > 0 {
            write!(text, ", {skipped} skipped").ok();
        }
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    fn report(phases: Vec<(&str, Result<Findings>)>) -> Report {
        let phases = phases.into_iter().map(|(name, findings)| Phase::new(name, 1.0, findings)).collect();
        Report { phases, ..Report::default() }
    }

    fn tests(passed: usize, failed: usize, skipped: usize) -> Result<Findings> {
        Ok(Findings { tests: Some(Tally { passed, failed, skipped }), ..Findings::default() })
    }

    #[test]
    fn the_closing_line_counts_every_phase() {
        let rows = [
            (vec![("format", Ok(Findings::default()))], "1 passed, 0 failed"),
            (vec![("format", Ok(Findings::default())), ("unit", tests(7, 0, 0))], "8 passed, 0 failed"),
            (vec![("unit", tests(7, 2, 1))], "7 passed, 2 failed, 1 skipped"),
            (vec![("advisories", Ok(Findings::skipped("no database")))], "0 passed, 0 failed, 1 skipped"),
            (vec![("build", Err(anyhow!("no compiler")))], "0 passed, 1 failed"),
        ];
        for (phases, closing) in rows {
            assert_eq!(report(phases).text().lines().last(), Some(closing));
        }
    }

    #[test]
    fn phases_side_by_side_are_all_run_and_told_in_their_order() {
        let names: Vec<String> = ["a", "b", "c", "d", "e"].map(str::to_owned).to_vec();
        for lanes in [0, 1, 2, 9] {
            let mut report = Report::default();
            report.side_by_side(lanes, &names, |index| tests(index, usize::from(index == 3), 0));
            let told: Vec<(&str, usize)> =
                report.phases.iter().map(|phase| (phase.name.as_str(), phase.tally.failed)).collect();
            assert_eq!(told, [("a", 0), ("b", 0), ("c", 0), ("d", 1), ("e", 0)], "{lanes} lanes");
        }
    }

    #[test]
    fn a_failure_and_a_skip_are_named_with_their_reason() {
        let text = report(vec![
            ("build", Err(anyhow!("no compiler"))),
            ("advisories", Ok(Findings::skipped("no database"))),
        ])
        .text();
        assert!(text.contains("FAILED build: no compiler"), "{text}");
        assert!(text.contains("SKIPPED advisories: no database"), "{text}");
    }

    #[test]
    fn problems_fail_a_phase_whose_tests_all_passed() {
        let findings = Findings {
            tests: Some(Tally { passed: 3, ..Tally::default() }),
            problems: vec!["the runner crashed".into()],
            skips: vec![],
        };
        assert!(report(vec![("unit", Ok(findings))]).failed());
    }

    #[test]
    fn json_holds_the_same_counts() {
        let json = report(vec![("unit", tests(7, 2, 1))]).json();
        assert_eq!(json["total"], serde_json::json!({ "passed": 7, "failed": 2, "skipped": 1 }));
        assert_eq!(json["phases"][0]["name"], "unit");
    }
}
