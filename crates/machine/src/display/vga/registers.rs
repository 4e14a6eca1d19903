//! The registers behind ports 0x3B0 to 0x3DF.

use super::dac::Dac;

/// Bits that the sequencer's registers keep.
const SEQUENCER_MASK: [u8; 8] = [0x03, 0x3d, 0x0f, 0x3f, 0x0e, 0x00, 0x00, 0xff];
/// Bits that the graphics controller's registers keep.
const GRAPHICS_MASK: [u8; 9] = [0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff];
/// Registers of the CRT controller.
const CRTC_REGISTERS: usize = 0x19;
/// The register that protects those below 8.
const CRTC_PROTECT: usize = 0x11;
/// The register that keeps one bit writable then: bit 8 of the line compare.
const CRTC_OVERFLOW: usize = 0x07;

/// Miscellaneous output: ports 0x3Dx in place of 0x3Bx.
const MISC_COLOR: u8 = 0x01;
/// Status 1: vertical retrace, and display off.
const STATUS_RETRACE: u8 = 0x08;
const STATUS_BLANK: u8 = 0x01;
/// The attribute controller shows a picture.
const ATTRIBUTE_SHOW: u8 = 0x20;

/// The registers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Vga {
    misc: u8,
    feature: u8,
    status: u8,
    sequencer_index: u8,
    sequencer: [u8; 8],
    graphics_index: u8,
    graphics: [u8; 9],
    crtc_index: u8,
    crtc: [u8; CRTC_REGISTERS],
    attribute_index: u8,
    attribute: [u8; 0x15],
    // The next write to port 0x3C0 is data.
    attribute_data: bool,
    pub(crate) dac: Dac,
    // The four planes as the last read of the window found them.
    pub(super) latch: u32,
}

impl Vga {
    /// Reads a port.
    pub(crate) fn read_port(&mut self, port: u16) -> u8 {
        if self.is_elsewhere(port) {
            return 0xff;
        }
        match port {
            0x3c0 if self.attribute_data => 0,
            0x3c0 => self.attribute_index,
            0x3c1 => self.attribute(self.attribute_index & 0x1f),
            0x3c2 => 0,
            0x3c4 => self.sequencer_index,
            0x3c5 => self.sequencer(self.sequencer_index),
            0x3c7 => self.dac.state(),
            0x3c8 => self.dac.write_index(),
            0x3c9 => self.dac.read_data(),
            0x3ca => self.feature,
            0x3cc => self.misc,
            0x3ce => self.graphics_index,
            0x3cf => self.graphics(self.graphics_index),
            0x3b4 | 0x3d4 => self.crtc_index,
            0x3b5 | 0x3d5 => self.crtc(self.crtc_index),
            0x3ba | 0x3da => {
                self.attribute_data = false;
                // Software waits for a retrace to come and to go: each read is the other half of one.
                self.status ^= STATUS_RETRACE | STATUS_BLANK;
                self.status
            }
            _ => 0xff,
        }
    }

    /// Writes a port.
    pub(crate) fn write_port(&mut self, port: u16, value: u8) {
        if self.is_elsewhere(port) {
            return;
        }
        match port {
            0x3c0 => self.write_attribute(value),
            0x3c2 => self.misc = value & !0x10,
            0x3c4 => self.sequencer_index = value & 7,
            0x3c5 => put(&mut self.sequencer, self.sequencer_index, value, &SEQUENCER_MASK),
            0x3c7 => self.dac.begin_read(value),
            0x3c8 => self.dac.begin_write(value),
            0x3c9 => self.dac.write_data(value),
            0x3ce => self.graphics_index = value & 0x0f,
            0x3cf => put(&mut self.graphics, self.graphics_index, value, &GRAPHICS_MASK),
            0x3b4 | 0x3d4 => self.crtc_index = value,
            0x3b5 | 0x3d5 => self.write_crtc(value),
            0x3ba | 0x3da => self.feature = value & 0x10,
            _ => {}
        }
    }

    /// Whether the attribute controller shows nothing.
    pub(crate) fn is_blank(&self) -> bool {
        self.attribute_index & ATTRIBUTE_SHOW == 0
    }

    pub(crate) fn sequencer(&self, index: u8) -> u8 {
        self.sequencer.get(usize::from(index)).copied().unwrap_or(0)
    }

    pub(crate) fn graphics(&self, index: u8) -> u8 {
        self.graphics.get(usize::from(index)).copied().unwrap_or(0)
    }

    pub(crate) fn crtc(&self, index: u8) -> u8 {
        self.crtc.get(usize::from(index)).copied().unwrap_or(0)
    }

    pub(crate) fn attribute(&self, index: u8) -> u8 {
        self.attribute.get(usize::from(index)).copied().unwrap_or(0)
    }

    /// The ports of the monitor that is not connected: monochrome or colour.
    fn is_elsewhere(&self, port: u16) -> bool {
        if self.misc & MISC_COLOR != 0 {
            (0x3b0..=0x3bf).contains(&port)
        } else {
            (0x3d0..=0x3df).contains(&port)
        }
    }

