//! Talking to a running machine over its control socket: one request, one answer, and a file where one goes along.
//!
//! Not here: what requests mean (`spec`), and who answers (the machine's own process).

use std::io::{BufRead, BufReader, IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use spec::{ControlAnswer, ControlRequest};

/// A machine that takes longer does not answer at all.
const PATIENCE: Duration = Duration::from_secs(30);

/// No answer comes near this.
const ANSWER_LIMIT: u64 = 1 << 16;

/// A conversation with a running machine.
#[derive(Debug)]
pub struct Control {
    stream: BufReader<UnixStream>,
    path: PathBuf,
}

/// A machine could not be asked, or refused.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens.
    #[error("no machine listens on {}: {errno}; a seat has such a socket while it runs, and `allod run --control` makes one", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        errno: std::io::Error,
    },
    /// It went away, or did not answer in time.
    #[error("the machine on {} does not answer: {errno}", path.display())]
    Talk {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        errno: std::io::Error,
    },
    /// It answered something else.
    #[error("the machine on {} answered what is no answer", path.display())]
    NoAnswer {
        /// The socket.
        path: PathBuf,
    },
    /// It said no.
    #[error("{message}")]
    Refused {
        /// Its reason.
        message: String,
    },
}

impl Control {
    /// Connects to the machine whose control socket is at `path`.
    pub fn connect(path: &Path) -> Result<Self, ControlError> {
        let failed = |errno| ControlError::Connect { path: path.to_owned(), errno };
        let stream = UnixStream::connect(path).map_err(failed)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
        Ok(Self { stream: BufReader::new(stream), path: path.to_owned() })
    }

    /// Asks, and waits for the answer; one that says no is an error.
    pub fn ask(&mut self, request: ControlRequest) -> Result<ControlAnswer, ControlError> {
        self.ask_with(request, None)
    }

    /// Asks with a file that goes along.
    pub fn ask_with(
        &mut self,
        request: ControlRequest,
        file: Option<BorrowedFd<'_>>,
    ) -> Result<ControlAnswer, ControlError> {
        let failed = |errno| ControlError::Talk { path: self.path.clone(), errno };
        let mut line = serde_json::to_vec(&request).map_err(|error| failed(error.into()))?;
        line.push(b'\n');
        send(self.stream.get_ref(), &line, file).map_err(|errno| failed(errno.into()))?;
        let mut answer = Vec::new();
        let path = self.path.clone();
        let read = (&mut self.stream).take(ANSWER_LIMIT).read_until(b'\n', &mut answer);
        read.map_err(|errno| ControlError::Talk { path: path.clone(), errno })?;
        match serde_json::from_slice(&answer) {
            Ok(ControlAnswer::Error { message }) => Err(ControlError::Refused { message }),
            Ok(answer) => Ok(answer),
            Err(_) if answer.is_empty() => {
                Err(ControlError::Talk { path, errno: std::io::ErrorKind::UnexpectedEof.into() })
            }
            Err(_) => Err(ControlError::NoAnswer { path }),
        }
    }
}

/// Readable when the machine has gone, or has answered.
impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.get_ref().as_fd()
    }
}

fn send(stream: &UnixStream, line: &[u8], file: Option<BorrowedFd<'_>>) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let files: Vec<_> = file.iter().map(AsFd::as_fd).collect();
    // The buffer has room for the one there can be.
    if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&files)) {
        return Err(rustix::io::Errno::NOMEM);
    }
    // A line is far shorter than the socket's buffer, which takes it whole or waits.
    let sent = rustix::net::sendmsg(stream, &[IoSlice::new(line)], &mut control, SendFlags::NOSIGNAL)?;
    if sent == line.len() { Ok(()) } else { Err(rustix::io::Errno::MSGSIZE) }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixListener;

    use spec::{ControlAnswer, ControlRequest};

    use super::{Control, ControlError};

    /// What asking gives when the machine answers `answer`.
    fn answered(answer: &'static str) -> Result<ControlAnswer, ControlError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        let listener = UnixListener::bind(&path).unwrap();
        let machine = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            line
        });
        let result = Control::connect(&path).unwrap().ask(ControlRequest::Pause);
        assert_eq!(machine.join().unwrap(), "{\"command\":\"pause\"}\n");
        result
    }

    #[test]
    fn answers_are_told_apart() {
        assert!(matches!(answered("{\"answer\":\"done\"}\n"), Ok(ControlAnswer::Done)));
        for (answer, words) in [
            ("{\"answer\":\"error\",\"message\":\"no display\"}\n", "no display"),
            ("nonsense\n", "answered what is no answer"),
            ("", "does not answer"),
        ] {
            let error = answered(answer).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let error = Control::connect("/nowhere/control".as_ref()).unwrap_err().to_string();
        assert!(error.contains("no machine listens on /nowhere/control"), "{error}");
    }
}
