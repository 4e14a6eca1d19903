//! Measures a VMM inside the lab's host: one measurement per call, its figures as one line of JSON.
//!
//! `allod-lab-measure WHAT VMM GUEST FOLDER [SHAPE]`, started by `cargo xtask bench`, which repeats it, interleaves VMMs
//! and makes the table. FOLDER holds `allod` and `allod-vmm`; its file system must keep pages in memory as an ordinary
//! disk's does (not tmpfs, whose pages all count as dirty).
//! The host's clock should count instructions (`allod lab run --clock instructions`); on another clock the times are wall time.
//! Exit status: 0 figures are printed, 1 the measurement failed, 2 wrong words, 3 the guest stalled: try again.
#![forbid(unsafe_code)]

mod disk_io;
mod failure;
mod firmware;
mod guest;
mod histogram;
mod machine;
mod measure;
mod smaps;
mod syscalls;
mod trace;
mod vmm;

use failure::Failure;
use measure::Sample;
use std::process::ExitCode;
use vmm::{Shape, Subject, Vmm};

const USAGE: &str = "usage: allod-lab-measure start|boot|exits|syscalls|resets|disk-io|greeting|greeting-exits allod|qemu \
                     micro-elf|micro-bzimage|debian-elf|debian-bzimage|debian-disk|debian-disk-awake|\
                     bios-disk|uefi-disk FOLDER \
                     [--memory MIB] [--reserved-pages] [--function BDF]...";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match run(&words) {
        Ok(sample) => {
            println!("{}", sample.into_json());
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("allod-lab-measure: {failure}");
            ExitCode::from(failure.status())
        }
    }
}

fn run(words: &[String]) -> Result<Sample, Failure> {
    let usage = || Failure::Usage(USAGE.to_owned());
    let [what, vmm, guest, folder, rest @ ..] = words else { return Err(usage()) };
    let vmm = Vmm::named(vmm).ok_or_else(usage)?;
    let (guest, shape) = (measure::guest(guest)?, Shape::parse(rest)?);
    let subject = Subject { vmm, guest, shape, folder: folder.into() };
    trace::prepare()?;
    match what.as_str() {
        "start" => measure::start(&subject),
        "boot" => measure::boot(&subject),
        "exits" => measure::exits(&subject),
        "syscalls" => measure::calls(&subject),
        "resets" => measure::resets(&subject),
        "greeting" => firmware::greeting(&subject),
        "greeting-exits" => firmware::exits(&subject),
        "disk-io" => disk_io::exits(&subject),
        _ => Err(usage()),
    }
}
