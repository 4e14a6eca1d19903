//! A command as the guest wrote it, and how it is answered (NVM Express 1.4, sections 4.2, 4.6 and 6). Pure.

/// Bytes of a command, and of an answer.
pub(super) const COMMAND_BYTES: u64 = 64;
pub(super) const ANSWER_BYTES: u64 = 16;

/// Why a command failed: code, and its kind above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status(pub(super) u16);

impl Status {
    pub(super) const OPCODE: Self = Self(0x0001);
    pub(super) const FIELD: Self = Self(0x0002);
    pub(super) const TRANSFER: Self = Self(0x0004);
    pub(super) const ABORTED_BY_DELETION: Self = Self(0x0008);
    pub(super) const NAMESPACE: Self = Self(0x000b);
    pub(super) const PROTECTED: Self = Self(0x0020);
    pub(super) const RANGE: Self = Self(0x0080);
    pub(super) const QUEUE_COMPLETION: Self = Self(0x0100);
    pub(super) const QUEUE_ID: Self = Self(0x0101);
    pub(super) const QUEUE_SIZE: Self = Self(0x0102);
    pub(super) const EVENT_LIMIT: Self = Self(0x0105);
    pub(super) const VECTOR: Self = Self(0x0108);
    pub(super) const LOG_PAGE: Self = Self(0x0109);
    pub(super) const QUEUE_DELETION: Self = Self(0x010c);
    pub(super) const WRITE_FAULT: Self = Self(0x0280);
    pub(super) const READ_ERROR: Self = Self(0x0281);
}

/// What becomes of a command: a word for its answer, or a failure.
pub(super) type Result = std::result::Result<u32, Status>;

/// A command.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Command {
    pub(super) opcode: u8,
    pub(super) id: u16,
    pub(super) namespace: u32,
    pub(super) pages: [u64; 2],
    /// Words 10 to 15.
    pub(super) words: [u32; 6],
    /// Data is described by a list that we do not read, or the command is one of two.
    pub(super) is_foreign: bool,
}

impl Command {
    /// Takes a command apart.
    pub(super) fn read(bytes: &[u8; COMMAND_BYTES as usize]) -> Self {
        let word = |index: usize| {
            let mut value = [0; 4];
            value.copy_from_slice(bytes.get(index * 4..index * 4 + 4).unwrap_or(&[0; 4]));
            u32::from_le_bytes(value)
        };
        let [opcode, flags, id_low, id_high] = word(0).to_le_bytes();
        let pair = |index| u64::from(word(index)) | u64::from(word(index + 1)) << 32;
        Self {
            opcode,
            id: u16::from_le_bytes([id_low, id_high]),
            namespace: word(1),
            pages: [pair(6), pair(8)],
            words: [word(10), word(11), word(12), word(13), word(14), word(15)],
            is_foreign: flags & 0xc3 != 0,
        }
    }

    /// The first block, and the number of blocks.
    pub(super) fn blocks(&self) -> (u64, u64) {
        let [low, high, count, ..] = self.words;
        (u64::from(low) | u64::from(high) << 32, u64::from(count & 0xffff) + 1)
    }
}

/// An answer: the command's id and result, where its queue has got to, and the phase of the round.
pub(super) fn answer(result: Result, id: u16, queue: (u16, u16), phase: bool) -> [u8; ANSWER_BYTES as usize] {
    let (word, status) = match result {
        Ok(word) => (word, 0),
        // Trying again would not help.
        Err(Status(status)) => (0, status | 1 << 14),
    };
    let (number, head) = queue;
    let mut bytes = [0; ANSWER_BYTES as usize];
    let words = [
        word,
        0,
        u32::from(head) | u32::from(number) << 16,
        u32::from(id) | u32::from(phase) << 16 | u32::from(status) << 17,
    ];
    for (place, byte) in bytes.iter_mut().zip(words.iter().flat_map(|word| word.to_le_bytes())) {
        *place = byte;
    }
    bytes
}
