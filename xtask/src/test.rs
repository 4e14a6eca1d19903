//! `cargo xtask test`: from a clean checkout to an answer.
//!
//! Set-up, checks, unit and component tests, release binaries, then the lab's scenarios: integration tests whose names
//! begin with `lab_`, one after the other because each of them keeps a whole emulated machine busy. Not here: what is
//! tested. `main` calls this.

mod outcome;

use crate::process::{cargo, follow, run as run_command};
use crate::report::{Findings, Report};
use crate::workspace::{Crate, Workspace};
use crate::{check, setup};
use anyhow::{Result, bail};
use clap::Args;
use lab::scenario::REQUIRED_VARIABLE;
use lab::start::PROGRAMS_VARIABLE;
use outcome::Outcome;
use std::process::Command;

/// What marks an integration test as a scenario of the lab.
const SCENARIO: &str = "lab_";

/// The integration test that has the lab's own runner.
const LAB_RUNNER: &str = "scenarios";

/// How cargo is told what to start a test with.
const RUNNER_VARIABLE: &str = "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER";

/// Ends a file of scenarios that hangs after this many seconds; its emulator ends with it. In the foreground, so that
/// Ctrl-C still reaches it.
const DEADLINE: &str = "timeout --foreground --kill-after=10 900";

/// Which tests to run.
#[derive(Args)]
pub(crate) struct Options {
    /// Leave out the set-up and the lab: checks, unit and component tests only.
    #[arg(long, conflicts_with = "scenario")]
    unit: bool,
    /// Run this one scenario of the lab only (`lab_` in front may be left out).
    #[arg(long, value_name = "NAME")]
    scenario: Option<String>,
}

/// Runs the tests as phases of `report`.
pub(crate) fn run(options: &Options, workspace: &Workspace, report: &mut Report) -> Result<()> {
    let (scenarios, others) = targets(workspace);
    let chosen = chosen(&scenarios, options.scenario.as_deref())?;
    if options.scenario.is_none() {
        announce(options.unit, chosen.len());
    }
    let ready = !options.unit && setup::run(&setup::Options::default(), report);
    if options.scenario.is_none() {
        check::run(&check::Options::default(), workspace, report);
        unit_tests(&others, report);
    }
    if !options.unit {
        run_scenarios(&chosen, ready, workspace, report);
    }
    Ok(())
}

fn announce(unit: bool, scenarios: usize) {
    if unit {
        eprintln!("Checks, unit and component tests. Nothing is installed.");
        return;
    }
    eprintln!(
        "This installs the Debian packages that are missing and builds the lab's image (named below, before it"
    );
    eprintln!(
        "happens), then runs the checks, the unit and component tests and {scenarios} scenario files in the lab."
    );
}

/// An integration test: the crate it is in and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    package: String,
    name: String,
}

impl Target {
    fn is_scenario(&self) -> bool {
        self.name.starts_with(SCENARIO) || self.name == LAB_RUNNER
    }

    fn is_called(&self, name: &str) -> bool {
        self.name == name || self.name.strip_prefix(SCENARIO) == Some(name)
    }
}

/// All integration tests: scenarios and others.
fn targets(workspace: &Workspace) -> (Vec<Target>, Vec<Target>) {
    let of_crate = |krate: &Crate| {
        let package = krate.name.clone();
        krate.tests.clone().into_iter().map(move |name| Target { package: package.clone(), name })
    };
    workspace.crates.iter().flat_map(of_crate).partition(Target::is_scenario)
}

/// Those of `scenarios` that `name` asks for: all where it asks for none.
fn chosen(scenarios: &[Target], name: Option<&str>) -> Result<Vec<Target>> {
    let Some(name) = name else { return Ok(scenarios.to_vec()) };
    let found: Vec<Target> = scenarios.iter().filter(|scenario| scenario.is_called(name)).cloned().collect();
    if found.is_empty() {
        let names: Vec<&str> = scenarios.iter().map(|scenario| scenario.name.as_str()).collect();
        bail!("there is no scenario `{name}`; there are: {}", names.join(", "));
    }
    Ok(found)
}

fn unit_tests(others: &[Target], report: &mut Report) {
    let named = others.iter().flat_map(|target| ["--test", &target.name]);
    let arguments: Vec<&str> = ["--workspace", "--lib", "--bins"].into_iter().chain(named).collect();
    let built = report.phase("build tests", || {
        run_command(cargo(&["test", "--no-run"]).args(&arguments))?;
        Ok(Findings::default())
    });
    if !built {
        return;
    }
    report.phase("unit tests", || {
        follow_tests(cargo(&["test", "--no-fail-fast"]).args(&arguments).args(["--", "--show-output"]))
    });
    report
        .phase("doc tests", || follow_tests(&mut cargo(&["test", "--no-fail-fast", "--doc", "--workspace"])));
}

/// Builds the release binaries as a phase of `report`; tells whether that went well.
pub(crate) fn build_release(report: &mut Report) -> bool {
    report.phase("release build", || {
        run_command(&mut cargo(&["build", "--release", "--workspace", "--exclude", "xtask"]))?;
        Ok(Findings::default())
    })
}

fn run_scenarios(scenarios: &[Target], ready: bool, workspace: &Workspace, report: &mut Report) {
    let programs = workspace.target.join("release");
    let built = build_release(report);
    for Target { package, name } in scenarios {
        report.phase(&format!("{package} {name}"), || match (ready, built) {
            (false, _) => Ok(Findings::skipped("the lab was not set up, see above")),
            (_, false) => Ok(Findings::skipped("the release binaries were not built, see above")),
            _ => {
                let mut test = cargo(&["test", "--package", package, "--test", name]);
                // The lab takes the programs that it brings in from here, not from beside the test; and what it is
                // missing now, after the set-up, is a failure.
                test.env(PROGRAMS_VARIABLE, &programs).env(REQUIRED_VARIABLE, "1");
                test.env(RUNNER_VARIABLE, DEADLINE);
                follow_tests(test.args(["--", "--test-threads=1", "--nocapture"]))
            }
        });
    }
}

/// Runs cargo's tests, shows what they print and counts them.
fn follow_tests(command: &mut Command) -> Result<Findings> {
    let mut outcome = Outcome::default();
    let status = follow(command, |line| outcome.take(line))?;
    Ok(outcome.findings(status.success()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_is_found_by_either_name() {
        let target = |name: &str| Target { package: "vmm".into(), name: name.into() };
        let scenarios = ["lab_boot", "lab_reset", "scenarios"].map(target);
        let rows = [("boot", "lab_boot"), ("lab_reset", "lab_reset"), ("scenarios", "scenarios")];
        for (name, expected) in rows {
            assert_eq!(chosen(&scenarios, Some(name)).unwrap(), [target(expected)]);
        }
        assert_eq!(chosen(&scenarios, None).unwrap(), scenarios);
        let refusal = chosen(&scenarios, Some("boo")).unwrap_err().to_string();
        assert_eq!(refusal, "there is no scenario `boo`; there are: lab_boot, lab_reset, scenarios");
    }
}
