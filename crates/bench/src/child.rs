//! A child process that is heard line by line, until a deadline or until we are asked to end.
//!
//! It is a process group of its own: Ctrl-C at a terminal is for us, who end it in our own time, with all it has started.
//! Not here: what its lines mean. [`crate::guest`] and [`crate::native`] call this.

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, Signal, kill_process_group};
use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{self, ChildStdin, Command, Stdio};
use std::time::Instant;

/// Longest line that is kept; one that goes on is cut.
const LINE_LIMIT: usize = 4096;
/// How much is read at once.
const CHUNK: usize = 4096;

/// What comes next of a child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// A line of one of its outputs.
    Line(String),
    /// All its outputs are closed: it has ended, or is about to.
    End,
    /// Nothing until the deadline.
    Late,
    /// We are asked to end.
    Interrupted,
}

/// A running child. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Child<'a> {
    child: process::Child,
    input: Option<ChildStdin>,
    outputs: Vec<Output>,
    lines: VecDeque<String>,
    /// Readable as soon as we are asked to end, and from then on.
    interrupt: Option<BorrowedFd<'a>>,
}

#[derive(Debug)]
struct Output {
    pipe: OwnedFd,
    /// What no line's end has come for.
    begun: Vec<u8>,
}

impl<'a> Child<'a> {
    /// Starts a program, its first word, with the others.
    pub(crate) fn start(words: &[OsString], interrupt: Option<BorrowedFd<'a>>) -> io::Result<Self> {
        let mut command = Command::new(words.first().cloned().unwrap_or_default());
        command.args(words.iter().skip(1)).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let pipes = [child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from)];
        let outputs = pipes.into_iter().flatten().map(|pipe| Output { pipe, begun: Vec::new() }).collect();
        let input = child.stdin.take();
        Ok(Self { child, input, outputs, lines: VecDeque::new(), interrupt })
    }

    /// Writes a line to its input.
    pub(crate) fn say(&mut self, line: &str) -> io::Result<()> {
        let input = self.input.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        input.write_all(format!("{line}\n").as_bytes())
    }

    /// Waits for what comes next.
    pub(crate) fn next(&mut self, deadline: Instant) -> Heard {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Heard::Line(line);
            }
            if self.outputs.is_empty() {
                return Heard::End;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Heard::Late;
            }
            let mut polled: Vec<PollFd> =
                self.outputs.iter().map(|output| PollFd::new(&output.pipe, PollFlags::IN)).collect();
            polled.extend(self.interrupt.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
            // A limit that is no time of the kernel's is none.
            let left = Timespec::try_from(left).ok();
            // A call that was broken off is made again.
            let _ = rustix::event::poll(&mut polled, left.as_ref());
            let ready: Vec<bool> = polled.iter().map(|fd| !fd.revents().is_empty()).collect();
            // It stands behind the outputs, and goes before what they say.
            if self.interrupt.is_some() && ready.last() == Some(&true) {
                return Heard::Interrupted;
            }
            self.read(&ready);
        }
    }

    /// Waits for its exit, once its outputs are closed.
    pub(crate) fn wait(mut self) {
        // Whatever its status is, there is nobody to tell.
        let _ = self.child.wait();
    }

    /// Takes in what is there of the outputs that are ready, and lets go of those that are closed.
    fn read(&mut self, ready: &[bool]) {
        let Self { outputs, lines, .. } = self;
        let mut ready = ready.iter();
        outputs.retain_mut(|output| ready.next() != Some(&true) || output.read(lines));
    }
}

impl Output {
    /// Takes in what is there; says whether more may come.
    fn read(&mut self, lines: &mut VecDeque<String>) -> bool {
        let mut buffer = [0; CHUNK];
        let open = match rustix::io::read(&self.pipe, &mut buffer) {
            Ok(length @ 1..) => {
                self.begun.extend_from_slice(buffer.get(..length).unwrap_or_default());
                true
            }
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => true,
            _ => false,
        };
        let mut line = |bytes: &[u8]| lines.push_back(String::from_utf8_lossy(bytes).trim_end().to_owned());
        while let Some(end) = self.begun.iter().position(|byte| *byte == b'\n') {
            let whole: Vec<u8> = self.begun.drain(..=end).collect();
            line(&whole);
        }
        if self.begun.len() >= LINE_LIMIT || !open && !self.begun.is_empty() {
            line(&std::mem::take(&mut self.begun));
        }
        open
    }
}

impl Drop for Child<'_> {
    fn drop(&mut self) {
        // Not collected yet, so the number is still its own. What it has started goes with it.
        if let Ok(None) = self.child.try_wait() {
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::time::Duration;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    fn shell<'a>(script: &str, interrupt: Option<BorrowedFd<'a>>) -> Child<'a> {
        Child::start(&["sh", "-c", script].map(OsString::from), interrupt).unwrap()
    }

    fn all(child: &mut Child) -> Vec<String> {
        let mut said = Vec::new();
        while let Heard::Line(line) = child.next(soon()) {
            said.push(line);
        }
        said
    }

    #[test]
    fn both_outputs_are_heard_to_their_end_and_long_lines_are_cut() {
        assert_eq!(all(&mut shell("echo one; printf two", None)), ["one", "two"]);
        assert_eq!(all(&mut shell("echo wrong >&2", None)), ["wrong"]);
        let long = all(&mut shell("head -c 10000 /dev/zero | tr '\\0' x", None));
        assert!(long.len() > 1 && long.iter().all(|line| line.len() < LINE_LIMIT + CHUNK), "{}", long.len());
        assert_eq!(long.concat().len(), 10000);
    }

    #[test]
    fn who_is_asked_to_end_waits_no_longer_and_ends_what_its_child_has_started() {
        let (asked, ask) = io::pipe().unwrap();
        let mut child = shell("sleep 1000 & echo $!; wait", Some(asked.as_fd()));
        let Heard::Line(number) = child.next(soon()) else { panic!("it says its number first") };
        drop(ask);
        assert_eq!(child.next(soon()), Heard::Interrupted);
        assert_eq!(child.next(soon()), Heard::Interrupted, "and does not forget it");
        // A descriptor of the sleeper, by which its end can be awaited.
        let number = Pid::from_raw(number.parse().unwrap()).unwrap();
        let sleeper = rustix::process::pidfd_open(number, rustix::process::PidfdFlags::empty()).unwrap();
        drop(child);
        let mut polled = [PollFd::new(&sleeper, PollFlags::IN)];
        let limit = Timespec::try_from(Duration::from_secs(20)).unwrap();
        assert_eq!(rustix::event::poll(&mut polled, Some(&limit)), Ok(1), "the sleeper was left behind");
    }

    #[test]
    fn a_silent_child_is_waited_for_until_the_deadline() {
        let mut child = shell("read -r forever", None);
        assert_eq!(child.next(Instant::now() + Duration::from_millis(50)), Heard::Late);
    }
}
