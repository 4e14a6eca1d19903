//! Printing for people: tables with aligned columns, wrapped paragraphs, and output that a closed pipe does not break.

use std::io::{ErrorKind, IsTerminal, Write};

/// The width for wrapped text when the terminal does not say.
pub(crate) const WIDTH: usize = 100;

/// Writes `text` to standard output. A reader that went away (`| head`) is no error.
pub(crate) fn out(text: &str) -> std::io::Result<()> {
    bytes(text.as_bytes())
}

/// As [`out`], for what need not be text.
pub(crate) fn bytes(bytes: &[u8]) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Whether standard output is a terminal that may be coloured.
pub(crate) fn coloured() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// Rows of cells that are printed with aligned columns; a row may have lines of its own below it.
pub(crate) struct Table {
    head: Vec<&'static str>,
    rows: Vec<(Vec<String>, Vec<String>)>,
}

impl Table {
    /// A table with these column heads.
    pub(crate) fn new(head: &[&'static str]) -> Self {
        Self { head: head.to_vec(), rows: Vec::new() }
    }

    /// Adds a row and the lines that belong below it, under its last column.
    pub(crate) fn row(&mut self, cells: Vec<String>, below: Vec<String>) {
        self.rows.push((cells, below));
    }

    /// The text of the table.
    pub(crate) fn text(&self) -> String {
        let mut widths: Vec<usize> = self.head.iter().map(|head| head.chars().count()).collect();
        for (cells, _) in &self.rows {
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let indent = widths.iter().rev().skip(1).map(|width| width + 2).sum::<usize>();
        let head: Vec<String> = self.head.iter().map(|head| (*head).to_owned()).collect();
        let mut text = line(&head, &widths);
        for (cells, below) in &self.rows {
            text.push_str(&line(cells, &widths));
            for extra in below {
                text.push_str(&format!("{:indent$}{extra}\n", ""));
            }
        }
        text
    }
}

fn line(cells: &[String], widths: &[usize]) -> String {
    let padded: String = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}  ")).collect();
    format!("{}\n", padded.trim_end())
}

/// Breaks `text` into lines of at most `width` characters, all but the first indented by `indent`.
///
/// A word longer than a line stays whole, so that a command can be copied.
pub(crate) fn wrap(text: &str, first: &str, indent: usize, width: usize) -> String {
    let mut lines = first.to_owned();
    let mut used = first.chars().count();
    let mut fresh = true;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if !fresh && used + 1 + length > width {
            lines.push_str(&format!("\n{:indent$}", ""));
            used = indent;
            fresh = true;
        }
        if !fresh {
            lines.push(' ');
            used += 1;
        }
        lines.push_str(word);
        used += length;
        fresh = false;
    }
    lines.push('\n');
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["A", "LONGER", "C"]);
        table.row(vec!["wide cell".into(), "é".into(), "x".into()], vec!["below".into()]);
        assert_eq!(table.text(), "A          LONGER  C\nwide cell  é       x\n                   below\n");
    }

    #[test]
    fn long_text_is_broken_between_words_and_commands_stay_whole() {
        assert_eq!(wrap("aa bb cc", "- ", 2, 7), "- aa bb\n  cc\n");
        assert_eq!(wrap("a-very-long-word b", "", 1, 4), "a-very-long-word\n b\n");
        assert_eq!(wrap("", "x", 0, 9), "x\n");
    }
}
