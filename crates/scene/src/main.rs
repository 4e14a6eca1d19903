//! `allod-scene`: draws a seat's scene on every head of a card, with the keys that are typed on any keyboard; and
//! measures what a benchmark compares between host and guest.
//!
//! Runs in guests and on hosts alike: it needs a DRM card that it may become master of, and nothing else of a desktop.
#![forbid(unsafe_code)]

mod card;
mod guest;
mod keyboard;
mod measure;

use anyhow::{Context, Result};
use card::{Card, Choice};
use clap::{Parser, Subcommand};
use keyboard::Keyboards;
use scene::canvas::Area;
use scene::layout::{Facts, Layout};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The colour of a scene of which none is said, in degrees.
const HUE: u16 = 210;
/// Frames per second at most, where nothing is said.
const RATE: u32 = 20;
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
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Shows a scene on each head that has a monitor, or that is switched on by `--heads`, until the power button is
    /// pressed.
    Show {
        /// The name in the band; head 2 and later get their number behind it.
        #[arg(long)]
        name: String,
        /// The colour in degrees; each further head's is 60 degrees on.
        #[arg(long, default_value_t = HUE)]
        hue: u16,
        /// How many heads there have to be; heads without a monitor are switched on until there are.
        #[arg(long, default_value_t = 1)]
        heads: usize,
        /// Frames per second at most.
        #[arg(long, default_value_t = RATE)]
        rate: u32,
        /// Ends after so many seconds; goes on for ever when not given.
        #[arg(long)]
        seconds: Option<u64>,
    },
    /// Measures for a while and prints `bench-figure NUMBER`.
    Measure {
        /// How long.
        #[arg(long, default_value_t = 2.0)]
        seconds: f64,
        #[command(subcommand)]
        what: Measured,
    },
}

#[derive(Subcommand)]
enum Measured {
    /// How fast the first head of a card can be filled, in million pixels per second.
    Fill,
    /// How fast one processor is at a plain loop, in millions of rounds per second.
    Spin,
    /// How late a sleeper of 1 ms is woken, the 99th percentile in microseconds.
    Wake,
}

fn parse_size(text: &str) -> Result<(u16, u16), String> {
    let parse = |part: &str| part.parse().map_err(|_| format!("`{part}` is no number of pixels"));
    let (width, height) = text.split_once('x').ok_or("a size is WIDTHxHEIGHT, as 1920x1080")?;
    Ok((parse(width)?, parse(height)?))
}

fn main() -> Result<()> {
    if guest::is_ours() {
        let shown = guest::begin().and_then(|()| {
            let choice = Choice { mode: None, heads: 1 };
            show(&open(None)?, &choice, &guest::facts(), RATE, None)
        });
        if let Err(error) = shown {
            println!("scene: {error:#}");
        }
        guest::end();
    }
    let arguments = Arguments::parse();
    match arguments.what {
        What::Show { name, hue, heads, rate, seconds } => {
            let choice = Choice { mode: arguments.mode, heads };
            let facts = Facts { name, hue, typed: String::new() };
            let limit = seconds.map(Duration::from_secs);
            show(&open(arguments.card)?, &choice, &facts, rate.max(1), limit)
        }
        What::Measure { seconds, what } => {
            let limit = Duration::try_from_secs_f64(seconds).context("that is no number of seconds")?;
            let figure = match what {
                Measured::Fill => measure::fill(&open(arguments.card)?, arguments.mode, limit)?,
                Measured::Spin => measure::spin(limit),
                Measured::Wake => measure::wake(limit),
            };
            println!("bench-figure {figure:.2}");
            Ok(())
        }
    }
}

fn open(path: Option<PathBuf>) -> Result<Card> {
    let path = match path {
        Some(path) => path,
        None => card::first()?,
    };
    Card::open(&path).with_context(|| format!("cannot open {}", path.display()))
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
    let mut clicks = 0;
    let mut told = Told { at: Instant::now(), frame: 0 };
    let begin = Instant::now();
    for frame in 0.. {
        let typed = keyboards.read();
        for name in keyboards.take_found() {
            println!("scene: hears {name}");
        }
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
        if keyboards.clicks() > clicks {
            clicks = keyboards.clicks();
            println!("scene: clicks {clicks}");
        }
        told.tell(frame, layouts.len());
        if keyboards.power_pressed() {
            println!("scene: the power button was pressed");
            break;
        }
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
    /// Says how far the pictures are; each frame is drawn on every head.
    fn tell(&mut self, frame: u64, heads: usize) {
        let passed = self.at.elapsed();
        if passed >= TELL_EVERY {
            let rate = (frame - self.frame) as f64 / passed.as_secs_f64();
            println!("scene: frame {frame} on each of {heads}, {rate:.1} per second");
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
