//! A day at a desk of two, played in the lab: every command a person would type, every look at a monitor, and what has
//! to be true of it.
//!
//! Not here: how it is shown ([`super::page`]), and what a scene looks like (the crate `scene`).

use super::picture;
use super::story::{Chapter, Command, Monitor, Story};
use anyhow::{Context, Result, bail};
use lab::{Host, Lab, Profile};
use scene::judge::judge;
use scene::layout::Facts;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// The address that Anna's part of the network card is given by docs/examples/desk/seats.toml.
const ANNAS_ADDRESS: &str = "52:54:00:00:a0:01";
/// Has the host use its network card; the parts of it have a link only while it has one.
const NETWORK_UP: &str = "ip link set $(basename $(ls -d /sys/bus/pci/drivers/igb/0*/net/*)) up";
/// The longest any command of the story may take; two machines start at once on one emulated processor.
const COMMAND_LIMIT: Duration = Duration::from_secs(180);
/// How long a guest may take to show its scene, or what was typed.
const SCENE_LIMIT_SECONDS: u32 = 120;
/// Time over which frames are counted.
const COUNTING: Duration = Duration::from_secs(10);

/// A monitor of the desk: whose it is, which card and head it hangs on, and what it has to show.
struct Desk {
    title: &'static str,
    seat: &'static str,
    card: &'static str,
    head: u32,
    name: &'static str,
    hue: u16,
    typed: &'static str,
}

/// The monitors, as docs/examples/desk/seats.toml and the profile `desk` have them. Only the first head of a scene
/// is told what was typed by its log; all of them show it.
const DESK: [Desk; 3] = [
    Desk {
        title: "Anna's monitor",
        seat: "anna",
        card: "screen-a",
        head: 0,
        name: "anna",
        hue: 20,
        typed: "left",
    },
    Desk {
        title: "Ben's first monitor",
        seat: "ben",
        card: "screen-b",
        head: 0,
        name: "ben",
        hue: 200,
        typed: "right",
    },
    Desk {
        title: "Ben's second monitor",
        seat: "ben",
        card: "screen-b",
        head: 1,
        name: "ben 2",
        hue: 260,
        typed: "right",
    },
];

/// What a scene says when it hears the lab's USB keyboard, by the name that Linux gives that.
const HEARD: &str = "scene: hears QEMU QEMU USB Keyboard";
/// The seats that draw, with what is typed on their keyboards.
const TYPED: [(&str, &str, &str); 2] = [("anna", "keyboard-a", "left"), ("ben", "keyboard-b", "right")];

impl Desk {
    fn facts(&self, typed: &str) -> Facts {
        Facts { name: self.name.into(), hue: self.hue, typed: typed.into() }
    }
}

/// Where the demo takes things from, and where it puts them.
pub(super) struct Places<'a> {
    /// Our programs.
    pub(super) programs: &'a Path,
    /// The example with the seat file.
    pub(super) example: &'a Path,
    /// Pictures.
    pub(super) out: &'a Path,
}

