//! The terminal of a machine that runs in the foreground: keys go to the guest unchanged, and all is as before at the
//! end.

use std::os::fd::{AsFd, OwnedFd};

use rustix::termios::{OptionalActions, Termios};

/// A terminal in raw mode, until dropped.
#[derive(Debug)]
pub struct RawTerminal {
    terminal: OwnedFd,
    before: Termios,
}

impl RawTerminal {
    /// Puts standard input into raw mode; `None` when it is no terminal.
    pub fn of_standard_input() -> Option<Self> {
        let input = std::io::stdin();
        let before = rustix::termios::tcgetattr(&input).ok()?;
        let terminal = input.as_fd().try_clone_to_owned().ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        // Output keeps its line ends: what the guest prints is text for this same terminal.
        raw.output_modes = before.output_modes;
        rustix::termios::tcsetattr(&terminal, OptionalActions::Now, &raw).ok()?;
        Some(Self { terminal, before })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // A terminal that is gone needs no mode.
        let _ = rustix::termios::tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}
