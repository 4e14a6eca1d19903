//! One run of a VMM on a terminal: its console, its process and its end.
//!
//! Not here: its command line, which is [`crate::vmm`]'s, and what is measured in it, which is [`crate::measure`]'s.

use crate::failure::{Failure, attempt};
use crate::trace::{Sighting, Tracer};
use crate::vmm::Subject;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use rustix::time::{ClockId, clock_gettime};
use std::fs::{self, File, OpenOptions};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

/// How much of the console's end an error shows.
const TAIL: usize = 400;
/// Where a VMM's own words go: most are about the end that we give it.
const WORDS: &str = "/tmp/vmm.words";

/// A running VMM with its console.
#[derive(Debug)]
pub(crate) struct Run {
    starter: Child,
    terminal: OwnedFd,
    console: Vec<u8>,
    first_byte: Option<Duration>,
    latest_byte: Duration,
    tracer: Tracer,
    process: Option<OwnedFd>,
}

impl Run {
    /// Starts `subject` behind the words `before` (a tracer of its own, say).
    pub(crate) fn start(subject: &Subject, before: &[String], tracer: Tracer) -> Result<Self, Failure> {
        let (terminal, end) = raw_terminal()?;
        let words = [before, &subject.words()].concat();
        let [program, arguments @ ..] = words.as_slice() else { return Err(Failure::Unseen("program")) };
        let what = attempt(format!("start {program}"));
        let clone = || end.try_clone();
        let mut command = Command::new(program);
        command.args(arguments);
        let starter = clone()
            .and_then(|input| Ok((input, clone()?)))
            .and_then(|(input, output)| Ok((input, output, File::create(WORDS)?)))
            .and_then(|(input, output, words)| command.stdin(input).stdout(output).stderr(words).spawn())
            .map_err(what)?;
        Ok(Self {
            starter,
            terminal,
            console: Vec::new(),
            first_byte: None,
            latest_byte: Duration::ZERO,
            tracer,
            process: None,
        })
    }

    /// Returns the tracer that waits for this run's VMM.
    pub(crate) fn tracer(&self) -> &Tracer {
        &self.tracer
    }

    /// Returns what the tracer has seen; it is an error when the guest has not run yet.
    pub(crate) fn sighting(&mut self) -> Result<(Sighting, Duration), Failure> {
        let sighting = self.tracer.sighting()?.ok_or(Failure::Unseen("start of the VMM"))?;
        let entry = sighting.entry.ok_or(Failure::Unseen("first entry into the guest"))?;
        if self.process.is_none() {
            let pid =
                i32::try_from(sighting.pid).ok().and_then(Pid::from_raw).ok_or(Failure::Unseen("process"))?;
            let process = pidfd_open(pid, PidfdFlags::empty());
            self.process = Some(process.map_err(|error| attempt("get hold of the VMM")(error.into()))?);
        }
        Ok((sighting, entry))
    }

    /// Returns when the first byte came on the console.
    pub(crate) fn first_byte(&self) -> Option<Duration> {
        self.first_byte
    }

    /// Waits until the console shows `awaited` and says when.
    pub(crate) fn await_text(&mut self, awaited: &'static str, limit: Duration) -> Result<Duration, Failure> {
        let deadline = now() + limit;
        // It may have come together with what was awaited before.
        while !self.shows(awaited) {
            let left = deadline.checked_sub(now()).ok_or_else(|| self.stalled(awaited, limit))?;
            let mut polled = [PollFd::new(&self.terminal, PollFlags::IN)];
            wait_for(&mut polled, left)?;
            if polled[0].revents().is_empty() {
                continue;
            }
            let at = now();
            if !self.read_console()? {
                return Err(Failure::Ended { awaited, console: self.tail() });
            }
            self.first_byte.get_or_insert(at);
            self.latest_byte = at;
        }
        Ok(self.latest_byte)
    }

    fn shows(&self, text: &str) -> bool {
        self.console.windows(text.len()).any(|part| part == text.as_bytes())
    }

