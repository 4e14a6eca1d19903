//! Rules about single files: their header, their length, their line ends, and paths that exist on one machine only.
//!
//! Not here: names and documents. `tidy` calls this.

use super::exceptions::LONG_FILES;
use super::{Project, Violation};
use crate::workspace::SourceFile;

/// Lines a source file may have.
const MOST_LINES: usize = 600;

/// What a project that builds anywhere cannot name: one machine's folders and the hosts packages come from. In
/// pieces, so that this file does not name them either.
const FOREIGN: &[&[&str]] = &[
    &["/wo", "rk/"],
    &["/ro", "ot/"],
    &["crates", ".io"],
    &["py", "pi.org"],
    &["npm", "js.org"],
    &["deb.", "debian.org"],
];

/// Files that a tool writes and that name hosts as part of their format.
const GENERATED: &[&str] = &["Cargo.lock"];

/// Finds source files that do not open with a `//!` header.
pub(super) fn header(project: &Project) -> Vec<Violation> {
    let headless = |file: &&SourceFile| !file.text.starts_with("//!");
    let says = "does not open with a `//!` header: what it is, what it is not, who calls it";
    sources(project).filter(headless).map(|file| Violation::at("header", file, 1, says)).collect()
}

/// Finds source files over the limit.
pub(super) fn six_hundred(project: &Project) -> Vec<Violation> {
    long_files(project, LONG_FILES)
}

fn long_files(project: &Project, exceptions: &[(&str, usize)]) -> Vec<Violation> {
    const RULE: &str = "six-hundred";
    let mut found = Vec::new();
    for file in sources(project) {
        let lines = file.text.lines().count();
        let exception = exceptions.iter().find(|(path, _)| *path == file.path);
        let most = exception.map_or(MOST_LINES, |(_, most)| *most);
        if lines > most {
            found.push(Violation::new(
                RULE,
                &file.path,
                format!("{lines} lines, at most {most}: find the seam"),
            ));
        } else if exception.is_some() && lines <= MOST_LINES {
            found.push(Violation::new(RULE, &file.path, "is short enough now: remove the exception"));
        }
    }
    for (path, _) in exceptions.iter().filter(|(path, _)| !project.places.contains(*path)) {
        found.push(Violation::new(RULE, *path, "is gone: remove the exception"));
    }
    found
}

/// Finds trailing blanks, carriage returns, and files whose last line has no end.
pub(super) fn clean_lines(project: &Project) -> Vec<Violation> {
    const RULE: &str = "clean-lines";
    let mut found = Vec::new();
    for file in project.files.iter().filter(|file| !is_generated(file)) {
        for (number, line) in file.text.split('\n').enumerate() {
            if line.ends_with([' ', '\t', '\r']) {
                found.push(Violation::at(RULE, file, number + 1, "blanks at the end of the line"));
            }
        }
        if !file.text.is_empty() && !file.text.ends_with('\n') {
            found.push(Violation::new(RULE, &file.path, "the last line has no end"));
        }
    }
    found
}

/// Finds folders of one machine and hosts of package registries.
pub(super) fn no_machine_paths(project: &Project) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in project.files.iter().filter(|file| !is_generated(file)) {
        for (number, line) in file.text.lines().enumerate() {
            for foreign in
                FOREIGN.iter().map(|pieces| pieces.concat()).filter(|foreign| line.contains(foreign))
            {
                let says = format!("names `{foreign}`, which says nothing on another machine");
                found.push(Violation::at("no-machine-paths", file, number + 1, says));
            }
        }
    }
    found
}

fn sources<'a>(project: &'a Project) -> impl Iterator<Item = &'a SourceFile> {
    project.files.iter().filter(|file| file.path.ends_with(".rs"))
}

fn is_generated(file: &SourceFile) -> bool {
    GENERATED.contains(&file.path.as_str())
}

#[cfg(test)]
mod tests {
    use super::super::{file, project};
    use super::*;

    #[test]
    fn a_source_file_opens_with_its_header() {
        let rows = [
            ("a.rs", "//! A.\n", 0),
            ("a.rs", "// A.\n", 1),
            ("a.rs", "use b;\n//! A.\n", 1),
            ("a.md", "A\n", 0),
        ];
        for (path, text, expected) in rows {
            assert_eq!(header(&project(&[], &[file(path, text)])).len(), expected, "{path} {text}");
        }
    }

    #[test]
    fn a_file_keeps_to_its_limit() {
        let rows = [
            (600, vec![], 0),
            (601, vec![], 1),
            (700, vec![("a.rs", 700)], 0),
            (701, vec![("a.rs", 700)], 1),
            (600, vec![("a.rs", 700)], 1),
            (600, vec![("gone.rs", 700)], 1),
        ];
        for (lines, exceptions, expected) in rows {
            let files = [file("a.rs", &"x\n".repeat(lines))];
            assert_eq!(
                long_files(&project(&[], &files), &exceptions).len(),
                expected,
                "{lines} {exceptions:?}"
            );
        }
    }

    #[test]
    fn lines_end_cleanly() {
        let rows =
            [("a\nb\n", 0), ("a \n", 1), ("a\t\nb \n", 2), ("a\r\n", 1), ("a", 1), ("", 0), ("a\n\nb\n", 0)];
        for (text, expected) in rows {
            assert_eq!(clean_lines(&project(&[], &[file("a.md", text)])).len(), expected, "{text:?}");
        }
    }

    #[test]
    fn one_machines_paths_are_found() {
        for pieces in FOREIGN {
            let text = format!("see {}x\n", pieces.concat());
            assert_eq!(no_machine_paths(&project(&[], &[file("a.md", &text)])).len(), 1, "{text}");
            assert_eq!(no_machine_paths(&project(&[], &[file("Cargo.lock", &text)])).len(), 0, "{text}");
        }
        assert!(
            no_machine_paths(&project(&[], &[file("a.md", "see /sys/bus/pci and /workshop\n")])).is_empty()
        );
    }
}
