//! `allod kill`: ends seats at once.

use std::process::ExitCode;

use spec::SeatRequest;

use crate::{answer, down};

/// End seats at once, as pulling the plug does; their devices go back to their drivers.
///
/// Exit status: as `allod down`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The seats
    #[arg(value_name = "NAME", required = true)]
    seats: Vec<String>,
    /// What happens as JSON, one event a line
    #[arg(long)]
    json: bool,
}

/// Ends the seats.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    answer::exit(down::end(Some(&arguments.seats), SeatRequest::Kill, arguments.json))
}
