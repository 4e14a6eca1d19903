//! The host itself as a place to measure: a shell.

use crate::devices::Devices;
use crate::journal::Figure;
use crate::leg::{Ground, Trouble};
use crate::workload::{Measure, Workload};
use std::process::{Command, Stdio};

/// The host with the devices of the first seat.
pub(crate) struct Native<'a> {
    pub(crate) measure: Measure,
    pub(crate) devices: &'a Devices,
}

impl Ground for Native<'_> {
    fn start(&mut self) -> Result<(), Trouble> {
        Ok(())
    }

    fn measure(&mut self, workload: &Workload) -> Result<Vec<Figure>, Trouble> {
        let setup = self.devices.native_setup(self.measure);
        let said = shell(&format!("{setup}; {}", workload.line()))
            .map_err(|error| Trouble { why: format!("cannot run a shell: {error}"), lost: false })?;
        let figure = workload.figure(&said, "on the host")?;
        Ok(vec![Figure { seat: None, figure }])
    }
}

/// Runs a line for a POSIX shell and returns what it said on both outputs, line by line.
fn shell(line: &str) -> Result<Vec<String>, std::io::Error> {
    let output = Command::new("sh").args(["-c", line]).stdin(Stdio::null()).output()?;
    let said = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&said).lines().map(str::to_owned).collect())
}
