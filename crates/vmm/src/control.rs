//! The control socket: JSON requests from whoever may connect, a line each, and an answer to each. A file may come with a
//! request (SCM_RIGHTS).
//!
//! A client that sends nonsense gets an error; one that sends without end, or does not read its answers, is let go.

use std::collections::BTreeMap;
use std::io::{IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use linux::event::{EventError, Interest, Poller};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use spec::{ControlAnswer, ControlRequest};

/// Clients at one time; others wait in the socket's queue.
const MAX_CLIENTS: usize = 16;

/// A request is far shorter.
const MAX_LINE: usize = 4096;

/// The socket and its clients.
pub(crate) struct Control {
    listener: Option<UnixListener>,
    clients: BTreeMap<u64, Client>,
    next_token: u64,
}

struct Client {
    stream: UnixStream,
    line: Vec<u8>,
    // What came last and no request has taken.
    file: Option<OwnedFd>,
}

impl Control {
    pub(crate) fn new(listener: Option<OwnedFd>) -> std::io::Result<Self> {
        let listener = listener.map(UnixListener::from);
        if let Some(listener) = &listener {
            listener.set_nonblocking(true)?;
        }
        Ok(Self { listener, clients: BTreeMap::new(), next_token: 0 })
    }

    /// Begins to watch for clients; theirs are the tokens from `first_client` on.
    pub(crate) fn watch(&mut self, poller: &Poller, token: u64, first_client: u64) -> Result<(), EventError> {
        self.next_token = first_client;
        match &self.listener {
            Some(listener) => poller.add(listener, Interest::Readable, token),
            None => Ok(()),
        }
    }

    /// Takes a new client in.
    pub(crate) fn accept(&mut self, poller: &Poller) -> Result<(), EventError> {
        let Some(listener) = &self.listener else { return Ok(()) };
        let Ok((stream, _)) = listener.accept() else { return Ok(()) };
        if self.clients.len() >= MAX_CLIENTS || stream.set_nonblocking(true).is_err() {
            return Ok(());
        }
        let token = self.next_token;
        self.next_token += 1;
        poller.add(stream.as_fd(), Interest::Readable, token)?;
        self.clients.insert(token, Client { stream, line: Vec::new(), file: None });
        Ok(())
    }

    /// Reads from a client and answers each whole line with `answer`.
    pub(crate) fn serve(
        &mut self,
        token: u64,
        mut answer: impl FnMut(ControlRequest, Option<OwnedFd>) -> ControlAnswer,
    ) {
        let Some(client) = self.clients.get_mut(&token) else { return };
        if !client.serve(&mut answer) {
            // Closing takes it out of the poller.
            self.clients.remove(&token);
        }
    }
}

impl Client {
    /// False when the client is to be let go.
    fn serve(&mut self, answer: &mut impl FnMut(ControlRequest, Option<OwnedFd>) -> ControlAnswer) -> bool {
        let mut buffer = [0; MAX_LINE];
        match self.receive(&mut buffer) {
            Ok(0) => return false,
            Ok(read) => self.line.extend_from_slice(buffer.get(..read).unwrap_or_default()),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return true,
            Err(_) => return false,
        }
        while let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.line.drain(..=end).collect();
            let reply = match serde_json::from_slice(&line) {
                Ok(request) => answer(request, self.file.take()),
                Err(error) => ControlAnswer::Error { message: format!("not a request: {error}") },
            };
            let Ok(mut text) = serde_json::to_vec(&reply) else { return false };
            text.push(b'\n');
            // An answer is far smaller than a socket's buffer: one that does not fit was never read.
            if self.stream.write_all(&text).is_err() {
                return false;
            }
        }
        self.line.len() < MAX_LINE
    }

    /// Receives bytes, and keeps the last file that came with them.
    fn receive(&mut self, buffer: &mut [u8]) -> rustix::io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let parts = &mut [IoSliceMut::new(buffer)];
        let received = rustix::net::recvmsg(&self.stream, parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(files) = message {
                self.file = files.last().or(self.file.take());
            }
        }
        Ok(received.bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{IoSlice, Read, Write};
    use std::mem::MaybeUninit;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
    use spec::{ControlAnswer, ControlRequest};

    use super::{Client, MAX_LINE};

    fn talk(sent: &[u8]) -> (bool, String, Vec<ControlRequest>) {
        let (mut person, stream) = UnixStream::pair().unwrap();
        person.write_all(sent).unwrap();
        let mut client = Client { stream, line: Vec::new(), file: None };
        let mut requests = Vec::new();
        let stays = client.serve(&mut |request, _| {
            requests.push(request);
            ControlAnswer::Done
        });
        drop(client);
        let mut answers = String::new();
        person.read_to_string(&mut answers).unwrap();
        (stays, answers, requests)
    }

    #[test]
    fn each_line_gets_one_answer() {
        let (stays, answers, requests) =
            talk(b"{\"command\":\"pause\"}\nnonsense\n{\"command\":\"resume\"}\n");
        assert!(stays);
        assert_eq!(requests, [ControlRequest::Pause, ControlRequest::Resume]);
        let answers: Vec<_> = answers.lines().collect();
        assert_eq!(answers.len(), 3);
        assert_eq!(answers[0], r#"{"answer":"done"}"#);
        assert!(answers[1].contains("not a request"), "{}", answers[1]);
    }

    #[test]
    fn a_file_comes_with_its_request_and_with_no_other() {
        let (person, stream) = UnixStream::pair().unwrap();
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let files = [file.as_fd()];
        assert!(control.push(SendAncillaryMessage::ScmRights(&files)));
        let lines = b"{\"command\":\"picture\"}\n{\"command\":\"picture\"}\n";
        rustix::net::sendmsg(&person, &[IoSlice::new(lines)], &mut control, SendFlags::empty()).unwrap();
        let mut client = Client { stream, line: Vec::new(), file: None };
        let mut came = Vec::new();
        assert!(client.serve(&mut |request, file| {
            came.push((request, file.is_some()));
            ControlAnswer::Done
        }));
        assert_eq!(came, [(ControlRequest::Picture, true), (ControlRequest::Picture, false)]);
    }

    #[test]
    fn a_line_without_end_lets_the_client_go() {
        let (stays, answers, requests) = talk(&[b'x'; MAX_LINE]);
        assert_eq!((stays, answers.as_str(), requests.len()), (false, "", 0));
    }
}
