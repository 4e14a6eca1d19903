//! The window at 0xA0000: how a byte there reaches the four planes (chained, odd and even, or by write modes).

use super::super::video_memory::VideoMemory;
use super::Vga;

/// Spreads the low four bits over four bytes: which planes a register names.
fn planes_of(bits: u8) -> u32 {
    (0..4).filter(|plane| bits & 1 << plane != 0).fold(0, |planes, plane| planes | 0xff << (8 * plane))
}

/// The same byte in all planes.
fn in_all(byte: u8) -> u32 {
    u32::from(byte) * 0x0101_0101
}

impl Vga {
    /// Reads the byte at an offset from 0xA0000.
    pub(crate) fn read_window(&mut self, memory: &VideoMemory, offset: u64) -> u8 {
        let Some(address) = self.decode(offset) else { return 0xff };
        if self.is_chained() {
            return memory.byte(address);
        }
        if self.is_odd_even() {
            return memory.byte(self.odd_even(address).1);
        }
        self.latch = memory.planes(address);
        let [_, _, compare, _, plane, mode, _, care, _] = self.graphics_registers();
        if mode & 0x08 == 0 {
            return self.latch.to_le_bytes().get(usize::from(plane & 3)).copied().unwrap_or(0);
        }
        let differs = (self.latch ^ planes_of(compare)) & planes_of(care);
        !differs.to_le_bytes().into_iter().fold(0, |all, plane| all | plane)
    }

    /// Writes the byte at an offset from 0xA0000.
    pub(crate) fn write_window(&mut self, memory: &VideoMemory, offset: u64, value: u8) {
        let Some(address) = self.decode(offset) else { return };
        let enabled = self.sequencer(2);
        if self.is_chained() {
            if enabled & 1 << (address & 3) != 0 {
                memory.set_byte(address, value);
            }
        } else if self.is_odd_even() {
            let (plane, at) = self.odd_even(address);
            if enabled & 1 << plane != 0 {
                memory.set_byte(at, value);
            }
        } else {
            let written = self.combine(value);
            let enabled = planes_of(enabled);
            memory.set_planes(address, memory.planes(address) & !enabled | written & enabled);
        }
    }

    /// What a write in one of the four modes puts into the planes, before the plane mask.
    fn combine(&self, value: u8) -> u32 {
        let [set, enable_set, _, rotate, _, mode, _, _, mask] = self.graphics_registers();
        let rotated = value.rotate_right(u32::from(rotate & 7));
        let (data, mask) = match mode & 3 {
            0 => {
                let enabled = planes_of(enable_set);
                (in_all(rotated) & !enabled | planes_of(set) & enabled, mask)
            }
            1 => return self.latch,
            2 => (planes_of(value & 0x0f), mask),
            _ => (planes_of(set), mask & rotated),
        };
        let data = match rotate >> 3 {
            0 => data,
            1 => data & self.latch,
            2 => data | self.latch,
            _ => data ^ self.latch,
        };
        let mask = in_all(mask);
        data & mask | self.latch & !mask
    }

    /// The address in the window as the memory map register places it; `None` outside.
    fn decode(&self, offset: u64) -> Option<u64> {
        let (start, len) = match self.graphics(6) >> 2 & 3 {
            0 => (0, 0x2_0000),
            1 => (0, 0x1_0000),
            2 => (0x1_0000, 0x8000),
            _ => (0x1_8000, 0x8000),
        };
        offset.checked_sub(start).filter(|address| *address < len)
    }

    fn is_chained(&self) -> bool {
        self.sequencer(4) & 0x08 != 0
    }

    fn is_odd_even(&self) -> bool {
        self.graphics(5) & 0x10 != 0
    }

    /// The plane of an address in odd and even mode, and where the byte lies in memory.
    fn odd_even(&self, address: u64) -> (u8, u64) {
        let plane = self.graphics(4) & 2 | (address & 1) as u8;
        (plane, (address & !1) << 1 | u64::from(plane))
    }