    /// Waits until the VMM's process is gone and says when. The console is emptied meanwhile.
    pub(crate) fn await_end(&mut self, limit: Duration) -> Result<Duration, Failure> {
        let deadline = now() + limit;
        let mut open = true;
        loop {
            let left =
                deadline.checked_sub(now()).ok_or_else(|| self.stalled("the end of the VMM", limit))?;
            let process = self.process.as_ref().ok_or(Failure::Unseen("process"))?;
            let mut polled =
                [PollFd::new(process, PollFlags::IN), PollFd::new(&self.terminal, PollFlags::IN)];
            let watched = if open { 2 } else { 1 };
            wait_for(&mut polled[..watched], left)?;
            let (ended, written) = (!polled[0].revents().is_empty(), !polled[1].revents().is_empty());
            if ended {
                let at = now();
                self.starter.wait().map_err(attempt("wait for the starter of the VMM"))?;
                return Ok(at);
            }
            if open && written {
                open = self.read_console()?;
            }
        }
    }

    /// Types `text` into the console.
    pub(crate) fn type_text(&self, text: &str) -> Result<(), Failure> {
        let written = rustix::io::write(&self.terminal, text.as_bytes());
        match written.map_err(|error| attempt("type into the console")(error.into()))? {
            count if count == text.len() => Ok(()),
            _ => Err(Failure::Unseen("room for typing on the console")),
        }
    }

    /// Kills the VMM and says when.
    pub(crate) fn kill(&mut self) -> Result<Duration, Failure> {
        let process = self.process.as_ref().ok_or(Failure::Unseen("process"))?;
        let at = now();
        pidfd_send_signal(process, Signal::KILL).map_err(|error| attempt("kill the VMM")(error.into()))?;
        Ok(at)
    }

    /// Takes what the console has; says whether anybody can still write to it.
    fn read_console(&mut self) -> Result<bool, Failure> {
        let mut buffer = [0; 4096];
        match rustix::io::read(&self.terminal, &mut buffer) {
            // The last user of the other end is gone.
            Ok(0) | Err(rustix::io::Errno::IO) => Ok(false),
            Ok(count) => {
                self.console.extend_from_slice(&buffer[..count]);
                Ok(true)
            }
            Err(rustix::io::Errno::INTR) => Ok(true),
            Err(error) => Err(attempt("read the console")(error.into())),
        }
    }

    fn stalled(&self, awaited: &'static str, limit: Duration) -> Failure {
        Failure::Stalled { awaited, limit, console: self.tail() }
    }

    fn tail(&self) -> String {
        let console = String::from_utf8_lossy(&self.console[self.console.len().saturating_sub(TAIL)..]);
        let words = fs::read_to_string(WORDS).unwrap_or_default();
        format!("{console:?}, and the VMM: {words:?}")
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // All of these may be gone already, which is as good.
        let _ = self.sighting();
        let _ = self.kill();
        let _ = self.starter.kill();
        let _ = self.starter.wait();
    }
}

/// Returns the time of the clock that the tracer uses too.
pub(crate) fn now() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

fn wait_for(polled: &mut [PollFd], left: Duration) -> Result<(), Failure> {
    let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
    match poll(polled, Some(&timeout)) {
        // An interrupted wait is begun anew by the caller.
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(attempt("wait for the console")(error.into())),
    }
}

/// Makes a terminal that hands bytes through unchanged, the same for every VMM; returns our end and theirs.
fn raw_terminal() -> Result<(OwnedFd, OwnedFd), Failure> {
    let refused = |error: rustix::io::Errno| attempt("make a terminal")(error.into());
    let main = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).map_err(refused)?;
    grantpt(&main).and_then(|()| unlockpt(&main)).map_err(refused)?;
    let name = ptsname(&main, Vec::new()).map_err(refused)?;
    let path = PathBuf::from(name.to_string_lossy().into_owned());
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    // Without the flag this process would get it as its controlling terminal.
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, rustix::fs::OFlags::NOCTTY.bits() as i32);
    let end: OwnedFd = options.open(&path).map_err(attempt("open a terminal"))?.into();
    let mut attributes = tcgetattr(&end).map_err(refused)?;
    attributes.make_raw();
    tcsetattr(&end, OptionalActions::Now, &attributes).map_err(refused)?;
    Ok((main, end))
}
