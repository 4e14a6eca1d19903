//! The stream of a user-mode network: each frame with its length before it, 32 bits, highest byte first (passt(1), and
//! QEMU docs/system/devices/net.rst, "stream").

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::{FRAME_LIMIT, Received};

const LENGTH: usize = 4;
/// Bytes asked of the kernel at once.
const READ: usize = 64 << 10;

/// The stream.
#[derive(Debug)]
pub struct StreamLink {
    socket: OwnedFd,
    // What came and is not a whole frame yet; what did not go out whole.
    received: Vec<u8>,
    unsent: Vec<u8>,
    closed: bool,
}

impl StreamLink {
    /// Uses a connected stream socket.
    ///
    /// # Errors
    /// When it cannot be told not to wait.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self { socket, received: Vec::new(), unsent: Vec::new(), closed: false })
    }

    pub(super) fn send(&mut self, frame: &[u8]) {
        // A frame that was begun must end before the next; while it cannot, there is no room.
        if self.closed || frame.len() > FRAME_LIMIT || !self.flush() {
            return;
        }
        self.unsent.extend((frame.len() as u32).to_be_bytes());
        self.unsent.extend_from_slice(frame);
        let before = self.unsent.len();
        self.flush();
        if self.unsent.len() == before {
            // Nothing of it has gone: it can still be lost whole.
            self.unsent.clear();
        }
    }

    /// Sends what is left; true when nothing is.
    fn flush(&mut self) -> bool {
        while !self.unsent.is_empty() {
            match rustix::net::send(&self.socket, &self.unsent, SendFlags::NOSIGNAL) {
                Ok(sent) => drop(self.unsent.drain(..sent.min(self.unsent.len()))),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN | Errno::NOBUFS) => return false,
                Err(_) => {
                    self.closed = true;
                    self.unsent.clear();
                }
            }
        }
        true
    }

    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> Received {
        loop {
            if let Some(received) = self.take(buffer) {
                return received;
            }
            let mut bytes = [0; READ];
            match rustix::net::recv(&self.socket, &mut bytes, RecvFlags::DONTWAIT) {
                Ok((0, _)) => self.closed = true,
                Ok((read, _)) => self.received.extend_from_slice(bytes.get(..read).unwrap_or_default()),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Received::Nothing,
                Err(_) => self.closed = true,
            }
        }
    }

    /// Takes a whole frame off what came.
    fn take(&mut self, buffer: &mut [u8]) -> Option<Received> {
        let length = self.received.first_chunk::<LENGTH>().map(|length| u32::from_be_bytes(*length) as usize);
        match length {
            // A length that no frame has: from here on nothing can be understood.
            Some(length) if length > FRAME_LIMIT || length > buffer.len() => self.closed = true,
            Some(length) if self.received.len() >= LENGTH + length => {
                let frame = self.received.get(LENGTH..LENGTH + length).unwrap_or_default();
                if let Some(place) = buffer.get_mut(..length) {
                    place.copy_from_slice(frame);
                }
                self.received.drain(..LENGTH + length);
                return Some(Received::Frame(length));
            }
            _ => {}
        }
        self.closed.then_some(Received::Closed)
    }
}

impl AsFd for StreamLink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::{FRAME_LIMIT, Received, StreamLink};

    fn pair() -> (UnixStream, StreamLink) {
        let (other, own) = UnixStream::pair().unwrap();
        (other, StreamLink::new(own.into()).unwrap())
    }

    #[test]
    fn frames_come_whole_however_their_bytes_come() {
        let (mut other, mut link) = pair();
        let mut buffer = vec![0; FRAME_LIMIT];
        for byte in [0, 0, 0, 3, b'a', b'b'] {
            other.write_all(&[byte]).unwrap();
            assert_eq!(link.receive(&mut buffer), Received::Nothing);
        }
        other.write_all(&[b'c', 0, 0, 0, 0, 0, 0, 0, 1, b'd']).unwrap();
        for (length, bytes) in [(3, &b"abc"[..]), (0, b""), (1, b"d")] {
            assert_eq!(link.receive(&mut buffer), Received::Frame(length));
            assert_eq!(&buffer[..length], bytes);
        }
        drop(other);
        assert_eq!(link.receive(&mut buffer), Received::Closed);
    }

    #[test]
    fn a_length_that_no_frame_has_ends_the_link() {
        let (mut other, mut link) = pair();
        other.write_all(&[0xff; 64]).unwrap();
        for _ in 0..2 {
            assert_eq!(link.receive(&mut vec![0; FRAME_LIMIT]), Received::Closed);
        }
        link.send(b"nobody");
    }

    #[test]
    fn frames_are_lost_whole_when_nobody_takes_them() {
        let (mut other, mut link) = pair();
        let frame = [7; 1500];
        for _ in 0..10_000 {
            link.send(&frame);
        }
        assert!(link.unsent.len() <= 1504);
        other.set_nonblocking(true).unwrap();
        let mut came = Vec::new();
        let _ = other.read_to_end(&mut came);
        link.send(&frame);
        let _ = other.read_to_end(&mut came);
        assert!(came.len() > 1504 && came.len().is_multiple_of(1504), "{}", came.len());
        assert!(came.chunks(1504).all(|one| one[..4] == [0, 0, 5, 0xdc] && one[4..] == frame));
    }
}
