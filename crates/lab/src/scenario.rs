//! Runs scenarios: checks that need a virtual host, several of which may share one boot.
//!
//! A scenario is a function that is given a running host. It panics (by an assertion) when what it tests is
//! wrong, and hands on the lab's own failures with `?`. A host whose kernel has complained meanwhile fails it, too. A hung
//! emulator is no word about what is tested: the scenario is tried once more, and that is counted and printed. A lab that
//! cannot be had, or a program that is not built, is a skip that says so aloud; with `ALLOD_LAB_REQUIRED` set it is a
//! failure. Test targets with `harness = false` hand their list to [`run_all`].
//!
//! A scenario whose name begins with `soak_` is too long for every day, or another hardware's variant of one that is not: it
//! runs only when it is asked for by name.

use crate::failure::Failure;
use crate::host::Host;
use crate::image::Image;
use crate::profile::Profile;
use crate::start::{Lab, programs_folder};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// Turns skips into failures.
pub const REQUIRED_VARIABLE: &str = "ALLOD_LAB_REQUIRED";

/// How the name of a scenario begins, or of a file of scenarios, that does not run every day.
pub const SOAK: &str = "soak_";

/// A check that needs a virtual host.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// What is expected, as a test is named.
    pub name: &'static str,
    /// The hardware it needs: the name of a profile.
    pub profile: &'static str,
    /// Programs of ours that it uses inside the host.
    pub programs: &'static [&'static str],
    /// Whether others may use the same host before and after.
    pub boot: Boot,
    /// The check itself.
    pub check: Check,
}

/// Which boot a scenario wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boot {
    /// One shared with the other scenarios of the same profile, for checks that leave no trace.
    Shared,
    /// One of its own.
    Own,
}

/// The body of a scenario.
#[derive(Debug, Clone, Copy)]
pub enum Check {
    /// Looks at a host that stays.
    Inside(fn(&Host) -> Result<(), Failure>),
    /// Is given the host for good, and may break it.
    ToTheEnd(fn(Host) -> Result<(), Failure>),
}

/// What most scenarios are: a check of machines, in a host that it leaves as it was to those with the same profile.
pub const fn shared(
    name: &'static str,
    profile: &'static str,
    check: fn(&Host) -> Result<(), Failure>,
) -> Scenario {
    let programs = &["allod", "allod-vmm"];
    Scenario { name, profile, programs, boot: Boot::Shared, check: Check::Inside(check) }
}

/// What became of a scenario.
enum Verdict {
    Passed,
    Failed(String),
    /// The host's kernel found a fault of its own.
    Complained(String),
}

/// Counts of a whole run.
#[derive(Debug, Default)]
struct Tally {
    passed: usize,
    failed: Vec<&'static str>,
    skipped: Vec<&'static str>,
    hangs: usize,
    shared: BTreeMap<&'static str, Host>,
}

/// Runs the scenarios whose names contain one of the words on the command line (all but the soaks if there is none), one
/// after the other, and returns success when none failed.
pub fn run_all(scenarios: &[Scenario]) -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "--list") {
        // What test runners ask a target for.
        for scenario in scenarios {
            println!("{}: test", scenario.name);
        }
        return ExitCode::SUCCESS;
    }
    let filters: Vec<&String> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let mut chosen = chosen(scenarios, &filters);
    // Neighbours share a boot, and the host can be let go after the last of them.
    chosen.sort_by_key(|scenario| scenario.profile);

    let mut tally = Tally::default();
    for (number, scenario) in chosen.iter().enumerate() {
        run_one(scenario, &mut tally);
        if chosen.get(number + 1).is_none_or(|next| next.profile != scenario.profile) {
            tally.shared.clear();
        }
    }
    println!(
        "\nscenarios: {} passed, {} failed, {} skipped; hung emulators forgiven: {}",
        tally.passed,
        tally.failed.len(),
        tally.skipped.len(),
        tally.hangs
    );
    for name in &tally.skipped {
        println!("    SKIPPED {name}");
    }
    for name in &tally.failed {
        println!("    FAILED  {name}");
    }
    if tally.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Those that the words on the command line ask for.
fn chosen<'a>(scenarios: &'a [Scenario], words: &[&String]) -> Vec<&'a Scenario> {
    let wanted = |scenario: &&Scenario| {
        let soak = scenario.name.starts_with(SOAK);
        words.is_empty() && !soak || words.iter().any(|word| scenario.name.contains(word.as_str()))
    };
    scenarios.iter().filter(wanted).collect()
}

