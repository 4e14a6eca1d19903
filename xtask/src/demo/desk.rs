//! A day at a desk of two, played in the lab: every command a person would type, every look at a monitor, and what has
//! to be true of it.
//!
//! Not here: the monitors and what is typed before them ([`super::monitors`]), and how all of it is shown
//! ([`super::page`]).

use super::folder::Folder;
use super::monitors;
use super::story::{Chapter, Command, Drawing, Story};
use crate::process::{say, with_heartbeat};
use anyhow::{Context, Result, bail};
use lab::host::status_of;
use lab::wire::Request;
use lab::{Host, Lab, Piece, Profile};
use std::path::Path;
use std::time::{Duration, Instant};

/// The addresses that the parts of the network card are given by docs/examples/desk/seats.toml.
const ADDRESSES: [(&str, &str); 2] = [("anna", "52:54:00:00:a0:01"), ("ben", "52:54:00:00:b0:01")];
/// The disks of the seats, by their serial numbers in the profile `desk`.
const DISKS: [(&str, &str); 2] = [("anna", "SEATA"), ("ben", "SEATB")];
/// Waits until the host has both disks. They come a moment after their controllers, and their files after them.
const AWAIT_DISKS: &str =
    "for try in $(seq 600); do [ $(ls /dev/nvme?n1 2> /dev/null | wc -l) = 2 ] && break; sleep 0.1; done";
/// Has the host write the serial number of each disk at its start. A serial number is padded with blanks.
const WRITE_DISKS: &str = "for disk in /dev/nvme?n1; do read serial < /sys/block/${disk#/dev/}/device/serial; \
                           echo for $serial > $disk; done";
/// Has the host read what the guests wrote behind that.
const READ_DISKS: &str = "for disk in /dev/nvme?n1; do read serial < /sys/block/${disk#/dev/}/device/serial; \
                          echo $serial: $(dd if=$disk bs=4096 skip=1 count=1 status=none | head -n 1); done";
/// Has the host use its network card; the parts of it have a link only while it has one.
const NETWORK_UP: &str = "ip link set $(basename $(ls -d /sys/bus/pci/drivers/igb/0*/net/*)) up";
/// The longest any command of the story may take; three machines start at once on one emulated processor, of which a busy
/// computer leaves little.
pub(super) const COMMAND_LIMIT: Duration = Duration::from_secs(400);
/// How long a guest may take to show its scene, or what was typed.
const SCENE_LIMIT_SECONDS: u32 = 240;

/// Where the demo takes things from, and where it puts them.
pub(super) struct Places<'a> {
    /// Our programs.
    pub(super) programs: &'a Path,
    /// The example with the seat file.
    pub(super) example: &'a Path,
    /// What is left behind.
    pub(super) out: Folder<'a>,
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

    let before = prepare(&host, story)?;
    start(&host, &places.out, story)?;
    work(&host, &places.out, story)?;
    end(&host, &before, story)?;
    host.shutdown();
    Ok(())
}

/// Looks at the host and makes it ready; returns which driver each function has.
fn prepare(host: &Host, story: &mut Story) -> Result<String> {
    let chapter = story.begin(
        "Is the host ready, and what is in it?",
        "Both commands only look. What could be given to a seat is said, and what never.",
    );
    run(host, chapter, "allod doctor")?;
    run(host, chapter, "allod devices")?;
    run(host, chapter, NETWORK_UP)?;
    host.run_within(AWAIT_DISKS, COMMAND_LIMIT)?;
    run(host, chapter, WRITE_DISKS)?;
    drivers(host)
}

/// Plans the seats and starts them.
fn start(host: &Host, out: &Folder, story: &mut Story) -> Result<()> {
    let chapter = story.begin(
        "Who gets what?",
        "From the host as it is and a file of a page, the planner says which seat gets what, or every reason why not.",
    );
    run(host, chapter, "allod plan /share/seats.toml --svg /run/plan.svg")?;
    let svg = fetch(host, "cat /run/plan.svg", (out, "plan.svg"))?;
    chapter.drawing = Some(Drawing { title: "The host, and which of its devices goes to whom".into(), svg });
    fetch(host, "cat /share/seats.toml", (out, "seats.toml"))?;
    fetch(host, "allod devices --json", (out, "inventory.json"))?;
    fetch(host, "allod plan --json /share/seats.toml", (out, "plan.json"))?;

    let chapter = story.begin(
        "All seats up",
        "The devices are taken from the host's drivers, each step written down before it is made, and the machines start.",
    );
    run(host, chapter, "allod up /share/seats.toml")?;
    run(host, chapter, "allod ps")?;
    Ok(())
}

