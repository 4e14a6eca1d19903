//! The memory of the emulated graphics card: the guest has it as a BAR, the legacy window and the picture read it here.
//!
//! It outlives a reset, as the chips of a card do. Not here: what its bytes mean.

use linux::memory::{AllocateRamError, GuestAddress, GuestBytes, GuestRam, MappingRange, PageKind, RamSpec};

/// Bytes of it: enough for a picture of 3840 by 2160.
pub(crate) const VIDEO_MEMORY: u64 = 64 << 20;

/// The memory.
#[derive(Debug)]
pub(crate) struct VideoMemory {
    ram: GuestRam,
}

impl VideoMemory {
    /// Makes it, all zero; no page is touched.
    pub(crate) fn allocate() -> Result<Self, AllocateRamError> {
        let spec = RamSpec {
            blocks: vec![0..VIDEO_MEMORY],
            pages: PageKind::Transparent,
            shared: false,
            prefault: false,
        };
        Ok(Self { ram: GuestRam::allocate(&spec)? })
    }

    /// The host memory, to be shown to the guest.
    pub(crate) fn mapping(&self) -> Option<&MappingRange> {
        self.ram.blocks().first().map(|block| &block.memory)
    }

    /// The byte at an offset; past the end zero.
    pub(crate) fn byte(&self, at: u64) -> u8 {
        self.ram.view().read_obj(GuestAddress(at)).unwrap_or(0)
    }

    /// Writes a byte; past the end it vanishes.
    pub(crate) fn set_byte(&self, at: u64, byte: u8) {
        let _ = self.ram.view().write_obj(byte, GuestAddress(at));
    }

    /// The four planes at a legacy address, plane 0 in the lowest byte; past the end zero.
    pub(crate) fn planes(&self, address: u64) -> u32 {
        let at = GuestAddress(address.saturating_mul(4));
        u32::from_le(self.ram.view().read_obj(at).unwrap_or(0))
    }

    /// Writes the four planes at a legacy address; past the end they vanish.
    pub(crate) fn set_planes(&self, address: u64, planes: u32) {
        let _ = self.ram.view().write_obj(planes.to_le(), GuestAddress(address.saturating_mul(4)));
    }

    /// Fills `bytes` from an offset; what lies past the end is zero.
    pub(crate) fn read(&self, at: u64, bytes: &mut [u8]) {
        bytes.fill(0);
        let there = usize::try_from(VIDEO_MEMORY.saturating_sub(at)).unwrap_or(0).min(bytes.len());
        if let Some(bytes) = bytes.get_mut(..there) {
            let _ = self.ram.view().read_slice(bytes, GuestAddress(at));
        }
    }

    /// Writes `bytes` at an offset; what lies past the end vanishes.
    pub(crate) fn write(&self, at: u64, bytes: &[u8]) {
        let there = usize::try_from(VIDEO_MEMORY.saturating_sub(at)).unwrap_or(0).min(bytes.len());
        if let Some(bytes) = bytes.get(..there) {
            let _ = self.ram.view().write_slice(bytes, GuestAddress(at));
        }
    }

    /// Makes the first `len` bytes zero.
    pub(crate) fn clear(&self, len: u64) {
        const STEP: usize = 64 << 10;
        let zeros = [0; STEP];
        for at in (0..len.min(VIDEO_MEMORY)).step_by(STEP) {
            let step = usize::try_from(len - at).unwrap_or(STEP).min(STEP);
            self.write(at, zeros.get(..step).unwrap_or_default());
        }
    }
}