fn run_one(scenario: &Scenario, tally: &mut Tally) {
    if let Some(lack) = lack_of(scenario) {
        if std::env::var_os(REQUIRED_VARIABLE).is_some() {
            println!("FAILED  {}: {lack}", scenario.name);
            tally.failed.push(scenario.name);
        } else {
            println!("SKIPPED {}: {lack}", scenario.name);
            tally.skipped.push(scenario.name);
        }
        return;
    }
    let begin = Instant::now();
    let mut result = attempt(scenario, tally);
    if result.as_ref().is_err_and(Failure::is_hang) {
        tally.hangs += 1;
        println!("HUNG    {} (the emulator, not what is tested); trying once more", scenario.name);
        tally.shared.remove(scenario.profile);
        result = attempt(scenario, tally);
    }
    let seconds = begin.elapsed().as_secs_f32();
    match result {
        Ok(Verdict::Passed) => {
            println!("passed  {} ({seconds:.1} s)", scenario.name);
            tally.passed += 1;
        }
        Ok(Verdict::Failed(why)) => {
            println!("FAILED  {} ({seconds:.1} s): {why}", scenario.name);
            tally.failed.push(scenario.name);
        }
        Ok(Verdict::Complained(words)) => {
            println!("FAILED  {} ({seconds:.1} s): the host's kernel complained:\n{words}", scenario.name);
            tally.failed.push(scenario.name);
            // It would complain for all that follow.
            tally.shared.remove(scenario.profile);
        }
        Err(failure) => {
            println!("FAILED  {} ({seconds:.1} s): {failure}", scenario.name);
            tally.failed.push(scenario.name);
            // Whatever is wrong with the host, the next one gets another.
            tally.shared.remove(scenario.profile);
        }
    }
}

fn attempt(scenario: &Scenario, tally: &mut Tally) -> Result<Verdict, Failure> {
    match (scenario.check, scenario.boot) {
        (Check::Inside(check), Boot::Shared) => {
            if !tally.shared.contains_key(scenario.profile) {
                tally.shared.insert(scenario.profile, boot(scenario.profile)?);
            }
            let Some(host) = tally.shared.get(scenario.profile) else { return Ok(Verdict::Passed) };
            looked_after(host, check)
        }
        (Check::Inside(check), Boot::Own) => looked_after(&boot(scenario.profile)?, check),
        (Check::ToTheEnd(check), _) => {
            let host = boot(scenario.profile)?;
            guarded(|| check(host))
        }
    }
}

fn boot(profile: &str) -> Result<Host, Failure> {
    Lab::new(Profile::named(profile)?).boot(&|step| println!("        {step}"))
}

/// Lets a scenario check a host, and looks whether that has made its kernel complain.
fn looked_after(host: &Host, check: fn(&Host) -> Result<(), Failure>) -> Result<Verdict, Failure> {
    let verdict = guarded(|| check(host))?;
    Ok(match host.complaint()? {
        // What else is wrong has been printed already.
        Some(words) => Verdict::Complained(words),
        None => verdict,
    })
}

/// Turns a failed assertion into a verdict; the panic's own message has been printed already.
fn guarded(check: impl FnOnce() -> Result<(), Failure>) -> Result<Verdict, Failure> {
    match catch_unwind(AssertUnwindSafe(check)) {
        Ok(result) => result.map(|()| Verdict::Passed),
        Err(payload) => {
            let text = payload.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("panicked");
            Ok(Verdict::Failed(text.to_owned()))
        }
    }
}

/// Says what the scenario lacks on this machine, if anything.
fn lack_of(scenario: &Scenario) -> Option<String> {
    if let Err(error) = Image::ready(&|step| println!("        {step}")) {
        return Some(format!("no lab image: {error}"));
    }
    let folder: PathBuf = match programs_folder() {
        Ok(folder) => folder,
        Err(failure) => return Some(failure.to_string()),
    };
    let missing: Vec<&str> =
        scenario.programs.iter().copied().filter(|program| !folder.join(program).is_file()).collect();
    (!missing.is_empty()).then(|| format!("not built: {} (in {})", missing.join(", "), folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_soak_runs_only_when_it_is_asked_for() {
        let scenario = |name| Scenario {
            name,
            profile: "plain",
            programs: &[],
            boot: Boot::Shared,
            check: Check::Inside(|_| Ok(())),
        };
        let scenarios = ["a_disk", "soak_a_hundred_disks", "a_card"].map(scenario);
        let rows: [(&[&str], &[&str]); 5] = [
            (&[], &["a_disk", "a_card"]),
            (&["soak_"], &["soak_a_hundred_disks"]),
            (&["disk"], &["a_disk", "soak_a_hundred_disks"]),
            (&["card", "hundred"], &["soak_a_hundred_disks", "a_card"]),
            (&["nothing"], &[]),
        ];
        for (words, expected) in rows {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            let found = chosen(&scenarios, &words.iter().collect::<Vec<_>>());
            assert_eq!(found.iter().map(|scenario| scenario.name).collect::<Vec<_>>(), expected, "{words:?}");
        }
    }
}
