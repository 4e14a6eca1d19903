//! What is wrong with a seat file, each problem with its place, the line itself and what would be right.
//!
//! Not here: finding problems. Made by [`super::decode`], shown by `cli` and `daemon`.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// The most problems that are told of one file; the rest is counted.
pub const MAX_PROBLEMS: usize = 100;

/// The most characters of a line that are shown: a line of a hostile file may be as long as the file.
const MAX_SHOWN: usize = 120;

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
    /// What is wrong, one sentence without a full stop.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
    /// The line as far as it is shown; control characters are replaced.
    pub shown: String,
    /// Where in `shown` the mark begins, in characters from 0.
    pub mark: usize,
    /// How many characters are marked, at least 1.
    pub width: usize,
}

/// Everything that is wrong with one seat file, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct SeatFileErrors {
    /// The name of the file, as it was given.
    pub file: String,
    /// The problems, at most [`MAX_PROBLEMS`].
    pub problems: Vec<Problem>,
    /// How many more there are.
    pub more: usize,
}

impl fmt::Display for SeatFileErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            show(f, &self.file, problem)?;
        }
        if self.more > 0 {
            writeln!(f, "\nand {} more", self.more)?;
        }
        Ok(())
    }
}

fn show(f: &mut fmt::Formatter<'_>, file: &str, problem: &Problem) -> fmt::Result {
    let Problem { line, column, message, help, shown, mark, width } = problem;
    let number = line.to_string();
    let gap = " ".repeat(number.len());
    writeln!(f, "{file}:{line}:{column}: {message}")?;
    writeln!(f, "{gap} |")?;
    writeln!(f, "{number} | {shown}")?;
    writeln!(f, "{gap} | {}{}", " ".repeat(*mark), "^".repeat(*width))?;
    if let Some(help) = help {
        writeln!(f, "{gap} = {help}")?;
    }
    Ok(())
}

/// Gathers the problems of one text.
pub(super) struct Problems<'t> {
    text: &'t str,
    line_starts: Vec<usize>,
    found: Vec<(usize, Problem)>,
    more: usize,
    closed_lines: BTreeSet<usize>,
}

impl<'t> Problems<'t> {
    /// Begins with none.
    pub(super) fn of(text: &'t str) -> Self {
        let after_breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        let line_starts = std::iter::once(0).chain(after_breaks).collect();
        Self { text, line_starts, found: Vec::new(), more: 0, closed_lines: BTreeSet::new() }
    }

    /// Adds one at `span` after which nothing else of the same line is worth telling: the line cannot be read.
    pub(super) fn add_last_of_line(&mut self, span: Range<usize>, message: String) {
        let line = self.line_of(self.boundary(span.start));
        self.add(span, message, None);
        self.closed_lines.insert(line);
    }

    /// Adds one at `span` (bytes of the text).
    pub(super) fn add(&mut self, span: Range<usize>, message: String, help: Option<String>) {
        let start = self.boundary(span.start);
        let end = self.boundary(span.end).max(start);
        let line = self.line_of(start);
        if self.closed_lines.contains(&line) {
            return;
        }
        if self.found.len() >= MAX_PROBLEMS {
            self.more += 1;
            return;
        }
        let from = self.line_starts.get(line - 1).copied().unwrap_or(0);
        let whole = self.text[from..].lines().next().unwrap_or("");
        let column = self.text[from..start].chars().count();
        let width = self.text[start..end].lines().next().unwrap_or("").chars().count();
        let skipped = column.saturating_sub(MAX_SHOWN / 2);
        let shown: String = whole.chars().skip(skipped).take(MAX_SHOWN).map(printable).collect();
        let mark = column - skipped;
        let width = width.clamp(1, MAX_SHOWN.saturating_sub(mark).max(1));
        self.found.push((start, Problem { line, column: column + 1, message, help, shown, mark, width }));
    }

    /// The line, from 1, that holds byte `at`.
    pub(super) fn line_of(&self, at: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= at).max(1)
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Ends the gathering: the problems in the order of the file.
    pub(super) fn into_errors(mut self, file: &str) -> SeatFileErrors {
        self.found.sort_by_key(|(at, _)| *at);
        let problems = self.found.into_iter().map(|(_, problem)| problem).collect();
        SeatFileErrors { file: file.chars().map(printable).collect(), problems, more: self.more }
    }

    /// The nearest start of a character at or before `at`: a span of a broken text need not fall on one.
    fn boundary(&self, at: usize) -> usize {
        let mut at = at.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        at
    }
}

/// Replaces what would move the cursor or change the terminal, keeping one character for one.
pub(super) fn printable(character: char) -> char {
    match character {
        '\t' => ' ',
        _ if character.is_control() => char::REPLACEMENT_CHARACTER,
        _ => character,
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_PROBLEMS, Problems};

    #[test]
    fn a_place_is_told_as_line_and_character() {
        let text = "a = 1\r\nä\tb = \"x\u{1b}\"\n\nlast";
        for (span, line, column, shown, mark, width) in [
            (0..1, 1, 1, "a = 1", 0, 1),
            (10..11, 2, 3, "ä b = \"x\u{fffd}\"", 2, 1),
            (14..99, 2, 7, "ä b = \"x\u{fffd}\"", 6, 4),
            (8..9, 2, 1, "ä b = \"x\u{fffd}\"", 0, 1),
            (19..20, 3, 1, "", 0, 1),
            (20..24, 4, 1, "last", 0, 4),
            (400..500, 4, 5, "last", 4, 1),
        ] {
            let mut problems = Problems::of(text);
            problems.add(span.clone(), "wrong".to_owned(), None);
            let found = problems.into_errors("f").problems.remove(0);
            assert_eq!(
                (found.line, found.column, found.shown.as_str(), found.mark, found.width),
                (line, column, shown, mark, width),
                "{span:?}"
            );
        }
    }

    #[test]
    fn a_long_line_is_shown_around_its_mark() {
        let text = format!("{}here{}", "x".repeat(5000), "y".repeat(5000));
        let mut problems = Problems::of(&text);
        problems.add(5000..5004, "wrong".to_owned(), None);
        let found = problems.into_errors("f").problems.remove(0);
        let marked: String = found.shown.chars().skip(found.mark).take(found.width).collect();
        assert_eq!((marked.as_str(), found.shown.len(), found.column), ("here", 120, 5001));
    }

    #[test]
    fn the_rest_beyond_the_limit_is_counted() {
        let mut problems = Problems::of("x");
        for _ in 0..MAX_PROBLEMS + 7 {
            problems.add(0..1, "wrong".to_owned(), None);
        }
        let errors = problems.into_errors("f");
        assert_eq!((errors.problems.len(), errors.more), (MAX_PROBLEMS, 7));
    }
}
