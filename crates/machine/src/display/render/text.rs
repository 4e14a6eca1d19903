//! Text modes: characters and attributes in planes 0 and 1, the font in plane 2.

use super::super::picture::{Picture, fill};
use super::super::vga::Vga;
use super::super::video_memory::VideoMemory;
use super::{Shape, sixteen_colors};

/// Bytes of one font in the interleaved planes, and of one character of it.
const FONT_BYTES: u64 = 8192 * 4;
const GLYPH_BYTES: u64 = 32 * 4;
/// The plane that holds fonts.
const FONT_PLANE: u64 = 2;

/// Characters whose ninth column repeats the eighth: lines and boxes that must meet.
const LINE_DRAWING: std::ops::RangeInclusive<u8> = 0xb0..=0xdf;

/// What one character cell shows.
struct Cell {
    ch: u8,
    attribute: u8,
    /// Offset in memory.
    at: u64,
}

/// Draws the text.
pub(super) fn draw(vga: &Vga, memory: &VideoMemory) -> Picture {
    let shape = Shape::of(vga);
    let cell_height = u32::from(vga.crtc(0x09) & 0x1f) + 1;
    let cell_width = if vga.sequencer(1) & 1 != 0 { 8 } else { 9 };
    let rows = shape.lines / cell_height;
    if rows == 0 {
        return Picture::dark();
    }
    let text = Text::of(vga, memory);
    let mut picture = Picture::black(shape.columns * cell_width, rows * cell_height);
    for (line, number) in picture.rows().zip(0_u32..) {
        let at = shape.start + u64::from(number / cell_height) * shape.row_bytes;
        let scan = number % cell_height;
        let pixels = (0..u64::from(shape.columns)).flat_map(|column| {
            let at = at + column * 4;
            let [ch, attribute, ..] = memory.planes(at / 4).to_le_bytes();
            let (bits, front, back) = text.scan_line(&Cell { ch, attribute, at }, scan);
            (0..cell_width).map(move |x| if bits & 0x100 >> x != 0 { front } else { back })
        });
        fill(line, pixels);
    }
    picture
}

/// What the registers say of how characters look.
struct Text<'a> {
    memory: &'a VideoMemory,
    colors: [[u8; 4]; 16],
    fonts: [u64; 2],
    lines_meet: bool,
    blinks: bool,
    cursor: Option<(u64, std::ops::RangeInclusive<u8>)>,
}

impl<'a> Text<'a> {
    fn of(vga: &Vga, memory: &'a VideoMemory) -> Self {
        let select = vga.sequencer(3);
        let font = |high: u8, low: u8| u64::from(select >> high & 1 | (select >> low & 3) << 1) * FONT_BYTES;
        let (start, end) = (vga.crtc(0x0a), vga.crtc(0x0b) & 0x1f);
        let place = u64::from(vga.crtc(0x0e)) << 8 | u64::from(vga.crtc(0x0f));
        let mode = vga.attribute(0x10);
        Self {
            memory,
            colors: sixteen_colors(vga),
            // Attribute bit 3 chooses: clear the first (map B's bits 4, 1:0), set the second (map A's bits 5, 3:2).
            fonts: [font(4, 0), font(5, 2)],
            lines_meet: mode & 0x04 != 0,
            blinks: mode & 0x08 != 0,
            cursor: (start & 0x20 == 0).then_some((place * 4, start & 0x1f..=end)),
        }
    }

    /// One scan line of a character: nine bits from the left, and the colours of ones and zeros.
    fn scan_line(&self, cell: &Cell, scan: u32) -> (u32, [u8; 4], [u8; 4]) {
        let color = |index: u8| self.colors.get(usize::from(index & 0x0f)).copied().unwrap_or_default();
        let front = color(cell.attribute);
        // A blinking character is shown all the time: a picture has no time.
        let back = color(cell.attribute >> 4 & if self.blinks { 7 } else { 15 });
        let under_cursor = self.cursor.as_ref().is_some_and(|(at, lines)| {
            *at == cell.at && u8::try_from(scan).is_ok_and(|scan| lines.contains(&scan))
        });
        if under_cursor {
            return (0x1ff, front, back);
        }
        let [first, second] = self.fonts;
        let font = if cell.attribute & 0x08 != 0 { second } else { first };
        let row = font + u64::from(cell.ch) * GLYPH_BYTES + u64::from(scan) * 4 + FONT_PLANE;
        let bits = u32::from(self.memory.byte(row));
        let ninth = if self.lines_meet && LINE_DRAWING.contains(&cell.ch) { bits & 1 } else { 0 };
        (bits << 1 | ninth, front, back)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::vga::Vga;
    use super::super::super::video_memory::VideoMemory;
    use super::draw;

    /// A text mode of 2 by 1 characters of 16 lines, with white as colour 7 and a font whose only glyph is `A`.
    fn machine(registers: &[(u16, u8, u8)]) -> (Vga, VideoMemory) {
        let mut vga = Vga::default();
        vga.write_port(0x3c2, 1);
        for (port, index, value) in
            [(0x3d4, 0x01, 1), (0x3d4, 0x12, 15), (0x3d4, 0x09, 15), (0x3d4, 0x13, 1), (0x3d4, 0x0a, 0x20)]
                .iter()
                .chain(registers)
        {
            vga.write_port(*port, *index);
            vga.write_port(*port + 1, *value);
        }
        for value in [7, 7] {
            vga.write_port(0x3c0, value);
        }
        vga.write_port(0x3c8, 7);
        for _ in 0..3 {
            vga.write_port(0x3c9, 0x3f);
        }
        let memory = VideoMemory::allocate().unwrap();
        memory.set_byte(u64::from(b'A') * 128 + 4 + 2, 0x81);
        memory.set_planes(1, 0x0741);
        (vga, memory)
    }

    /// The columns of a scan line that are lit.
    fn lit(picture: &super::Picture, line: usize) -> Vec<usize> {
        let width = picture.width as usize;
        (0..width).filter(|x| picture.pixels[(line * width + x) * 4] == 0xff).collect()
    }

    #[test]
    fn characters_are_drawn_from_the_font_in_their_colours() {
        for (registers, width, columns) in [(&[][..], 18, vec![9, 16]), (&[(0x3c4, 1, 1)], 16, vec![8, 15])] {
            let (vga, memory) = machine(registers);
            let picture = draw(&vga, &memory);
            assert_eq!((picture.width, picture.height), (width, 16));
            assert_eq!((lit(&picture, 1), lit(&picture, 0)), (columns, vec![]));
        }
    }

    #[test]
    fn the_cursor_covers_its_lines_of_one_cell() {
        let (vga, memory) = machine(&[(0x3d4, 0x0a, 14), (0x3d4, 0x0b, 15), (0x3d4, 0x0f, 1)]);
        let picture = draw(&vga, &memory);
        assert_eq!((lit(&picture, 14), lit(&picture, 13)), ((9..18).collect(), vec![]));
    }

    #[test]
    fn no_registers_make_a_picture_out_of_bounds() {
        let mut vga = Vga::default();
        vga.write_port(0x3c2, 1);
        for index in 0..0x19 {
            vga.write_port(0x3d4, index);
            vga.write_port(0x3d5, if index == 0x11 { 0 } else { 0xff });
        }
        let picture = draw(&vga, &VideoMemory::allocate().unwrap());
        assert!(picture.pixels.len() <= 256 * 9 * 1024 * 4, "{} by {}", picture.width, picture.height);
    }
}
