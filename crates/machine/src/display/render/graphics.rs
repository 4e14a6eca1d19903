//! The VGA's graphics modes: four planes, CGA's two bits a pixel, and 256 colours.

use super::super::picture::{Picture, fill};
use super::super::vga::Vga;
use super::super::video_memory::VideoMemory;
use super::{Shape, palette, sixteen_colors};

/// How bytes of the planes become pixels.
#[derive(Clone, Copy)]
enum Packing {
    /// A bit of each plane makes a pixel: eight from four bytes.
    Planar,
    /// Two bits each from planes 0 and 2, then from 1 and 3: eight from four bytes.
    Pairs,
    /// A byte a pixel, shown twice as wide.
    Bytes,
}

/// Draws the picture.
pub(super) fn draw(vga: &Vga, memory: &VideoMemory) -> Picture {
    let shape = Shape::of(vga);
    let packing = match vga.graphics(5) >> 5 & 3 {
        0 => Packing::Planar,
        1 => Packing::Pairs,
        _ => Packing::Bytes,
    };
    // Half the dot clock: each pixel twice as wide.
    let wide = vga.sequencer(1) & 0x08 != 0 && !matches!(packing, Packing::Bytes);
    let width = shape.columns * if wide { 16 } else { 8 };
    let colors = Colors { sixteen: sixteen_colors(vga), all: palette(vga, false) };
    let enabled = vga.attribute(0x12);
    let mut picture = Picture::black(width, shape.lines);
    let mut rows = Rows::new(vga, &shape, packing);
    for line in picture.rows() {
        let at = rows.next_line();
        let groups = (0..u64::from(shape.columns)).map(|column| memory.planes(at / 4 + column));
        let pixels = groups.flat_map(|group| colors.of(packing, group.to_le_bytes(), enabled));
        if wide {
            fill(line, pixels.flat_map(|pixel| [pixel, pixel]));
        } else {
            fill(line, pixels);
        }
    }
    picture
}

struct Colors {
    sixteen: [[u8; 4]; 16],
    all: Vec<[u8; 4]>,
}

impl Colors {
    /// The eight pixels of four bytes, one of each plane.
    fn of(&self, packing: Packing, planes: [u8; 4], enabled: u8) -> [[u8; 4]; 8] {
        let sixteen = |index: u8| self.sixteen.get(usize::from(index & 0x0f)).copied().unwrap_or_default();
        let [first, second, third, fourth] = planes;
        std::array::from_fn(|x| match packing {
            Packing::Planar => {
                let bit = |index: usize| planes.get(index).map_or(0, |plane| plane >> (7 - x) & 1) << index;
                sixteen((bit(0) | bit(1) | bit(2) | bit(3)) & enabled)
            }
            Packing::Pairs => {
                let (low, high) = if x < 4 { (first, third) } else { (second, fourth) };
                let shift = 6 - 2 * (x % 4);
                sixteen((low >> shift & 3 | (high >> shift & 3) << 2) & enabled)
            }
            Packing::Bytes => {
                let index = planes.get(x / 2).copied().unwrap_or(0);
                self.all.get(usize::from(index)).copied().unwrap_or_default()
            }
        })
    }
}

/// Walks the memory of one scan line after another.
struct Rows {
    mode: u8,
    row_bytes: u64,
    split: u32,
    // Scan lines of one row of memory, less one.
    repeats: u32,
    line: u32,
    row: u64,
    start: u64,
    left: u32,
}

impl Rows {
    fn new(vga: &Vga, shape: &Shape, packing: Packing) -> Self {
        let cell = vga.crtc(0x09);
        let doubled = u32::from(cell >> 7);
        let repeats = match packing {
            Packing::Pairs => doubled,
            Packing::Planar | Packing::Bytes => ((u32::from(cell & 0x1f) + 1) << doubled) - 1,
        };
        Self {
            mode: vga.crtc(0x17),
            row_bytes: shape.row_bytes,
            split: shape.split,
            repeats,
            line: 0,
            row: 0,
            start: shape.start,
            left: repeats,
        }
    }

