//! The network device (section 5.1): frames between two queues and a link of the host.
//!
//! No offloads: what the guest sends is what goes out, byte for byte. Not here: links (`linux::net`).

mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use linux::net::{FRAME_LIMIT, Link, Received};

use super::request::Request;
use super::{Broken, Kind, VirtioDevice};
pub(crate) use worker::serve_network;

const DEVICE_ID: u16 = 1;
/// An Ethernet controller.
const CLASS: u32 = 0x02_0000;
const QUEUE: u16 = 256;

/// Queues (section 5.1.2).
const RECEIVE: usize = 0;

/// Feature bits (section 5.1.3).
const MAC: u64 = 1 << 5;
const STATUS: u64 = 1 << 16;
const LINK_UP: u8 = 1;

/// Bytes before each frame (section 5.1.6); the last two count the buffers of a frame that comes.
const HEADER: usize = 12;
const HEADER_OF_ONE_BUFFER: [u8; HEADER] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];

/// The device.
pub(crate) struct Net {
    name: String,
    mac: [u8; 6],
    rom: Option<Arc<[u8]>>,
    link: Link,
    buffer: Vec<u8>,
    // Bytes of a frame in the buffer that waits for room in the guest.
    held: Option<usize>,
    waits: Waits,
}

/// What the device waits for, as its thread wants to know it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waits(Arc<WaitBits>);

#[derive(Debug, Default)]
struct WaitBits {
    for_room: AtomicBool,
    for_nothing: AtomicBool,
}

impl Waits {
    /// Whether a frame from the link would be taken now.
    fn for_frame(&self) -> bool {
        !self.0.for_room.load(Ordering::Acquire) && !self.0.for_nothing.load(Ordering::Acquire)
    }
}

impl Net {
    /// A network card with this address on `link`. `name` is in messages.
    pub(crate) fn new(name: String, mac: [u8; 6], link: Link) -> Self {
        Self { name, mac, rom: None, link, buffer: vec![0; FRAME_LIMIT], held: None, waits: Waits::default() }
    }

    /// The same with an option ROM, which firmware runs to start a system through it.
    pub(crate) fn with_rom(self, rom: Option<Arc<[u8]>>) -> Self {
        Self { rom, ..self }
    }

    /// What it waits for.
    pub(crate) fn waits(&self) -> Waits {
        self.waits.clone()
    }

    /// Another handle to what becomes readable when a frame comes.
    pub(crate) fn readable(&self) -> std::io::Result<std::os::fd::OwnedFd> {
        self.link.readable()
    }

    fn receive(&mut self, request: &Request<'_>) -> Result<u32, Broken> {
        let held = self.held.take();
        self.waits.0.for_room.store(false, Ordering::Release);
        let frame = held.and_then(|length| self.buffer.get(..length)).unwrap_or_default();
        let room = usize::try_from(request.writable.len()).unwrap_or(usize::MAX);
        if room < HEADER {
            return Err(Broken::Request);
        }
        // A frame that is longer than the guest's buffers is lost, as one that is longer than a wire's largest.
        if frame.is_empty() || room < HEADER + frame.len() {
            return Ok(0);
        }
        let mut whole = HEADER_OF_ONE_BUFFER.to_vec();
        whole.extend_from_slice(frame);
        Ok(request.writable.write(&whole) as u32)
    }

    fn send(&mut self, request: &Request<'_>) -> Result<u32, Broken> {
        let length = usize::try_from(request.readable.len()).unwrap_or(usize::MAX);
        if length < HEADER {
            return Err(Broken::Request);
        }
        if length - HEADER <= FRAME_LIMIT {
            let mut whole = vec![0; length];
            request.readable.read(&mut whole);
            self.link.send(whole.get(HEADER..).unwrap_or_default());
        }
        Ok(0)
    }
}