/// Looks at the seats while they run.
fn work(host: &Host, out: &Folder, story: &mut Story) -> Result<()> {
    let chapter = story.begin(
        "Each draws on its own monitors",
        "Both people type at the same time. Each picture is taken at the card, outside of all machines (Carl's \
         where Allod imitates one), and compared with what has to be on it, pixel by pixel: the name, the \
         colour, the typed text.",
    );
    let discs = monitors::look(host, out, chapter)?;
    // While the pictures are warm: that all of them run was so at this moment.
    let chapter = story.begin("All run at once", "Asked right after the pictures were taken.");
    let seats = host.run_within("allod ps --json", COMMAND_LIMIT)?;
    chapter.check(
        "all three run at this moment; Anna and Ben have hardware, Carl has none",
        running(&seats.stdout),
    );
    let chapter = story.begin(
        "Pictures move",
        "Ten seconds later each monitor is looked at again: its disc has to be somewhere else, and all else as it was.",
    );
    monitors::move_on(host, out, &discs, chapter)?;
    monitors::clicks(host, chapter)?;

    network(
        host,
        story.begin(
            "Each has a part of the network card, and a disk",
            "The card splits itself (SR-IOV); the disks are whole NVMe disks of the host.",
        ),
    )?;

    let chapter = story.begin(
        "An ordinary machine runs beside them",
        "Seats with hardware and machines without share the host.",
    );
    run(host, chapter, "allod show carl")?;
    Ok(())
}

/// Ends the seats, and compares the host with what it was `before`.
fn end(host: &Host, before: &str, story: &mut Story) -> Result<()> {
    let chapter = story.begin(
        "All seats down, all devices back",
        "Power buttons are pressed, the guests go, and every device is again where it was.",
    );
    run(host, chapter, "allod down --all")?;
    let obeyed = chapter
        .commands
        .last()
        .is_some_and(|command| !command.said.contains("did not answer the power button"));
    let forced = || "a machine had to be ended by force".to_owned();
    chapter.check(
        "each guest powered itself off when its button was pressed",
        obeyed.then_some(()).ok_or_else(forced),
    );
    run(host, chapter, "allod devices")?;
    let after = drivers(host)?;
    let back = (before == after).then_some(()).ok_or_else(|| format!("before {before}, after {after}"));
    chapter.check("every device is at the driver of the host that it had before", back);
    host.run_within(AWAIT_DISKS, COMMAND_LIMIT)?;
    let disks = host.run_within(READ_DISKS, COMMAND_LIMIT)?.stdout;
    for (seat, serial) in DISKS {
        let answer = format!("{serial}: {seat} was here");
        let found = disks.lines().any(|line| line == answer);
        let what = format!("the host reads on {seat}'s disk what the guest wrote there");
        chapter.check(what, found.then_some(()).ok_or_else(|| disks.clone()));
    }
    Ok(())
}

/// Keeps what a command in the host prints as a file, and returns it.
///
/// # Errors
/// The command did not succeed, or the file cannot be written.
pub(super) fn fetch(host: &Host, line: &str, (out, name): (&Folder, &str)) -> Result<String> {
    let output = host.run_within(line, COMMAND_LIMIT).with_context(|| format!("run `{line}` in the lab"))?;
    if !output.is_success() {
        bail!("`{line}` ended with {}: {}", output.status, output.stderr.trim());
    }
    out.write(name, &output.stdout)?;
    Ok(output.stdout)
}

/// Looks at what each guest says of its part of the network card and of its disk.
fn network(host: &Host, chapter: &mut Chapter) -> Result<()> {
    for ((seat, address), (_, serial)) in ADDRESSES.iter().zip(DISKS) {
        for (what, words) in [
            (
                format!("{seat}'s part of the network card has the address that the seat file gives it"),
                format!("network: address {address}"),
            ),
            (
                format!("{seat}'s part carries packets to the gateway and back"),
                "3 packets transmitted, 3 packets received".into(),
            ),
            (format!("{seat} reads on its disk what the host wrote there"), format!("disk: for {serial}")),
            (format!("{seat} writes an answer"), "disk: answered".into()),
        ] {
            chapter.check(what, await_line(host, seat, &words)?);
        }
    }
    run(host, chapter, "ip link show")
}

