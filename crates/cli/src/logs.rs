//! `allod logs`: what a seat's guest wrote to its console, and what its processes wrote.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use seat::places::Places;

use crate::answer::{self, Failed};
use crate::print;

/// How often a log that is followed is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How much is read at once.
const CHUNK: usize = 64 << 10;

/// Print what a seat's guest wrote to its serial console.
///
/// Exit status: 0; 4 there is no such seat; 5 not permitted.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The seat
    #[arg(value_name = "NAME")]
    seat: String,
    /// Go on printing until the seat has ended
    #[arg(short, long)]
    follow: bool,
    /// The guest's serial console (the default)
    #[arg(long, conflicts_with = "vmm")]
    console: bool,
    /// What the seat's firmware wrote to its debug port; OVMF as Debian builds it writes nothing there
    #[arg(long, conflicts_with_all = ["vmm", "console"])]
    firmware: bool,
    /// What the machine's process and the seat's supervisor wrote to standard error
    #[arg(long)]
    vmm: bool,
}

/// Prints them.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    answer::exit(logs(arguments))
}

fn logs(arguments: &Arguments) -> Result<(), Failed> {
    let places = Places::of_environment().seat(&arguments.seat);
    let paths: Vec<PathBuf> = match (arguments.vmm, arguments.firmware) {
        (true, _) => vec![places.supervisor_log(), places.machine_log()],
        (_, true) => vec![places.firmware_log()],
        _ => vec![places.console_log()],
    };
    let mut last = None;
    for path in &paths {
        let mut file = open(path, &arguments.seat)?;
        copy(&mut file)?;
        last = Some(file);
    }
    let Some(mut file) = last.filter(|_| arguments.follow) else { return Ok(()) };
    loop {
        // Asked before the log is read: what was written before the end is printed.
        let lives = lives(&places.status());
        copy(&mut file)?;
        if !lives {
            return Ok(());
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn lives(status: &Path) -> bool {
    status.exists()
}

fn open(path: &Path, name: &str) -> Result<File, Failed> {
    File::open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Failed::not_found(name),
        _ => Failed::io("reading the log", &error),
    })
}

fn copy(file: &mut File) -> Result<(), Failed> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match file.read(&mut buffer).map_err(Failed::new)? {
            0 => return Ok(()),
            read => print::bytes(buffer.get(..read).unwrap_or_default()).map_err(Failed::new)?,
        }
    }
}
