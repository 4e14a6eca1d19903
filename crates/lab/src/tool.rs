//! Runs the programs the image builder leans on (mmdebstrap, mke2fs, xz, ...) and says plainly what failed.
//!
//! Not the way commands are run inside the lab: that is [`crate::wire`].

use std::io;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Lines of a failed program's own words that are kept for the message.
const TAIL_LINES: usize = 15;

/// A program on the user's machine that did not do its part.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It is not installed, or cannot be started.
    #[error("cannot start `{program}`: {cause}; `cargo xtask setup` installs what the lab needs")]
    Start {
        /// What was to be started.
        program: String,
        /// The system's reason.
        cause: io::Error,
    },
    /// It ran and failed.
    #[error("`{program}` failed ({status}):\n{tail}")]
    Failed {
        /// What was run.
        program: String,
        /// Its exit status in words.
        status: String,
        /// The end of what it wrote on standard error.
        tail: String,
    },
}

/// Runs `command` to its end, with nothing on standard input, and returns its standard output.
pub fn run(command: &mut Command) -> Result<Vec<u8>, ToolError> {
    let output = command.stdin(Stdio::null()).output().map_err(|cause| start_error(command, cause))?;
    check(command, &output)?;
    Ok(output.stdout)
}

/// Says whether a program of that name is found in `PATH` or in the system folders left out of a user's `PATH`.
pub fn is_installed(program: &str) -> bool {
    find(program).is_some()
}

/// Finds a program in `PATH`, then in the system folders (mke2fs lives in /usr/sbin, which users lack).
pub fn find(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(Into::into);
    std::env::split_paths(&path).chain(system).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// Prepares a program by name, looked up as [`find`] does.
pub fn command(program: &str) -> Command {
    Command::new(find(program).unwrap_or_else(|| Path::new(program).to_owned()))
}

pub(crate) fn check(command: &Command, output: &Output) -> Result<(), ToolError> {
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text.lines().collect();
    Err(ToolError::Failed {
        program: name_of(command),
        status: output.status.to_string(),
        tail: lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n"),
    })
}

pub(crate) fn start_error(command: &Command, cause: io::Error) -> ToolError {
    ToolError::Start { program: name_of(command), cause }
}

fn name_of(command: &Command) -> String {
    Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned()
}