    fn graphics_registers(&self) -> [u8; 9] {
        std::array::from_fn(|index| self.graphics(index as u8))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::video_memory::VideoMemory;
    use super::Vga;

    /// A VGA with these registers of sequencer (port 0x3C4) and graphics controller (0x3CE).
    fn vga(registers: &[(u16, u8, u8)]) -> Vga {
        let mut vga = Vga::default();
        for (port, index, value) in registers {
            vga.write_port(*port, *index);
            vga.write_port(*port + 1, *value);
        }
        vga
    }

    const SEQUENCER: u16 = 0x3c4;
    const GRAPHICS: u16 = 0x3ce;

    #[test]
    fn text_mode_puts_characters_and_attributes_into_planes_0_and_1() {
        let memory = VideoMemory::allocate().unwrap();
        let mut vga = vga(&[(SEQUENCER, 2, 3), (GRAPHICS, 5, 0x10), (GRAPHICS, 6, 0x0e)]);
        vga.write_window(&memory, 0x1_8000, b'A');
        vga.write_window(&memory, 0x1_8001, 0x07);
        vga.write_window(&memory, 0x1_8002, b'B');
        vga.write_window(&memory, 0x0_0000, b'X');
        assert_eq!((memory.planes(0), memory.planes(1), memory.planes(2)), (0x0741, u32::from(b'B'), 0));
        assert_eq!(vga.read_window(&memory, 0x1_8001), 0x07);
        assert_eq!(vga.read_window(&memory, 0x1_0000), 0xff, "not where the memory map says");
    }

    #[test]
    fn write_modes_combine_value_latch_and_masks() {
        for (registers, value, planes) in [
            // Mode 0: all planes; rotated; set and reset; masked bits; plane mask; and, or, xor with the latch.
            (&[][..], 0x81, 0x8181_8181_u32),
            (&[(GRAPHICS, 3, 1)], 0x81, 0xc0c0_c0c0),
            (&[(GRAPHICS, 0, 5), (GRAPHICS, 1, 15)], 0x81, 0x00ff_00ff),
            (&[(GRAPHICS, 8, 0x0f)], 0x81, 0x4131_2111),
            (&[(SEQUENCER, 2, 8)], 0x81, 0x8133_2211),
            (&[(GRAPHICS, 3, 0x08)], 0x0f, 0x0403_0201),
            (&[(GRAPHICS, 3, 0x10)], 0x0f, 0x4f3f_2f1f),
            (&[(GRAPHICS, 3, 0x18)], 0x0f, 0x4b3c_2d1e),
            // Mode 1: the latch. Mode 2: a colour. Mode 3: set and reset through the value.
            (&[(GRAPHICS, 5, 1)], 0xff, 0x4433_2211),
            (&[(GRAPHICS, 5, 2)], 0x0a, 0xff00_ff00),
            (&[(GRAPHICS, 5, 3), (GRAPHICS, 0, 15)], 0xf0, 0xf4f3_f2f1),
        ] {
            let memory = VideoMemory::allocate().unwrap();
            memory.set_planes(0x123, 0x4433_2211);
            let mut vga = vga(&[(SEQUENCER, 2, 15), (GRAPHICS, 8, 0xff)]);
            for (port, index, value) in registers {
                vga.write_port(*port, *index);
                vga.write_port(*port + 1, *value);
            }
            vga.read_window(&memory, 0x123);
            vga.write_window(&memory, 0x123, value);
            assert_eq!(memory.planes(0x123), planes, "{registers:x?}");
        }
    }

    #[test]
    fn reads_choose_a_plane_or_compare_colours() {
        let memory = VideoMemory::allocate().unwrap();
        memory.set_planes(7, 0x00ff_0ff0);
        for (registers, value) in [
            (&[(GRAPHICS, 4, 1)][..], 0x0f),
            (&[(GRAPHICS, 4, 3)], 0x00),
            // Bits whose colour is 5 in planes 0 to 2: plane 0 and 2 set, plane 1 clear.
            (&[(GRAPHICS, 5, 8), (GRAPHICS, 2, 5), (GRAPHICS, 7, 7)], 0xf0),
            (&[(GRAPHICS, 5, 8), (GRAPHICS, 7, 0)], 0xff),
        ] {
            assert_eq!(vga(registers).read_window(&memory, 7), value, "{registers:x?}");
        }
    }

    #[test]
    fn chained_bytes_lie_one_after_another() {
        let memory = VideoMemory::allocate().unwrap();
        let mut vga = vga(&[(SEQUENCER, 4, 8), (SEQUENCER, 2, 15), (GRAPHICS, 6, 4)]);
        for offset in [0, 5, 0xffff, 0x1_0000, u64::MAX] {
            vga.write_window(&memory, offset, 0x42);
        }
        assert_eq!(
            [memory.byte(0), memory.byte(5), memory.byte(0xffff), memory.byte(0x1_0000)],
            [0x42, 0x42, 0x42, 0]
        );
        assert_eq!(vga.read_window(&memory, u64::MAX), 0xff);
    }
}
