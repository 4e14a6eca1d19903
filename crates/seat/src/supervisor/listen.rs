//! What a supervisor waits for: all its file descriptors in one poll.

use std::os::fd::AsFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec};

use super::Supervisor;

/// What is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// The starter has said something or is gone.
    Starter,
    /// A signal.
    Signals,
    /// The machine's process leaves its report or is gone.
    Machine,
    /// The machine answers.
    Control,
    /// The machine's standard error.
    Errors,
    /// The console's end in the machine.
    Guest,
    /// Somebody attaches to the console.
    NewTerminal,
    /// Somebody attached types, reads or goes.
    Terminal(usize),
    /// Somebody connects to the seat's socket.
    NewClient,
    /// Somebody connected says something, reads or goes.
    Client(usize),
}

impl Supervisor {
    /// Waits until something is ready, at most until `due`.
    pub(super) fn poll(&self, due: Option<Instant>) -> Vec<Token> {
        let reading = |writing: bool| if writing { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        let mut list: Vec<(Token, PollFd<'_>)> = vec![
            (Token::Signals, PollFd::new(&self.signals, PollFlags::IN)),
            (Token::NewTerminal, PollFd::new(self.console.clients.listener(), PollFlags::IN)),
            (Token::NewClient, PollFd::new(self.record.requests.listener(), PollFlags::IN)),
        ];
        if let Some(input) = self.record.starter.input() {
            list.push((Token::Starter, PollFd::from_borrowed_fd(input, PollFlags::IN)));
        }
        if let Some(machine) = &self.machine {
            if let Some(control) = machine.control() {
                list.push((Token::Control, PollFd::new(control, PollFlags::IN)));
            }
            if let Some(errors) = machine.errors() {
                list.push((Token::Errors, PollFd::new(errors, PollFlags::IN)));
            }
            // Last of the machine's: what it said before it went is heard first.
            list.push((Token::Machine, PollFd::from_borrowed_fd(machine.process().as_fd(), PollFlags::IN)));
        }
        if let Some((guest, writing)) = self.console.machine() {
            list.push((Token::Guest, PollFd::new(guest, reading(writing))));
        }
        for (index, (stream, writing)) in self.console.clients.streams().enumerate() {
            let mut flags = reading(writing);
            flags.set(PollFlags::IN, self.console.has_room());
            list.push((Token::Terminal(index), PollFd::new(stream, flags)));
        }
        for (index, (stream, writing)) in self.record.requests.streams().enumerate() {
            list.push((Token::Client(index), PollFd::new(stream, reading(writing))));
        }
        let (tokens, mut polled): (Vec<Token>, Vec<PollFd<'_>>) = list.into_iter().unzip();
        let left = due.map(|due| due.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match rustix::event::poll(&mut polled, left.as_ref()) {
            Ok(_) => {}
            // Interrupted: whoever waits looks again.
            Err(_) => return Vec::new(),
        }
        let ready = tokens.into_iter().zip(&polled).filter(|(_, fd)| !fd.revents().is_empty());
        let mut ready: Vec<Token> = ready.map(|(token, _)| token).collect();
        // Serving one client may let another go, which moves the rest: the later ones first.
        ready.reverse();
        ready.sort_by_key(|token| *token == Token::Machine);
        ready
    }
}
