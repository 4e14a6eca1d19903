//! The process that has started a supervisor: gives the order, hears what becomes of it, and says that the seat stays.
//!
//! Until it has said so, its going away means that the start was given up.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use spec::SeatOrder;

use super::SuperviseError;

/// What the starter says when the seat is to go on without it.
pub(crate) const STAY: &[u8] = b"stay\n";
/// No order comes near this.
const MOST_BYTES: usize = 16 << 20;
/// How much is read at once.
const CHUNK: usize = 64 << 10;

pub(super) struct Starter {
    input: Option<OwnedFd>,
    output: Option<std::fs::File>,
    heard: Vec<u8>,
}

impl Starter {
    /// Waits for the order.
    pub(super) fn read(input: OwnedFd, output: OwnedFd) -> Result<(Self, SeatOrder), SuperviseError> {
        let mut starter = Self { input: Some(input), output: Some(output.into()), heard: Vec::new() };
        let line = loop {
            if let Some(end) = starter.heard.iter().position(|byte| *byte == b'\n') {
                break starter.heard.drain(..=end).collect::<Vec<u8>>();
            }
            if !starter.read_more() || starter.heard.len() > MOST_BYTES {
                return Err(SuperviseError::Order("it has no end".to_owned()));
            }
        };
        let order =
            serde_json::from_slice(&line).map_err(|error| SuperviseError::Order(error.to_string()))?;
        Ok((starter, order))
    }

    /// Reads once; false when the starter is gone.
    fn read_more(&mut self) -> bool {
        let Some(input) = &self.input else { return false };
        let mut buffer = vec![0; CHUNK];
        match rustix::io::read(input, &mut buffer) {
            Ok(0) => false,
            Ok(read) => {
                self.heard.extend_from_slice(buffer.get(..read).unwrap_or_default());
                true
            }
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => true,
            Err(_) => false,
        }
    }

    /// What is to be waited on; nothing when the starter has nothing to say any more.
    pub(super) fn input(&self) -> Option<BorrowedFd<'_>> {
        self.input.as_ref().map(AsFd::as_fd)
    }

    /// Hears what the starter says; true when it went away before it said that the seat stays.
    pub(super) fn listen(&mut self) -> bool {
        let there = self.read_more();
        let stays = self.heard.windows(STAY.len()).any(|words| words == STAY);
        if stays || !there {
            self.input = None;
        }
        !stays && !there
    }

    /// Whether the starter has gone away by now, without waiting.
    pub(super) fn is_gone(&self) -> bool {
        let Some(input) = &self.input else { return false };
        let mut polled = [PollFd::new(input, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let asked = rustix::event::poll(&mut polled, Some(&now));
        asked.is_ok_and(|ready| ready > 0) && polled[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
    }

    /// Tells it a line, if it still listens.
    pub(super) fn tell(&mut self, line: &[u8]) {
        if let Some(output) = &mut self.output
            && output.write_all(line).is_err()
        {
            self.output = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Starter;
    use rustix::pipe::pipe;
    use std::io::Write;

    fn starter() -> (std::fs::File, Starter) {
        let (input, said) = pipe().unwrap();
        let (_, output) = pipe().unwrap();
        (said.into(), Starter { input: Some(input), output: Some(output.into()), heard: Vec::new() })
    }

    #[test]
    fn a_starter_that_goes_without_a_word_gives_the_start_up() {
        let (said, mut starter) = starter();
        assert!(!starter.is_gone());
        drop(said);
        assert!(starter.is_gone());
        assert!(starter.listen());
    }

    #[test]
    fn a_starter_that_said_so_may_go() {
        let (mut said, mut starter) = starter();
        said.write_all(b"stay\n").unwrap();
        drop(said);
        assert!(!starter.listen());
        assert!(starter.input().is_none() && !starter.is_gone());
    }
}
