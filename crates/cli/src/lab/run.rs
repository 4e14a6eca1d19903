//! `allod lab run`: boots a host for one command.

use super::start::{StartOptions, print_timeline};
use super::{EXIT_STATUS_HELP, progress, streams};
use lab::Failure;
use lab::wire::Request;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_STATUS_HELP)]
pub(crate) struct Arguments {
    #[command(flatten)]
    start: StartOptions,
    /// Seconds the command may take once the host is up.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,
    /// Hand standard input on to the command; else it gets an empty one.
    #[arg(long, short)]
    input: bool,
    /// The command; a single word is a shell command line.
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    match once(arguments) {
        // Input that was read once cannot be given twice.
        Err(failure) if failure.is_hang() && !arguments.input => {
            eprintln!("allod lab: {failure}");
            progress("the emulator hung (1 of 1 times it may); trying once more");
            once(arguments)
        }
        result => result,
    }
}

fn once(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let host = arguments.start.lab()?.boot(&progress)?;
    if arguments.start.verbose {
        print_timeline(host.timeline());
    }
    let request = Request {
        command: streams::words(&arguments.command),
        open_input: arguments.input,
        ..Request::default()
    };
    streams::join(&host, &request, Duration::from_secs(arguments.timeout))
}
