//! `allod lab`: the virtual host. One file per verb below.

mod build;
mod run;

use clap::Subcommand;
use lab::Failure;
use std::process::ExitCode;

/// Exit status for a wrong command line, as clap gives it.
const USAGE: u8 = 2;
/// Exit statuses of the lab itself, apart from those a command inside commonly has.
const LAB_FAILED: u8 = 120;
const EMULATOR_DIED: u8 = 121;
const PANICKED: u8 = 122;
const HUNG: u8 = 123;
const TIMED_OUT: u8 = 124;
const POWERED_OFF: u8 = 125;
const NOT_STARTED: u8 = 127;

/// Printed below the help of every verb that runs commands.
const EXIT_STATUS_HELP: &str = "\
Exit status:
  the command's own (128 and the number of the signal that ended it), or
    2  the command line of `allod lab` itself is wrong
  120  the lab could not be set up: no image, no such profile, a tool is missing
  121  the emulator died
  122  the host's kernel panicked
  123  the emulated host hung, twice when it was started for the command
  124  the command took longer than --timeout
  125  the host powered off or rebooted before the command was over
  127  the command could not be started inside the host
The kernel's console is kept in a file; its end is shown with each of 121 to 125.";

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Build the lab image, if the cache has none.
    Build(build::Arguments),
    /// Boot a host, run a command in it, end the host.
    Run(run::Arguments),
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let result = match &arguments.verb {
        Verb::Build(arguments) => build::run(arguments),
        Verb::Run(arguments) => run::run(arguments),
    };
    result.unwrap_or_else(|failure| {
        eprintln!("allod lab: {failure}");
        ExitCode::from(status_of(&failure))
    })
}

/// Returns the exit status that stands for a failure of the lab.
fn status_of(failure: &Failure) -> u8 {
    match failure {
        Failure::Request(_) => USAGE,
        Failure::EmulatorDied { .. } => EMULATOR_DIED,
        Failure::Panic { .. } => PANICKED,
        Failure::Hang { .. } => HUNG,
        Failure::TimedOut { .. } => TIMED_OUT,
        Failure::PoweredOff { .. } => POWERED_OFF,
        Failure::NotStarted { .. } => NOT_STARTED,
        _ => LAB_FAILED,
    }
}

/// Tells the user about a step, on standard error: standard output belongs to the command inside.
fn progress(step: &str) {
    eprintln!("lab: {step}");
}
