//! A client's end of a port: sends frames, and receives them through a thread of its own.

use crate::wire::{Decoder, Frame, Hello, greeting};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

/// The sending side; clones share the port.
#[derive(Debug, Clone)]
pub struct LineSender(Arc<Mutex<UnixStream>>);

impl LineSender {
    /// Sends a frame.
    pub fn send(&self, frame: &Frame) -> io::Result<()> {
        self.write(&frame.to_bytes())
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(bytes)
    }
}

/// A connection to init inside the host.
#[derive(Debug)]
pub struct Line {
    sender: LineSender,
    frames: Receiver<Frame>,
    number: u64,
}

impl Line {
    /// Connects to a port and greets; the answer comes when the host is up.
    pub fn connect(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        let mut reading = stream.try_clone()?;
        let (queue, frames) = mpsc::channel();
        thread::spawn(move || {
            let mut decoder = Decoder::new();
            let mut buffer = vec![0; 64 * 1024];
            // Ends when the emulator closes the socket or the line is dropped.
            while let Ok(count @ 1..) = reading.read(&mut buffer) {
                decoder.push(&buffer[..count]);
                // What cannot be read is the rest of a frame meant for an earlier client.
                while let Some(frame) = decoder.next_frame().transpose() {
                    if frame.is_ok_and(|frame| queue.send(frame).is_err()) {
                        return;
                    }
                }
            }
        });
        let line = Self { sender: LineSender(Arc::new(Mutex::new(stream))), frames, number: fresh_number() };
        line.sender.write(&greeting(&Frame::Attach(line.number)))?;
        Ok(line)
    }

    /// Greets again, which kills what runs for us; the answer is to be awaited anew.
    pub fn greet_again(&mut self) -> io::Result<()> {
        self.number = fresh_number();
        self.sender.write(&greeting(&Frame::Attach(self.number)))
    }

    /// Returns the answer to our greeting if `frame` is it.
    pub fn answer(&self, frame: Frame) -> Option<Hello> {
        match frame {
            Frame::Hello(hello) if hello.number == self.number => Some(hello),
            _ => None,
        }
    }

    /// Waits for the next frame.
    pub fn receive(&self, limit: Duration) -> Result<Frame, RecvTimeoutError> {
        self.frames.recv_timeout(limit)
    }

    /// Returns the sending side.
    pub fn sender(&self) -> &LineSender {
        &self.sender
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let stream = self.sender.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The reading thread holds a copy of the socket; this is what ends it, and tells init we are gone.
        let _ = stream.shutdown(std::net::Shutdown::Both);
    }
}

/// Makes a number no client of the same port used before.
fn fresh_number() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    (since.as_nanos() as u64) ^ (u64::from(std::process::id()) << 48)
}
