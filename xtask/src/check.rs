//! `cargo xtask check`: everything about the project that holds without running it.
//!
//! Format, lints, docs, structure, licences, advisories; each goes on to the next, so that one run says all that is
//! wrong. Not here: the tests' run (`test`). `main` and `test` call this.

mod advisories;
mod licences;

use crate::process::{cargo, run as run_command, works};
use crate::report::{Findings, Report};
use crate::tidy;
use crate::workspace::Workspace;
use anyhow::Result;
use clap::{Args, ValueEnum};

/// What rustdoc is told. It warns of links to private items even when it documents those too.
const DOC_LINTS: &str = "-D warnings -A rustdoc::private_intra_doc_links";

/// What clippy finds that is an error.
const DENIED: [&str; 4] = ["-D", "warnings", "-D", "clippy::too_many_lines"];

/// Which checks to run.
#[derive(Args, Default)]
pub(crate) struct Options {
    /// Run these only.
    #[arg(value_enum)]
    only: Vec<Check>,
}

/// The checks, the quick ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Check {
    /// The shape of the project: floors, headers, lengths, names, links.
    Structure,
    /// The licences of all dependencies.
    Licences,
    /// Known holes in dependencies.
    Advisories,
    /// rustfmt.
    Format,
    /// clippy, warnings denied.
    Lints,
    /// rustdoc, warnings denied.
    Docs,
}

/// Runs the checks as phases of `report`.
pub(crate) fn run(options: &Options, workspace: &Workspace, report: &mut Report) {
    for check in Check::value_variants() {
        if options.only.is_empty() || options.only.contains(check) {
            let name = format!("{check:?}").to_lowercase();
            report.phase(&name, || check.run(workspace));
        }
    }
}

impl Check {
    fn run(self, workspace: &Workspace) -> Result<Findings> {
        match self {
            Check::Structure => tidy::run(workspace),
            Check::Licences => licences::run(workspace),
            Check::Advisories => advisories::run(workspace),
            Check::Format => with_component("rustfmt", &["fmt", "--all", "--check"]),
            Check::Lints => {
                // Scenarios are none of `--all-targets`, as they are no tests of a plain `cargo test`.
                let tests = workspace.crates.iter().flat_map(|krate| &krate.tests);
                let named: Vec<&str> = tests.flat_map(|name| ["--test", name]).collect();
                for targets in [&["--all-targets"][..], &named] {
                    let findings = with_component(
                        "clippy",
                        &[&["clippy", "--workspace", "--keep-going"][..], targets, &["--"], &DENIED].concat(),
                    )?;
                    if !findings.skips.is_empty() {
                        return Ok(findings);
                    }
                }
                Ok(Findings::default())
            }
            Check::Docs => {
                // Private items too: who reads these docs works on the code, and links to what is private are welcome.
                let arguments =
                    ["doc", "--workspace", "--no-deps", "--document-private-items", "--keep-going"];
                run_command(cargo(&arguments).env("RUSTDOCFLAGS", DOC_LINTS))?;
                Ok(Findings::default())
            }
        }
    }
}

/// Runs a cargo command that a part of the toolchain brings; a toolchain without it is a loud skip.
fn with_component(component: &str, arguments: &[&str]) -> Result<Findings> {
    if !works(cargo(&arguments[..1]).arg("--version")) {
        let remedy =
            format!("this Rust toolchain has no {component}: `rustup component add {component}` adds it");
        return Ok(Findings::skipped(remedy));
    }
    run_command(&mut cargo(arguments))?;
    Ok(Findings::default())
}