/// Reads the answer of `allod ps --json`: whether the three seats run, with hardware and without.
fn running(answer: &str) -> Result<(), String> {
    let seats: Vec<serde_json::Value> =
        serde_json::from_str(answer).map_err(|error| format!("no list of seats: {error}"))?;
    for (name, with) in [("anna", true), ("ben", true), ("carl", false)] {
        let seat = seats.iter().find(|seat| seat["name"] == name);
        let seat = seat.ok_or_else(|| format!("{name} is not in the list"))?;
        if seat["state"] != "running" || seat["lost"] != false {
            return Err(format!("{name} is {}", seat["state"]));
        }
        let functions = seat["functions"].as_array().map_or(0, Vec::len);
        if (functions > 0) != with {
            return Err(format!("{name} has {functions} functions"));
        }
    }
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
    say(format_args!("      $ {line}"));
    let command = ["bash", "-c", line].map(str::to_owned).to_vec();
    let (mut results, mut progress) = (Vec::new(), Progress::default());
    let exit = with_heartbeat(|| {
        host.stream(&Request { command, ..Request::default() }, limit, &mut |piece| match piece {
            Piece::Output(bytes) => results.extend_from_slice(bytes),
            Piece::Error(bytes) => progress.hear(bytes, &mut |line| say(format_args!("        {line}"))),
        })
    });
    let status =
        exit.and_then(|exit| status_of(&exit)).with_context(|| format!("run `{line}` in the lab"))?;
    let said = String::from_utf8_lossy(&[results, progress.all].concat()).into_owned();
    chapter.commands.push(Command {
        line: line.into(),
        said: said.clone(),
        seconds: begin.elapsed().as_secs_f64(),
    });
    if status != 0 {
        bail!("`{line}` ended with {status}: {}", said.trim());
    }
    Ok(said)
}

/// What a command says of its progress, as it comes.
#[derive(Default)]
struct Progress {
    all: Vec<u8>,
    /// How much of it has been handed on.
    shown: usize,
}

impl Progress {
    /// Takes a piece, which may end in the middle of a line, and hands on the lines that are whole.
    fn hear(&mut self, piece: &[u8], show: &mut dyn FnMut(&str)) {
        self.all.extend_from_slice(piece);
        let whole = self.all.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let lines = self.all.get(self.shown..whole).unwrap_or_default();
        String::from_utf8_lossy(lines).lines().for_each(show);
        self.shown = self.shown.max(whole);
    }
}

/// Returns each function of the host with its driver, as text to compare.
fn drivers(host: &Host) -> Result<String> {
    let script =
        "cd /sys/bus/pci/devices; for f in *; do echo $f $(basename $(readlink $f/driver || echo -)); done";
    Ok(host.run_within(script, COMMAND_LIMIT)?.stdout)
}

/// Waits until a seat's console says something; the answer is why it did not.
///
/// # Errors
/// The emulator hung, which is no word about the seat.
pub(super) fn await_line(host: &Host, seat: &str, words: &str) -> Result<Result<(), String>> {
    // Beside grep and not before it in a pipe: nobody waits for the log of a guest that is silent afterwards.
    let follow = format!("timeout {SCENE_LIMIT_SECONDS} allod logs {seat} --console --follow");
    let script = format!(
        "coproc LOG {{ exec {follow}; }}; grep --max-count=1 --text '{words}' <&${{LOG[0]}}; found=$?; \
         kill $LOG_PID; exit $found"
    );
    match with_heartbeat(|| host.run_within(&script, COMMAND_LIMIT)) {
        Ok(output) if output.stdout.contains(words) => Ok(Ok(())),
        Ok(output) => Ok(Err(format!("its console never said `{words}`; {}", output.stderr.trim()))),
        Err(failure) if failure.is_hang() => Err(failure.into()),
        Err(failure) => Ok(Err(failure.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::{Progress, running};

    #[test]
    fn progress_is_shown_line_by_line_as_it_comes() {
        let (mut progress, mut shown) = (Progress::default(), Vec::new());
        for (piece, expected) in [("one", 0), (" two\nthr", 1), ("ee", 1), ("\n\nfour\n", 4), ("rest", 4)] {
            progress.hear(piece.as_bytes(), &mut |line| shown.push(line.to_owned()));
            assert_eq!(shown.len(), expected, "{shown:?}");
        }
        assert_eq!(shown, ["one two", "three", "", "four"]);
        assert_eq!(progress.all, b"one two\nthree\n\nfour\nrest");
    }

    #[test]
    fn a_seat_that_is_missing_lost_ended_or_otherwise_equipped_is_told() {
        let seat = |name: &str, state: &str, lost: bool, functions: &str| {
            format!(r#"{{"name":"{name}","state":"{state}","lost":{lost},"functions":[{functions}]}}"#)
        };
        let (anna, ben) = (seat("anna", "running", false, "{}"), seat("ben", "running", false, "{},{}"));
        let carl = seat("carl", "running", false, "");
        let rows = [
            (format!("[{anna},{ben},{carl}]"), true),
            (format!("[{anna},{ben}]"), false),
            (format!("[{anna},{ben},{}]", seat("carl", "running", false, "{}")), false),
            (format!("[{anna},{ben},{}]", seat("carl", "starting", false, "")), false),
            (format!("[{anna},{ben},{}]", seat("carl", "running", true, "")), false),
            (format!("[{},{ben},{carl}]", seat("anna", "running", false, "")), false),
            ("allod: no".to_owned(), false),
        ];
        for (answer, expected) in rows {
            assert_eq!(running(&answer).is_ok(), expected, "{answer}");
        }
    }
}
