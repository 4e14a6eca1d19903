//! Attaching this terminal to the serial console of a seat, and detaching it.

use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags};

use crate::places::SeatPlaces;
use crate::terminal::RawTerminal;

/// The key that makes the next one a command: Ctrl-A.
const ESCAPE: u8 = 0x01;
/// How much is read at once.
const CHUNK: usize = 4096;

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parted {
    /// The person detached; the seat goes on.
    Detached,
    /// The seat is over.
    Ended,
}

/// Attaches standard input and output to the console until the person detaches (Ctrl-A d, at a terminal) or the seat ends.
///
/// # Errors
/// What connecting to the console's socket comes to, or writing to standard output.
pub fn attach(places: &SeatPlaces) -> std::io::Result<Parted> {
    let mut console = UnixStream::connect(places.console())?;
    let terminal = RawTerminal::of_standard_input();
    let mut keys = Keys { escape: terminal.is_some(), begun: false };
    let (input, mut output) = (std::io::stdin(), std::io::stdout());
    let mut open = true;
    let mut buffer = [0; CHUNK];
    loop {
        let mut polled = vec![PollFd::new(&console, PollFlags::IN)];
        if open {
            polled.push(PollFd::from_borrowed_fd(input.as_fd(), PollFlags::IN));
        }
        match rustix::event::poll(&mut polled, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
        let ready: Vec<bool> = polled.iter().map(|fd| !fd.revents().is_empty()).collect();
        if ready.first() == Some(&true) {
            let read = match rustix::io::read(&console, &mut buffer) {
                Ok(0) | Err(rustix::io::Errno::CONNRESET) => return Ok(Parted::Ended),
                Ok(read) => read,
                Err(errno) => return Err(errno.into()),
            };
            output.write_all(buffer.get(..read).unwrap_or_default())?;
            output.flush()?;
        }
        if ready.get(1) == Some(&true) {
            let read = rustix::io::read(&input, &mut buffer)?;
            // The end of a script's input is not the end of the conversation.
            open = read > 0;
            let mut typed = Vec::new();
            let detach = keys.filter(buffer.get(..read).unwrap_or_default(), &mut typed);
            match console.write_all(&typed) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(Parted::Ended),
                Err(error) => return Err(error),
            }
            if detach {
                return Ok(Parted::Detached);
            }
        }
    }
}

/// Takes commands out of what is typed.
struct Keys {
    escape: bool,
    begun: bool,
}

impl Keys {
    /// Adds the keys for the guest to `typed`; true when the person detaches.
    fn filter(&mut self, keys: &[u8], typed: &mut Vec<u8>) -> bool {
        if !self.escape {
            typed.extend_from_slice(keys);
            return false;
        }
        for &key in keys {
            match (std::mem::take(&mut self.begun), key) {
                (true, b'd' | b'D') => return true,
                (true, ESCAPE) => typed.push(ESCAPE),
                (true, other) => typed.extend([ESCAPE, other]),
                (false, ESCAPE) => self.begun = true,
                (false, other) => typed.push(other),
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::Keys;

    #[test]
    fn only_the_escape_detaches_and_only_at_a_terminal() {
        for (escape, keys, typed, detached) in [
            (true, &b"ls\n"[..], &b"ls\n"[..], false),
            (true, b"a\x01db", b"a", true),
            (true, b"\x01\x01d", b"\x01d", false),
            (true, b"\x01x", b"\x01x", false),
            (false, b"\x01d", b"\x01d", false),
        ] {
            let mut reached = Vec::new();
            let mut filter = Keys { escape, begun: false };
            assert_eq!(filter.filter(keys, &mut reached), detached, "{keys:?}");
            assert_eq!(reached, typed, "{keys:?}");
        }
    }
}
