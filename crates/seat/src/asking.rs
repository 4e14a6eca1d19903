//! Asking a seat that lives for something, and hearing what it does about it.

use std::io::Write;
use std::os::unix::net::UnixStream;

use linux::event::Signals;
use spec::SeatRequest;

use crate::lines::Lines;
pub use crate::lines::Next;
use crate::places::SeatPlaces;

/// A seat that was asked for something.
#[derive(Debug)]
pub struct Asking {
    lines: Lines,
}

/// Says `request` to the seat.
///
/// # Errors
/// What connecting to its socket comes to: `NotFound` and `ConnectionRefused` mean that it does not live.
pub fn ask(places: &SeatPlaces, request: SeatRequest) -> std::io::Result<Asking> {
    let mut stream = UnixStream::connect(places.requests())?;
    let line = serde_json::to_string(&request).map_err(std::io::Error::other)? + "\n";
    stream.write_all(line.as_bytes())?;
    Ok(Asking { lines: Lines::new(stream.into()) })
}

impl Asking {
    /// Waits for what happens next.
    pub fn next(&mut self, signals: Option<&Signals>) -> Next {
        self.lines.next(signals)
    }
}