/// Plays the day. What was seen is in `story` however it ends.
///
/// # Errors
/// The lab cannot be had, or a command failed without which nothing further makes sense. What is merely not so is a
/// check of the story.
pub(super) fn play(places: &Places, story: &mut Story) -> Result<()> {
    let lab = Lab::new(Profile::named("desk")?).share(places.example).programs(places.programs);
    let host = lab.boot(&|step| eprintln!("    lab: {step}")).context("cannot boot the lab")?;
    run(&host, &mut Chapter::default(), "sh /share/guest.sh")?;

    let chapter = story.begin("Is the host ready, and what is in it?");
    run(&host, chapter, "allod doctor")?;
    run(&host, chapter, "allod devices")?;
    run(&host, chapter, NETWORK_UP)?;
    let before = drivers(&host)?;

    let chapter = story.begin("Who gets what?");
    run(&host, chapter, "allod plan /share/seats.toml --svg /run/plan.svg")?;
    chapter.drawing = Some(host.run_within("cat /run/plan.svg", COMMAND_LIMIT)?.stdout);

    let chapter = story.begin("All seats up");
    run(&host, chapter, "allod up /share/seats.toml")?;
    run(&host, chapter, "allod ps")?;

    look(&host, places, story.begin("Each draws on its own monitors"))?;
    count(&host, story.begin("Pictures move"))?;

    let chapter = story.begin("Anna's part of the network card");
    for (what, words) in [
        (
            "Anna's part of the network card has the address that the seat file gives it",
            format!("network: address {ANNAS_ADDRESS}"),
        ),
        (
            "Anna's part carries her packets to the gateway and back",
            "3 packets transmitted, 3 packets received".into(),
        ),
    ] {
        chapter.check(what, await_line(&host, "anna", &words));
    }
    run(&host, chapter, "ip link show")?;

    let chapter = story.begin("An ordinary machine runs beside them");
    let reached = await_line(&host, "carl", "waiting for the power button");
    chapter.check("the seat without hardware reached its user space", reached);
    run(&host, chapter, "allod show carl")?;

    let chapter = story.begin("All seats down, all devices back");
    run(&host, chapter, "allod down --all")?;
    let obeyed = chapter
        .commands
        .last()
        .is_some_and(|command| !command.said.contains("did not answer the power button"));
    let forced = || "a machine had to be ended by force".to_owned();
    chapter.check(
        "each guest powered itself off when its button was pressed",
        obeyed.then_some(()).ok_or_else(forced),
    );
    run(&host, chapter, "allod devices")?;
    let after = drivers(&host)?;
    let back = (before == after).then_some(()).ok_or_else(|| format!("before {before}, after {after}"));
    chapter.check("every device is at the driver of the host that it had before", back);
    let working =
        host.run_within("dd if=/dev/nvme0n1 of=/dev/null bs=1M count=8 status=none", COMMAND_LIMIT)?;
    chapter.check(
        "the host reads a disk that was a seat's",
        if working.is_success() { Ok(()) } else { Err(working.stderr) },
    );
    host.shutdown();
    Ok(())
}

/// Runs a command that has to succeed.
fn run(host: &Host, chapter: &mut Chapter, line: &str) -> Result<()> {
    run_within(host, chapter, line, COMMAND_LIMIT).map(drop)
}

/// Runs a command that has to succeed within `limit`, and returns what it said.
///
/// # Errors
/// It did not; the reason is what it said.
pub(super) fn run_within(host: &Host, chapter: &mut Chapter, line: &str, limit: Duration) -> Result<String> {
    let begin = Instant::now();
    eprintln!("      $ {line}");
    let output = host.run_within(line, limit).with_context(|| format!("run `{line}` in the lab"))?;
    let said = output.stdout + &output.stderr;
    chapter.commands.push(Command {
        line: line.into(),
        said: said.clone(),
        seconds: begin.elapsed().as_secs_f64(),
    });
    if output.status != 0 {
        bail!("`{line}` ended with {}: {}", output.status, said.trim());
    }
    Ok(said)
}

/// Returns each function of the host with its driver, as text to compare.
fn drivers(host: &Host) -> Result<String> {
    let script =
        "cd /sys/bus/pci/devices; for f in *; do echo $f $(basename $(readlink $f/driver || echo -)); done";
    Ok(host.run_within(script, COMMAND_LIMIT)?.stdout)
}

/// Waits until a seat's console says something.
fn await_line(host: &Host, seat: &str, words: &str) -> Result<(), String> {
    // Beside grep and not before it in a pipe: nobody waits for the log of a guest that is silent afterwards.
    let follow = format!("timeout {SCENE_LIMIT_SECONDS} allod logs {seat} --console --follow");
    let script = format!(
        "coproc LOG {{ exec {follow}; }}; grep --max-count=1 --text '{words}' <&${{LOG[0]}}; found=$?; \
         kill $LOG_PID; exit $found"
    );
    match host.run_within(&script, COMMAND_LIMIT) {
        Ok(output) if output.stdout.contains(words) => Ok(()),
        Ok(output) => Err(format!("its console never said `{words}`; {}", output.stderr.trim())),
        Err(failure) => Err(failure.to_string()),
    }
}

