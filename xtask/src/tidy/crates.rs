//! Rules about crates: dependencies point downward, one owner for each external crate, unsafe code in one place.
//!
//! Not here: rules about single files. `tidy` calls this.

use super::exceptions::{SHARED_CRATES, UNSAFE_CRATES, UNSAFE_FILES};
use super::{Project, Violation, lexer};
use crate::workspace::SourceFile;
use std::collections::{BTreeMap, BTreeSet};

const UNSAFE: &str = "one-unsafe-crate";

/// The floor of each crate. A crate may use those on lower floors only; its tests also those on its own.
const FLOORS: &[(&str, usize)] = &[
    ("spec", 0),
    ("linux", 1),
    ("pci", 1),
    ("plan", 1),
    ("scene", 1),
    ("host", 2),
    ("bench", 3),
    ("lab", 3),
    ("machine", 3),
    ("seat", 3),
    ("cli", 4),
    ("daemon", 4),
    ("fleet", 4),
    ("vmm", 4),
    ("xtask", 5),
];

fn floor(name: &str) -> Option<usize> {
    FLOORS.iter().find(|(krate, _)| *krate == name).map(|(_, floor)| *floor)
}

/// Finds dependencies between our crates that do not point downward, and crates without a floor.
pub(super) fn downward_only(project: &Project) -> Vec<Violation> {
    const RULE: &str = "downward-only";
    let mut found = Vec::new();
    for krate in project.crates {
        let manifest = format!("{}/Cargo.toml", krate.folder);
        let Some(own) = floor(&krate.name) else {
            let says =
                format!("crate `{}` has no floor: give it one in xtask/src/tidy/crates.rs", krate.name);
            found.push(Violation::new(RULE, manifest, says));
            continue;
        };
        for dependency in krate.dependencies.iter().filter(|dependency| dependency.ours) {
            let limit = if dependency.dev { own + 1 } else { own };
            if floor(&dependency.name).is_some_and(|other| other >= limit) {
                let says =
                    format!("`{}` may not use `{}`: it is not on a lower floor", krate.name, dependency.name);
                found.push(Violation::new(RULE, &manifest, says));
            }
        }
    }
    found
}

/// Finds external crates that several of ours import, tests aside.
pub(super) fn one_owner(project: &Project) -> Vec<Violation> {
    const RULE: &str = "one-owner";
    let mut owners: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for krate in project.crates {
        for dependency in krate.dependencies.iter().filter(|dependency| !dependency.ours && !dependency.dev) {
            owners.entry(&dependency.name).or_default().insert(&krate.name);
        }
    }
    let mut found = Vec::new();
    for (name, owners) in &owners {
        let excepted = listed(SHARED_CRATES, name);
        if owners.len() > 1 && !excepted {
            let owners: Vec<&str> = owners.iter().copied().collect();
            let says = format!("`{name}` is imported by {}: let one of them own it", owners.join(", "));
            found.push(Violation::new(RULE, "Cargo.toml", says));
        }
    }
    let imported = |name: &str| owners.contains_key(name);
    for (name, _) in SHARED_CRATES.iter().filter(|(name, _)| !imported(name)) {
        let says = format!("nobody imports `{name}` any more: remove the exception");
        found.push(Violation::new(RULE, "xtask/src/tidy/exceptions.rs", says));
    }
    found
}

/// Finds unsafe code outside its crates, and crates that do not forbid it.
pub(super) fn one_unsafe_crate(project: &Project) -> Vec<Violation> {
    unsafe_code(project, UNSAFE_FILES)
}

fn unsafe_code(project: &Project, excepted_files: &[(&str, &str)]) -> Vec<Violation> {
    let unneeded =
        |place: &str| Violation::new(UNSAFE, place, "has no unsafe code any more: remove the exception");
    let mut found = Vec::new();
    for krate in project.crates {
        let folder = format!("{}/", krate.folder);
        let sources =
            project.files.iter().filter(|file| file.path.starts_with(&folder) && file.path.ends_with(".rs"));
        let uses: Vec<Violation> =
            sources.filter(|file| !listed(excepted_files, &file.path)).flat_map(unsafe_uses).collect();
        if !listed(UNSAFE_CRATES, &krate.name) {
            found.extend(uses);
            found.extend(
                project.files.iter().filter(|file| krate.roots.contains(&file.path)).filter_map(unforbidden),
            );
        } else if uses.is_empty() {
            found.push(unneeded(&krate.folder));
        }
    }
    let used =
        |path: &str| project.files.iter().any(|file| file.path == path && !unsafe_uses(file).is_empty());
    found.extend(excepted_files.iter().filter(|(path, _)| !used(path)).map(|(path, _)| unneeded(path)));
    found
}

fn listed(exceptions: &[(&str, &str)], name: &str) -> bool {
    exceptions.iter().any(|(excepted, _)| *excepted == name)
}

