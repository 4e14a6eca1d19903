//! Pixels in memory, and the few shapes a scene is made of. Clips everything; knows nothing of scenes.

use font8x8::{BASIC_FONTS, UnicodeFonts};

/// Width and height of a glyph before it is scaled, in pixels.
pub const GLYPH: u32 = 8;
/// Bytes of a pixel: blue, green, red, unused (DRM's XRGB8888 in little endian).
pub const PIXEL: usize = 4;

/// A colour without transparency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Color {
    /// Red, 0 to 255.
    pub red: u8,
    /// Green, 0 to 255.
    pub green: u8,
    /// Blue, 0 to 255.
    pub blue: u8,
}

impl Color {
    /// What text and the disc are drawn in.
    pub const WHITE: Self = Self { red: 255, green: 255, blue: 255 };

    /// Returns the fully saturated colour of a hue in degrees, at a brightness in percent.
    ///
    /// The usual hexagon: one channel is full, one is empty, one rises or falls over 60 degrees.
    pub fn of_hue(hue: u16, percent: u16) -> Self {
        let hue = u32::from(hue % 360);
        let full = 255 * u32::from(percent.min(100)) / 100;
        let rising = full * (hue % 60) / 60;
        let (red, green, blue) = match hue / 60 {
            0 => (full, rising, 0),
            1 => (full - rising, full, 0),
            2 => (0, full, rising),
            3 => (0, full - rising, full),
            4 => (rising, 0, full),
            _ => (full, 0, full - rising),
        };
        Self { red: red as u8, green: green as u8, blue: blue as u8 }
    }
}

/// A rectangle in pixels; may lie outside of the canvas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Area {
    /// First column.
    pub x: u32,
    /// First line.
    pub y: u32,
    /// Columns.
    pub width: u32,
    /// Lines.
    pub height: u32,
}

/// A picture in memory, one line every `pitch` bytes.
#[derive(Debug)]
pub struct Canvas<'a> {
    bytes: &'a mut [u8],
    width: u32,
    height: u32,
    pitch: usize,
}

impl<'a> Canvas<'a> {
    /// Takes memory as a picture; lines that do not fit in the memory are cut off.
    pub fn new(bytes: &'a mut [u8], width: u32, height: u32, pitch: usize) -> Self {
        let pitch = pitch.max(width as usize * PIXEL).max(PIXEL);
        let lines = u32::try_from(bytes.len() / pitch).unwrap_or(u32::MAX);
        Self { bytes, width, height: height.min(lines), pitch }
    }

    /// Returns width and height in pixels.
    pub fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// Returns the colour of a pixel, if it is on the canvas.
    pub fn pixel(&self, x: u32, y: u32) -> Option<Color> {
        let at = self.offset(x, y)?;
        let [blue, green, red, _] = *self.bytes.get(at..at + PIXEL)? else { return None };
        Some(Color { red, green, blue })
    }

    /// Fills a rectangle.
    pub fn fill(&mut self, area: Area, color: Color) {
        let end = area.x.saturating_add(area.width).min(self.width);
        let last = area.y.saturating_add(area.height).min(self.height);
        let pixel = [color.blue, color.green, color.red, 0];
        for y in area.y..last {
            let Some(from) = self.offset(area.x, y) else { return };
            let to = y as usize * self.pitch + end as usize * PIXEL;
            for place in self.bytes[from..to].chunks_exact_mut(PIXEL) {
                place.copy_from_slice(&pixel);
            }
        }
    }

    /// Fills a disc around a middle.
    pub fn disc(&mut self, middle: (u32, u32), radius: u32, color: Color) {
        for (y, (left, right)) in spans(middle, radius) {
            self.fill(Area { x: left, y, width: right - left, height: 1 }, color);
        }
    }

    /// Fills what of a disc is not covered by one of the same size around `other`, and touches no pixel of that.
    pub fn crescent(&mut self, middle: (u32, u32), other: (u32, u32), radius: u32, color: Color) {
        for (y, (left, right)) in spans(middle, radius) {
            // Where the other has no such line, nothing is covered.
            let (from, to) = span(other, radius, y).unwrap_or((right, right));
            for (left, right) in [(left, right.min(from)), (left.max(to), right)] {
                self.fill(Area { x: left, y, width: right.saturating_sub(left), height: 1 }, color);
            }
        }
    }