    fn write_attribute(&mut self, value: u8) {
        if self.attribute_data {
            let index = usize::from(self.attribute_index & 0x1f);
            let mask = match index {
                0..=0x0f => 0x3f,
                0x10 => !0x10,
                0x11 => 0xff,
                0x12 => !0xc0,
                _ => 0x0f,
            };
            if let Some(register) = self.attribute.get_mut(index) {
                *register = value & mask;
            }
        } else {
            self.attribute_index = value & 0x3f;
        }
        self.attribute_data = !self.attribute_data;
    }

    fn write_crtc(&mut self, value: u8) {
        let index = usize::from(self.crtc_index);
        let protected = self.crtc.get(CRTC_PROTECT).is_some_and(|protect| protect & 0x80 != 0);
        let writable = match index {
            CRTC_OVERFLOW if protected => 0x10,
            0..=CRTC_OVERFLOW if protected => 0,
            _ => 0xff,
        };
        if let Some(register) = self.crtc.get_mut(index) {
            *register = *register & !writable | value & writable;
        }
    }
}

fn put(registers: &mut [u8], index: u8, value: u8, masks: &[u8]) {
    let index = usize::from(index);
    if let (Some(register), Some(mask)) = (registers.get_mut(index), masks.get(index)) {
        *register = value & mask;
    }
}

#[cfg(test)]
mod tests {
    use super::Vga;

    #[test]
    fn registers_keep_the_bits_they_have() {
        for (index_port, index, value, kept) in [
            (0x3c4, 0, 0xff, 0x03),
            (0x3c4, 4, 0xff, 0x0e),
            (0x3c4, 5, 0xff, 0x00),
            (0x3ce, 5, 0xff, 0x7b),
            (0x3ce, 8, 0xa5, 0xa5),
            (0x3ce, 15, 0xff, 0x00),
            (0x3d4, 0x18, 0xa5, 0xa5),
            (0x3d4, 0x19, 0xa5, 0x00),
            (0x3d4, 0xff, 0xa5, 0x00),
        ] {
            let mut vga = Vga::default();
            vga.write_port(0x3c2, 1);
            vga.write_port(index_port, index);
            vga.write_port(index_port + 1, value);
            assert_eq!(vga.read_port(index_port + 1), kept, "{index_port:#x} {index:#x}");
        }
    }

    #[test]
    fn one_of_the_two_monitors_ports_answers() {
        let mut vga = Vga::default();
        vga.write_port(0x3b4, 0x0c);
        assert_eq!((vga.read_port(0x3b4), vga.read_port(0x3d4)), (0x0c, 0xff));
        vga.write_port(0x3c2, 1);
        assert_eq!((vga.read_port(0x3b4), vga.read_port(0x3d4)), (0xff, 0x0c));
        assert_eq!(vga.read_port(0x3cc), 1);
    }

    #[test]
    fn the_attribute_port_takes_index_and_data_in_turn() {
        let mut vga = Vga::default();
        vga.write_port(0x3c2, 1);
        vga.write_port(0x3c0, 0x10);
        vga.write_port(0x3c0, 0xff);
        assert!(vga.is_blank());
        vga.write_port(0x3c0, 0x31);
        assert_eq!(vga.read_port(0x3c0), 0, "data is next");
        vga.read_port(0x3da);
        assert_eq!((vga.read_port(0x3c0), vga.is_blank()), (0x31, false));
        assert_eq!((vga.attribute(0x10), vga.attribute(0x1f)), (0xef, 0));
    }

    #[test]
    fn protection_keeps_the_timing_and_lets_the_line_compare_through() {
        let mut vga = Vga::default();
        vga.write_port(0x3c2, 1);
        for (index, value) in [(0x11, 0x80), (0x00, 0x55), (0x07, 0xff), (0x08, 0x12)] {
            vga.write_port(0x3d4, index);
            vga.write_port(0x3d5, value);
        }
        assert_eq!([vga.crtc(0), vga.crtc(7), vga.crtc(8)], [0, 0x10, 0x12]);
    }

    #[test]
    fn colours_are_written_and_read_three_bytes_each() {
        let mut vga = Vga::default();
        vga.write_port(0x3c8, 255);
        for value in [1, 2, 3, 4, 5, 6] {
            vga.write_port(0x3c9, value);
        }
        assert_eq!((vga.dac.color(255), vga.dac.color(0)), ([1, 2, 3], [4, 5, 6]));
        vga.write_port(0x3c7, 255);
        let read: Vec<u8> = (0..6).map(|_| vga.read_port(0x3c9)).collect();
        assert_eq!((read, vga.read_port(0x3c7)), (vec![1, 2, 3, 4, 5, 6], 3));
    }

    #[test]
    fn the_retrace_comes_and_goes() {
        let mut vga = Vga::default();
        assert_ne!(vga.read_port(0x3ba), vga.read_port(0x3ba));
    }
}
