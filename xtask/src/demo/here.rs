//! The main job on this very host, once its owner has said yes: every command a person would type, and the devices back
//! at the end. The seats start what [`super::ramdisk`] makes. What is seen is on the seats' own monitors; nobody takes pictures of those.

use super::folder::{Folder, RAM_DISK};
use super::offer::{Ground, Offer, Start, offer};
use super::ramdisk;
use super::story::{Chapter, Command, Drawing, Story};
use crate::process::{follow, say};
use anyhow::{Context, Result, bail};
use host::system::{RunningSystem, System};
use linux::event::{Interest, Poller, Signals};
use seat::places::Places;
use std::fs;
use std::io::{BufRead, IsTerminal};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a guest may take to draw.
const CONSOLE_LIMIT: Duration = Duration::from_secs(120);
/// How often its log is looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// Asks whether the demo may run on this host; none when that cannot be, nobody is there to ask, or the answer is no.
pub(super) fn asked(out: &Path) -> Option<Offer> {
    let offer = possible(&out.join(RAM_DISK))?;
    // Taking devices is root's to do. A process's folder belongs to whom it runs as (proc(5)).
    let is_root = fs::metadata("/proc/self").is_ok_and(|folder| folder.uid() == 0);
    if !is_root || !std::io::stdin().is_terminal() {
        let cards = offer.cards.join(", ");
        say(format_args!(
            "This host could do it for real, with {cards}: as root and on a terminal the demo asks whether it may."
        ));
        return None;
    }
    offer.accepted(&mut std::io::stdin().lock(), &mut std::io::stderr()).then_some(offer)
}

/// Finds what this host has to spare, beside what its seats have.
fn possible(initrd: &Path) -> Option<Offer> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    let initrd = std::path::absolute(initrd).ok()?;
    let kernel = PathBuf::from(format!("/boot/vmlinuz-{}", release.trim()));
    if !kernel.is_file() {
        return None;
    }
    let system = RunningSystem::open().ok()?;
    let inventory = host::inventory::read(system.tree());
    let state = Places::of_environment().state;
    let (claims, trials) = (host::ledger::claims(&state).ok()?, host::trial::records(&state).ok()?);
    let ground = Ground { inventory: &inventory, claims: &claims, trials: &trials };
    offer(&ground, Start { kernel: &kernel, initrd: &initrd })
}

/// Plays it. The seats are taken down again whatever comes after them: a failure, Ctrl-C, a terminal that is closed.
///
/// # Errors
/// A command failed; the reason is what it said.
pub(super) fn play(offer: &Offer, programs: &Path, out: &Folder, story: &mut Story) -> Result<()> {
    let mut ender = Ender::listening()?;
    let allod = programs.join("allod");
    out.write(RAM_DISK, ramdisk::build(&programs.join("allod-scene"), &offer.addresses)?)?;
    out.write("seats.toml", &offer.file)?;
    let file = out.path("seats.toml").display().to_string();

    let chapter =
        story.begin("Who gets what?", "What is taken and how it is given back; nothing has changed so far.");
    run(&allod, chapter, &["doctor"])?;
    let drawing = out.path("plan.svg");
    run(&allod, chapter, &["plan", &file, "--svg", &drawing.display().to_string()])?;
    let svg = fs::read_to_string(&drawing).with_context(|| format!("cannot read {}", drawing.display()))?;
    chapter.drawing = Some(Drawing { title: "This host, and which of its devices goes to whom".into(), svg });
    let before = drivers()?;
    if ender.is_called() {
        bail!("called off before anything was taken");
    }

    let shown = show(
        offer,
        (&allod, &file),
        &mut ender,
        story.begin("All seats up", "From here on the cards belong to the seats."),
    );

    let chapter = story.begin(
        "All seats down, all devices back",
        "Power buttons are pressed, the guests go, and every device is again where it was.",
    );
    let down: Vec<&str> = ["down"].into_iter().chain(offer.seats.iter().copied()).collect();
    let down = run(&allod, chapter, &down);
    shown.and(down)?;
    let after = drivers()?;
    let back = (before == after).then_some(()).ok_or_else(|| format!("before {before:?}, after {after:?}"));
    chapter.check("every device is at the driver of the host that it had before", back);
    Ok(())
}