    /// The offset in memory of the next scan line.
    fn next_line(&mut self) -> u64 {
        let mut at = self.start;
        // CGA and Hercules keep odd rows elsewhere: address bits 13 and 14 come from the row's number.
        if self.mode & 1 == 0 {
            let shift = 14 + u64::from(self.mode >> 6 & 1);
            at = at & !(1 << shift) | (self.row & 1) << shift;
        }
        if self.mode & 2 == 0 {
            at = at & !0x8000 | (self.row & 2) << 14;
        }
        if self.left == 0 {
            let interleaved = u64::from(self.mode & 3 ^ 3);
            if self.row & interleaved == interleaved {
                self.start += self.row_bytes;
            }
            self.row += 1;
            self.left = self.repeats;
        } else {
            self.left -= 1;
        }
        if self.line == self.split {
            self.start = 0;
        }
        self.line += 1;
        at
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::vga::Vga;
    use super::super::super::video_memory::VideoMemory;
    use super::draw;

    /// A graphics mode of 8 by 4 pixels in which colour n of the palette is n times four.
    fn vga(registers: &[(u16, u8, u8)]) -> Vga {
        let mut vga = Vga::default();
        vga.write_port(0x3c2, 1);
        let common =
            [(0x3d4, 0x12, 3), (0x3d4, 0x17, 3), (0x3d4, 0x13, 1), (0x3d4, 0x18, 0xff), (0x3ce, 6, 1)];
        for (port, index, value) in common.iter().chain(registers) {
            vga.write_port(*port, *index);
            vga.write_port(*port + 1, *value);
        }
        vga.read_port(0x3da);
        for index in (0..16).chain([0x12]) {
            vga.write_port(0x3c0, index);
            vga.write_port(0x3c0, if index == 0x12 { 15 } else { index });
        }
        vga.write_port(0x3c8, 0);
        for color in 0..16 {
            for _ in 0..3 {
                vga.write_port(0x3c9, color);
            }
        }
        vga
    }

    fn row(picture: &super::Picture, line: usize) -> Vec<u8> {
        let bytes = picture.width as usize * 4;
        picture.pixels[line * bytes..(line + 1) * bytes].chunks(4).map(|pixel| pixel[0] / 4).collect()
    }

    #[test]
    fn planes_pairs_and_bytes_become_colours() {
        for (registers, planes, pixels) in [
            (&[][..], 0x00c0_0080_u32, vec![5, 4, 0, 0, 0, 0, 0, 0]),
            (&[(0x3ce, 5, 0x20)], 0x0040_10c0, vec![7, 0, 0, 0, 0, 1, 0, 0]),
            (&[(0x3ce, 5, 0x40)], 0x0403_0201, vec![1, 1, 2, 2, 3, 3, 4, 4]),
            (&[(0x3c4, 1, 8)], 0x0000_0080, vec![1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ] {
            let memory = VideoMemory::allocate().unwrap();
            memory.set_planes(2, planes);
            let picture = draw(&vga(registers), &memory);
            assert_eq!(picture.height, 4);
            assert_eq!(row(&picture, 1), pixels, "{registers:x?}");
        }
    }

    #[test]
    fn rows_repeat_and_the_split_begins_at_the_start_of_memory() {
        let memory = VideoMemory::allocate().unwrap();
        for (address, planes) in [(0, 0x01), (2, 0x02), (4, 0x03)] {
            memory.set_planes(address, planes);
        }
        for (registers, rows) in [
            (&[(0x3d4, 0x0d, 2)][..], [2, 3, 0, 0]),
            (&[(0x3d4, 0x09, 1)], [1, 1, 2, 2]),
            (&[(0x3d4, 0x09, 0x80)], [1, 1, 2, 2]),
            (&[(0x3d4, 0x0d, 4), (0x3d4, 0x18, 1), (0x3d4, 0x07, 0)], [3, 0, 1, 2]),
        ] {
            let registers: Vec<_> = [(0x3ce, 5, 0x40)].into_iter().chain(registers.iter().copied()).collect();
            let picture = draw(&vga(&registers), &memory);
            let seen: Vec<_> = (0..4).map(|line| row(&picture, line)[0]).collect();
            assert_eq!(seen, rows, "{registers:x?}");
        }
    }

    #[test]
    fn no_registers_make_a_picture_out_of_bounds() {
        for mode in [0x00, 0x20, 0x40] {
            let mut vga = vga(&[(0x3c4, 1, 0xff), (0x3ce, 5, mode)]);
            for index in 0..0x19 {
                vga.write_port(0x3d4, index);
                vga.write_port(0x3d5, if index == 0x11 { 0 } else { 0xff });
            }
            let picture = draw(&vga, &VideoMemory::allocate().unwrap());
            assert!(picture.pixels.len() <= 256 * 16 * 1024 * 4, "{} by {}", picture.width, picture.height);
        }
    }
}
