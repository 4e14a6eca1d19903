//! Starting seats: a supervisor for each, which stays only if it is told so.
//!
//! Not here: what a supervisor does (`supervisor`), and planning. `allod up` is the caller.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use linux::event::Signals;
use spec::SeatOrder;

use crate::lines::Lines;
pub use crate::lines::Next;
use crate::places::Places;
use crate::supervisor::STAY;

/// A supervisor could not be started.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {error}")]
pub struct StartError {
    what: String,
    /// What came back.
    #[source]
    pub error: std::io::Error,
}

/// A seat on its way up: given up when this is dropped before [`Starting::stay`].
#[derive(Debug)]
pub struct Starting {
    child: Child,
    input: Option<ChildStdin>,
    lines: Lines,
}

/// Starts the supervisor of one seat: `program verb`, with the order on its standard input.
///
/// # Errors
/// The process cannot be started, or its log not be written.
pub fn start(order: &SeatOrder, program: &Path, verb: &str) -> Result<Starting, StartError> {
    let failed = |what: String| move |error| StartError { what, error };
    let places = Places { run: order.run.clone(), state: order.state.clone() }.seat(&order.seat);
    let mut builder = std::fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(places.kept());
    made.map_err(failed(format!("make the folder {}", places.kept().display())))?;
    let path = places.supervisor_log();
    let mut options = OpenOptions::new();
    let log = options.write(true).create(true).truncate(true).mode(0o600).open(&path);
    let log = log.map_err(failed(format!("write the log {}", path.display())))?;
    let mut child = Command::new(program)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .current_dir("/")
        .spawn()
        .map_err(failed(format!("start {}", program.display())))?;
    let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(failed("start the supervisor".to_owned())(std::io::Error::other("it has no pipes")));
    };
    let line = serde_json::to_string(order)
        .map_err(std::io::Error::other)
        .map_err(failed("write the order".into()))?;
    // One that is gone by now has left its reason on its output.
    let _ = input.write_all(line.as_bytes()).and_then(|()| input.write_all(b"\n"));
    Ok(Starting { child, input: Some(input), lines: Lines::new(output.into()) })
}

impl Starting {
    /// Waits for what happens next.
    pub fn next(&mut self, signals: Option<&Signals>) -> Next {
        self.lines.next(signals)
    }

    /// Tells the seat to go on without this process.
    pub fn stay(mut self) {
        if let Some(mut input) = self.input.take() {
            // A supervisor that is gone has nothing to stay with.
            let _ = input.write_all(STAY);
        }
    }

    /// Gives the start up: the seat ends and gives back what it has. Its events tell of that.
    pub fn give_up(&mut self) {
        self.input = None;
    }

    /// Waits until the supervisor is gone.
    pub fn wait(mut self) {
        self.input = None;
        // Its status says nothing that its events have not.
        let _ = self.child.wait();
    }
}