impl VirtioDevice for Net {
    fn kind(&self) -> Kind {
        let mut config = self.mac.to_vec();
        config.extend([LINK_UP, 0]);
        Kind {
            name: self.name.clone(),
            id: DEVICE_ID,
            class: CLASS,
            features: MAC | STATUS,
            queues: vec![QUEUE, QUEUE],
            frugal: false,
            config,
            rom: self.rom.clone(),
        }
    }

    fn is_ready(&mut self, queue: usize) -> bool {
        if queue != RECEIVE || self.held.is_some() {
            return true;
        }
        match self.link.receive(&mut self.buffer) {
            Received::Frame(length) => {
                self.held = Some(length);
                self.waits.0.for_room.store(true, Ordering::Release);
                true
            }
            Received::Nothing => false,
            Received::Closed => {
                self.waits.0.for_nothing.store(true, Ordering::Release);
                false
            }
        }
    }

    fn answer(&mut self, queue: usize, request: Request<'_>) -> Result<u32, Broken> {
        if queue == RECEIVE { self.receive(&request) } else { self.send(&request) }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use linux::net::{Link, StreamLink};

    use super::Net;
    use crate::virtio::testing::{Driver, Piece};
    use crate::virtio::{Broken, VirtioDevice};

    fn net() -> (UnixStream, Net) {
        let (other, own) = UnixStream::pair().unwrap();
        let link = Link::Stream(StreamLink::new(own.into()).unwrap());
        (other, Net::new("net0".to_owned(), [2, 0, 0, 0, 0, 1], link))
    }

    #[test]
    fn what_the_guest_sends_goes_out_without_its_header() {
        let (mut other, mut net) = net();
        let driver = Driver::new();
        driver.write(0x1_0000, &[0xee; 12]);
        driver.write(0x1_1000, b"frame");
        let pieces = [Piece::readable(0x1_0000, 12), Piece::readable(0x1_1000, 5)];
        assert_eq!(driver.with_request(&pieces, |request| net.answer(1, request)), Ok(0));
        let mut came = [0; 9];
        other.read_exact(&mut came).unwrap();
        assert_eq!(&came, b"\0\0\0\x05frame");
        for pieces in [vec![Piece::readable(0x1_0000, 11)], vec![Piece::writable(0x1_0000, 64)]] {
            let driver = Driver::new();
            let result = driver.with_request(&pieces, |request| net.answer(1, request));
            assert_eq!(result, Err(Broken::Request), "{pieces:?}");
        }
    }

    #[test]
    fn what_comes_waits_for_room_and_gets_a_header() {
        let (mut other, mut net) = net();
        assert!(!net.is_ready(0) && net.is_ready(1));
        assert!(net.waits().for_frame());
        other.write_all(b"\0\0\0\x05frame").unwrap();
        assert!(net.is_ready(0) && net.is_ready(0));
        assert!(!net.waits().for_frame(), "it holds one");
        let driver = Driver::new();
        let result =
            driver.with_request(&[Piece::writable(0x1_0000, 1526)], |request| net.answer(0, request));
        assert_eq!(result, Ok(17));
        let bytes: Vec<u8> = (0..17).map(|at| driver.byte(0x1_0000 + at)).collect();
        assert_eq!(bytes, b"\0\0\0\0\0\0\0\0\0\0\x01\0frame");
        assert!(net.waits().for_frame() && !net.is_ready(0));
        drop(other);
        assert!(!net.is_ready(0));
        assert!(!net.waits().for_frame(), "nobody is there any more");
    }

    #[test]
    fn buffers_without_room_lose_the_frame_and_nothing_else() {
        for (room, result) in [(12, Ok(0)), (16, Ok(0)), (11, Err(Broken::Request))] {
            let (mut other, mut net) = net();
            other.write_all(b"\0\0\0\x05frame").unwrap();
            assert!(net.is_ready(0));
            let driver = Driver::new();
            let pieces = [Piece::writable(0x1_0000, room)];
            assert_eq!(driver.with_request(&pieces, |request| net.answer(0, request)), result, "{room}");
            assert_eq!(driver.byte(0x1_0000), 0);
        }
    }
}
