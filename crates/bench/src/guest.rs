//! A running machine whose guest does what its console is told, and the console's end on our side.
//!
//! The guest says [`READY`] once, then runs each line it reads as a shell does and says [`DONE`] with the status.

use crate::child::{Child, Heard};
use std::ffi::OsString;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// What the guest says when it listens.
const READY: &str = "bench-guest ready";
/// What it says when a line has been carried out; its exit status follows.
const DONE: &str = "bench-guest done";
/// Lines that are kept to be shown when something goes wrong.
const TAIL: usize = 12;
/// How long a guest may take to power off before it is ended.
const OFF_LIMIT: Duration = Duration::from_secs(30);

/// Why a guest did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GuestError {
    /// Its machine cannot be started.
    #[error("cannot start `{program}`: {error}")]
    Start {
        /// The program.
        program: String,
        /// What came back.
        #[source]
        error: std::io::Error,
    },
    /// It is gone.
    #[error("the machine ended before its guest was done; it said last:\n{tail}")]
    Ended {
        /// The last lines of its console.
        tail: String,
    },
    /// It is silent.
    #[error("the guest said no `{awaited}` within {} s; it said last:\n{tail}", .limit.as_secs())]
    Silent {
        /// What was waited for.
        awaited: &'static str,
        /// How long.
        limit: Duration,
        /// The last lines of its console.
        tail: String,
    },
    /// We are asked to end, so nobody waits for it any more.
    #[error("interrupted")]
    Interrupted,
}

/// A running guest. Dropping it ends its machine.
#[derive(Debug)]
pub(crate) struct Guest<'a> {
    child: Child<'a>,
    tail: Vec<String>,
}

impl<'a> Guest<'a> {
    /// Starts a machine; waiting for its guest ends when `interrupt` becomes readable.
    pub(crate) fn start(words: &[OsString], interrupt: Option<BorrowedFd<'a>>) -> Result<Self, GuestError> {
        let program = || words.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
        let child = Child::start(words, interrupt)
            .map_err(|error| GuestError::Start { program: program(), error })?;
        Ok(Self { child, tail: Vec::new() })
    }

    /// Waits until the guest listens.
    pub(crate) fn await_ready(&mut self, limit: Duration) -> Result<(), GuestError> {
        self.await_words(READY, limit).map(|_| ())
    }

    /// Has a line carried out; its end is to be awaited.
    pub(crate) fn begin(&mut self, line: &str) -> Result<(), GuestError> {
        self.child.say(line).map_err(|_| GuestError::Ended { tail: self.tail.join("\n") })
    }

    /// Waits for the end of what was begun, and returns what was said meanwhile.
    pub(crate) fn finish(&mut self, limit: Duration) -> Result<Vec<String>, GuestError> {
        self.await_words(DONE, limit)
    }

    /// Powers the guest off and waits for its machine's end.
    pub(crate) fn power_off(mut self) -> Result<(), GuestError> {
        self.begin("poweroff -f")?;
        let deadline = Instant::now() + OFF_LIMIT;
        loop {
            // The console's end is the machine's.
            match self.child.next(deadline) {
                Heard::Line(line) => keep(&mut self.tail, line),
                Heard::End => break,
                Heard::Late => {
                    let tail = self.tail.join("\n");
                    return Err(GuestError::Silent { awaited: "end of its machine", limit: OFF_LIMIT, tail });
                }
                Heard::Interrupted => return Err(GuestError::Interrupted),
            }
        }
        // Both outputs are closed, so what is left of it is its exit.
        self.child.wait();
        Ok(())
    }

    fn await_words(&mut self, awaited: &'static str, limit: Duration) -> Result<Vec<String>, GuestError> {
        let deadline = Instant::now() + limit;
        let mut said = Vec::new();
        loop {
            match self.child.next(deadline) {
                Heard::Line(line) => {
                    let reached = line.contains(awaited);
                    keep(&mut self.tail, line.clone());
                    keep_all(&mut said, line);
                    if reached {
                        return Ok(said);
                    }
                }
                Heard::Late => {
                    return Err(GuestError::Silent { awaited, limit, tail: self.tail.join("\n") });
                }
                Heard::End => return Err(GuestError::Ended { tail: self.tail.join("\n") }),
                Heard::Interrupted => return Err(GuestError::Interrupted),
            }
        }
    }
}

/// Lines kept of one answer: workloads say a handful.
const ANSWER_LIMIT: usize = 1000;

fn keep_all(said: &mut Vec<String>, line: String) {
    if said.len() < ANSWER_LIMIT {
        said.push(line);
    }
}

fn keep(tail: &mut Vec<String>, line: String) {
    if tail.len() == TAIL {
        tail.remove(0);
    }
    tail.push(line);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shell stands in for the machine: it speaks the same protocol on the same pipes.
    fn shell(script: &str) -> Guest<'static> {
        Guest::start(&["sh", "-c", script].map(OsString::from), None).unwrap()
    }

    const SERVER: &str =
        "echo bench-guest ready; while read -r line; do eval \"$line\"; echo bench-guest done $?; done";
    const SOON: Duration = Duration::from_secs(10);

    #[test]
    fn a_guest_does_what_it_is_told() {
        let mut guest = shell(SERVER);
        guest.await_ready(SOON).unwrap();
        guest.begin("x=7; echo \"cpu: bench-figure $x\"").unwrap();
        assert_eq!(guest.finish(SOON).unwrap(), ["cpu: bench-figure 7", "bench-guest done 0"]);
        guest.begin("exit 3").unwrap();
        assert!(matches!(guest.finish(SOON), Err(GuestError::Ended { .. })));
    }

    #[test]
    fn a_silent_guest_and_one_that_ends_are_told_apart() {
        let mut silent = shell("echo starting; read -r forever");
        let error = silent.await_ready(Duration::from_millis(200)).unwrap_err();
        assert!(matches!(&error, GuestError::Silent { tail, .. } if tail == "starting"), "{error}");
        let mut ended = shell("echo no kernel >&2; exit 1");
        let error = ended.await_ready(SOON).unwrap_err();
        assert!(matches!(&error, GuestError::Ended { tail } if tail == "no kernel"), "{error}");
        let missing = Guest::start(&["no-such-program-anywhere".into()], None);
        assert!(matches!(missing, Err(GuestError::Start { .. })));
    }
}
