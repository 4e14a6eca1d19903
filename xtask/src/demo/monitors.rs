//! The monitors of the desk: what each has to show, the keys that are typed before them, and what becomes of both.
//!
//! Not here: the rest of the day ([`super::desk`]), and what a scene looks like (the crate `scene`).

use super::desk::{COMMAND_LIMIT, await_line};
use super::folder::Folder;
use super::picture;
use super::story::{Chapter, Monitor};
use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lab::Host;
use lab::outside::POINTER_LIMIT;
use scene::judge::judge;
use scene::layout::Facts;
use std::fs;
use std::time::{Duration, Instant};

/// Time over which frames are counted.
const COUNTING: Duration = Duration::from_secs(10);
/// New pictures that each monitor has to show in that time: one a second, on an emulator that three guests share.
const FRAMES_AT_LEAST: u64 = 10;
/// Pictures that are taken at most to see one move: a disc on its way to and fro is twice at most of its places.
const LOOK_LIMIT: usize = 4;

/// A monitor of the desk: whose it is, where it hangs, and what it has to show.
struct Desk {
    title: &'static str,
    seat: &'static str,
    /// The card in the lab's host; none where our own machine imitates one.
    card: Option<&'static str>,
    head: u32,
    size: (u32, u32),
    name: &'static str,
    hue: u16,
    typed: &'static str,
}

/// The monitors, as docs/examples/desk/seats.toml and the profile `desk` have them. Only the first head of a scene
/// is told what was typed by its log; all of them show it.
const DESK: [Desk; 4] = [
    Desk {
        title: "Anna's monitor",
        seat: "anna",
        card: Some("screen-a"),
        head: 0,
        size: (1280, 800),
        name: "anna",
        hue: 20,
        typed: "left",
    },
    Desk {
        title: "Ben's first monitor",
        seat: "ben",
        card: Some("screen-b"),
        head: 0,
        size: (1920, 1080),
        name: "ben",
        hue: 200,
        typed: "right",
    },
    Desk {
        title: "Ben's second monitor",
        seat: "ben",
        card: Some("screen-b"),
        head: 1,
        size: (1920, 1080),
        name: "ben 2",
        hue: 260,
        typed: "right",
    },
    // Nobody types there: a letter on it would be somebody else's.
    Desk {
        title: "Carl's window",
        seat: "carl",
        card: None,
        head: 0,
        size: (1280, 800),
        name: "carl",
        hue: 130,
        typed: "",
    },
];

/// What a scene says when it hears the lab's USB keyboard and pointer, by the names that Linux gives those.
const HEARD: [(&str, &str); 2] = [
    ("a keyboard", "scene: hears QEMU QEMU USB Keyboard"),
    ("a pointer", "scene: hears QEMU QEMU USB Tablet"),
];
/// The seats that draw.
const DRAWING: [&str; 3] = ["anna", "ben", "carl"];
/// Those with a keyboard, with what is typed on it.
const TYPED: [(&str, &str, &str); 2] = [("anna", "keyboard-a", "left"), ("ben", "keyboard-b", "right")];

/// The same with pointers, and how often their left buttons are pressed: never as often on two of them.
const CLICKED: [(&str, &str, u32); 2] = [("anna", "tablet-a", 1), ("ben", "tablet-b", 2)];

impl Desk {
    fn facts(&self) -> Facts {
        Facts { name: self.name.into(), hue: self.hue, typed: self.typed.into() }
    }

    /// Takes the monitor's picture, and says where its disc is, or why it is not the picture it has to be.
    fn look(&self, host: &Host, out: &Folder, moment: &str) -> Result<Look> {
        let name = format!("{}-{}{moment}.png", self.seat, self.head);
        let file = out.path(&name);
        let png = match self.card {
            Some(card) => {
                host.screenshot(card, self.head, &file)?;
                fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?
            }
            None => {
                let png = window(host, self.seat)?;
                out.write(&name, &png)?;
                png
            }
        };
        let picture = picture::read(&file)?;
        let (width, height) = self.size;
        let disc = if (picture.width, picture.height) == self.size {
            judge(&picture, &self.facts()).map_err(|difference| difference.to_string())
        } else {
            Err(format!("its picture is {}x{} and not {width}x{height}", picture.width, picture.height))
        };
        let on = if self.card.is_some() { "its own card" } else { "a card that Allod imitates" };
        let caption = format!("{width}x{height}, drawn by {}'s guest on {on}", self.seat);
        Ok(Look { disc, monitor: Monitor { title: self.title.into(), caption, file: name, png } })
    }
}

