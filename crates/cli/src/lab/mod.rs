//! `allod lab`: the virtual host. One file per verb below.

mod build;
mod down;
mod guest;
mod key;
mod profiles;
mod pull;
mod run;
mod screenshot;
mod shell;
mod start;
mod streams;
mod up;

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
    2  the request makes no sense: unknown option, profile, card or host
  120  the lab could not be set up: no image, a tool is missing
  121  the emulator died
  122  the host's kernel panicked
  123  the emulated host hung, twice when it was started for the command
  124  the command took longer than --timeout
  125  the host powered off or rebooted before the command was over
  127  the command could not be started inside the host
The kernel's console goes to a file, not to the terminal; its end is shown with each of 121 to 125.";

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Build the lab image, if the cache has none.
    Build(build::Arguments),
    /// Write the guest that `allod bench` measures in on a host that is no lab.
    Guest(guest::Arguments),
    /// List the hosts there are to start, with their cards.
    Profiles(profiles::Arguments),
    /// Boot a host, run a command in it, end the host.
    Run(run::Arguments),
    /// Boot a host that stays up.
    Up(up::Arguments),
    /// Open a shell, or run a command, in the host that is up.
    Shell(shell::Arguments),
    /// End the host that is up.
    Down(down::Arguments),
    /// Write what a graphics card of the host that is up shows as a PNG file.
    Screenshot(screenshot::Arguments),
    /// Press keys on a keyboard of the host that is up.
    Key(key::Arguments),
    /// Pull a card out of the host that is up, without asking it first.
    Pull(pull::Arguments),
}

/// Names the standing host a verb acts on.
#[derive(Debug, clap::Args)]
pub(crate) struct HostName {
    /// Which host that is up, when there are several.
    #[arg(long, value_name = "NAME", default_value = lab::standing::DEFAULT_NAME)]
    host: String,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let result = match &arguments.verb {
        Verb::Build(arguments) => build::run(arguments),
        Verb::Guest(arguments) => guest::run(arguments),
        Verb::Profiles(arguments) => profiles::run(arguments),
        Verb::Run(arguments) => run::run(arguments),
        Verb::Up(arguments) => up::run(arguments),
        Verb::Shell(arguments) => shell::run(arguments),
        Verb::Down(arguments) => down::run(arguments),
        Verb::Screenshot(arguments) => screenshot::run(arguments),
        Verb::Key(arguments) => key::run(arguments),
        Verb::Pull(arguments) => pull::run(arguments),
    };
    result.unwrap_or_else(|failure| {
        eprintln!("allod lab: {failure}");
        ExitCode::from(status_of(&failure))
    })
}

/// Returns the exit status that stands for a failure of the lab.
fn status_of(failure: &Failure) -> u8 {
    match failure {
        Failure::Request(_) | Failure::Profile(_) => USAGE,
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
