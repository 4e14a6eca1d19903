//! A listening socket and those who have connected to it; nobody who reads slowly holds up the rest.
//!
//! Not here: what is said.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};

/// Clients of one socket at one time.
const MOST_CLIENTS: usize = 16;
/// What may wait for a client that does not read; one with more is let go.
const MOST_WAITING: usize = 1 << 20;
/// How much is read at once.
const CHUNK: usize = 4096;

/// A socket with its clients.
#[derive(Debug)]
pub(super) struct Clients {
    listener: UnixListener,
    clients: Vec<Client>,
}

#[derive(Debug)]
pub(super) struct Client {
    stream: UnixStream,
    waiting: Vec<u8>,
    pub(super) heard: Vec<u8>,
    gone: bool,
}

impl Clients {
    pub(super) fn new(listener: OwnedFd) -> std::io::Result<Self> {
        let listener = UnixListener::from(listener);
        listener.set_nonblocking(true)?;
        Ok(Self { listener, clients: Vec::new() })
    }

    pub(super) fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// The clients' streams, and whether something waits for each.
    pub(super) fn streams(&self) -> impl Iterator<Item = (&UnixStream, bool)> {
        self.clients.iter().map(|client| (&client.stream, !client.waiting.is_empty()))
    }

    /// Takes a new client in and greets it.
    pub(super) fn accept(&mut self, greeting: &[u8]) {
        let Ok((stream, _)) = self.listener.accept() else { return };
        if self.clients.len() >= MOST_CLIENTS || stream.set_nonblocking(true).is_err() {
            return;
        }
        let mut client = Client { stream, waiting: Vec::new(), heard: Vec::new(), gone: false };
        client.send(greeting);
        self.clients.push(client);
    }

    /// Says the same to all.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        for client in &mut self.clients {
            client.send(bytes);
        }
        self.sweep();
    }

    /// Reads from one, and writes what waits for it; what was read is in `heard`.
    pub(super) fn serve(&mut self, index: usize) -> Option<&mut Client> {
        let client = self.clients.get_mut(index)?;
        client.flush();
        client.read();
        Some(client)
    }

    /// Lets go of those who have gone.
    pub(super) fn sweep(&mut self) {
        self.clients.retain(|client| !client.gone);
    }

    /// Writes what waits for clients, as far as they take it at once.
    pub(super) fn flush(&mut self) {
        for client in &mut self.clients {
            client.flush();
        }
    }
}

impl Client {
    fn send(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
        self.flush();
        self.gone |= self.waiting.len() > MOST_WAITING;
    }

    fn flush(&mut self) {
        while !self.waiting.is_empty() && !self.gone {
            match self.stream.write(&self.waiting) {
                Ok(written) => drop(self.waiting.drain(..written.min(self.waiting.len()))),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.gone = true,
            }
        }
    }

    fn read(&mut self) {
        let mut buffer = [0; CHUNK];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.gone = true,
            Ok(read) => self.heard.extend_from_slice(buffer.get(..read).unwrap_or_default()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => self.gone = true,
        }
    }

    /// The next whole line that was heard. One without end lets the client go.
    pub(super) fn line(&mut self) -> Option<Vec<u8>> {
        let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') else {
            self.gone |= self.heard.len() > CHUNK;
            return None;
        };
        Some(self.heard.drain(..=end).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::{Clients, MOST_WAITING};
    use std::io::{Read, Write};
    use std::os::unix::net::{UnixListener, UnixStream};

    fn socket() -> (tempfile::TempDir, Clients, UnixStream) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let mut clients = Clients::new(UnixListener::bind(&path).unwrap().into()).unwrap();
        let person = UnixStream::connect(&path).unwrap();
        clients.accept(b"hello ");
        (folder, clients, person)
    }

    #[test]
    fn a_client_is_greeted_and_heard_line_by_line() {
        let (_folder, mut clients, mut person) = socket();
        clients.send(b"all");
        let mut heard = [0; 9];
        person.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"hello all");
        person.write_all(b"one\ntwo\nthr").unwrap();
        let client = clients.serve(0).unwrap();
        let lines: Vec<_> = std::iter::from_fn(|| client.line()).collect();
        assert_eq!(lines, [b"one\n", b"two\n"]);
    }

    #[test]
    fn who_does_not_read_or_is_gone_is_let_go() {
        let (_folder, mut clients, person) = socket();
        clients.send(&vec![0; 2 * MOST_WAITING]);
        assert_eq!(clients.streams().count(), 0);
        drop(person);
        let (_folder, mut clients, person) = socket();
        drop(person);
        clients.serve(0);
        clients.sweep();
        assert_eq!(clients.streams().count(), 0);
    }
}
