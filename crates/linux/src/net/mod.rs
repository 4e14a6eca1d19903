//! Ethernet frames in and out of this process: a tap interface of the host, or the socket of a user-mode network (passt).
//!
//! Not here: whose frames they are, and what a guest may send.

mod stream;
mod tap;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

pub use stream::StreamLink;
pub use tap::{TapError, TapLink, open_tap};

/// Bytes of a frame at most: a packet of 64 KiB and its headers.
pub const FRAME_LIMIT: usize = 65_536 + 14 + 4;

/// What asking for a frame came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// A frame of so many bytes.
    Frame(usize),
    /// None now.
    Nothing,
    /// None any more: the other side is gone.
    Closed,
}

/// A way for frames. No call waits.
#[derive(Debug)]
pub enum Link {
    /// A tap interface.
    Tap(TapLink),
    /// A stream with a length before each frame.
    Stream(StreamLink),
}

impl Link {
    /// Sends a frame, or loses it where there is no room, as a wire does.
    pub fn send(&mut self, frame: &[u8]) {
        match self {
            Self::Tap(link) => link.send(frame),
            Self::Stream(link) => link.send(frame),
        }
    }

    /// Receives a frame into `buffer`, which has room for [`FRAME_LIMIT`] bytes.
    pub fn receive(&mut self, buffer: &mut [u8]) -> Received {
        match self {
            Self::Tap(link) => link.receive(buffer),
            Self::Stream(link) => link.receive(buffer),
        }
    }

    /// Another handle to what becomes readable when there is a frame.
    pub fn readable(&self) -> io::Result<std::os::fd::OwnedFd> {
        let fd: BorrowedFd<'_> = match self {
            Self::Tap(link) => link.as_fd(),
            Self::Stream(link) => link.as_fd(),
        };
        fd.try_clone_to_owned()
    }
}
