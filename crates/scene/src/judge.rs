//! Says whether a picture of a monitor shows a scene, and where it does not. Pure.

use crate::canvas::{Area, Canvas, Color, PIXEL};
use crate::layout::{Facts, Layout};

/// A picture that was taken: 3 bytes per pixel, red, green, blue, line after line.
#[derive(Debug, Clone)]
pub struct Picture {
    /// Columns.
    pub width: u32,
    /// Lines.
    pub height: u32,
    /// `width * height * 3` bytes.
    pub bytes: Vec<u8>,
}

/// Why a picture is not that of a scene.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// The bytes are not as many as the size says.
    #[error("the picture has {bytes} bytes, which is not {width} x {height} pixels")]
    Malformed {
        /// How many there are.
        bytes: usize,
        /// Columns said.
        width: u32,
        /// Lines said.
        height: u32,
    },
    /// A part that stands still differs.
    #[error(
        "{part}: {wrong} of {all} pixels differ, the first at {x},{y}: {found:?} in place of {expected:?}"
    )]
    Still {
        /// Which part.
        part: &'static str,
        /// Pixels that differ.
        wrong: usize,
        /// Pixels of that part.
        all: usize,
        /// Column of the first.
        x: u32,
        /// Line of the first.
        y: u32,
        /// What is there.
        found: Color,
        /// What has to be there.
        expected: Color,
    },
    /// The ground has other colours than its own and the disc's.
    #[error("the ground has {0} pixels that are neither ground nor disc")]
    Ground(usize),
    /// No disc, or not a whole one.
    #[error("the disc has {found} pixels and not about {expected}")]
    Disc {
        /// White pixels on the ground.
        found: usize,
        /// Pixels of a disc.
        expected: usize,
    },
}

/// Returns the middle of the disc when the picture shows the scene of `facts`, or what differs.
///
/// Band and typed text are compared pixel by pixel; the disc may be anywhere on its ground, but has to be whole up to
/// a few frames' movement, because a picture may be taken, line by line, while the disc is drawn.
pub fn judge(picture: &Picture, facts: &Facts) -> Result<(u32, u32), Difference> {
    let (width, height) = (picture.width, picture.height);
    if picture.bytes.len() != width as usize * height as usize * 3 {
        return Err(Difference::Malformed { bytes: picture.bytes.len(), width, height });
    }
    let layout = Layout::new(width, height);
    let mut memory = vec![0; width as usize * height as usize * PIXEL];
    let mut expected = Canvas::new(&mut memory, width, height, width as usize * PIXEL);
    layout.draw_still(&mut expected, facts);
    for (part, area) in [("the band with the name", layout.band()), ("the typed text", layout.line())] {
        compare(picture, &expected, part, area)?;
    }
    find_disc(picture, &expected, &layout)
}

fn color_at(picture: &Picture, x: u32, y: u32) -> Color {
    let at = (y as usize * picture.width as usize + x as usize) * 3;
    Color { red: picture.bytes[at], green: picture.bytes[at + 1], blue: picture.bytes[at + 2] }
}

fn points(area: Area) -> impl Iterator<Item = (u32, u32)> {
    (area.y..area.y + area.height).flat_map(move |y| (area.x..area.x + area.width).map(move |x| (x, y)))
}

fn compare(picture: &Picture, expected: &Canvas, part: &'static str, area: Area) -> Result<(), Difference> {
    let mut wrong = points(area).filter_map(|(x, y)| {
        let (found, expected) = (color_at(picture, x, y), expected.pixel(x, y)?);
        (found != expected).then_some((x, y, found, expected))
    });
    let Some((x, y, found, expected)) = wrong.next() else { return Ok(()) };
    let wrong = 1 + wrong.count();
    Err(Difference::Still { part, wrong, all: points(area).count(), x, y, found, expected })
}

fn find_disc(picture: &Picture, expected: &Canvas, layout: &Layout) -> Result<(u32, u32), Difference> {
    let (mut strange, mut white, mut sum) = (0, 0, (0u64, 0u64));
    for (x, y) in points(layout.ground()) {
        let found = color_at(picture, x, y);
        if found == Color::WHITE {
            white += 1;
            sum = (sum.0 + u64::from(x), sum.1 + u64::from(y));
        } else if Some(found) != expected.pixel(x, y) {
            strange += 1;
        }
    }
    if strange > 0 {
        return Err(Difference::Ground(strange));
    }
    let disc = (std::f64::consts::PI * f64::from(layout.radius()).powi(2)) as usize;
    // Two places of it at once, or parts of them, are within the bounds; a screen full of white, or none, is not.
    if white < disc / 3 || white > disc * 2 {
        return Err(Difference::Disc { found: white, expected: disc });
    }
    Ok(((sum.0 / white as u64) as u32, (sum.1 / white as u64) as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(name: &str, hue: u16, typed: &str) -> Facts {
        Facts { name: name.into(), hue, typed: typed.into() }
    }

    fn drawn(facts: &Facts, frame: u64) -> Picture {
        let (width, height) = (320, 200);
        let mut memory = vec![0; width * height * PIXEL];
        let mut canvas = Canvas::new(&mut memory, width as u32, height as u32, width * PIXEL);
        let layout = Layout::new(width as u32, height as u32);
        layout.draw_still(&mut canvas, facts);
        layout.move_disc(&mut canvas, facts, 0);
        for frame in 1..=frame {
            layout.move_disc(&mut canvas, facts, frame);
        }
        let bytes = memory.chunks_exact(PIXEL).flat_map(|pixel| [pixel[2], pixel[1], pixel[0]]).collect();
        Picture { width: width as u32, height: height as u32, bytes }
    }

    #[test]
    fn a_scene_is_recognised_and_its_disc_found() {
        let anna = facts("anna", 20, "hello");
        let layout = Layout::new(320, 200);
        for frame in [0, 1, 77, 300] {
            let (x, y) = judge(&drawn(&anna, frame), &anna).unwrap();
            let (expected_x, expected_y) = layout.disc_at(frame);
            assert!(x.abs_diff(expected_x) <= 1 && y.abs_diff(expected_y) <= 1, "frame {frame}");
        }
    }

    #[test]
    fn another_seats_content_is_told_apart() {
        let anna = facts("anna", 20, "hello");
        let picture = drawn(&anna, 5);
        for other in [facts("ben", 20, "hello"), facts("anna", 200, "hello"), facts("anna", 20, "hellp")] {
            assert!(matches!(judge(&picture, &other), Err(Difference::Still { .. })), "{other:?}");
        }
    }

    #[test]
    fn damage_is_named() {
        let anna = facts("anna", 20, "");
        let mut short = drawn(&anna, 5);
        short.bytes.pop();
        assert!(matches!(judge(&short, &anna), Err(Difference::Malformed { .. })));

        let layout = Layout::new(320, 200);
        let ground = layout.ground();
        let mut spoilt = drawn(&anna, 5);
        let at = (ground.y as usize * 320 + 319) * 3;
        spoilt.bytes[at] ^= 1;
        assert_eq!(judge(&spoilt, &anna), Err(Difference::Ground(1)));

        let mut empty = drawn(&anna, 5);
        let color = color_at(&empty, 319, ground.y);
        for (x, y) in points(ground) {
            let at = (y as usize * 320 + x as usize) * 3;
            empty.bytes[at..at + 3].copy_from_slice(&[color.red, color.green, color.blue]);
        }
        assert!(matches!(judge(&empty, &anna), Err(Difference::Disc { found: 0, .. })));
    }
}
