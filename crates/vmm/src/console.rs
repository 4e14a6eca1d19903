//! The serial console's two ends: keys from the terminal to the guest, the guest's output to the terminal.
//!
//! A slow terminal never stops the event thread: output waits here, then in the machine, and in the end the guest's
//! serial port says that it is full.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use linux::event::{EventError, Interest, Poller};
use machine::Machine;
use rustix::event::{PollFd, PollFlags};

/// The key that makes the next one a command: Ctrl-A, as in other machine monitors.
const ESCAPE: u8 = 0x01;

/// A write of at most this many bytes does not block on a pipe that polls as writable (PIPE_BUF, pipe(7)).
const CHUNK: usize = 4096;

/// What was read from the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Typed {
    /// Keys for the guest, or nothing.
    Keys,
    /// The escape for ending the machine.
    Quit,
}

/// Both ends.
pub(crate) struct Console {
    input: Option<OwnedFd>,
    output: Option<OwnedFd>,
    escape: Option<Escape>,
    typed: Vec<u8>,
    waiting: Vec<u8>,
    // Whether the poller watches the end; each is out of it while it has nothing to do.
    input_watched: bool,
    output_watched: bool,
}

#[derive(Default)]
struct Escape {
    begun: bool,
}

impl Console {
    pub(crate) fn new(input: Option<OwnedFd>, output: Option<OwnedFd>, escape: bool) -> Self {
        Self {
            input,
            output,
            escape: escape.then(Escape::default),
            typed: Vec::new(),
            waiting: Vec::new(),
            input_watched: false,
            output_watched: false,
        }
    }

    /// Begins to watch the input. A plain file cannot be watched: it is read at once and whenever the guest has room.
    pub(crate) fn watch_input(&mut self, poller: &Poller, token: u64) -> Result<(), EventError> {
        if let (Some(input), false) = (&self.input, self.input_watched)
            && poller.add(input, Interest::Readable, token).is_ok()
        {
            self.input_watched = true;
        }
        Ok(())
    }

    /// Reads what was typed and gives the guest as much as it has room for.
    pub(crate) fn read(
        &mut self,
        machine: &Machine,
        poller: &Poller,
        token: u64,
    ) -> Result<Typed, EventError> {
        if !self.typed.is_empty() {
            return Ok(Typed::Keys);
        }
        let Some(input) = &self.input else { return Ok(Typed::Keys) };
        let mut buffer = [0; 256];
        let read = match rustix::io::read(input, &mut buffer) {
            Ok(read) => read,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(Typed::Keys),
            // A terminal that has gone away is the end of the input, not of the machine.
            Err(_) => 0,
        };
        if read == 0 {
            if self.input_watched {
                poller.remove(input)?;
            }
            self.input_watched = false;
            self.input = None;
            return Ok(Typed::Keys);
        }
        let keys = buffer.get(..read).unwrap_or_default();
        match &mut self.escape {
            Some(escape) => {
                if escape.filter(keys, &mut self.typed) == Typed::Quit {
                    return Ok(Typed::Quit);
                }
            }
            None => self.typed.extend_from_slice(keys),
        }
        self.hand_over(machine, poller, token)?;
        Ok(Typed::Keys)
    }

    /// Gives the guest what was typed before it had room.
    pub(crate) fn hand_over(
        &mut self,
        machine: &Machine,
        poller: &Poller,
        token: u64,
    ) -> Result<(), EventError> {
        let taken = machine.type_into_console(&self.typed);
        self.typed.drain(..taken.min(self.typed.len()));
        // Input that the guest has no room for stays in the terminal, unread.
        match (&self.input, self.typed.is_empty()) {
            (Some(_), true) => self.watch_input(poller, token)?,
            (Some(input), false) if self.input_watched => {
                poller.remove(input)?;
                self.input_watched = false;
            }
            _ => {}
        }
        Ok(())
    }

    /// Moves the guest's output to the terminal, as far as that takes it without waiting.
    pub(crate) fn write(&mut self, machine: &Machine, poller: &Poller, token: u64) -> Result<(), EventError> {
        loop {
            if self.waiting.is_empty() {
                machine.take_console_output(&mut self.waiting);
            }
            if self.waiting.is_empty() {
                return self.watch_output(poller, token, false);
            }
            let Some(output) = &self.output else {
                self.waiting.clear();
                continue;
            };
            if !writable(output.as_fd()) {
                return self.watch_output(poller, token, true);
            }
            let chunk = self.waiting.get(..self.waiting.len().min(CHUNK)).unwrap_or_default();
            match rustix::io::write(output, chunk) {
                Ok(written) => drop(self.waiting.drain(..written.min(self.waiting.len()))),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return self.watch_output(poller, token, true),
                // A terminal that has gone away: the guest talks to nobody from now on.
                Err(_) => {
                    self.watch_output(poller, token, false)?;
                    self.output = None;
                }
            }
        }
    }

    fn watch_output(&mut self, poller: &Poller, token: u64, watch: bool) -> Result<(), EventError> {
        let Some(output) = &self.output else { return Ok(()) };
        if watch != self.output_watched {
            if watch {
                poller.add(output, Interest::Writable, token)?;
            } else {
                poller.remove(output)?;
            }
            self.output_watched = watch;
        }
        Ok(())
    }
}

impl Escape {
    /// Takes the commands out of `keys` and adds the rest to `typed`.
    fn filter(&mut self, keys: &[u8], typed: &mut Vec<u8>) -> Typed {
        for &key in keys {
            match (std::mem::take(&mut self.begun), key) {
                (true, b'x' | b'X') => return Typed::Quit,
                (true, ESCAPE) => typed.push(ESCAPE),
                (true, other) => typed.extend([ESCAPE, other]),
                (false, ESCAPE) => self.begun = true,
                (false, other) => typed.push(other),
            }
        }
        Typed::Keys
    }
}

/// Whether a write would not wait now. Plain files always take it.
fn writable(output: BorrowedFd<'_>) -> bool {
    let mut polled = [PollFd::from_borrowed_fd(output, PollFlags::OUT)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut polled, Some(&now)).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use super::{Escape, Typed};

    #[test]
    fn the_escape_takes_only_what_follows_it() {
        for (keys, typed, outcome) in [
            (&b"ls\n"[..], &b"ls\n"[..], Typed::Keys),
            (b"a\x01xb", b"a", Typed::Quit),
            (b"\x01\x01x", b"\x01x", Typed::Keys),
            (b"\x01a", b"\x01a", Typed::Keys),
            (b"\x01", b"", Typed::Keys),
        ] {
            let mut reached = Vec::new();
            assert_eq!(Escape::default().filter(keys, &mut reached), outcome, "{keys:?}");
            assert_eq!(reached, typed, "{keys:?}");
        }
    }

    #[test]
    fn the_escape_reaches_over_two_reads() {
        let (mut escape, mut typed) = (Escape::default(), Vec::new());
        assert_eq!(escape.filter(b"\x01", &mut typed), Typed::Keys);
        assert_eq!(escape.filter(b"x", &mut typed), Typed::Quit);
    }
}
