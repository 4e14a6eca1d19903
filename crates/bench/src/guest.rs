//! A running machine whose guest does what its console is told, and the console's end on our side.
//!
//! The guest says [`READY`] once, then runs each line it reads as a shell does and says [`DONE`] with the status.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// What the guest says when it listens.
const READY: &str = "bench-guest ready";
/// What it says when a line has been carried out; its exit status follows.
const DONE: &str = "bench-guest done";
/// Lines that are kept to be shown when something goes wrong.
const TAIL: usize = 12;
/// Longest line that is kept.
const LINE_LIMIT: usize = 4096;
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
}

/// A running guest. Dropping it ends its machine.
#[derive(Debug)]
pub(crate) struct Guest {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    tail: Vec<String>,
}

impl Guest {
    /// Starts a machine.
    pub(crate) fn start(words: &[OsString]) -> Result<Self, GuestError> {
        let program = words.first().cloned().unwrap_or_default();
        let failed = |error| GuestError::Start { program: program.to_string_lossy().into_owned(), error };
        let mut command = Command::new(&program);
        command.args(words.iter().skip(1));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        let (sender, lines) = mpsc::channel();
        if let Some(output) = child.stdout.take() {
            let sender = sender.clone();
            thread::spawn(move || send_lines(output, &sender));
        }
        if let Some(errors) = child.stderr.take() {
            thread::spawn(move || send_lines(errors, &sender));
        }
        let input = child.stdin.take();
        Ok(Self { child, input, lines, tail: Vec::new() })
    }

    /// Waits until the guest listens.
    pub(crate) fn await_ready(&mut self, limit: Duration) -> Result<(), GuestError> {
        self.await_words(READY, limit).map(|_| ())
    }

    /// Has a line carried out; its end is to be awaited.
    pub(crate) fn begin(&mut self, line: &str) -> Result<(), GuestError> {
        let written = self.input.as_mut().map(|input| input.write_all(format!("{line}\n").as_bytes()));
        match written {
            Some(Ok(())) => Ok(()),
            _ => Err(GuestError::Ended { tail: self.tail.join("\n") }),
        }
    }

    /// Waits for the end of what was begun, and returns what was said meanwhile.
    pub(crate) fn finish(&mut self, limit: Duration) -> Result<Vec<String>, GuestError> {
        self.await_words(DONE, limit)
    }

    /// Powers the guest off and waits for its machine's end.
    pub(crate) fn power_off(mut self) -> Result<(), GuestError> {
        self.begin("poweroff -f")?;
        let begin = Instant::now();
        loop {
            // The console's end is the machine's.
            match self.lines.recv_timeout(OFF_LIMIT.saturating_sub(begin.elapsed())) {
                Ok(line) => keep(&mut self.tail, line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    let tail = self.tail.join("\n");
                    return Err(GuestError::Silent { awaited: "end of its machine", limit: OFF_LIMIT, tail });
                }
            }
        }
        // Both outputs are closed, so what is left of it is its exit.
        let _ = self.child.wait();
        Ok(())
    }

    fn await_words(&mut self, awaited: &'static str, limit: Duration) -> Result<Vec<String>, GuestError> {
        let begin = Instant::now();
        let mut said = Vec::new();
        loop {
            match self.lines.recv_timeout(limit.saturating_sub(begin.elapsed())) {
                Ok(line) => {
                    let reached = line.contains(awaited);
                    keep(&mut self.tail, line.clone());
                    keep_all(&mut said, line);
                    if reached {
                        return Ok(said);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    return Err(GuestError::Silent { awaited, limit, tail: self.tail.join("\n") });
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(GuestError::Ended { tail: self.tail.join("\n") });
                }
            }
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Killed unless it has ended; either way it is collected, and its devices are free for the next one.
        let _ = self.child.kill();
        let _ = self.child.wait();
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

/// Sends what comes line by line; a guest that never ends a line is cut.
fn send_lines(output: impl std::io::Read, sender: &mpsc::Sender<String>) {
    let mut reader = BufReader::new(output);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = std::io::Read::take(&mut reader, LINE_LIMIT as u64);
        match limited.read_until(b'\n', &mut line) {
            Ok(1..) => {}
            _ => return,
        }
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        if sender.send(text).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shell stands in for the machine: it speaks the same protocol on the same pipes.
    fn shell(script: &str) -> Guest {
        Guest::start(&["sh", "-c", script].map(OsString::from)).unwrap()
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
        let missing = Guest::start(&["no-such-program-anywhere".into()]);
        assert!(matches!(missing, Err(GuestError::Start { .. })));
    }
}
