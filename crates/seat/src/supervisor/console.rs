//! The serial console of a seat: logged, kept for a while for those who come later, and shared by all who are attached.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use super::clients::Clients;
use super::log::Log;

/// What somebody who attaches is shown of the past.
const PAST: usize = 64 << 10;
/// What may wait for the guest to take it.
const MOST_TYPED: usize = 4096;
/// How much is read at once.
const CHUNK: usize = 4096;

/// The console.
#[derive(Debug)]
pub(super) struct Console {
    machine: Option<UnixStream>,
    pub(super) clients: Clients,
    log: Log,
    past: VecDeque<u8>,
    typed: Vec<u8>,
}

impl Console {
    pub(super) fn new(listener: OwnedFd, log: Log) -> std::io::Result<Self> {
        let clients = Clients::new(listener)?;
        Ok(Self { machine: None, clients, log, past: VecDeque::new(), typed: Vec::new() })
    }

    /// Makes the pair of ends; the machine's is the answer.
    pub(super) fn connect(&mut self) -> std::io::Result<OwnedFd> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        // The machine never waits for us either.
        theirs.set_nonblocking(true)?;
        self.machine = Some(ours);
        Ok(theirs.into())
    }

    /// Our end, and whether something waits for the guest.
    pub(super) fn machine(&self) -> Option<(&UnixStream, bool)> {
        self.machine.as_ref().map(|machine| (machine, !self.typed.is_empty()))
    }

    /// Whether what people type can be taken just now.
    pub(super) fn has_room(&self) -> bool {
        self.typed.len() < MOST_TYPED
    }

    /// Takes a new client in and shows it the past.
    pub(super) fn accept(&mut self) {
        let past: Vec<u8> = self.past.iter().copied().collect();
        self.clients.accept(&past);
    }

    /// Moves what the guest wrote to the log and to everybody, and what waits for it to the guest.
    pub(super) fn serve_machine(&mut self) {
        self.give();
        let mut buffer = [0; CHUNK];
        // Not without end: others are to be served as well.
        for _ in 0..64 {
            let Some(machine) = &mut self.machine else { return };
            match machine.read(&mut buffer) {
                Ok(0) => self.machine = None,
                Ok(read) => self.show(buffer.get(..read).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.machine = None,
            }
        }
    }

    fn show(&mut self, bytes: &[u8]) {
        self.log.write(bytes);
        self.past.extend(bytes);
        let over = self.past.len().saturating_sub(PAST);
        self.past.drain(..over);
        self.clients.send(bytes);
    }

    /// Takes what a client typed.
    pub(super) fn serve_client(&mut self, index: usize) {
        if let Some(client) = self.clients.serve(index) {
            self.typed.append(&mut client.heard);
        }
        self.clients.sweep();
        self.give();
    }

    fn give(&mut self) {
        while let (Some(machine), false) = (&mut self.machine, self.typed.is_empty()) {
            match machine.write(&self.typed) {
                Ok(written) => drop(self.typed.drain(..written.min(self.typed.len()))),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.machine = None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Console, Log, PAST};
    use std::io::{Read, Write};
    use std::os::unix::net::{UnixListener, UnixStream};

    #[test]
    fn who_attaches_late_is_shown_the_past_and_what_is_typed_arrives() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("console");
        let log = folder.path().join("log");
        let listener = UnixListener::bind(&path).unwrap();
        let mut console = Console::new(listener.into(), Log::begin(&log).unwrap()).unwrap();
        let mut machine = UnixStream::from(console.connect().unwrap());
        machine.set_nonblocking(false).unwrap();
        machine.write_all(b"booting\n").unwrap();
        console.serve_machine();
        let mut person = UnixStream::connect(&path).unwrap();
        console.accept();
        machine.write_all(b"login: ").unwrap();
        console.serve_machine();
        let mut shown = [0; 15];
        person.read_exact(&mut shown).unwrap();
        assert_eq!(&shown, b"booting\nlogin: ");
        person.write_all(b"anna\n").unwrap();
        console.serve_client(0);
        let mut typed = [0; 5];
        machine.read_exact(&mut typed).unwrap();
        assert_eq!(&typed, b"anna\n");
        assert_eq!(std::fs::read(&log).unwrap(), b"booting\nlogin: ");
        drop(machine);
        console.serve_machine();
        assert!(console.machine().is_none());
    }

    #[test]
    fn the_past_has_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("console")).unwrap();
        let log = Log::begin(&folder.path().join("log")).unwrap();
        let mut console = Console::new(listener.into(), log).unwrap();
        console.show(&vec![b'x'; PAST]);
        console.show(b"end");
        assert_eq!(console.past.len(), PAST);
        assert_eq!(console.past.iter().rev().take(3).collect::<Vec<_>>(), [&b'd', &b'n', &b'e']);
    }
}
