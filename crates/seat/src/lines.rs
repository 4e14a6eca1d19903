//! Events of a supervisor, read line by line while signals are watched as well.

use std::os::fd::{AsFd, OwnedFd};

use linux::event::Signals;
use rustix::event::{PollFd, PollFlags};
use spec::SeatEvent;

/// No event comes near this.
const MOST_LINE: usize = 4 << 20;
/// How much is read at once.
const CHUNK: usize = 16 << 10;

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// An event.
    Event(SeatEvent),
    /// A signal that asks this process to end.
    Interrupted,
    /// The supervisor has closed its end.
    Gone,
}

/// The events.
#[derive(Debug)]
pub(crate) struct Lines {
    file: OwnedFd,
    heard: Vec<u8>,
}

impl Lines {
    pub(crate) fn new(file: OwnedFd) -> Self {
        Self { file, heard: Vec::new() }
    }

    /// Waits for the next event, or for a signal when they are watched.
    pub(crate) fn next(&mut self, signals: Option<&Signals>) -> Next {
        loop {
            while let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.heard.drain(..=end).collect();
                // A newer supervisor may tell of things that this program does not know.
                if let Ok(event) = serde_json::from_slice(&line) {
                    return Next::Event(event);
                }
            }
            if self.heard.len() > MOST_LINE {
                return Next::Gone;
            }
            let mut polled = vec![PollFd::new(&self.file, PollFlags::IN)];
            polled.extend(signals.map(|signals| PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)));
            // Interrupted: waited again.
            let _ = rustix::event::poll(&mut polled, None);
            let readable = polled.first().is_some_and(|fd| !fd.revents().is_empty());
            if signals.is_some_and(|signals| signals.next().is_some()) {
                return Next::Interrupted;
            }
            if readable && !self.read() {
                return Next::Gone;
            }
        }
    }

    fn read(&mut self) -> bool {
        let mut buffer = vec![0; CHUNK];
        match rustix::io::read(&self.file, &mut buffer) {
            Ok(0) => false,
            Ok(read) => {
                self.heard.extend_from_slice(buffer.get(..read).unwrap_or_default());
                true
            }
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => true,
            Err(_) => false,
        }
    }
}
