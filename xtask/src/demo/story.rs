//! What happened in a demo, in order: commands with what they said, pictures with what was judged, and claims checked.

use crate::process::say;
use serde::Serialize;
use std::fmt::Write as _;

/// How long a story may take on a machine that has nothing else to do.
const TARGET_SECONDS: f64 = 300.0;

/// A command that was run in the host.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Command {
    /// As one would type it.
    pub(super) line: String,
    /// Everything it said.
    pub(super) said: String,
    /// How long it took, on the clock of the machine we run on.
    pub(super) seconds: f64,
}

/// A picture of a monitor.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Monitor {
    /// Whose monitor it is.
    pub(super) title: String,
    /// What is seen, and how large.
    pub(super) caption: String,
    /// The name of the file.
    pub(super) file: String,
    /// The PNG file's bytes.
    #[serde(skip)]
    pub(super) png: Vec<u8>,
}

/// A drawing as SVG.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Drawing {
    /// What it shows.
    pub(super) title: String,
    #[serde(skip)]
    pub(super) svg: String,
}

/// Figures with their headings in the first row.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Table {
    /// Where they are from.
    pub(super) note: String,
    pub(super) rows: Vec<Vec<String>>,
}

impl Table {
    /// Returns the figures for a terminal, a line each row.
    pub(super) fn text(&self) -> String {
        self.rows.iter().map(|row| format!("      {}\n", row.join(" | "))).collect()
    }
}

/// Something that has to be so.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Check {
    /// What, as a sentence.
    pub(super) what: String,
    /// Why it is not so; none when it is.
    pub(super) problem: Option<String>,
}

/// A part of the story under a heading.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Chapter {
    pub(super) title: String,
    /// What it is about, in a sentence.
    pub(super) words: &'static str,
    pub(super) commands: Vec<Command>,
    pub(super) monitors: Vec<Monitor>,
    pub(super) drawing: Option<Drawing>,
    pub(super) checks: Vec<Check>,
    pub(super) table: Option<Table>,
    /// Whether the table is of this run.
    pub(super) is_measured: bool,
}

/// All of it.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Story {
    /// Whether it happened on a host of the reader's own, and not in the lab.
    pub(super) on_a_host: bool,
    /// Why it ended before its end; none when it did not.
    pub(super) broke_off: Option<String>,
    /// How long it took, without the set-up and the build.
    pub(super) seconds: f64,
    /// How often the emulator hung and what it was showing was begun again.
    pub(super) hangs: u32,
    /// When and where it was, and what with.
    pub(super) facts: Vec<(&'static str, String)>,
    pub(super) chapters: Vec<Chapter>,
}

impl Story {
    /// Begins a chapter with a sentence on what it is about, and says so.
    pub(super) fn begin(&mut self, title: &str, words: &'static str) -> &mut Chapter {
        say(format_args!("  * {title}"));
        let at = self.chapters.len();
        self.chapters.push(Chapter { title: title.to_owned(), words, ..Chapter::default() });
        &mut self.chapters[at]
    }

    /// Says whether all of it happened and everything was as it has to be.
    pub(super) fn is_well(&self) -> bool {
        self.broke_off.is_none() && self.problems().is_empty()
    }

    /// Returns how many checks there were, and how many of them were so.
    pub(super) fn counts(&self) -> (usize, usize) {
        let checks = || self.chapters.iter().flat_map(|chapter| &chapter.checks);
        (checks().count(), checks().filter(|check| check.problem.is_none()).count())
    }

    /// Returns its duration for people.
    pub(super) fn duration(&self) -> String {
        let seconds = self.seconds.round() as u64;
        format!("{} min {:02} s", seconds / 60, seconds % 60)
    }

    /// Returns what had to be so and is not.
    pub(super) fn problems(&self) -> Vec<String> {
        let checks = self.chapters.iter().flat_map(|chapter| &chapter.checks);
        checks
            .filter_map(|check| check.problem.as_ref().map(|why| format!("not so: {}: {why}", check.what)))
            .collect()
    }

    /// Returns every check with its result, a line each, and the figures of this run.
    pub(super) fn summary(&self) -> String {
        let mut text = String::new();
        for check in self.chapters.iter().flat_map(|chapter| &chapter.checks) {
            let mark = if check.problem.is_none() { "yes" } else { "NO " };
            writeln!(text, "    {mark}  {}", check.what).ok();
        }
        // What was measured in this run; what was not has a note of its own on the page.
        if let Some(table) =
            self.chapters.iter().filter(|part| part.is_measured).find_map(|part| part.table.as_ref())
        {
            writeln!(text, "    A taste of what a seat costs, which the page explains:\n{}", table.text())
                .ok();
        }
        let (all, well) = self.counts();
        writeln!(text, "    {well} of {all} checks passed; it took {}", self.duration()).ok();
        // On a host of one's own it ends when its owner has seen enough.
        if self.seconds > TARGET_SECONDS && !self.on_a_host {
            let target = TARGET_SECONDS / 60.0;
            writeln!(text, "    Longer than the {target:.0} minutes that a machine with nothing else to do takes at most.")
                .ok();
        }
        if self.hangs > 0 {
            writeln!(text, "    The emulator hung and was started anew: {} times", self.hangs).ok();
        }
        if let Some(why) = &self.broke_off {
            writeln!(text, "    It broke off: {why}").ok();
        }
        text
    }
}

impl Chapter {
    /// Notes that something has to be so, with the reason if it is not.
    pub(super) fn check(&mut self, what: impl Into<String>, result: Result<(), String>) {
        let check = Check { what: what.into(), problem: result.err() };
        let mark = if check.problem.is_none() { "yes" } else { "NO" };
        say(format_args!("      {mark}: {}", check.what));
        self.checks.push(check);
    }
}
