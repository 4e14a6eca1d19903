//! Writes the ACPI tables of an example board into a directory: one file per table, and `acpi.dump` with all of them
//! in acpidump's text form.
//!
//! For looking at the tables with `iasl -d` and `fwts --dumpfile`, which need no guest for it.

mod dump;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("acpi_dump: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = env::args_os().skip(1);
    let directory = arguments.next().map(PathBuf::from).ok_or("usage: acpi_dump DIRECTORY [CPUS]")?;
    let cpus = match arguments.next() {
        Some(cpus) => cpus.to_str().ok_or("CPUS is not a number")?.parse()?,
        None => 4,
    };
    dump::write(&directory, &dump::full_board((0..cpus).collect()))
}
