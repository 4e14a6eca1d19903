//! The structure tests: the rules about the shape of the project that a program can check.
//!
//! Each rule is a pure function from crates or files to violations, with tests that show it fail. Not here: format,
//! lints and licences (`check`). The lists of exceptions stand together in `exceptions` and may only get shorter: an
//! exception that nothing needs any more is a violation too.

mod crates;
mod documents;
mod exceptions;
mod files;
mod lexer;
mod names;

use crate::report::{Findings, Tally};
use crate::workspace::{Crate, SourceFile, Workspace};
use anyhow::Result;
use std::collections::BTreeSet;
use std::fmt;

/// A place that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Violation {
    rule: &'static str,
    place: String,
    says: String,
}

impl Violation {
    fn new(rule: &'static str, place: impl Into<String>, says: impl Into<String>) -> Violation {
        Violation { rule, place: place.into(), says: says.into() }
    }

    fn at(rule: &'static str, file: &SourceFile, line: usize, says: impl Into<String>) -> Violation {
        Violation::new(rule, format!("{}:{line}", file.path), says)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.place, self.says, self.rule)
    }
}

/// What the rules look at.
struct Project<'a> {
    crates: &'a [Crate],
    files: &'a [SourceFile],
    /// Every file and folder of the project, relative to its root.
    places: BTreeSet<String>,
}

/// A rule: finds every place that breaks it.
type Rule = fn(&Project) -> Vec<Violation>;

/// The rules by name.
const RULES: &[(&str, Rule)] = &[
    ("downward-only", crates::downward_only),
    ("one-owner", crates::one_owner),
    ("one-unsafe-crate", crates::one_unsafe_crate),
    ("header", files::header),
    ("six-hundred", files::six_hundred),
    ("clean-lines", files::clean_lines),
    ("no-machine-paths", files::no_machine_paths),
    ("no-managers", names::say_something),
    ("map-is-tested", documents::map_is_tested),
    ("links-resolve", documents::links_resolve),
];

/// Runs every rule on `workspace`; each rule counts as one test.
pub(crate) fn run(workspace: &Workspace) -> Result<Findings> {
    let paths = workspace.paths()?;
    let files = workspace.texts(&paths)?;
    let project = Project { crates: &workspace.crates, files: &files, places: places(&paths) };
    let mut findings = Findings::default();
    let mut tally = Tally::default();
    for (name, rule) in RULES {
        let violations = rule(&project);
        eprintln!("    {name}: {}", if violations.is_empty() { "ok" } else { "broken" });
        if violations.is_empty() {
            tally.passed += 1;
        } else {
            tally.failed += 1;
        }
        findings.problems.extend(violations.iter().map(Violation::to_string));
    }
    findings.tests = Some(tally);
    Ok(findings)
}

/// All files of `paths` and the folders above them.
fn places(paths: &[String]) -> BTreeSet<String> {
    let mut places = BTreeSet::new();
    for path in paths {
        let ends = path.match_indices('/').map(|(end, _)| end);
        places.extend(ends.map(|end| path[..end].to_owned()));
        places.insert(path.clone());
    }
    places
}

#[cfg(test)]
fn project<'a>(crates: &'a [Crate], files: &'a [SourceFile]) -> Project<'a> {
    let paths: Vec<String> = files.iter().map(|file| file.path.clone()).collect();
    Project { crates, files, places: places(&paths) }
}

#[cfg(test)]
fn file(path: &str, text: &str) -> SourceFile {
    SourceFile { path: path.into(), text: text.into() }
}
