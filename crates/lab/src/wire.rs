//! The line between the lab and the init inside the virtual host: frames over a virtio-serial port.
//!
//! A frame is one byte of kind, four bytes of payload length (little-endian), and the payload. A zero byte where a
//! kind is due is padding. A client begins with [`greeting`]: more padding than any frame is long, so that a
//! frame cut short by an earlier client ends in it, then an `Attach` with a number of its own; everything before
//! the `Hello` that repeats the number was meant for somebody else. The same holds the other way.

use serde::{Deserialize, Serialize};

/// Longest payload of a frame.
pub const PAYLOAD_LIMIT: usize = 32 * 1024;
/// Name of the first port; ports are numbered so that several clients can work side by side.
pub const PORT_PREFIX: &str = "allod.lab.";
/// Number of ports, and so of clients at a time.
pub const PORT_COUNT: usize = 4;
/// Seconds between two signs of life from the host's init.
pub const BEAT_SECONDS: u64 = 1;

const HEADER_LEN: usize = 5;
const PADDING: u8 = 0;

/// One message of either side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// To init: a new client with its number; whatever ran for the last one on this port is killed.
    Attach(u64),
    /// From init: the answer, repeating the number.
    Hello(Hello),
    /// To init: run a command.
    Run(Request),
    /// To init: bytes for the command's standard input.
    Input(Vec<u8>),
    /// To init: the end of standard input.
    InputEnd,
    /// To init: send a signal to the command's process group.
    Signal(i32),
    /// To init: the terminal has another size, columns and rows.
    Resize(u16, u16),
    /// From init: bytes of standard output (or of the terminal).
    Output(Vec<u8>),
    /// From init: bytes of standard error.
    Error(Vec<u8>),
    /// From init: the command is over and all it wrote was sent.
    Exit(Exit),
    /// From init: still alive.
    Beat,
}

/// What init says of itself when a client attaches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The client's number.
    pub number: u64,
    /// Stages of the start and the host's uptime at each, in milliseconds.
    pub stages: Vec<(String, u64)>,
}

/// A command to run inside the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Variables added to its environment.
    pub environment: Vec<(String, String)>,
    /// Its working folder; the share if there is one, else root's home.
    pub directory: Option<String>,
    /// Columns and rows of a terminal to run it on; none for plain pipes.
    pub terminal: Option<(u16, u16)>,
    /// Says that the client will send input; otherwise it is empty from the start.
    #[serde(default)]
    pub open_input: bool,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// With an exit status.
    Status(i32),
    /// By a signal.
    Signal(i32),
    /// It could not be started.
    NotStarted(String),
}

/// A stream of bytes that is no sequence of frames.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A kind nobody sends.
    #[error("a frame of unknown kind {0:#04x} on the lab's line")]
    Kind(u8),
    /// A length above [`PAYLOAD_LIMIT`].
    #[error("a frame of {0} bytes on the lab's line")]
    Length(usize),
    /// A payload that does not fit its kind.
    #[error("a frame of kind {0:#04x} with a payload that cannot be read")]
    Payload(u8),
}

impl Frame {
    /// Returns the frame as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (kind, payload) = match self {
            Self::Attach(number) => (1, number.to_le_bytes().to_vec()),
            Self::Hello(hello) => (2, json(hello)),
            Self::Run(request) => (3, json(request)),
            Self::Input(bytes) => (4, bytes.clone()),
            Self::InputEnd => (5, Vec::new()),
            Self::Signal(number) => (6, number.to_le_bytes().to_vec()),
            Self::Output(bytes) => (7, bytes.clone()),
            Self::Error(bytes) => (8, bytes.clone()),
            Self::Exit(exit) => (9, json(exit)),
            Self::Beat => (10, Vec::new()),
            Self::Resize(columns, rows) => (11, [columns.to_le_bytes(), rows.to_le_bytes()].concat()),
        };
        debug_assert!(payload.len() <= PAYLOAD_LIMIT, "frames are cut by whoever makes them");
        let mut bytes = vec![kind];
        bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&payload);
        bytes
    }

    fn parse(kind: u8, payload: &[u8]) -> Result<Self, WireError> {
        let bad = || WireError::Payload(kind);
        Ok(match kind {
            1 => Self::Attach(u64::from_le_bytes(payload.try_into().map_err(|_| bad())?)),
            2 => Self::Hello(serde_json::from_slice(payload).map_err(|_| bad())?),
            3 => Self::Run(serde_json::from_slice(payload).map_err(|_| bad())?),
            4 => Self::Input(payload.to_vec()),
            5 => Self::InputEnd,
            6 => Self::Signal(i32::from_le_bytes(payload.try_into().map_err(|_| bad())?)),
            7 => Self::Output(payload.to_vec()),
            8 => Self::Error(payload.to_vec()),
            9 => Self::Exit(serde_json::from_slice(payload).map_err(|_| bad())?),
            10 => Self::Beat,
            11 => match *payload {
                [a, b, c, d] => Self::Resize(u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])),
                _ => return Err(bad()),
            },
            _ => return Err(WireError::Kind(kind)),
        })
    }
}

