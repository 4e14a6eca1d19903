//! The newest table of seats against native that is kept under docs/results, and its drawing, for the page. The demo itself measures
//! a taste only ([`super::taste`]): a table worth keeping takes longer than a demo may.

use super::story::{Drawing, Table};
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;

/// How the files of such tables end; before it stands the date.
const SUFFIX: &str = "-seats.md";
/// How a run begins what it says against its own figures.
const BEWARE: &str = "- beware:";
/// Rows that are shown.
const ROW_LIMIT: usize = 40;

/// Finds the newest table in a folder of results; none if there is none.
///
/// # Errors
/// The folder or the file cannot be read.
pub(super) fn newest(folder: &Path) -> Result<Option<(Table, Option<Drawing>)>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    let Some(name) = last_date(&names) else { return Ok(None) };
    let path = folder.join(name);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    // A result may do without a drawing.
    let svg = fs::read_to_string(path.with_extension("svg")).ok();
    let drawing = svg.map(|svg| Drawing { title: "The same as bars".into(), svg });
    Ok(Some((table(name, &text), drawing)))
}

/// Returns the name with the latest date.
fn last_date(names: &[String]) -> Option<&str> {
    // Dates are written so that their order is that of letters.
    names.iter().map(String::as_str).filter(|name| name.ends_with(SUFFIX)).max()
}

/// Takes the first table out of a text in Markdown.
fn table(name: &str, text: &str) -> Table {
    let date = name.strip_suffix(SUFFIX).unwrap_or(name);
    // What the run said of itself: only some hosts are machines in machines.
    let beware = text.lines().find_map(|line| line.strip_prefix(BEWARE));
    let beware = beware.map_or(String::new(), |words| format!(" Beware: {}.", words.trim()));
    let note = format!(
        "Not of this run: measured on {date} by `allod bench`.{beware} docs/results/{name} has the command, and says how \
         far to trust it."
    );
    Table { note, rows: rows(text) }
}

/// Returns the rows of the first table in a text in Markdown, its headings first.
pub(super) fn rows(text: &str) -> Vec<Vec<String>> {
    let lines = text.lines().skip_while(|line| !line.starts_with('|'));
    let rows = lines.take_while(|line| line.starts_with('|')).filter(|line| !line.starts_with("|-"));
    let cells = |line: &str| {
        line.trim_matches('|').split('|').map(|cell| cell.trim().replace("**", "")).collect::<Vec<String>>()
    };
    rows.take(ROW_LIMIT).map(cells).collect()
}

#[cfg(test)]
mod tests {
    use super::{last_date, table};

    #[test]
    fn the_first_table_is_shown_and_dated() {
        let text =
            "# Seats\n\nwords\n\n| workload | one |\n|---|---|\n| cpu | 4 = **98.0 %** |\n\n| other |\n";
        let table = table("2026-01-02-seats.md", text);
        assert_eq!(table.rows, [["workload", "one"], ["cpu", "4 = 98.0 %"]]);
        assert!(table.note.contains("Not of this run: measured on 2026-01-02"), "{}", table.note);
    }

    #[test]
    fn a_result_is_doubted_as_it_doubts_itself_and_no_more() {
        let text = "| cpu | 4 |\n\n- kernel: 6\n- beware: all of it is nested\n";
        let doubted = table("2026-01-02-seats.md", text).note;
        assert!(doubted.contains("Beware: all of it is nested."), "{doubted}");
        let plain = table("2026-01-02-seats.md", "| cpu | 4 |\n\n- kernel: 6\n").note;
        assert!(!plain.contains("Beware") && !plain.contains("nested"), "{plain}");
    }

    #[test]
    fn the_newest_of_the_seats_tables_is_taken() {
        let names =
            ["2026-11-02-seats.md", "2026-11-23-boot.md", "2026-11-22-seats.md", "2026-12-01-seats.svg"];
        let names = names.map(str::to_owned);
        assert_eq!(last_date(&names), Some("2026-11-22-seats.md"));
        assert_eq!(last_date(&names[1..2]), None);
    }
}
