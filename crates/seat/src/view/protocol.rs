//! What a viewer says, taken apart as its bytes come (RFC 6143, section 7.5).
//!
//! Pure. A message that makes no sense, or is longer than any viewer's, ends the conversation.

use super::encode::PixelFormat;

/// Something that a viewer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// How it wants pixels; `None` for a format there is not.
    Format(Option<PixelFormat>),
    /// The encodings it knows.
    Encodings(Vec<i32>),
    /// It wants a picture: all of it, or what changes.
    Update { incremental: bool },
    /// A key, as keysym.
    Key { keysym: u32, down: bool },
    /// A key, as scan code.
    ScanKey { scancode: u32, keysym: u32, down: bool },
    /// The pointer.
    Pointer { x: u16, y: u16, buttons: u8 },
    /// Text was cut; there is nowhere to paste it.
    CutText,
}

/// The viewer talks nonsense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("message {0} is none, or too long")]
pub(super) struct Nonsense(u8);

/// Encodings in one message at most; viewers know some twenty.
const ENCODINGS: u16 = 256;
/// Bytes of cut text at most.
const CUT_TEXT: u32 = 1 << 20;

/// Takes the first whole message off `bytes`; `None` when there is none yet.
pub(super) fn take(bytes: &mut Vec<u8>) -> Result<Option<Message>, Nonsense> {
    let Some(length) = length(bytes)? else { return Ok(None) };
    if bytes.len() < length {
        return Ok(None);
    }
    let message: Vec<u8> = bytes.drain(..length).collect();
    read(&message).map(Some)
}

/// The bytes of the message that begins here; `None` when that cannot be told yet.
fn length(bytes: &[u8]) -> Result<Option<usize>, Nonsense> {
    Ok(match *bytes {
        [] => None,
        [0, ..] => Some(20),
        [2, _, high, low, ..] => match u16::from_be_bytes([high, low]) {
            count if count > ENCODINGS => return Err(Nonsense(2)),
            count => Some(4 + usize::from(count) * 4),
        },
        [3, ..] => Some(10),
        [4, ..] => Some(8),
        [5, ..] => Some(6),
        [6, _, _, _, a, b, c, d, ..] => match u32::from_be_bytes([a, b, c, d]) {
            count if count > CUT_TEXT => return Err(Nonsense(6)),
            count => Some(8 + count as usize),
        },
        [255, 0, ..] => Some(12),
        [2 | 6 | 255] | [2 | 6, _, ..] => None,
        [other, ..] => return Err(Nonsense(other)),
    })
}

fn read(message: &[u8]) -> Result<Message, Nonsense> {
    let word = |at: usize| {
        message.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes)
    };
    let half = |at: usize| {
        message.get(at..at + 2).and_then(|bytes| bytes.try_into().ok()).map_or(0, u16::from_be_bytes)
    };
    Ok(match *message {
        [0, ..] => {
            let format = message.get(4..20).and_then(|bytes| bytes.try_into().ok());
            Message::Format(format.and_then(PixelFormat::read))
        }
        [2, ..] => {
            Message::Encodings((4..message.len()).step_by(4).map(|at| word(at).cast_signed()).collect())
        }
        [3, incremental, ..] => Message::Update { incremental: incremental != 0 },
        [4, down, ..] => Message::Key { keysym: word(4), down: down != 0 },
        [5, buttons, ..] => Message::Pointer { x: half(2), y: half(4), buttons },
        [6, ..] => Message::CutText,
        [255, 0, ..] => Message::ScanKey { scancode: word(8), keysym: word(4), down: half(2) != 0 },
        [other, ..] => return Err(Nonsense(other)),
        [] => return Err(Nonsense(0)),
    })
}

#[cfg(test)]
mod tests {
    use super::{Message, Nonsense, take};

    #[test]
    fn messages_are_taken_whole_and_in_order() {
        let whole = [
            2, 0, 0, 2, 0, 0, 0, 16, 0xff, 0xff, 0xff, 0x21, // encodings 16 and -223
            3, 1, 0, 0, 0, 0, 0, 1, 0, 1, // update
            4, 1, 0, 0, 0, 0, 0xff, 0x0d, // return
            5, 1, 0, 2, 0, 3, // pointer
            6, 0, 0, 0, 0, 0, 0, 2, b'h', b'i', // cut text
            255, 0, 0, 1, 0, 0, 0, 0x61, 0, 0, 0, 0x1e, // scan code
        ];
        let expected = [
            Message::Encodings(vec![16, -223]),
            Message::Update { incremental: true },
            Message::Key { keysym: 0xff0d, down: true },
            Message::Pointer { x: 2, y: 3, buttons: 1 },
            Message::CutText,
            Message::ScanKey { scancode: 0x1e, keysym: 0x61, down: true },
        ];
        // However the bytes come.
        for step in [1, 3, whole.len()] {
            let (mut bytes, mut found) = (Vec::new(), Vec::new());
            for piece in whole.chunks(step) {
                bytes.extend_from_slice(piece);
                while let Some(message) = take(&mut bytes).unwrap() {
                    found.push(message);
                }
            }
            assert_eq!(found, expected, "{step} at a time");
        }
    }

    #[test]
    fn nonsense_and_what_has_no_end_is_refused() {
        for (bytes, kind) in [
            (&[1][..], 1),
            (&[7, 0], 7),
            (&[255, 9], 255),
            (&[2, 0, 0xff, 0xff], 2),
            (&[6, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff], 6),
        ] {
            assert_eq!(take(&mut bytes.to_vec()), Err(Nonsense(kind)), "{bytes:?}");
        }
        assert_eq!(take(&mut vec![0; 20]), Ok(Some(Message::Format(None))));
    }
}
