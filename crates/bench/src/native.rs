//! The host itself as a place to measure: a shell.

use crate::child::{Child, Heard};
use crate::engine;
use crate::journal::Figure;
use crate::leg::{Ground, Trouble};
use crate::ready;
use crate::seats::Seat;
use crate::workload::{Measure, Workload};
use std::ffi::OsString;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a round may take beyond what it is asked for: it may wait for three drivers first, half a minute for each.
const ROUND_GRACE: Duration = Duration::from_secs(150);
/// How long putting right what a round left may take.
const UNDO_LIMIT: Duration = Duration::from_secs(60);

/// The host with the devices and on the processors of the first seat.
pub(crate) struct Native<'a> {
    pub(crate) measure: Measure,
    pub(crate) seat: &'a Seat<'a>,
    /// The program `allod`. What is beside it is found by workloads too.
    pub(crate) allod: &'a Path,
    /// Readable as soon as we are asked to end.
    pub(crate) interrupt: Option<BorrowedFd<'a>>,
}

impl Ground for Native<'_> {
    fn start(&mut self) -> Result<(), Trouble> {
        Ok(())
    }

    fn measure(&mut self, workload: &Workload) -> Result<Vec<Figure>, Trouble> {
        let setup = self.seat.devices.native_setup(self.measure);
        let limit = self.measure.longest() + ROUND_GRACE;
        let said = self.shell(&format!("{setup}; {}", workload.line()), limit, self.interrupt);
        if let (Err(_), Some(undo)) = (&said, self.seat.devices.native_undo(self.measure)) {
            // The next round tries the same, and says what is wrong with it.
            let _ = self.shell(&undo, UNDO_LIMIT, None);
        }
        let figure = workload.figure(&said?, "on the host")?;
        Ok(vec![Figure { seat: None, figure }])
    }
}

impl Native<'_> {
    /// Returns the program and the arguments that run a line for a POSIX shell.
    fn words(&self, line: &str) -> Vec<OsString> {
        let mut words = engine::held(self.seat.plan);
        words.push("env".into());
        // A folder with a colon in its name cannot be told: then it is the others that are.
        if let Ok(folders) = std::env::join_paths(ready::program_folders(self.allod)) {
            let mut path = OsString::from("PATH=");
            path.push(folders);
            words.push(path);
        }
        words.extend(["sh", "-c", line].map(OsString::from));
        words
    }

    /// Runs a line for a POSIX shell and returns what it said on both outputs, line by line.
    fn shell(
        &self,
        line: &str,
        limit: Duration,
        interrupt: Option<BorrowedFd>,
    ) -> Result<Vec<String>, Trouble> {
        let failed = |why| Trouble::Failed { why, lost: false };
        let mut child = Child::start(&self.words(line), interrupt)
            .map_err(|error| failed(format!("cannot run a shell: {error}")))?;
        let deadline = Instant::now() + limit;
        let mut said = Vec::new();
        loop {
            match child.next(deadline) {
                Heard::Line(line) => said.push(line),
                Heard::End => break,
                Heard::Late => {
                    let limit = limit.as_secs();
                    return Err(failed(format!(
                        "not done on the host within {limit} s; it said:\n{}",
                        said.join("\n")
                    )));
                }
                Heard::Interrupted => return Err(Trouble::Interrupted),
            }
        }
        child.wait();
        Ok(said)
    }
}
