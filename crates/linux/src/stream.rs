//! One end of a connected stream socket to another program: bytes and open files go through it, and every wait has an end.
//!
//! Not here: what is said. The machine's TPM is the caller.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

use crate::EventFd;
use crate::event::{fd_of, monotonic_ns};

/// The end of a socket.
#[derive(Debug)]
pub struct Stream(OwnedFd);

/// What a wait came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// Bytes have come, or the other side is gone.
    Readable,
    /// The bell was rung; its signal is taken.
    Rung,
    /// Neither, until the time was up.
    TimeUp,
}

impl Stream {
    /// Uses a connected stream socket.
    ///
    /// # Errors
    /// When it cannot be told not to wait.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self(socket))
    }

    /// Makes two ends; the second is for another program.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (own, other) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        Ok((Self::new(own)?, other))
    }

    /// Sends all of `bytes`, with a file beside them. What another program leaves unread is an error, not a wait.
    ///
    /// # Errors
    /// What the kernel says; afterwards nobody knows how much has gone.
    pub fn send(&self, bytes: &[u8], file: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let files: Vec<_> = file.into_iter().collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if !files.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(&files)) {
            return Err(Errno::NOBUFS.into());
        }
        loop {
            match rustix::net::sendmsg(&self.0, &[IoSlice::new(bytes)], &mut beside, SendFlags::NOSIGNAL) {
                Ok(sent) if sent == bytes.len() => return Ok(()),
                Ok(_) => return Err(Errno::NOBUFS.into()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Takes bytes that have come: `None` when there are none now, 0 when the other side is gone.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            match rustix::net::recv(&self.0, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((read, _)) => return Ok(Some(read)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Waits for bytes or for the bell, whichever comes first, until `until_ns` of the monotonic clock.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn wait(&self, bell: &EventFd, until_ns: u64) -> io::Result<Waited> {
        let bell_fd = fd_of(bell);
        loop {
            let left = until_ns.saturating_sub(monotonic_ns());
            let timeout = Timespec {
                tv_sec: i64::try_from(left / 1_000_000_000).unwrap_or(i64::MAX),
                tv_nsec: (left % 1_000_000_000) as i64,
            };
            let mut polled = [PollFd::new(&bell_fd, PollFlags::IN), PollFd::new(&self.0, PollFlags::IN)];
            match rustix::event::poll(&mut polled, Some(&timeout)) {
                Ok(0) if left == 0 => return Ok(Waited::TimeUp),
                Ok(0) | Err(Errno::INTR) => continue,
                Ok(_) => {}
                Err(errno) => return Err(errno.into()),
            }
            // First: an order to end must not wait for a program that never stops talking.
            if !polled[0].revents().is_empty() {
                // Another reader may have been faster.
                let _ = bell.read();
                return Ok(Waited::Rung);
            }
            return Ok(Waited::Readable);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::{Stream, Waited};
    use crate::event::{monotonic_ns, new_event};

    #[test]
    fn a_wait_ends_by_bytes_by_the_bell_or_by_time() {
        let (own, other) = Stream::pair().unwrap();
        let mut other = UnixStream::from(other);
        let bell = new_event().unwrap();
        let later = monotonic_ns() + 60_000_000_000;
        assert_eq!(own.wait(&bell, monotonic_ns()).unwrap(), Waited::TimeUp);
        bell.write(1).unwrap();
        assert_eq!(own.wait(&bell, later).unwrap(), Waited::Rung);
        assert_eq!(own.wait(&bell, 0).unwrap(), Waited::TimeUp);
        let mut buffer = [0; 8];
        assert_eq!(own.receive(&mut buffer).unwrap(), None);
        other.write_all(b"abc").unwrap();
        assert_eq!(own.wait(&bell, later).unwrap(), Waited::Readable);
        assert_eq!((own.receive(&mut buffer).unwrap(), &buffer[..3]), (Some(3), &b"abc"[..]));
        drop(other);
        assert_eq!(own.wait(&bell, later).unwrap(), Waited::Readable);
        assert_eq!(own.receive(&mut buffer).unwrap(), Some(0));
    }

    #[test]
    fn bytes_arrive_whole_and_nobody_to_take_them_is_an_error() {
        let (own, other) = Stream::pair().unwrap();
        own.send(b"hello", None).unwrap();
        let mut other = UnixStream::from(other);
        let mut heard = [0; 5];
        other.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"hello");
        while own.send(&[0; 4096], None).is_ok() {}
        drop(other);
        own.send(b"hello", None).unwrap_err();
    }
}
