//! Known holes in dependencies, by whichever tool and database this machine has.
//!
//! Neither is part of a Rust toolchain and neither is fetched here: a check that needs the network at the wrong moment
//! is worse than one that says it was left out. `check` calls this.

use crate::process::{cargo, run as run_command, works};
use crate::report::Findings;
use crate::workspace::Workspace;
use anyhow::Result;
use std::path::PathBuf;

/// A tool that knows advisories: how it is asked for, and the folder under cargo's home where its database lies.
struct Tool {
    name: &'static str,
    database: &'static str,
    arguments: &'static [&'static str],
}

const TOOLS: &[Tool] = &[
    Tool { name: "deny", database: "advisory-dbs", arguments: &["deny", "--offline", "check", "advisories"] },
    Tool { name: "audit", database: "advisory-db", arguments: &["audit", "--no-fetch"] },
];

/// Asks the first tool that is there with its database; a loud skip where there is none.
pub(super) fn run(workspace: &Workspace) -> Result<Findings> {
    let mut missing = Vec::new();
    for tool in TOOLS {
        let installed = works(&mut cargo(&[tool.name, "--version"]));
        let database = cargo_home().is_some_and(|home| home.join(tool.database).is_dir());
        if installed && database {
            run_command(cargo(tool.arguments).current_dir(&workspace.root))?;
            return Ok(Findings::default());
        }
        missing.push(reason(tool, installed));
    }
    Ok(Findings::skipped(format!("known holes in dependencies were not looked up: {}", missing.join("; "))))
}

fn reason(tool: &Tool, installed: bool) -> String {
    let Tool { name, arguments, .. } = tool;
    if installed {
        let online: Vec<&str> = arguments.iter().copied().filter(|word| !word.starts_with("--")).collect();
        format!("cargo-{name} has no database yet (`cargo {}` fetches it)", online.join(" "))
    } else {
        format!("cargo-{name} is not installed (`cargo install --locked cargo-{name}`)")
    }
}

fn cargo_home() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
    std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skip_says_what_would_help() {
        let [deny, audit] = TOOLS else { panic!("two tools are known") };
        let rows = [
            (deny, false, "cargo-deny is not installed (`cargo install --locked cargo-deny`)"),
            (deny, true, "cargo-deny has no database yet (`cargo deny check advisories` fetches it)"),
            (audit, true, "cargo-audit has no database yet (`cargo audit` fetches it)"),
        ];
        for (tool, installed, expected) in rows {
            assert_eq!(reason(tool, installed), expected);
        }
    }
}
