//! `cargo xtask test`: from a clean checkout to an answer.
//!
//! Set-up, checks, unit and component tests, release binaries, then the lab's scenarios: integration tests whose names
//! begin with `lab_`, as many side by side as there are processors, because each keeps one busy with an emulated machine.
//! `cargo xtask soak` runs those that begin with `soak_`, and the scenarios within the others that do: the same, too long for
//! every day. What they print is kept in logs; shown are verdicts, and what a failed one said. Not here: what is tested.
//! `main` calls this.

mod outcome;

use crate::process::{capture, cargo, follow, run as run_command};
use crate::report::{Findings, Report};
use crate::workspace::{Crate, Workspace};
use crate::{check, setup};
use anyhow::{Context, Result, bail};
use clap::Args;
use lab::scenario::{REQUIRED_VARIABLE, SOAK};
use lab::start::PROGRAMS_VARIABLE;
use outcome::Outcome;
use std::fs::{self, File};
use std::io::{IsTerminal, LineWriter, stderr};
use std::num::NonZero;
use std::process::Command;
use std::thread;

/// What marks an integration test as a scenario of the lab.
const SCENARIO: &str = "lab_";

/// The integration test that has the lab's own runner.
const LAB_RUNNER: &str = "scenarios";

/// How cargo is told what to start a test with.
const RUNNER_VARIABLE: &str = "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER";

/// Ends a file of scenarios that hangs; its emulator ends with it. In the foreground, so that Ctrl-C still reaches it.
const DEADLINE: &str = "timeout --foreground --kill-after=10";
/// When a file of scenarios is taken to hang, in seconds.
const SCENARIO_SECONDS: u32 = 1800;
/// The same for a soak.
const SOAK_SECONDS: u32 = 10800;

/// Files of scenarios side by side at most, however many processors there are.
const LANES: usize = 4;
/// Free memory that one more of them asks for: a host of 4 GiB, and as much again where it is two.
const MEMORY_A_LANE_KIB: u64 = 6 << 20;

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

/// What to let run long.
#[derive(Args)]
pub(crate) struct SoakOptions {
    /// Run this file only (`soak_` or `lab_` in front may be left out).
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

/// Runs the tests as phases of `report`.
pub(crate) fn run(options: &Options, workspace: &Workspace, report: &mut Report) -> Result<()> {
    let Targets { scenarios, others, .. } = Targets::of(workspace);
    let chosen = chosen(&scenarios, options.scenario.as_deref())?;
    if options.scenario.is_none() {
        announce(options.unit, chosen.len());
    }
    let ready = !options.unit && setup::run(&setup::Options::default(), workspace, report);
    if options.scenario.is_none() {
        check::run(&check::Options::default(), workspace, report);
        unit_tests(&others, workspace, report);
    }
    if !options.unit {
        run_scenarios(&chosen, &Rate::Daily, ready, workspace, report);
    }
    Ok(())
}

/// Runs what is too long for every day as phases of `report`.
pub(crate) fn soak(options: &SoakOptions, workspace: &Workspace, report: &mut Report) -> Result<()> {
    let Targets { scenarios, soaks, .. } = Targets::of(workspace);
    let chosen = chosen(&[soaks, scenarios].concat(), options.name.as_deref())?;
    let ready = setup::run(&setup::Options::default(), workspace, report);
    run_scenarios(&chosen, &Rate::Soak, ready, workspace, report);
    Ok(())
}

/// How often something runs.
enum Rate {
    Daily,
    Soak,
}

impl Rate {
    /// When a file of scenarios is taken to hang.
    fn seconds(&self) -> u32 {
        match self {
            Rate::Daily => SCENARIO_SECONDS,
            Rate::Soak => SOAK_SECONDS,
        }
    }
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

    fn is_soak(&self) -> bool {
        self.name.starts_with(SOAK)
    }

    /// What runs it; arguments are its own.
    fn command(&self) -> Command {
        cargo(&["test", "--quiet", "--package", &self.package, "--test", &self.name, "--"])
    }

    /// The name of what it is to run at a rate, where that is not all that it does by itself.
    fn filter(&self, rate: &Rate) -> Option<&'static str> {
        (matches!(rate, Rate::Soak) && !self.is_soak()).then_some(SOAK)
    }

    /// Tells whether there is anything in it to run at a rate; it has been built. What cannot be asked is run, and says why.
    fn has_some(&self, rate: &Rate) -> bool {
        let Some(filter) = self.filter(rate) else { return true };
        let listed = capture(self.command().arg("--list"));
        listed.map_or(true, |(status, names)| {
            !status.success() || names.lines().any(|name| name.starts_with(filter))
        })
    }

    fn is_called(&self, name: &str) -> bool {
        [SCENARIO, SOAK].iter().any(|kind| self.name.strip_prefix(kind) == Some(name)) || self.name == name
    }
}

/// All integration tests.
struct Targets {
    /// Those that need the lab.
    scenarios: Vec<Target>,
    /// Those that need the lab for long.
    soaks: Vec<Target>,
    others: Vec<Target>,
}