/// Takes the picture that an imitated card shows, in the host, and returns the PNG file's bytes.
fn window(host: &Host, seat: &str) -> Result<Vec<u8>> {
    let script =
        format!("allod screenshot {seat} --output /run/window.png >&2 && base64 --wrap 0 /run/window.png");
    let output = host.run_within(&script, COMMAND_LIMIT)?;
    if !output.is_success() {
        bail!("`allod screenshot {seat}` ended with {}: {}", output.status, output.stderr.trim());
    }
    STANDARD.decode(output.stdout.trim()).context("the picture did not come whole out of the lab")
}

/// A picture that was taken.
struct Look {
    /// The middle of the disc.
    disc: Result<(u32, u32), String>,
    monitor: Monitor,
}

/// Where the disc of each monitor was, in their order; none on one that did not show what it had to.
pub(super) type Discs = Vec<Option<(u32, u32)>>;

/// Types on each keyboard, takes the pictures and judges them; returns where the discs were.
pub(super) fn look(host: &Host, out: &Folder, chapter: &mut Chapter) -> Result<Discs> {
    for seat in DRAWING {
        chapter.check(format!("{seat} draws"), await_line(host, seat, "scene: frame")?);
    }
    for (seat, ..) in TYPED {
        // Its guest may find them later than the card, and nobody hears what is typed before.
        for (what, words) in HEARD {
            chapter.check(format!("{seat} has {what}"), await_line(host, seat, words)?);
        }
    }
    // Only now, and in turn: a letter that went to the wrong guest would be seen there, because that listens too.
    for (keyboard, key) in in_turn(&TYPED) {
        host.key(keyboard, &key.to_string())?;
    }
    for (seat, _, keys) in TYPED {
        chapter.check(
            format!("what was typed on {seat}'s keyboard arrives"),
            await_line(host, seat, &format!("typed {keys}"))?,
        );
    }
    for (seat, pointer, clicks) in CLICKED {
        for _ in 0..clicks {
            host.hardware().click(pointer, POINTER_LIMIT / 2, POINTER_LIMIT / 2)?;
        }
        let arrived = await_line(host, seat, &format!("scene: clicks {clicks}"))?;
        chapter.check(format!("clicks of {seat}'s pointer arrive"), arrived);
    }
    let mut discs = Discs::new();
    for desk in &DESK {
        let Look { disc, monitor } = desk.look(host, out, "")?;
        discs.push(disc.as_ref().ok().copied());
        chapter.monitors.push(monitor);
        let (width, height) = desk.size;
        let typed = match desk.typed {
            "" => "nothing typed on it".to_owned(),
            typed => format!("`{typed}` typed on it and nothing else"),
        };
        let what = format!("{} shows {}'s scene at {width}x{height}, with {typed}", desk.title, desk.name);
        chapter.check(what, disc.map(drop));
    }
    Ok(discs)
}

