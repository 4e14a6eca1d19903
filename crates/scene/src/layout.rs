//! Where everything on a scene is, for any size of screen. Pure: the same facts give the same pixels.

use crate::canvas::{Area, Canvas, Color, GLYPH};

/// Brightness of the band with the name, in percent.
const BAND_PERCENT: u16 = 100;
/// Brightness of the ground the disc moves on, in percent.
const GROUND_PERCENT: u16 = 30;
/// Frames after which the disc is where it was.
const PERIOD: u64 = 240;
/// Letters of typed text that are shown; the last ones.
pub const TYPED_LETTERS: usize = 16;

/// What a scene shows beside its movement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The name in the band.
    pub name: String,
    /// The colour of all of it, in degrees.
    pub hue: u16,
    /// Everything typed so far.
    pub typed: String,
}

/// The places of a scene on a screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    width: u32,
    height: u32,
}

impl Layout {
    /// Lays a scene out on a screen of so many pixels.
    pub fn new(width: u32, height: u32) -> Self {
        Self { width, height }
    }

    /// Returns the band with the name: the upper quarter.
    pub fn band(&self) -> Area {
        Area { x: 0, y: 0, width: self.width, height: self.height / 4 }
    }

    /// Returns the ground the disc moves on.
    pub fn ground(&self) -> Area {
        let (top, bottom) = (self.band().height, self.line().y);
        Area { x: 0, y: top, width: self.width, height: bottom.saturating_sub(top) }
    }

    /// Returns the line that typed text appears on: the lower quarter.
    pub fn line(&self) -> Area {
        Area { x: 0, y: self.height - self.height / 4, width: self.width, height: self.height / 4 }
    }

    /// Draws everything that stands still.
    pub fn draw_still(&self, canvas: &mut Canvas, facts: &Facts) {
        let band = self.band();
        canvas.fill(band, Color::of_hue(facts.hue, BAND_PERCENT));
        canvas.text(self.name_place(), self.name_scale(), Color::WHITE, &facts.name);
        canvas.fill(self.ground(), Color::of_hue(facts.hue, GROUND_PERCENT));
        self.draw_typed(canvas, facts);
    }

    /// Draws the line of typed text anew.
    pub fn draw_typed(&self, canvas: &mut Canvas, facts: &Facts) {
        let line = self.line();
        canvas.fill(line, Color { red: 0, green: 0, blue: 0 });
        let scale = self.typed_scale();
        let place = (GLYPH * scale / 2, line.y + line.height.saturating_sub(GLYPH * scale) / 2);
        canvas.text(place, scale, Color::WHITE, last_letters(&facts.typed));
    }

    /// Moves the disc from where it was in the frame before; returns the part of the screen that changed.
    ///
    /// At every moment between, a whole disc is there: a picture may be taken at any of them, and a machine among others
    /// may be stopped at one for as long as those have the processor.
    pub fn move_disc(&self, canvas: &mut Canvas, facts: &Facts, frame: u64) -> Area {
        let (radius, at) = (self.radius(), self.disc_at(frame));
        canvas.disc(at, radius, Color::WHITE);
        if let Some(before) = frame.checked_sub(1) {
            canvas.crescent(self.disc_at(before), at, radius, Color::of_hue(facts.hue, GROUND_PERCENT));
        }
        self.ground()
    }

    /// Returns the disc's middle in a frame: it goes to and fro on two straight lines at once.
    pub fn disc_at(&self, frame: u64) -> (u32, u32) {
        let ground = self.ground();
        let room = |length: u32| u64::from(length.saturating_sub(2 * self.radius() + 1));
        // One period to and fro along the width, three along the height.
        let swing = |frame: u64, room: u64| {
            let phase = frame % PERIOD * 2;
            let there = if phase < PERIOD { phase } else { 2 * PERIOD - phase };
            (room * there / PERIOD) as u32
        };
        let radius = self.radius();
        (
            ground.x + radius + swing(frame, room(ground.width)),
            ground.y + radius + swing(frame * 3, room(ground.height)),
        )
    }

    /// Returns the disc's radius.
    pub fn radius(&self) -> u32 {
        self.height.min(self.width) / 12
    }

    fn name_place(&self) -> (u32, u32) {
        (GLYPH * self.name_scale() / 2, self.band().height.saturating_sub(GLYPH * self.name_scale()) / 2)
    }

    fn name_scale(&self) -> u32 {
        (self.height / 64).max(1)
    }

    fn typed_scale(&self) -> u32 {
        let by_width = self.width / (GLYPH * (TYPED_LETTERS as u32 + 1));
        by_width.min(self.height / 64).max(1)
    }
}

/// Returns the part of a text that fits on the line.
fn last_letters(text: &str) -> &str {
    let from = text.char_indices().rev().nth(TYPED_LETTERS - 1).map_or(0, |(at, _)| at);
    text.get(from..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disc_never_leaves_its_ground() {
        for (width, height) in [(1280, 800), (1920, 1080), (640, 480), (100, 900)] {
            let layout = Layout::new(width, height);
            let (ground, radius) = (layout.ground(), layout.radius());
            for frame in 0..PERIOD * 2 {
                let (x, y) = layout.disc_at(frame);
                assert!(x >= radius && x + radius < width, "{width}x{height} frame {frame}: x {x}");
                assert!(
                    y >= ground.y + radius && y + radius < ground.y + ground.height,
                    "{width}x{height} frame {frame}: y {y}"
                );
            }
        }
    }

    #[test]
    fn the_last_letters_stay_on_the_line() {
        assert_eq!(last_letters("short"), "short");
        assert_eq!(last_letters("0123456789abcdefXYZ"), "3456789abcdefXYZ");
        assert_eq!(last_letters(""), "");
    }
}
