//! What a run of cargo's tests came to, read from the lines that it prints.
//!
//! A test that could not do its work prints `SKIPPED: ` and what was missing, and returns: the runner counts it as
//! passed, this does not. The lab's own runner says the same in its own lines. Not here: running anything. `test` calls
//! this.

use crate::report::{Findings, Tally};
use std::collections::{BTreeMap, VecDeque};
use std::mem::take;

/// What a test prints in front of what it missed.
const SKIPPED: &str = "SKIPPED: ";

/// Lines kept of what a failed test or scenario said.
const KEPT_LINES: usize = 40;

/// Counts and names gathered line by line.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    tests: Tally,
    /// Each failed test by name, with the last that it said.
    failures: Vec<String>,
    skips: Vec<String>,
    /// Skips that the runner has counted as such.
    counted_skips: Vec<String>,
    runs: usize,
    list: List,
    /// What the failed tests of cargo's runner said, and their names.
    said: BTreeMap<String, Vec<String>>,
    speaker: String,
    /// What tests said from their panic on that said it at once (`--nocapture`), of which some may have wanted it.
    aloud: BTreeMap<String, VecDeque<String>>,
    /// The last lines, of which a scenario's failure takes what belongs to it.
    recent: VecDeque<String>,
}

/// Which of the runner's closing lists is being read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum List {
    #[default]
    None,
    /// None yet: a test has panicked, and what follows is what it says of that.
    Aloud,
    /// Tests that passed: what each of them said, and names.
    Passed,
    Failed,
}

impl Outcome {
    /// Takes one line of output; tells whether it is a verdict, to be shown at once.
    pub(super) fn take(&mut self, line: &str) -> bool {
        if let Some(tally) = result_line(line).or_else(|| lab_result_line(line)) {
            self.tests.add(tally);
            self.runs += 1;
            self.list = List::None;
            self.failures
                .extend(take(&mut self.said).into_iter().map(|(name, lines)| paragraph(name, lines)));
            return false;
        }
        self.closing_list(line);
        if let Some((_, reason)) = line.split_once(SKIPPED) {
            self.skips.push(reason.to_owned());
        } else if let Some(skip) = line.strip_prefix("SKIPPED ") {
            self.counted_skips.push(skip.to_owned());
        } else if let Some(failure) = line.strip_prefix("FAILED  ") {
            self.failures.push(paragraph(failure.to_owned(), take(&mut self.recent)));
        }
        let verdict =
            ["passed  ", "SKIPPED ", "FAILED  ", "HUNG    "].iter().any(|word| line.starts_with(word));
        if verdict {
            self.recent.clear();
        } else {
            keep(&mut self.recent, line);
        }
        verdict || line.ends_with(" ... FAILED")
    }

    /// Reads the lists at the end of cargo's runner: first what each test said, then the names.
    fn closing_list(&mut self, line: &str) {
        let speaker = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----"));
        match (self.list, line, speaker, line.strip_prefix("    ")) {
            (_, "successes:", ..) => self.list = List::Passed,
            (_, "failures:", ..) => {
                self.list = List::Failed;
                self.speaker.clear();
            }
            (List::Failed, _, Some(speaker), _) => {
                self.speaker = speaker.to_owned();
                self.said.entry(self.speaker.clone()).or_default();
            }
            (List::Failed, _, None, name) => match (self.said.get_mut(&self.speaker), name) {
                (Some(said), _) => said.push(line.to_owned()),
                // No test speaks: the list of names, which knows those too that said nothing, or all of it at once.
                (None, Some(name)) => {
                    let aloud = self.aloud.remove(name).unwrap_or_default();
                    self.said.entry(name.to_owned()).or_insert_with(|| aloud.into());
                }
                (None, None) => {}
            },
            (List::None | List::Aloud, ..) => self.hear(line),
            (List::Passed, ..) => {}
        }
    }

    /// Keeps a line that a test says while it runs, if it has panicked.
    fn hear(&mut self, line: &str) {
        if let Some(name) = panicked(line) {
            (self.list, self.speaker) = (List::Aloud, name.to_owned());
        }
        if self.list == List::Aloud {
            keep(self.aloud.entry(self.speaker.clone()).or_default(), line);
        }
    }

    /// Sums up; `well` is whether cargo itself ended with success.
    pub(super) fn findings(self, well: bool) -> Findings {
        let mut tests = self.tests;
        let skips = self.skips.len().min(tests.passed);
        tests.passed -= skips;
        tests.skipped += skips;
        let mut problems: Vec<String> = self.failures;
        if !well && problems.is_empty() {
            problems.push(
                "the tests did not build, or their run ended early or passed its deadline; see the log"
                    .into(),
            );
        }
        if self.runs == 0 && problems.is_empty() {
            problems.push("no test was run".into());
        }
        Findings { tests: Some(tests), problems, skips: [self.skips, self.counted_skips].concat() }
    }
}

