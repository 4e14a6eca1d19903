//! Rules about documents: the paths they name exist and their links lead somewhere.
//!
//! Not here: links into the network. `tidy` calls this.

use super::{Project, Violation};
use crate::workspace::SourceFile;
use std::collections::BTreeSet;

/// Documents whose every path must exist: the front door, the map and the rules of the house.
const MAPS: &[&str] = &["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"];

/// First parts of a path of the project.
const TOPS: &[&str] = &["crates", "xtask", "docs", ".ci", ".cargo"];

/// Endings of files at the project's root.
const ROOT_FILES: &[&str] = &[".md", ".toml", ".lock"];

/// Finds paths in the maps that do not exist, and maps that are missing.
pub(super) fn map_is_tested(project: &Project) -> Vec<Violation> {
    const RULE: &str = "map-is-tested";
    let mut found = Vec::new();
    for map in MAPS {
        let Some(file) = project.files.iter().find(|file| file.path == *map) else {
            found.push(Violation::new(RULE, *map, "is missing"));
            continue;
        };
        for (path, line) in named_paths(&file.text) {
            if !project.places.contains(path.trim_end_matches('/')) {
                found.push(Violation::at(RULE, file, line, format!("`{path}` does not exist")));
            }
        }
    }
    found
}

/// Finds links to files and headings that do not exist.
pub(super) fn links_resolve(project: &Project) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in project.files.iter().filter(|file| file.path.ends_with(".md")) {
        for (target, line) in links(&file.text) {
            if !resolves(project, file, &target) {
                let says = format!("the link to `{target}` leads nowhere");
                found.push(Violation::at("links-resolve", file, line, says));
            }
        }
    }
    found
}

/// The paths of the project between back quotes in `text`, each with its line.
fn named_paths(text: &str) -> Vec<(String, usize)> {
    let mut paths = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for quoted in line.split('`').skip(1).step_by(2) {
            let top = quoted.split('/').next().unwrap_or_default();
            let nested = quoted.contains('/') && TOPS.contains(&top);
            let at_root = !quoted.contains('/') && ROOT_FILES.iter().any(|ending| quoted.ends_with(ending));
            if (nested || at_root) && !quoted.contains([' ', '*', '<', '{']) {
                paths.push((quoted.to_owned(), number + 1));
            }
        }
    }
    paths
}

/// The targets of the links and pictures in `text`, each with its line; code blocks are left out.
fn links(text: &str) -> Vec<(String, usize)> {
    let mut links = Vec::new();
    let mut in_code = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        for (opening, closing) in [("](", ')'), ("src=\"", '"'), ("href=\"", '"'), ("srcset=\"", '"')] {
            let pieces = prose.split(opening).skip(1).filter_map(|piece| piece.split(closing).next());
            links.extend(pieces.map(|target| (target.to_owned(), number + 1)));
        }
    }
    links
}

fn resolves(project: &Project, from: &SourceFile, target: &str) -> bool {
    if target.contains("://") || target.starts_with("mailto:") {
        return true;
    }
    let (path, heading) =
        target.split_once('#').map_or((target, None), |(path, heading)| (path, Some(heading)));
    let folder = from.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let place = if path.is_empty() { Some(from.path.clone()) } else { joined(folder, path) };
    let Some(place) = place.filter(|place| project.places.contains(place)) else { return false };
    let Some(heading) = heading else { return true };
    project
        .files
        .iter()
        .find(|file| file.path == place)
        .is_some_and(|file| headings(&file.text).contains(heading))
}

/// Where `path` leads from `folder`; nowhere when it leaves the project.
fn joined(folder: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The anchors that a reader of Markdown makes of the headings in `text`.
fn headings(text: &str) -> BTreeSet<String> {
    let anchor = |title: &str| {
        let kept = title.trim().chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    };
    text.lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| anchor(line.trim_start_matches('#')))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::{file, project};
    use super::*;

    fn with_maps(readme: &str) -> Vec<SourceFile> {
        let mut files = vec![file("README.md", readme), file("crates/pci/src/lib.rs", "")];
        files.extend(MAPS.iter().skip(1).map(|map| file(map, "")));
        files
    }

    #[test]
    fn a_named_path_exists() {
        let rows = [
            ("`crates/pci`, `crates/pci/src/lib.rs`, `ARCHITECTURE.md`, `docs` and `pci/x`", 0),
            ("`crates/gone` and `crates/gone/too.rs`", 2),
            ("`crates/pci/` and `crates/*` and `cargo xtask test`", 0),
            ("`GONE.md`", 1),
        ];
        for (readme, expected) in rows {
            assert_eq!(map_is_tested(&project(&[], &with_maps(readme))).len(), expected, "{readme}");
        }
        assert_eq!(map_is_tested(&project(&[], &[])).len(), MAPS.len());
    }

    #[test]
    fn a_link_leads_somewhere() {
        let rows = [
            ("[a](docs/a.md) [b](./docs/../docs/a.md) [c](https://example.org/x)", 0),
            ("[a](docs/b.md)", 1),
            ("[a](docs/a.md#two-words-here) [b](#top)", 0),
            ("[a](docs/a.md#gone) [b](#gone)", 2),
            ("[a](../outside.md)", 1),
            ("<img src=\"docs/a.md\"> <img src=\"docs/gone.svg\">", 1),
            ("`[a](gone.md)`", 0),
            ("```\n[a](gone.md)\n```", 0),
        ];
        for (text, expected) in rows {
            let files =
                [file("x.md", &format!("# Top\n{text}\n")), file("docs/a.md", "## Two words, here!\n")];
            assert_eq!(links_resolve(&project(&[], &files)).len(), expected, "{text}");
        }
    }

    #[test]
    fn every_example_of_a_seat_file_can_be_read() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples");
        let mut examples: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        examples.retain(|path| path.extension().is_some_and(|ending| ending == "toml"));
        assert!(!examples.is_empty());
        for example in examples {
            let text = std::fs::read_to_string(&example).unwrap();
            if let Err(errors) = spec::seat_file::SeatFile::parse(&example.to_string_lossy(), &text) {
                panic!("{errors}");
            }
        }
    }

    #[test]
    fn a_link_is_read_from_the_file_it_stands_in() {
        let files =
            [file("docs/a.md", "[b](b.md) [r](../README.md)"), file("docs/b.md", ""), file("README.md", "")];
        assert!(links_resolve(&project(&[], &files)).is_empty());
    }
}
