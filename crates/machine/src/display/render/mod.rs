//! What the card shows: the picture that its registers make of its memory.
//!
//! Drawn whole when somebody looks; a card that nobody looks at costs nothing. Every picture is bounded: linear modes by
//! the memory they must fit into, the VGA's own by the widths of its registers. Pure but for the memory it reads.

mod graphics;
mod linear;
mod text;

use super::dispi::Dispi;
use super::picture::{Picture, pixel};
use super::vga::Vga;
use super::video_memory::VideoMemory;

/// Draws what is shown now.
pub(super) fn draw(vga: &Vga, dispi: &Dispi, memory: &VideoMemory) -> Picture {
    if vga.is_blank() {
        return Picture::dark();
    }
    match dispi.mode() {
        Some(mode) => linear::draw(&mode, &palette(vga, dispi.has_8_bit_dac()), memory),
        None if vga.graphics(6) & 1 != 0 => graphics::draw(vga, memory),
        None => text::draw(vga, memory),
    }
}

/// The palette's colours as pixels.
fn palette(vga: &Vga, eight_bits: bool) -> Vec<[u8; 4]> {
    (0..=255)
        .map(|index| {
            let color = vga.dac.color(index);
            pixel(if eight_bits { color } else { color.map(from_6_bits) })
        })
        .collect()
}

/// The sixteen colours of text and planar modes: each a register that names one of the palette's.
fn sixteen_colors(vga: &Vga) -> [[u8; 4]; 16] {
    let (mode, select) = (vga.attribute(0x10), vga.attribute(0x14));
    std::array::from_fn(|index| {
        let value = vga.attribute(index as u8);
        let index = if mode & 0x80 != 0 {
            (select & 0x0f) << 4 | value & 0x0f
        } else {
            (select & 0x0c) << 4 | value & 0x3f
        };
        pixel(vga.dac.color(index).map(from_6_bits))
    })
}

fn from_6_bits(value: u8) -> u8 {
    let value = value & 0x3f;
    value << 2 | value >> 4
}

/// What the CRT controller says of the picture's shape.
struct Shape {
    /// Characters, or bytes of a plane, in a line.
    columns: u32,
    /// Scan lines.
    lines: u32,
    /// Bytes of memory from one row to the next.
    row_bytes: u64,
    /// Offset of the first row in memory, in bytes.
    start: u64,
    /// The scan line after which the picture goes on at offset 0.
    split: u32,
}

impl Shape {
    fn of(vga: &Vga) -> Self {
        let bits = |index: u8| u32::from(vga.crtc(index));
        let (overflow, cell) = (bits(0x07), bits(0x09));
        Self {
            columns: bits(0x01) + 1,
            lines: (bits(0x12) | (overflow & 0x02) << 7 | (overflow & 0x40) << 3) + 1,
            row_bytes: u64::from(vga.crtc(0x13)) * 8,
            start: u64::from(bits(0x0c) << 8 | bits(0x0d)) * 4,
            split: bits(0x18) | (overflow & 0x10) << 4 | (cell & 0x40) << 3,
        }
    }
}