/// Returns the name in a line such as `thread 'a::b' (42) panicked at src/a.rs:1:2:`; a test's thread has the test's.
fn panicked(line: &str) -> Option<&str> {
    let (name, rest) = line.strip_prefix("thread '")?.split_once('\'')?;
    rest.contains(" panicked at ").then_some(name)
}

/// Adds a line to the last ones.
fn keep(lines: &mut VecDeque<String>, line: &str) {
    if lines.len() == KEPT_LINES {
        lines.pop_front();
    }
    lines.push_back(line.to_owned());
}

/// A failure's name, and the last lines of what was said before it.
fn paragraph(name: String, said: impl IntoIterator<Item = String>) -> String {
    let said: Vec<String> = said.into_iter().filter(|line| !line.trim().is_empty()).collect();
    let kept = said.iter().skip(said.len().saturating_sub(KEPT_LINES));
    kept.fold(name, |text, line| text + "\n        " + line)
}

/// The counts in a line such as `test result: ok. 5 passed; 0 failed; 1 ignored; ...`.
fn result_line(line: &str) -> Option<Tally> {
    let counts = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    tally(counts.split("; "), " ignored")
}

/// The counts in a line such as `scenarios: 5 passed, 0 failed, 1 skipped; ...`.
fn lab_result_line(line: &str) -> Option<Tally> {
    let counts = line.strip_prefix("scenarios: ")?.split(';').next()?;
    tally(counts.split(", "), " skipped")
}

fn tally<'a>(parts: impl Iterator<Item = &'a str> + Clone, skipped: &str) -> Option<Tally> {
    let count = |word: &str| {
        let found = parts.clone().find_map(|part| part.strip_suffix(word));
        found.and_then(|number| number.trim().parse().ok())
    };
    Some(Tally { passed: count(" passed")?, failed: count(" failed")?, skipped: count(skipped)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: &str =
        "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s";
    const BAD: &str =
        "test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s";

    #[track_caller]
    fn check(lines: &[&str], well: bool, expected: (usize, usize, usize), problems: &[&str]) {
        let mut outcome = Outcome::default();
        for line in lines {
            outcome.take(line);
        }
        let findings = outcome.findings(well);
        let (passed, failed, skipped) = expected;
        assert_eq!(findings.tests, Some(Tally { passed, failed, skipped }), "{lines:?}");
        assert_eq!(findings.problems, problems, "{lines:?}");
    }

    #[test]
    fn runs_are_added_up() {
        check(&[OK], true, (5, 0, 1), &[]);
        check(&[OK, "", OK], true, (10, 0, 2), &[]);
        let said = [
            "failures:",
            "",
            "---- a::b stdout ----",
            "left: 1",
            "    right: 2",
            "",
            "failures:",
            "    a::b",
            "    a::c",
            "",
            BAD,
        ];
        check(&said, false, (4, 2, 0), &["a::b\n        left: 1\n            right: 2", "a::c"]);
    }

    #[test]
    fn what_a_test_says_at_once_is_told_if_it_failed() {
        let said = [
            "thread 'a::b' (42) panicked at src/a.rs:1:2:",
            "it was red",
            "    because of c",
            "thread 'a::wanted' panicked at src/a.rs:9:2:",
            "as it should",
            "F.",
            "failures:",
            "",
            "failures:",
            "    a::b",
            "",
            BAD,
        ];
        let told = [said[0], said[1], said[2]].map(|line| format!("\n        {line}")).concat();
        check(&said, false, (4, 2, 0), &[&format!("a::b{told}")]);
    }

    #[test]
    fn a_skip_is_not_a_pass() {
        check(&["test a ... SKIPPED: no /dev/kvm", "ok", OK], true, (4, 0, 2), &[]);
        check(&["SKIPPED: no /dev/kvm", "SKIPPED: no iasl", OK], true, (3, 0, 3), &[]);
    }

    #[test]
    fn the_labs_runner_is_understood_too() {
        let said = [
            "passed  a (1.0 s)",
            "SKIPPED b: no lab image",
            "        booting",
            "FAILED  c (2.0 s): it was red",
            "",
            "scenarios: 1 passed, 1 failed, 1 skipped; hung emulators forgiven: 0",
            "    SKIPPED b",
            "    FAILED  c",
        ];
        check(&said, false, (1, 1, 1), &["c (2.0 s): it was red\n                booting"]);
    }

    #[test]
    fn a_run_that_says_nothing_is_a_problem() {
        check(&[], true, (0, 0, 0), &["no test was run"]);
        let crashed = "the tests did not build, or their run ended early or passed its deadline; see the log";
        check(&[OK], false, (5, 0, 1), &[crashed]);
    }

    #[test]
    fn verdicts_are_shown_and_the_rest_is_not() {
        let rows = [
            ("passed  a (1.0 s)", true),
            ("FAILED  c (2.0 s): it was red", true),
            ("test a::b ... FAILED", true),
            ("test a::b ... ok", false),
            ("        booting", false),
            (OK, false),
        ];
        for (line, shown) in rows {
            assert_eq!(Outcome::default().take(line), shown, "{line}");
        }
    }
}