/// Returns padding followed by a frame: the first thing either side sends to a new partner.
pub fn greeting(frame: &Frame) -> Vec<u8> {
    let mut bytes = vec![PADDING; PAYLOAD_LIMIT + HEADER_LEN];
    bytes.extend_from_slice(&frame.to_bytes());
    bytes
}

/// Cuts a stream of bytes into frames.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
}

impl Decoder {
    /// Makes a decoder at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes as they arrive.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Takes the next whole frame out, if there is one.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, WireError> {
        let padding = self.buffer.iter().take_while(|byte| **byte == PADDING).count();
        self.buffer.drain(..padding);
        let Some(header) = self.buffer.first_chunk::<HEADER_LEN>() else { return Ok(None) };
        let [kind, length @ ..] = *header;
        let length = u32::from_le_bytes(length) as usize;
        if length > PAYLOAD_LIMIT {
            return Err(WireError::Length(length));
        }
        let Some(payload) = self.buffer.get(HEADER_LEN..HEADER_LEN + length) else { return Ok(None) };
        let frame = Frame::parse(kind, payload);
        self.buffer.drain(..HEADER_LEN + length);
        frame.map(Some)
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // Plain structs of strings and numbers: serde_json has no way to fail on them.
    serde_json::to_vec(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{Decoder, Exit, Frame, Hello, PAYLOAD_LIMIT, Request, WireError, greeting};

    fn decode(bytes: &[u8], step: usize) -> Vec<Frame> {
        let mut decoder = Decoder::new();
        let mut frames = Vec::new();
        for piece in bytes.chunks(step) {
            decoder.push(piece);
            while let Some(frame) = decoder.next_frame().unwrap() {
                frames.push(frame);
            }
        }
        frames
    }

    #[test]
    fn every_frame_survives_the_line_in_pieces_of_any_size() {
        let frames = vec![
            Frame::Attach(u64::MAX),
            Frame::Hello(Hello { number: 7, stages: vec![("init".into(), 12)] }),
            Frame::Run(Request {
                command: vec!["a b".into()],
                terminal: Some((80, 25)),
                ..Request::default()
            }),
            Frame::Input(vec![0; PAYLOAD_LIMIT]),
            Frame::InputEnd,
            Frame::Signal(-1),
            Frame::Resize(80, 513),
            Frame::Output(b"out".to_vec()),
            Frame::Error(Vec::new()),
            Frame::Exit(Exit::NotStarted("no such file".into())),
            Frame::Beat,
        ];
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::to_bytes).collect();
        for step in [1, 3, 4096, bytes.len()] {
            assert_eq!(decode(&bytes, step), frames, "in pieces of {step}");
        }
    }

    #[test]
    fn a_frame_cut_anywhere_does_not_swallow_the_next_greeting() {
        let whole = Frame::Input(vec![9; 100]).to_bytes();
        for cut in 0..whole.len() {
            let mut bytes = whole[..cut].to_vec();
            bytes.extend(greeting(&Frame::Attach(42)));
            let frames = decode(&bytes, 1000);
            assert_eq!(frames.last(), Some(&Frame::Attach(42)), "cut after {cut} bytes");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let rows: [(&[u8], WireError); 3] = [
            (&[99, 0, 0, 0, 0], WireError::Kind(99)),
            (&[4, 0xff, 0xff, 0xff, 0xff], WireError::Length(u32::MAX as usize)),
            (&[1, 1, 0, 0, 0, 0], WireError::Payload(1)),
        ];
        for (bytes, expected) in rows {
            let mut decoder = Decoder::new();
            decoder.push(bytes);
            assert_eq!(decoder.next_frame(), Err(expected));
        }
    }
}