fn unsafe_uses(file: &SourceFile) -> Vec<Violation> {
    let code = lexer::code_only(&file.text);
    let uses = lexer::words(&code).filter(|(word, _)| *word == "unsafe");
    uses.map(|(_, line)| Violation::at(UNSAFE, file, line, "unsafe code belongs in crates/linux")).collect()
}

fn unforbidden(root: &SourceFile) -> Option<Violation> {
    let forbids = lexer::code_only(&root.text).contains("#![forbid(unsafe_code)]");
    (!forbids).then(|| Violation::new(UNSAFE, &root.path, "says no `#![forbid(unsafe_code)]`"))
}

#[cfg(test)]
mod tests {
    use super::super::{file, project};
    use super::*;
    use crate::workspace::{Crate, Dependency};

    fn krate(name: &str, dependencies: &[(&str, bool, bool)]) -> Crate {
        let dependency = |(name, dev, ours): &(&str, bool, bool)| Dependency {
            name: (*name).into(),
            dev: *dev,
            ours: *ours,
        };
        Crate {
            name: name.into(),
            folder: format!("crates/{name}"),
            roots: vec![format!("crates/{name}/src/lib.rs")],
            tests: vec![],
            dependencies: dependencies.iter().map(dependency).collect(),
        }
    }

    #[test]
    fn dependencies_point_downward() {
        const DEV: bool = true;
        const OURS: bool = true;
        let rows = [
            ("machine", ("pci", !DEV, OURS), true),
            ("pci", ("machine", !DEV, OURS), false),
            ("pci", ("linux", !DEV, OURS), false),
            ("pci", ("linux", DEV, OURS), true),
            ("pci", ("machine", DEV, OURS), false),
            ("pci", ("libc", !DEV, !OURS), true),
        ];
        for (name, dependency, allowed) in rows {
            let crates = [krate(name, &[dependency])];
            assert_eq!(downward_only(&project(&crates, &[])).is_empty(), allowed, "{name} -> {dependency:?}");
        }
    }

    #[test]
    fn a_crate_without_a_floor_is_found() {
        assert_eq!(downward_only(&project(&[krate("attic", &[])], &[])).len(), 1);
    }

    #[test]
    fn an_external_crate_has_one_owner() {
        let theirs = |name| (name, false, false);
        let shared: Vec<_> = SHARED_CRATES.iter().map(|(name, _)| theirs(*name)).collect();
        let vocabulary = krate("spec", &shared);
        let rows = [
            (vec![krate("pci", &[theirs("tokio")])], 0),
            (vec![krate("pci", &[theirs("tokio")]), krate("linux", &[theirs("tokio")])], 1),
            (vec![krate("pci", &[theirs("tokio")]), krate("linux", &[("tokio", true, false)])], 0),
            (vec![krate("pci", &shared)], 0),
        ];
        for (mut crates, expected) in rows {
            crates.push(vocabulary.clone());
            assert_eq!(one_owner(&project(&crates, &[])).len(), expected, "{crates:?}");
        }
    }

    #[test]
    fn an_exception_that_nobody_needs_is_found() {
        assert_eq!(one_owner(&project(&[], &[])).len(), SHARED_CRATES.len());
        let safe = [file("crates/linux/src/lib.rs", "#![forbid(unsafe_code)]\n")];
        assert_eq!(unsafe_code(&project(&[krate("linux", &[])], &safe), &[]).len(), 1);
        let excepted = [("crates/pci/src/lib.rs", "a reason")];
        let pci = [file("crates/pci/src/lib.rs", "#![forbid(unsafe_code)]\n")];
        assert_eq!(unsafe_code(&project(&[krate("pci", &[])], &pci), &excepted).len(), 1);
    }

    #[test]
    fn an_excepted_file_may_hold_unsafe_code() {
        let excepted = [("crates/lab/fix/fix.rs", "a reason")];
        let files = [
            file("crates/lab/fix/fix.rs", "unsafe { x() }"),
            file("crates/lab/fix/other.rs", "unsafe { x() }"),
        ];
        assert_eq!(unsafe_code(&project(&[krate("lab", &[])], &files), &excepted).len(), 1);
    }

    #[test]
    fn unsafe_code_stays_in_its_crate() {
        let rows = [
            ("linux", "unsafe { x() }", 0),
            ("pci", "#![forbid(unsafe_code)]\n", 0),
            ("pci", "//! About unsafe code.\n#![forbid(unsafe_code)]\nconst A: &str = \"unsafe\";", 0),
            ("pci", "#![forbid(unsafe_code)]\nfn f() { unsafe { x() } }", 1),
            ("pci", "fn f() {}", 1),
            ("pci", "// #![forbid(unsafe_code)]", 1),
        ];
        for (name, text, expected) in rows {
            let files = [file(&format!("crates/{name}/src/lib.rs"), text)];
            assert_eq!(unsafe_code(&project(&[krate(name, &[])], &files), &[]).len(), expected, "{text}");
        }
    }
}