    /// Writes one line of text, each pixel of a glyph as a square of `scale`; what has no glyph is left blank.
    pub fn text(&mut self, (x, y): (u32, u32), scale: u32, color: Color, text: &str) {
        for (letter, column) in text.chars().zip((x..self.width).step_by((GLYPH * scale.max(1)) as usize)) {
            for (row, bits) in (0u32..).zip(BASIC_FONTS.get(letter).unwrap_or_default()) {
                for bit in (0..GLYPH).filter(|bit| bits >> bit & 1 == 1) {
                    let dot =
                        Area { x: column + bit * scale, y: y + row * scale, width: scale, height: scale };
                    self.fill(dot, color);
                }
            }
        }
    }

    fn offset(&self, x: u32, y: u32) -> Option<usize> {
        (x < self.width && y < self.height).then(|| y as usize * self.pitch + x as usize * PIXEL)
    }
}

/// Returns each line of a disc with its first column and the one behind its last.
fn spans(middle: (u32, u32), radius: u32) -> impl Iterator<Item = (u32, (u32, u32))> {
    let lines = middle.1.saturating_sub(radius)..=middle.1.saturating_add(radius);
    lines.filter_map(move |line| Some((line, span(middle, radius, line)?)))
}

/// Returns a disc's first column on a line and the one behind its last, if it reaches that line.
fn span((x, y): (u32, u32), radius: u32, line: u32) -> Option<(u32, u32)> {
    let square = u64::from(radius).pow(2).checked_sub(u64::from(line.abs_diff(y)).pow(2))?;
    let half = square.isqrt() as u32;
    Some((x.saturating_sub(half), x.saturating_add(half).saturating_add(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hues_go_round_the_six_corners() {
        let rows = [
            (0, (255, 0, 0)),
            (60, (255, 255, 0)),
            (120, (0, 255, 0)),
            (240, (0, 0, 255)),
            (360, (255, 0, 0)),
        ];
        for (hue, (red, green, blue)) in rows {
            assert_eq!(Color::of_hue(hue, 100), Color { red, green, blue }, "{hue}");
        }
        assert_eq!(Color::of_hue(30, 50), Color { red: 127, green: 63, blue: 0 });
    }

    #[test]
    fn shapes_outside_of_the_canvas_are_cut_off() {
        let mut memory = vec![0; 16 * 8 * PIXEL];
        let mut canvas = Canvas::new(&mut memory, 16, 100, 16 * PIXEL);
        assert_eq!(canvas.size(), (16, 8), "only as many lines as there is memory for");
        canvas.fill(Area { x: 14, y: 6, width: u32::MAX, height: u32::MAX }, Color::WHITE);
        canvas.disc((0, 0), 2, Color::WHITE);
        canvas.disc((1000, 1000), 5, Color::WHITE);
        canvas.crescent((1000, 1000), (1, 1), 5, Color::WHITE);
        canvas.text((10, 7), 3, Color::WHITE, "cut off");
        assert_eq!(canvas.pixel(15, 7), Some(Color::WHITE));
        assert_eq!(canvas.pixel(13, 5), Some(Color { red: 0, green: 0, blue: 0 }));
        assert_eq!(canvas.pixel(2, 0), Some(Color::WHITE));
        assert_eq!(canvas.pixel(2, 1), Some(Color { red: 0, green: 0, blue: 0 }));
        assert_eq!(canvas.pixel(16, 0), None);
    }

    #[test]
    fn a_crescent_is_a_disc_without_another() {
        const RADIUS: u32 = 5;
        let (before, around) = ((10, 10), Color::of_hue(0, 100));
        let drawn = |draw: &dyn Fn(&mut Canvas)| {
            let mut memory = vec![0; 32 * 32 * PIXEL];
            draw(&mut Canvas::new(&mut memory, 32, 32, 32 * PIXEL));
            memory
        };
        for after in [(10, 10), (11, 13), (7, 10), (10, 4), (16, 16), (20, 21), (25, 9)] {
            let one = drawn(&|canvas| {
                canvas.disc(after, RADIUS, Color::WHITE);
                canvas.crescent(before, after, RADIUS, around);
            });
            let other = drawn(&|canvas| {
                canvas.disc(before, RADIUS, around);
                canvas.disc(after, RADIUS, Color::WHITE);
            });
            assert!(one == other, "{after:?}");
        }
    }
}