/// Types on each keyboard, takes the pictures and judges them.
fn look(host: &Host, places: &Places, chapter: &mut Chapter) -> Result<()> {
    for (seat, ..) in TYPED {
        chapter.check(format!("{seat} draws"), await_line(host, seat, "scene: frame"));
        // Its guest may find the keyboard later than the card, and nobody hears what is typed before.
        chapter.check(format!("{seat} has a keyboard"), await_line(host, seat, HEARD));
    }
    // Only now, and in turn: a letter that went to the wrong guest would be seen there, because that listens too.
    for (keyboard, key) in in_turn(&TYPED) {
        host.key(keyboard, &key.to_string())?;
    }
    for (seat, _, keys) in TYPED {
        chapter.check(
            format!("what was typed on {seat}'s keyboard arrives"),
            await_line(host, seat, &format!("typed {keys}")),
        );
    }
    for desk in &DESK {
        let file = places.out.join(format!("{}-{}.png", desk.seat, desk.head));
        host.screenshot(desk.card, desk.head, &file)?;
        let png = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        chapter.monitors.push(Monitor { title: desk.title.into(), png });
        let picture = picture::read(&file)?;
        let shown = judge(&picture, &desk.facts(desk.typed));
        let what = format!(
            "{} shows {}'s scene, with `{}` typed on it and nothing else",
            desk.title, desk.name, desk.typed
        );
        chapter.check(what, shown.map(|_| ()).map_err(|difference| difference.to_string()));
    }
    Ok(())
}

/// Returns each key with its keyboard: the first of every keyboard, then the second of every keyboard.
fn in_turn(typed: &[(&str, &'static str, &str)]) -> Vec<(&'static str, char)> {
    let longest = typed.iter().map(|(.., keys)| keys.chars().count()).max().unwrap_or(0);
    let nth = |number| {
        typed.iter().filter_map(move |(_, keyboard, keys)| Some((*keyboard, keys.chars().nth(number)?)))
    };
    (0..longest).flat_map(nth).collect()
}

/// Counts the frames that each seat drew on each of its monitors in a while.
fn count(host: &Host, chapter: &mut Chapter) -> Result<()> {
    let before = frames(host)?;
    let begin = Instant::now();
    // The clock is what is measured against: there is no event to wait for.
    std::thread::sleep(COUNTING);
    let after = frames(host)?;
    let seconds = begin.elapsed().as_secs_f64();
    for desk in &DESK {
        let told = |frames: &[Told]| frames.iter().find(|told| told.seat == desk.seat).copied();
        let (Some(before), Some(after)) = (told(&before), told(&after)) else { continue };
        let drawn = after.frame.saturating_sub(before.frame);
        let problem = if drawn == 0 {
            Some("the picture stands still".to_owned())
        } else if desk.head >= after.heads {
            Some(format!("its seat draws on {} heads only", after.heads))
        } else {
            None
        };
        let what = format!(
            "{}: {drawn} new pictures in {seconds:.0} s, {:.1} a second",
            desk.title,
            drawn as f64 / seconds
        );
        chapter.check(what, problem.map_or(Ok(()), Err));
    }
    Ok(())
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
        let script = format!(
            "allod logs {seat} --console | grep --text --only-matching 'scene: frame [0-9]* on each of [0-9]*' | \
             tail -n 1"
        );
        let output = host.run_within(&script, COMMAND_LIMIT)?;
        told(seat, &output.stdout)
            .with_context(|| format!("{seat} tells of no frame: {}{}", output.stdout, output.stderr))
    };
    TYPED.iter().map(|(seat, ..)| last(seat)).collect()
}

/// Reads `scene: frame 12 on each of 2`.
fn told(seat: &'static str, line: &str) -> Option<Told> {
    let (frame, heads) = line.trim().strip_prefix("scene: frame ")?.split_once(" on each of ")?;
    Some(Told { seat, frame: frame.parse().ok()?, heads: heads.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::{in_turn, told};

    #[test]
    fn two_people_type_in_turn_until_both_are_done() {
        let keys = in_turn(&[("anna", "a", "left"), ("ben", "b", "right")]);
        let typed: String = keys.iter().map(|(keyboard, key)| format!("{keyboard}{key} ")).collect();
        assert_eq!(typed, "al br ae bi af bg at bh bt ");
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
