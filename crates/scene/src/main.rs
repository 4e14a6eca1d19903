//! `allod-scene`: draws a seat's scene on every head of a card, with the keys that are typed on any keyboard.
//!
//! Runs in guests and on hosts alike: it needs a DRM card that it may become master of, and nothing else of a desktop.
#![forbid(unsafe_code)]

mod card;
mod keyboard;

use anyhow::{Context, Result, bail};
use card::{Card, Choice};
use clap::{Parser, Subcommand};
use keyboard::Keyboards;
use scene::canvas::{Area, Color};
use scene::layout::{Facts, Layout};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How often the rate of frames is said.
const TELL_EVERY: Duration = Duration::from_secs(1);

#[derive(Parser)]
#[command(about = "Draws a moving picture on the heads of a graphics card", version)]
struct Arguments {
    /// The card; the first there is when not given.
    #[arg(long)]
    card: Option<PathBuf>,
    /// Size of the picture, as 1920x1080; each head's preferred one when not given.
    #[arg(long, value_parser = parse_size)]
    mode: Option<(u16, u16)>,
    /// Ends after so many seconds; goes on for ever when not given.
    #[arg(long)]
    seconds: Option<u64>,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Shows a scene on each head that has a monitor, or that is switched on by `--heads`.
    Show {
        /// The name in the band; head 2 and later get their number behind it.
        #[arg(long)]
        name: String,
        /// The colour in degrees; each further head's is 60 degrees on.
        #[arg(long, default_value_t = 210)]
        hue: u16,
        /// How many heads there have to be; heads without a monitor are switched on until there are.
        #[arg(long, default_value_t = 1)]
        heads: usize,
        /// Frames per second at most.
        #[arg(long, default_value_t = 20)]
        rate: u32,
    },
    /// Fills the first head's picture as often as it can, and says how often that was.
    Fill,
}

fn parse_size(text: &str) -> Result<(u16, u16), String> {
    let parse = |part: &str| part.parse().map_err(|_| format!("`{part}` is no number of pixels"));
    let (width, height) = text.split_once('x').ok_or("a size is WIDTHxHEIGHT, as 1920x1080")?;
    Ok((parse(width)?, parse(height)?))
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let limit = arguments.seconds.map(Duration::from_secs);
    let path = match arguments.card {
        Some(path) => path,
        None => card::first()?,
    };
    let card = Card::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
    match arguments.what {
        What::Show { name, hue, heads, rate } => {
            let choice = Choice { mode: arguments.mode, heads };
            show(&card, &choice, &Facts { name, hue, typed: String::new() }, rate.max(1), limit)
        }
        What::Fill => fill(&card, arguments.mode, limit.unwrap_or(Duration::from_secs(10))),
    }
}

fn show(card: &Card, choice: &Choice, facts: &Facts, rate: u32, limit: Option<Duration>) -> Result<()> {
    let mut heads = card.heads(choice)?;
    let mut facts: Vec<Facts> = (0..heads.len()).map(|number| facts_of_head(facts, number)).collect();
    let layouts: Vec<Layout> = heads.iter().map(|head| Layout::new(head.size().0, head.size().1)).collect();
    let mut canvases = heads.iter_mut().map(|head| head.canvas(card)).collect::<Result<Vec<_>>>()?;
    for ((screen, layout), facts) in canvases.iter_mut().zip(&layouts).zip(&facts) {
        layout.draw_still(&mut screen.canvas(), facts);
        let (width, height) = screen.canvas().size();
        screen.publish(card, Area { x: 0, y: 0, width, height })?;
        println!("scene: {} on {width}x{height}", facts.name);
    }
    let mut keyboards = Keyboards::new();
    let mut told = Told { at: Instant::now(), frame: 0 };
    let begin = Instant::now();
    for frame in 0.. {
        let typed = keyboards.read();
        for ((screen, layout), facts) in canvases.iter_mut().zip(&layouts).zip(&mut facts) {
            if !typed.is_empty() {
                facts.typed.push_str(&typed);
                layout.draw_typed(&mut screen.canvas(), facts);
                screen.publish(card, layout.line())?;
            }
            let changed = layout.move_disc(&mut screen.canvas(), facts, frame);
            screen.publish(card, changed)?;
        }
        if let Some(facts) = facts.first().filter(|_| !typed.is_empty()) {
            println!("scene: typed {}", facts.typed);
        }
        told.tell(frame);
        if limit.is_some_and(|limit| begin.elapsed() >= limit) {
            break;
        }
        keyboards.wait(Duration::from_secs(1) / rate);
    }
    Ok(())
}

/// When the rate was told last, and with which frame.
struct Told {
    at: Instant,
    frame: u64,
}

impl Told {
    fn tell(&mut self, frame: u64) {
        let passed = self.at.elapsed();
        if passed >= TELL_EVERY {
            let rate = (frame - self.frame) as f64 / passed.as_secs_f64();
            println!("scene: frame {frame}, {rate:.1} per second");
            *self = Self { at: Instant::now(), frame };
        }
    }
}

fn facts_of_head(facts: &Facts, number: usize) -> Facts {
    let mut facts = facts.clone();
    if number > 0 {
        facts.name = format!("{} {}", facts.name, number + 1);
        facts.hue = (usize::from(facts.hue) + 60 * number) as u16 % 360;
    }
    facts
}

fn fill(card: &Card, mode: Option<(u16, u16)>, limit: Duration) -> Result<()> {
    let mut heads = card.heads(&Choice { mode, heads: 1 })?;
    let Some(head) = heads.first_mut() else { bail!("the card has no head") };
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
    let seconds = begin.elapsed().as_secs_f64();
    println!(
        "{{\"frames\":{frames},\"seconds\":{seconds:.3},\"width\":{width},\"height\":{height},\"rate\":{:.2}}}",
        f64::from(frames) / seconds
    );
    Ok(())
}
