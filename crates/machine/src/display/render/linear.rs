//! Linear modes: one pixel after another, of 8 to 32 bits.

use super::super::dispi::LinearMode;
use super::super::picture::{Picture, fill};
use super::super::video_memory::VideoMemory;

/// Draws the mode.
pub(super) fn draw(mode: &LinearMode, palette: &[[u8; 4]], memory: &VideoMemory) -> Picture {
    let mut picture = Picture::black(mode.width, mode.height);
    let mut line = vec![0; mode.width as usize * usize::from(mode.depth.div_ceil(8))];
    for (row, number) in picture.rows().zip(0_u64..) {
        memory.read(mode.start + number * mode.stride, &mut line);
        match mode.depth {
            8 => fill(
                row,
                line.iter().map(|index| palette.get(usize::from(*index)).copied().unwrap_or_default()),
            ),
            15 => fill(row, words(&line).map(|word| [five(word << 3), five(word >> 2), five(word >> 7), 0])),
            16 => fill(row, words(&line).map(|word| [five(word << 3), six(word >> 3), five(word >> 8), 0])),
            24 => fill(row, line.chunks_exact(3).map(|bytes| pad(bytes.iter().copied()))),
            _ => fill(row, line.chunks_exact(4).map(|bytes| pad(bytes.iter().take(3).copied()))),
        }
    }
    picture
}

fn words(line: &[u8]) -> impl Iterator<Item = u16> + '_ {
    line.chunks_exact(2).map(|pair| pair.iter().rev().fold(0, |word, byte| word << 8 | u16::from(*byte)))
}

/// The upper five bits of a byte, spread over all eight.
fn five(value: u16) -> u8 {
    let value = value as u8 & 0xf8;
    value | value >> 5
}

/// The upper six bits of a byte, spread over all eight.
fn six(value: u16) -> u8 {
    let value = value as u8 & 0xfc;
    value | value >> 6
}

fn pad(bytes: impl Iterator<Item = u8>) -> [u8; 4] {
    let mut pixel = [0; 4];
    for (place, byte) in pixel.iter_mut().zip(bytes) {
        *place = byte;
    }
    pixel
}

#[cfg(test)]
mod tests {
    use super::super::super::dispi::LinearMode;
    use super::super::super::video_memory::VideoMemory;
    use super::draw;

    #[test]
    fn pixels_of_every_depth_are_blue_green_red() {
        let mut palette = vec![[0; 4]; 256];
        palette[7] = [1, 2, 3, 0];
        for (depth, bytes, pixel) in [
            (8, &[7][..], [1, 2, 3, 0]),
            (15, &[0x1f, 0x00], [0xff, 0, 0, 0]),
            (15, &[0xe0, 0x03], [0, 0xff, 0, 0]),
            (15, &[0x00, 0x7c], [0, 0, 0xff, 0]),
            (16, &[0x1f, 0x00], [0xff, 0, 0, 0]),
            (16, &[0xe0, 0x07], [0, 0xff, 0, 0]),
            (16, &[0x00, 0xf8], [0, 0, 0xff, 0]),
            (24, &[4, 5, 6], [4, 5, 6, 0]),
            (32, &[4, 5, 6, 7], [4, 5, 6, 0]),
        ] {
            let memory = VideoMemory::allocate().unwrap();
            // The second pixel of the second line.
            memory.write(100 + 64 + bytes.len() as u64, bytes);
            let picture =
                draw(&LinearMode { width: 8, height: 2, depth, stride: 64, start: 100 }, &palette, &memory);
            assert_eq!((picture.width, picture.height), (8, 2));
            assert_eq!(picture.pixels[36..40], pixel, "{depth}");
            assert_eq!(picture.pixels[32..36], palette[0], "{depth}");
        }
    }
}