/// Returns each key with its keyboard: the first of every keyboard, then the second of every keyboard.
fn in_turn(typed: &[(&str, &'static str, &str)]) -> Vec<(&'static str, char)> {
    let longest = typed.iter().map(|(.., keys)| keys.chars().count()).max().unwrap_or(0);
    let nth = |number| {
        typed.iter().filter_map(move |(_, keyboard, keys)| Some((*keyboard, keys.chars().nth(number)?)))
    };
    (0..longest).flat_map(nth).collect()
}

/// Counts the frames that each seat drew in a while, and looks at each of its monitors again: the seat counts what it
/// draws on all of them, but only a picture shows that none stands still.
pub(super) fn move_on(host: &Host, out: &Folder, discs: &Discs, chapter: &mut Chapter) -> Result<()> {
    let before = frames(host)?;
    let begin = Instant::now();
    // The clock is what is measured against: there is no event to wait for.
    std::thread::sleep(COUNTING);
    let after = frames(host)?;
    let seconds = begin.elapsed().as_secs_f64();
    for (desk, disc) in DESK.iter().zip(discs) {
        let told = |frames: &[Told]| frames.iter().find(|told| told.seat == desk.seat).copied();
        if let (Some(before), Some(after)) = (told(&before), told(&after)) {
            let drawn = after.frame.saturating_sub(before.frame);
            let what = format!(
                "{}: {drawn} new pictures in {seconds:.0} s, {:.1} a second",
                desk.title,
                drawn as f64 / seconds
            );
            chapter.check(what, enough(drawn, desk.head, after.heads));
        }
        let (moved, monitor) = look_again(desk, host, out, *disc)?;
        chapter.monitors.extend(monitor);
        chapter.check(format!("{}: its picture moves, and still has nothing else on it", desk.title), moved);
    }
    Ok(())
}

/// Asks each seat how many clicks it has seen.
pub(super) fn clicks(host: &Host, chapter: &mut Chapter) -> Result<()> {
    for (seat, _, clicks) in CLICKED {
        let last = last_words(host, seat, "scene: clicks [0-9][0-9]*")?;
        let seen = last == format!("scene: clicks {clicks}");
        let what = format!("{seat} saw the clicks of its own pointer, {clicks}, and no other's");
        chapter.check(what, seen.then_some(()).ok_or(last));
    }
    Ok(())
}

/// Says whether a seat that draws on `heads` heads drew enough on one of them.
fn enough(drawn: u64, head: u32, heads: u32) -> Result<(), String> {
    if head >= heads {
        Err(format!("its seat draws on {heads} heads only"))
    } else if drawn < FRAMES_AT_LEAST {
        Err(format!("{FRAMES_AT_LEAST} are the least"))
    } else {
        Ok(())
    }
}

/// Takes pictures until the disc is not where it was `before`.
fn look_again(
    desk: &Desk,
    host: &Host,
    out: &Folder,
    before: Option<(u32, u32)>,
) -> Result<(Result<(), String>, Option<Monitor>)> {
    let Some(before) = before else { return Ok((Err("it had no picture before".into()), None)) };
    let mut last = None;
    for _ in 0..LOOK_LIMIT {
        let Look { disc, monitor } = desk.look(host, out, "-later")?;
        last = Some(monitor);
        match disc {
            Ok(disc) if disc == before => {}
            disc => return Ok((disc.map(drop), last)),
        }
    }
    Ok((Err(format!("its disc stands at {},{}", before.0, before.1)), last))
}

/// What a seat told last of its pictures.
#[derive(Clone, Copy)]
struct Told {
    seat: &'static str,
    /// The number of the frame.
    frame: u64,
    /// On how many heads each is drawn.
    heads: u32,
}

/// Returns what each seat that draws told last.
fn frames(host: &Host) -> Result<Vec<Told>> {
    let last = |seat: &'static str| {
        let words = last_words(host, seat, "scene: frame [0-9][0-9]* on each of [0-9][0-9]*")?;
        told(seat, &words).with_context(|| format!("{seat} tells of no frame: {words}"))
    };
    DRAWING.iter().map(|seat| last(seat)).collect()
}

/// Returns what a seat's console said last that looks like `pattern`.
fn last_words(host: &Host, seat: &str, pattern: &str) -> Result<String> {
    let script = format!("allod logs {seat} --console | grep --text --only-matching '{pattern}' | tail -n 1");
    Ok(host.run_within(&script, COMMAND_LIMIT)?.stdout.trim().to_owned())
}

/// Reads `scene: frame 12 on each of 2`.
fn told(seat: &'static str, line: &str) -> Option<Told> {
    let (frame, heads) = line.trim().strip_prefix("scene: frame ")?.split_once(" on each of ")?;
    Some(Told { seat, frame: frame.parse().ok()?, heads: heads.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::{FRAMES_AT_LEAST, enough, in_turn, told};

    #[test]
    fn two_people_type_in_turn_until_both_are_done() {
        let keys = in_turn(&[("anna", "a", "left"), ("ben", "b", "right")]);
        let typed: String = keys.iter().map(|(keyboard, key)| format!("{keyboard}{key} ")).collect();
        assert_eq!(typed, "al br ae bi af bg at bh bt ");
    }

    #[test]
    fn a_head_that_stands_still_or_is_not_there_is_told() {
        let rows = [
            (FRAMES_AT_LEAST, 0, 1, true),
            (FRAMES_AT_LEAST, 1, 2, true),
            (FRAMES_AT_LEAST, 1, 1, false),
            (FRAMES_AT_LEAST - 1, 0, 1, false),
            (0, 0, 1, false),
        ];
        for (drawn, head, heads, expected) in rows {
            assert_eq!(enough(drawn, head, heads).is_ok(), expected, "{drawn} on {head} of {heads}");
        }
    }

    #[test]
    fn only_a_whole_line_tells_of_frames() {
        let told = |line| told("anna", line).map(|told| (told.frame, told.heads));
        assert_eq!(told("scene: frame 12 on each of 2\n"), Some((12, 2)));
        for line in ["", "scene: frame 12", "scene: frame x on each of 2", "scene: frame 12 on each of"] {
            assert_eq!(told(line), None, "{line}");
        }
    }
}
