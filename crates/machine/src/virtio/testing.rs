//! The driver's side of a queue, for tests: puts descriptors and rings into memory as a guest would, sound or not.

use std::sync::Arc;

use linux::memory::{GuestAddress, GuestBytes, GuestMemory, GuestRam, PageKind, RamSpec};

use super::Broken;
use super::request::Request;
use super::ring::{Placement, Ring};

/// Where the queue lies, and its size.
pub(super) const PLACE: Placement =
    Placement { size: SIZE, descriptors: 0x1000, available: 0x2000, used: 0x3000 };
pub(super) const SIZE: u16 = 16;

/// RAM from 0 to here.
pub(super) const RAM: u64 = 0x10_0000;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
pub(super) const INDIRECT: u16 = 4;

/// A descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) address: u64,
    pub(super) len: u32,
    pub(super) flags: u16,
    pub(super) next: u16,
}

impl Piece {
    pub(super) fn readable(address: u64, len: u32) -> Self {
        Self { address, len, flags: 0, next: 0 }
    }

    pub(super) fn writable(address: u64, len: u32) -> Self {
        Self { address, len, flags: WRITE, next: 0 }
    }

    pub(super) fn bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.address.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.len.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.flags.to_le_bytes());
        bytes[14..].copy_from_slice(&self.next.to_le_bytes());
        bytes
    }
}

/// A guest's memory with a queue in it.
pub(super) struct Driver {
    pub(super) ram: Arc<GuestMemory>,
    _owner: GuestRam,
}

impl Driver {
    pub(super) fn new() -> Self {
        let spec = RamSpec { blocks: vec![0..RAM], pages: PageKind::Small, shared: false, prefault: false };
        let ram = GuestRam::allocate(&spec).unwrap();
        Self { ram: Arc::new(ram.view().clone()), _owner: ram }
    }

    pub(super) fn ring(&self) -> Ring {
        Ring::new(Arc::clone(&self.ram), &PLACE, 0).unwrap()
    }

    pub(super) fn write(&self, address: u64, bytes: &[u8]) {
        self.ram.write_slice(bytes, GuestAddress(address)).unwrap();
    }

    pub(super) fn word(&self, address: u64) -> u16 {
        self.ram.read_obj(GuestAddress(address)).unwrap()
    }

    pub(super) fn byte(&self, address: u64) -> u8 {
        self.ram.read_obj(GuestAddress(address)).unwrap()
    }

    /// Writes descriptor `index` as it is.
    pub(super) fn put(&self, index: u16, piece: Piece) {
        self.write(PLACE.descriptors + u64::from(index) * 16, &piece.bytes());
    }

    /// Writes a sound chain into the descriptors from `head` on.
    pub(super) fn chain(&self, head: u16, pieces: &[Piece]) {
        for (index, piece) in (head..).zip(pieces) {
            let last = usize::from(index - head) + 1 == pieces.len();
            let flags = piece.flags | if last { 0 } else { NEXT };
            self.put(index, Piece { flags, next: index + 1, ..*piece });
        }
    }

    /// Offers the chain that starts at `head`, as request number `number` from 0.
    pub(super) fn offer(&self, number: u16, head: u16) {
        self.write(PLACE.available + 4 + u64::from(number % SIZE) * 2, &head.to_le_bytes());
        self.write(PLACE.available + 2, &(number + 1).to_le_bytes());
    }

    /// Answers so far.
    pub(super) fn answers(&self) -> u16 {
        self.word(PLACE.used + 2)
    }

    /// Answer number `number`: the head of its chain and the bytes written.
    pub(super) fn answer(&self, number: u16) -> (u32, u32) {
        let at = PLACE.used + 4 + u64::from(number % SIZE) * 8;
        let read = |at| self.ram.read_obj(GuestAddress(at)).unwrap();
        (read(at), read(at + 4))
    }

    /// Lets `answer` have these pieces as a request.
    pub(super) fn with_request(
        &self,
        pieces: &[Piece],
        answer: impl FnMut(Request<'_>) -> Result<u32, Broken>,
    ) -> Result<u32, Broken> {
        self.chain(0, pieces);
        self.offer(0, 0);
        self.ring().serve(1, || true, answer, || ())?;
        Ok(self.answer(0).1)
    }
}
