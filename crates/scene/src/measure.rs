//! The loops of a benchmark: a card, a processor and a timer, each for a while. What is made of the figures is not here.

use crate::card::{Card, Choice};
use anyhow::{Context, Result};
use scene::canvas::{Area, Color};
use std::time::{Duration, Instant};

/// Rounds of the processor's loop between two looks at the clock.
const BATCH: u64 = 1 << 16;
/// How long the sleeper sleeps.
const SLEEP: Duration = Duration::from_millis(1);

/// Returns how many million pixels per second the first head of a card can be filled with. Pixels and not pictures: the
/// same card may be driven in another mode on the host than in a guest.
pub(crate) fn fill(card: &Card, mode: Option<(u16, u16)>, limit: Duration) -> Result<f64> {
    let mut heads = card.heads(&Choice { mode, heads: 1 })?;
    let head = heads.first_mut().context("the card has no head")?;
    let (width, height) = head.size();
    let mut screen = head.canvas(card)?;
    let all = Area { x: 0, y: 0, width, height };
    let begin = Instant::now();
    let mut frames = 0u32;
    while begin.elapsed() < limit {
        screen.canvas().fill(all, Color::of_hue((frames % 360) as u16, 100));
        screen.publish(card, all)?;
        frames += 1;
    }
    let pixels = f64::from(frames) * f64::from(width) * f64::from(height);
    Ok(pixels / begin.elapsed().as_secs_f64() / 1e6)
}

/// Returns how many million rounds of a loop that no compiler can shorten one processor makes in a second.
pub(crate) fn spin(limit: Duration) -> f64 {
    let begin = Instant::now();
    let (mut rounds, mut value) = (0u64, 1u64);
    while begin.elapsed() < limit {
        for _ in 0..BATCH {
            // Marsaglia's xorshift: each round needs the one before.
            value ^= value << 13;
            value ^= value >> 7;
            value ^= value << 17;
        }
        std::hint::black_box(value);
        rounds += BATCH;
    }
    rounds as f64 / begin.elapsed().as_secs_f64() / 1e6
}

/// Returns by how many microseconds a sleeper is woken late, the 99th percentile.
pub(crate) fn wake(limit: Duration) -> f64 {
    let begin = Instant::now();
    let mut late = Vec::new();
    while begin.elapsed() < limit {
        let asleep = Instant::now();
        // Being woken is what is measured.
        std::thread::sleep(SLEEP);
        late.push(asleep.elapsed().saturating_sub(SLEEP));
    }
    late.sort_unstable();
    late.get(late.len() * 99 / 100).map_or(0.0, |late| late.as_secs_f64() * 1e6)
}