/// Starts the seats and leaves them to be looked at.
fn show(offer: &Offer, (allod, file): (&Path, &str), ender: &mut Ender, chapter: &mut Chapter) -> Result<()> {
    run(allod, chapter, &["up", file])?;
    run(allod, chapter, &["ps"])?;
    for seat in &offer.seats {
        chapter
            .check(format!("{seat}'s guest draws: its console says so"), await_console(allod, seat, ender));
    }
    say(format_args!(
        "    Look at the monitors of {}, and at `{} console {}` for the rest. Press Enter to end.",
        offer.cards.join(" and "),
        allod.display(),
        offer.seats.first().unwrap_or(&"SEAT")
    ));
    ender.wait()
}

/// What ends the show: Enter, or a signal to this process. The signals come as events and do not kill: what was taken
/// has to be given back first.
struct Ender {
    signals: Signals,
    called: bool,
}

impl Ender {
    /// Listens from now on.
    fn listening() -> Result<Self> {
        let signals = Signals::of_termination().context("cannot listen for Ctrl-C")?;
        Ok(Self { signals, called: false })
    }

    /// Says whether a signal has come.
    fn is_called(&mut self) -> bool {
        self.called |= self.signals.next().is_some();
        self.called
    }

    /// Waits for Enter or a signal. Without anybody to press it it is over at once, which is the safe side.
    fn wait(&mut self) -> Result<()> {
        if self.is_called() {
            return Ok(());
        }
        let poller = Poller::new()?;
        poller.add(std::io::stdin(), Interest::Readable, 0)?;
        poller.add(&self.signals, Interest::Readable, 1)?;
        poller.wait()?;
        if !self.is_called() {
            let _ = std::io::stdin().lock().read_line(&mut String::new());
        }
        Ok(())
    }
}

/// Says whether a console has told of a picture.
fn draws(console: &[u8]) -> bool {
    String::from_utf8_lossy(console).contains("scene: frame")
}

/// Waits until a seat's console tells of a picture.
fn await_console(allod: &Path, seat: &str, ender: &mut Ender) -> Result<(), String> {
    let begin = Instant::now();
    let mut last = String::new();
    while begin.elapsed() < CONSOLE_LIMIT {
        if ender.is_called() {
            return Err("called off".into());
        }
        match std::process::Command::new(allod).args(["logs", seat, "--console"]).output() {
            Ok(output) if output.status.success() && draws(&output.stdout) => {
                return Ok(());
            }
            Ok(output) => last = String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => last = error.to_string(),
        }
        // Following the log instead would wait for ever for a guest that is silent.
        std::thread::sleep(LOOK_EVERY);
    }
    Err(format!("no picture for {} s; {last}", CONSOLE_LIMIT.as_secs()))
}

fn run(allod: &Path, chapter: &mut Chapter, arguments: &[&str]) -> Result<()> {
    let begin = Instant::now();
    let line = format!("allod {}", arguments.join(" "));
    say(format_args!("      $ {line}"));
    let mut said = String::new();
    let mut command = std::process::Command::new(allod);
    let status = follow("allod", command.args(arguments), &mut std::io::sink(), |line| {
        said.push_str(line);
        said.push('\n');
        true
    })?;
    chapter.commands.push(Command {
        line: line.clone(),
        said: said.clone(),
        seconds: begin.elapsed().as_secs_f64(),
    });
    if !status.success() {
        bail!("`{line}`: {status}: {}", said.trim());
    }
    Ok(())
}

/// Returns each function of the host with its driver.
fn drivers() -> Result<Vec<(String, Option<PathBuf>)>> {
    let folder = Path::new("/sys/bus/pci/devices");
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        let driver = fs::read_link(entry.path().join("driver")).ok();
        all.push((entry.file_name().to_string_lossy().into_owned(), driver));
    }
    all.sort();
    Ok(all)
}
