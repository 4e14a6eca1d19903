//! The host itself as a place to measure: a shell.

use std::process::{Command, Stdio};

/// Runs a line for a POSIX shell and returns what it said on both outputs, line by line.
pub(crate) fn run(line: &str) -> Result<Vec<String>, std::io::Error> {
    let output = Command::new("sh").args(["-c", line]).stdin(Stdio::null()).output()?;
    let said = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&said).lines().map(str::to_owned).collect())
}
