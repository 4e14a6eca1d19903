//! The Bochs display interface: registers that set a linear mode of any size (QEMU docs/specs/standard-vga.rst and
//! include/hw/display/bochs-vbe.h; Linux drivers/gpu/drm/tiny/bochs.c; SeaBIOS vgasrc/bochsvga.c).
//!
//! Pure. What a guest writes is kept as written; [`Dispi::mode`] makes of it what can be shown.

use super::video_memory::VIDEO_MEMORY;

/// The newest version there is, and what the id register says.
const VERSION: u16 = 0xb0c5;
const OLDEST: u16 = 0xb0c0;

/// Register numbers.
pub(super) mod index {
    pub(in super::super) const ID: u16 = 0;
    pub(in super::super) const WIDTH: u16 = 1;
    pub(in super::super) const HEIGHT: u16 = 2;
    pub(in super::super) const DEPTH: u16 = 3;
    pub(in super::super) const ENABLE: u16 = 4;
    pub(in super::super) const BANK: u16 = 5;
    pub(in super::super) const VIRTUAL_WIDTH: u16 = 6;
    pub(in super::super) const VIRTUAL_HEIGHT: u16 = 7;
    pub(in super::super) const X_OFFSET: u16 = 8;
    pub(in super::super) const Y_OFFSET: u16 = 9;
    pub(in super::super) const MEMORY_64K: u16 = 10;
}

/// Registers that keep what is written.
const KEPT: usize = 10;

/// Bits of the enable register.
mod enable {
    pub(super) const ENABLED: u16 = 0x01;
    pub(super) const CAPABILITIES: u16 = 0x02;
    pub(super) const DAC_8_BIT: u16 = 0x20;
    pub(super) const KEEP_MEMORY: u16 = 0x80;
}

/// Widest and highest mode: a picture of any mode then fits into the memory four bytes a pixel.
const WIDEST: u16 = 8192;
const HIGHEST: u16 = 8192;

/// Bytes of the legacy window's bank.
const BANK_BYTES: u64 = 64 << 10;

/// The registers.
#[derive(Clone, Debug)]
pub(super) struct Dispi {
    index: u16,
    registers: [u16; KEPT],
}

/// A linear mode that can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinearMode {
    /// Pixels in a line.
    pub(super) width: u32,
    /// Lines.
    pub(super) height: u32,
    /// Bits of a pixel: 8, 15, 16, 24 or 32.
    pub(super) depth: u16,
    /// Bytes from one line to the next.
    pub(super) stride: u64,
    /// Offset of the first pixel, in bytes.
    pub(super) start: u64,
}

impl Default for Dispi {
    fn default() -> Self {
        let mut registers = [0; KEPT];
        registers[usize::from(index::ID)] = VERSION;
        Self { index: 0, registers }
    }
}

impl Dispi {
    /// The register that the data port stands for.
    pub(super) fn index(&self) -> u16 {
        self.index
    }

    /// Chooses the register that the data port stands for.
    pub(super) fn set_index(&mut self, index: u16) {
        self.index = index;
    }

    /// Whether a linear mode is on, in place of the VGA's own.
    pub(super) fn is_enabled(&self) -> bool {
        self.at(index::ENABLE) & enable::ENABLED != 0
    }

    /// Whether colours of the palette have eight bits in place of six.
    pub(super) fn has_8_bit_dac(&self) -> bool {
        self.at(index::ENABLE) & enable::DAC_8_BIT != 0
    }

    /// Where the legacy window's first byte lies in memory.
    pub(super) fn bank_offset(&self) -> u64 {
        u64::from(self.at(index::BANK)) * BANK_BYTES
    }

    /// Reads a register; zero where there is none.
    pub(super) fn read(&self, index: u16) -> u16 {
        let capabilities = self.at(index::ENABLE) & enable::CAPABILITIES != 0;
        match index {
            index::WIDTH if capabilities => WIDEST,
            index::HEIGHT if capabilities => HIGHEST,
            index::DEPTH if capabilities => 32,
            index::MEMORY_64K => (VIDEO_MEMORY >> 16) as u16,
            _ => self.at(index),
        }
    }

    /// Writes a register; gives how many bytes of memory from its start are to be cleared.
    pub(super) fn write(&mut self, index: u16, value: u16) -> u64 {
        match index {
            // Software looks for the newest version that is there.
            index::ID if !(OLDEST..=VERSION).contains(&value) => {}
            index::ENABLE => return self.write_enable(value),
            index::BANK => self.set(index::BANK, value % (VIDEO_MEMORY / BANK_BYTES) as u16),
            _ => self.set(index, value),
        }
        0
    }

    fn write_enable(&mut self, value: u16) -> u64 {
        let was_on = self.is_enabled();
        self.set(index::ENABLE, value);
        self.set(index::BANK, 0);
        if was_on || !self.is_enabled() {
            return 0;
        }
        self.set(index::VIRTUAL_WIDTH, self.at(index::WIDTH));
        self.set(index::VIRTUAL_HEIGHT, self.at(index::HEIGHT));
        self.set(index::X_OFFSET, 0);
        self.set(index::Y_OFFSET, 0);
        match self.mode() {
            Some(mode) if value & enable::KEEP_MEMORY == 0 => mode.stride * u64::from(mode.height),
            _ => 0,
        }
    }

