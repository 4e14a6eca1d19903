//! Pixels as a viewer wants them, and which part of a picture is new.

use crate::picture::Picture;

/// A viewer's pixel format (RFC 6143, section 7.4): true colour only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PixelFormat {
    pub(super) bytes: usize,
    pub(super) big_endian: bool,
    /// Largest values of red, green and blue.
    pub(super) max: [u16; 3],
    /// Where red, green and blue begin, as bits.
    pub(super) shift: [u8; 3],
}

/// Ours: that of the machine's pictures.
pub(super) const OURS: PixelFormat =
    PixelFormat { bytes: 4, big_endian: false, max: [255; 3], shift: [16, 8, 0] };

/// Width and height of the squares that are compared and sent.
pub(super) const TILE: u32 = 64;

/// A rectangle of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Area {
    pub(super) x: u32,
    pub(super) y: u32,
    pub(super) width: u32,
    pub(super) height: u32,
}

impl PixelFormat {
    /// Reads the 16 bytes of a format; `None` for a palette or a depth that is none.
    pub(super) fn read(bytes: [u8; 16]) -> Option<Self> {
        let [bits, _, big, true_color, r0, r1, g0, g1, b0, b1, red, green, blue, ..] = bytes;
        let max = [[r0, r1], [g0, g1], [b0, b1]].map(u16::from_be_bytes);
        let shift = [red, green, blue];
        let sound = matches!(bits, 8 | 16 | 32) && true_color != 0 && shift.iter().all(|shift| *shift < bits);
        sound.then_some(Self { bytes: usize::from(bits / 8), big_endian: big != 0, max, shift })
    }

    /// The 16 bytes of a format.
    pub(super) fn bytes(&self) -> [u8; 16] {
        let [red, green, blue] = self.max.map(u16::to_be_bytes);
        let [rs, gs, bs] = self.shift;
        [
            self.bytes as u8 * 8,
            24,
            u8::from(self.big_endian),
            1,
            red[0],
            red[1],
            green[0],
            green[1],
            blue[0],
            blue[1],
            rs,
            gs,
            bs,
            0,
            0,
            0,
        ]
    }

    /// Appends an area of a picture, row by row.
    pub(super) fn append(&self, picture: &Picture, area: Area, out: &mut Vec<u8>) {
        for y in area.y..area.y + area.height {
            let row = row(picture, area, y);
            if *self == OURS {
                out.extend_from_slice(row);
            } else {
                row.chunks_exact(4).for_each(|pixel| self.append_pixel(pixel, out));
            }
        }
    }

    fn append_pixel(&self, pixel: &[u8], out: &mut Vec<u8>) {
        let colors = pixel.iter().take(3).rev();
        let value = colors.zip(self.max).zip(self.shift).fold(0_u32, |value, ((color, max), shift)| {
            value | (u32::from(*color) * u32::from(max) / 255).wrapping_shl(shift.into())
        });
        let little = value.to_le_bytes();
        let used = little.get(..self.bytes).unwrap_or_default();
        if self.big_endian {
            out.extend(used.iter().rev());
        } else {
            out.extend_from_slice(used);
        }
    }
}

/// The tiles of `new` that differ from `old`; all of them when the size does.
pub(super) fn changed(old: Option<&Picture>, new: &Picture) -> Vec<Area> {
    let old = old.filter(|old| (old.width, old.height) == (new.width, new.height));
    let mut areas = Vec::new();
    for y in (0..new.height).step_by(TILE as usize) {
        for x in (0..new.width).step_by(TILE as usize) {
            let area = Area { x, y, width: TILE.min(new.width - x), height: TILE.min(new.height - y) };
            let same = old.is_some_and(|old| {
                (y..y + area.height).all(|line| row(old, area, line) == row(new, area, line))
            });
            if !same {
                areas.push(area);
            }
        }
    }
    areas
}

/// The pixels of one row of an area.
fn row(picture: &Picture, area: Area, y: u32) -> &[u8] {
    let at = |x: u32| (y as usize * picture.width as usize + x as usize) * 4;
    picture.pixels.get(at(area.x)..at(area.x + area.width)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{Area, OURS, PixelFormat, changed};
    use crate::picture::Picture;

    fn picture(width: u32, height: u32) -> Picture {
        Picture { width, height, pixels: vec![0; (width * height * 4) as usize] }
    }

    #[test]
    fn pixels_are_as_the_viewer_wants_them() {
        let source = Picture { width: 1, height: 1, pixels: vec![0x00, 0x80, 0xff, 0x55] };
        let format = |bits: usize, big, max: [u16; 3], shift| PixelFormat {
            bytes: bits / 8,
            big_endian: big,
            max,
            shift,
        };
        for (format, bytes) in [
            (OURS, &[0x00, 0x80, 0xff, 0x55][..]),
            (format(32, true, [255; 3], [16, 8, 0]), &[0x00, 0xff, 0x80, 0x00]),
            (format(16, false, [31, 63, 31], [11, 5, 0]), &[0xe0, 0xfb]),
            (format(8, false, [7, 7, 3], [0, 3, 6]), &[0x1f]),
        ] {
            assert_eq!(PixelFormat::read(format.bytes()), Some(format));
            let mut out = Vec::new();
            format.append(&source, Area { x: 0, y: 0, width: 1, height: 1 }, &mut out);
            assert_eq!(out, bytes, "{format:?}");
        }
        for (place, value) in [(0, 24), (3, 0), (10, 32), (0, 0)] {
            let mut bytes = OURS.bytes();
            bytes[place] = value;
            assert_eq!(PixelFormat::read(bytes), None);
        }
    }

    #[test]
    fn only_tiles_that_differ_are_sent() {
        let old = picture(130, 65);
        let mut new = old.clone();
        assert_eq!(changed(Some(&old), &new), []);
        new.pixels[(64 * 130 + 129) * 4] = 1;
        assert_eq!(changed(Some(&old), &new), [Area { x: 128, y: 64, width: 2, height: 1 }]);
        assert_eq!(changed(None, &new).len(), 6);
        assert_eq!(changed(Some(&picture(64, 64)), &new).len(), 6);
    }
}
