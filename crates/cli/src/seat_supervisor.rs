//! `allod seat-supervisor`: the process that looks after one seat; started by `allod up`, not by people.

use std::io::Write;
use std::os::fd::AsFd;
use std::process::ExitCode;

use seat::supervisor::{self, SuperviseError};
use spec::SeatEvent;

/// Look after one seat; the order comes on standard input.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

/// The verb, for those who start it.
pub(crate) const VERB: &str = "seat-supervisor";

/// Looks after the seat until it is over.
pub(crate) fn run(_: &Arguments) -> ExitCode {
    let (input, output) = (std::io::stdin(), std::io::stdout());
    let ends = input.as_fd().try_clone_to_owned().and_then(|input| {
        let output = output.as_fd().try_clone_to_owned()?;
        Ok((input, output))
    });
    let (input, told) = match ends {
        Ok(ends) => ends,
        Err(error) => {
            eprintln!("allod: {error}");
            return ExitCode::FAILURE;
        }
    };
    match supervisor::supervise(input, told) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let runs = matches!(error, SuperviseError::Runs(_));
            let event = SeatEvent::Refused { message: error.to_string(), runs };
            let line = serde_json::to_string(&event).unwrap_or_default() + "\n";
            // Without a starter that reads, it is in the log.
            let _ = output.lock().write_all(line.as_bytes());
            eprintln!("allod: {error}");
            ExitCode::FAILURE
        }
    }
}