    /// The mode that is on, made to fit into the memory; `None` while the VGA's own is.
    pub(super) fn mode(&self) -> Option<LinearMode> {
        if !self.is_enabled() {
            return None;
        }
        let depth = match self.at(index::DEPTH) {
            depth @ (15 | 16 | 24 | 32) => depth,
            _ => 8,
        };
        let bytes = u64::from(depth.div_ceil(8));
        let width = (self.at(index::WIDTH).min(WIDEST) & !7).max(8);
        let virtual_width = (self.at(index::VIRTUAL_WIDTH).min(WIDEST) & !7).max(width);
        let stride = u64::from(virtual_width) * bytes;
        let fits = VIDEO_MEMORY / stride.max(u64::from(width) * 4);
        let height = u64::from(self.at(index::HEIGHT).clamp(1, HIGHEST)).min(fits);
        let start =
            u64::from(self.at(index::Y_OFFSET)) * stride + u64::from(self.at(index::X_OFFSET)) * bytes;
        // A picture that would begin past what is left begins as far down as it can.
        let start = start.min(VIDEO_MEMORY - height * stride);
        Some(LinearMode { width: width.into(), height: height as u32, depth, stride, start })
    }

    fn at(&self, index: u16) -> u16 {
        self.registers.get(usize::from(index)).copied().unwrap_or(0)
    }

    fn set(&mut self, index: u16, value: u16) {
        if let Some(register) = self.registers.get_mut(usize::from(index)) {
            *register = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::video_memory::VIDEO_MEMORY;
    use super::{Dispi, LinearMode, index};

    fn with(writes: &[(u16, u16)]) -> Dispi {
        let mut dispi = Dispi::default();
        for (index, value) in writes {
            dispi.write(*index, *value);
        }
        dispi
    }

    #[test]
    fn what_is_on_is_made_to_fit() {
        let mode =
            |width, height, depth, stride, start| Some(LinearMode { width, height, depth, stride, start });
        for (writes, expected) in [
            (&[(1, 640), (2, 480), (3, 32)][..], None),
            (&[(1, 640), (2, 480), (3, 32), (4, 0x41)], mode(640, 480, 32, 2560, 0)),
            (&[(1, 641), (2, 480), (3, 24), (4, 1)], mode(640, 480, 24, 1920, 0)),
            (
                &[(1, 640), (2, 480), (3, 16), (4, 1), (6, 1024), (8, 8), (9, 2)],
                mode(640, 480, 16, 2048, 4112),
            ),
            (&[(1, 640), (2, 480), (3, 15), (4, 1), (6, 8)], mode(640, 480, 15, 1280, 0)),
            (&[(1, 0), (2, 0), (3, 0), (4, 1)], mode(8, 1, 8, 8, 0)),
            (&[(1, 0xffff), (2, 0xffff), (3, 32), (4, 1)], mode(8192, 2048, 32, 32768, 0)),
            (
                &[(1, 640), (2, 480), (3, 8), (4, 1), (9, 0xffff), (6, 8192)],
                mode(640, 480, 8, 8192, VIDEO_MEMORY - 480 * 8192),
            ),
        ] {
            assert_eq!(with(writes).mode(), expected, "{writes:?}");
        }
    }

    #[test]
    fn switching_on_clears_the_picture_unless_told_otherwise() {
        for (value, clears) in [(0x01, 640 * 480 * 4), (0x81, 0), (0x40, 0)] {
            let mut dispi = with(&[(1, 640), (2, 480), (3, 32)]);
            assert_eq!(dispi.write(index::ENABLE, value), clears, "{value:#x}");
            assert_eq!(dispi.write(index::ENABLE, value), 0, "{value:#x} again");
        }
    }

    #[test]
    fn registers_read_back_and_tell_limits_when_asked() {
        let dispi = with(&[(0, 0xb0c4), (1, 800), (5, 0xffff), (99, 7)]);
        for (index, value) in [(0, 0xb0c4), (1, 800), (5, 0xffff % 1024), (10, 1024), (99, 0)] {
            assert_eq!(dispi.read(index), value, "{index}");
        }
        assert_eq!(with(&[(0, 0x1234)]).read(0), 0xb0c5);
        let asked = with(&[(4, 2)]);
        assert_eq!([asked.read(1), asked.read(2), asked.read(3)], [8192, 8192, 32]);
        assert!(!asked.is_enabled());
    }

    #[test]
    fn every_mode_lies_in_memory_and_its_picture_is_bounded() {
        let values = [0, 1, 7, 8, 640, 8192, 0x8000, 0xffff];
        for (width, height) in values.into_iter().flat_map(|width| values.map(|height| (width, height))) {
            for depth in [0, 8, 15, 16, 24, 32, 99] {
                for rest in values {
                    let dispi =
                        with(&[(1, width), (2, height), (3, depth), (4, 1), (6, rest), (8, rest), (9, rest)]);
                    let mode = dispi.mode().unwrap();
                    let end = mode.start + mode.stride * u64::from(mode.height);
                    assert!(end <= VIDEO_MEMORY && mode.height > 0, "{mode:?}");
                    assert!(u64::from(mode.width) * u64::from(mode.height) * 4 <= VIDEO_MEMORY, "{mode:?}");
                }
            }
        }
    }
}