impl Targets {
    fn of(workspace: &Workspace) -> Targets {
        let of_crate = |krate: &Crate| {
            let package = krate.name.clone();
            krate.tests.clone().into_iter().map(move |name| Target { package: package.clone(), name })
        };
        let (soaks, rest): (Vec<Target>, Vec<Target>) =
            workspace.crates.iter().flat_map(of_crate).partition(Target::is_soak);
        let (scenarios, others) = rest.into_iter().partition(Target::is_scenario);
        Targets { scenarios, soaks, others }
    }
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

fn unit_tests(others: &[Target], workspace: &Workspace, report: &mut Report) {
    let named = others.iter().flat_map(|target| ["--test", &target.name]);
    let arguments: Vec<&str> = ["--workspace", "--lib", "--bins"].into_iter().chain(named).collect();
    let built = report.phase("build tests", || {
        run_command(cargo(&["test", "--no-run"]).args(&arguments))?;
        Ok(Findings::default())
    });
    if !built {
        return;
    }
    let mut phase = |name: &str, command: &mut Command| {
        report.phase(name, || follow_tests(name, command, workspace));
    };
    phase("unit tests", cargo(&["test", "--no-fail-fast"]).args(&arguments).args(["--", "--show-output"]));
    phase("doc tests", &mut cargo(&["test", "--no-fail-fast", "--doc", "--workspace"]));
}

/// Builds the release binaries as a phase of `report`; tells whether that went well.
pub(crate) fn build_release(report: &mut Report) -> bool {
    report.phase("release build", || {
        run_command(&mut cargo(&["build", "--release", "--workspace", "--exclude", "xtask"]))?;
        Ok(Findings::default())
    })
}

fn run_scenarios(chosen: &[Target], rate: &Rate, ready: bool, workspace: &Workspace, report: &mut Report) {
    if !ready {
        report.phase("scenarios", || Ok(Findings::skipped("the lab was not set up, see above")));
        return;
    }
    let built = build_release(report) && build_scenarios(chosen, report);
    if !built {
        report.phase("scenarios", || Ok(Findings::skipped("not everything was built, see above")));
        return;
    }
    let chosen: Vec<&Target> = chosen.iter().filter(|target| target.has_some(rate)).collect();
    let programs = workspace.target.join("release");
    let names: Vec<String> =
        chosen.iter().map(|Target { package, name }| format!("{package} {name}")).collect();
    report.side_by_side(lanes(), &names, |index| {
        let target = chosen[index];
        let mut test = target.command();
        // The lab takes the programs that it brings in from here, not from beside the test; and what it is missing
        // now, after the set-up, is a failure.
        test.env(PROGRAMS_VARIABLE, &programs).env(REQUIRED_VARIABLE, "1");
        test.env(RUNNER_VARIABLE, format!("{DEADLINE} {}", rate.seconds()));
        test.args(["--test-threads=1", "--nocapture"]).args(target.filter(rate));
        follow_tests(&target.name, &mut test, workspace)
    });
}

/// Builds all at once: cargo builds one at a time, and those that run side by side would wait for each other.
fn build_scenarios(chosen: &[Target], report: &mut Report) -> bool {
    report.phase("build scenarios", || {
        let named = chosen.iter().flat_map(|target| ["--test", &target.name]);
        run_command(cargo(&["test", "--no-run"]).args(named))?;
        Ok(Findings::default())
    })
}

/// How many files of scenarios this machine can run side by side.
fn lanes() -> usize {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    processors.min(lanes_in(&meminfo)).clamp(1, LANES)
}

/// How many the free memory is enough for, by the text of `/proc/meminfo`.
fn lanes_in(meminfo: &str) -> usize {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let free = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    free.map_or(1, |kib| usize::try_from(kib / MEMORY_A_LANE_KIB).unwrap_or(LANES))
}

/// Runs cargo's tests, keeps what they print in a log, shows their verdicts and counts them.
fn follow_tests(name: &str, command: &mut Command, workspace: &Workspace) -> Result<Findings> {
    let folder = workspace.target.join("test-logs");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let path = folder.join(format!("{}.log", name.replace(' ', "-")));
    let log = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    let mut outcome = Outcome::default();
    let watched = stderr().is_terminal();
    let status = follow(name, command, &mut LineWriter::new(log), |line| {
        let verdict = outcome.take(line);
        verdict && (watched || !line.starts_with("passed"))
    })?;
    let mut findings = outcome.findings(status.success());
    if !findings.problems.is_empty() {
        findings.problems.push(format!("all that was printed is in {}", path.display()));
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_is_found_by_either_name() {
        let target = |name: &str| Target { package: "vmm".into(), name: name.into() };
        let scenarios = ["lab_boot", "lab_reset", "soak_rounds", "scenarios"].map(target);
        let rows = [
            ("boot", "lab_boot"),
            ("lab_reset", "lab_reset"),
            ("rounds", "soak_rounds"),
            ("scenarios", "scenarios"),
        ];
        for (name, expected) in rows {
            assert_eq!(chosen(&scenarios, Some(name)).unwrap(), [target(expected)]);
        }
        assert_eq!(chosen(&scenarios, None).unwrap(), scenarios);
        let refusal = chosen(&scenarios, Some("boo")).unwrap_err().to_string();
        assert_eq!(
            refusal,
            "there is no scenario `boo`; there are: lab_boot, lab_reset, soak_rounds, scenarios"
        );
    }

    #[test]
    fn as_many_run_side_by_side_as_memory_is_enough_for() {
        let rows = [
            ("MemTotal: 99\nMemAvailable:   25165824 kB\n", 4),
            ("MemAvailable: 6291456 kB", 1),
            ("MemAvailable: 1 kB", 0),
            ("MemAvailable: many kB", 1),
            ("", 1),
        ];
        for (meminfo, expected) in rows {
            assert_eq!(lanes_in(meminfo), expected, "{meminfo:?}");
        }
    }
}
