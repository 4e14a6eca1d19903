//! `allod lab shell`: a terminal, or a command, in the host that is up.

use super::{EXIT_STATUS_HELP, HostName, streams};
use lab::Failure;
use lab::wire::Request;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::stdin;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_STATUS_HELP)]
pub(crate) struct Arguments {
    #[command(flatten)]
    name: HostName,
    /// Seconds the command may take; without limit if not given.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// The command instead of a shell; a single word is a shell command line.
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let host = lab::standing::attach(&arguments.name.host)?;
    let limit = arguments.timeout.map_or(Duration::MAX, Duration::from_secs);
    let mut request = Request { open_input: true, ..Request::default() };
    if arguments.command.is_empty() {
        request.command = vec!["bash".to_owned(), "--login".to_owned()];
    } else {
        request.command = streams::words(&arguments.command);
    }
    let size = tcgetwinsize(stdin()).ok().filter(|_| arguments.command.is_empty() && isatty(stdin()));
    let Some(size) = size else {
        return streams::join(&host, &request, limit);
    };
    request.terminal = Some((size.ws_col, size.ws_row));
    let terminal = std::env::var("TERM").unwrap_or_else(|_| "linux".to_owned());
    request.environment.push(("TERM".to_owned(), terminal));
    let _raw = Raw::enter();
    streams::join(&host, &request, limit)
}

/// The terminal with all keys going to the host; dropping it gives the old mode back.
struct Raw {
    before: Option<Termios>,
}

impl Raw {
    fn enter() -> Self {
        let before = tcgetattr(stdin()).ok();
        if let Some(mut mode) = before.clone() {
            mode.make_raw();
            // A terminal that refuses stays as it is: usable, if clumsy.
            let _ = tcsetattr(stdin(), OptionalActions::Flush, &mode);
        }
        Self { before }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(stdin(), OptionalActions::Flush, before);
        }
    }
}
