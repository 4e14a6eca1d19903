//! How the verbs for seats end: one exit status for each kind of outcome, the same for all of them.

use std::io::ErrorKind;
use std::process::ExitCode;

/// What did not work, as the exit status tells it.
#[derive(Debug)]
pub(crate) struct Failed {
    code: u8,
    message: String,
}

impl Failed {
    /// Something went wrong, or was refused.
    pub(crate) fn new(message: impl ToString) -> Self {
        Self { code: 1, message: message.to_string() }
    }

    /// The command line or a file named there makes no sense.
    pub(crate) fn usage(message: impl ToString) -> Self {
        Self { code: 2, message: message.to_string() }
    }

    /// The seat is known and does not run.
    pub(crate) fn not_running(name: &str) -> Self {
        Self {
            code: 3,
            message: format!("seat `{name}` does not run; `allod show {name}` tells how it ended"),
        }
    }

    /// There is no such seat.
    pub(crate) fn not_found(name: &str) -> Self {
        Self { code: 4, message: format!("there is no seat `{name}`; `allod ps` lists those that run") }
    }

    /// This user may not.
    pub(crate) fn not_permitted(what: &str) -> Self {
        Self { code: 5, message: format!("{what} needs root; try `sudo allod ...`") }
    }

    /// Something else has it.
    pub(crate) fn conflict(message: impl ToString) -> Self {
        Self { code: 6, message: message.to_string() }
    }

    /// An error of the file system or a socket.
    pub(crate) fn io(what: &str, error: &std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::PermissionDenied => Self::not_permitted(what),
            _ => Self::new(format!("{what}: {error}")),
        }
    }
}

/// Prints what did not work and makes the exit status.
pub(crate) fn exit(outcome: Result<(), Failed>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed { code, message }) => {
            if !message.is_empty() {
                eprintln!("allod: {}", message.trim_end());
            }
            ExitCode::from(code)
        }
    }
}

/// Fails unless this is root.
pub(crate) fn need_root(what: &str) -> Result<(), Failed> {
    if rustix::process::geteuid().is_root() { Ok(()) } else { Err(Failed::not_permitted(what)) }
}
