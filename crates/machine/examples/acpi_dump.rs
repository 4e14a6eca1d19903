//! Writes the ACPI tables of an example board into a directory: one file per table, and `acpi.dump` with all of them
//! in acpidump's text form.
//!
//! For checking the tables with `iasl -d` and `fwts --dumpfile`, which need no guest for it.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::{env, fs};

use machine::firmware::acpi::{Board, GeneralEvents, Placed, TableId, place, tables};

/// Bytes that acpidump writes on a line.
const LINE_LEN: usize = 16;

fn main() -> ExitCode {
    match dump() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("acpi_dump: {error}");
            ExitCode::FAILURE
        }
    }
}

fn dump() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = env::args_os().skip(1);
    let directory = arguments.next().map(PathBuf::from).ok_or("usage: acpi_dump DIRECTORY [CPUS]")?;
    let cpus = match arguments.next() {
        Some(cpus) => cpus.to_str().ok_or("CPUS is not a number")?.parse()?,
        None => 4,
    };
    let placement = place(&tables(&board(cpus))?, 0xe_0000, 0xe_0040..0x10_0000)?;
    fs::create_dir_all(&directory)?;
    let mut text = String::new();
    for table in &placement.tables {
        let name = name(table);
        fs::write(directory.join(format!("{}.dat", name.to_lowercase())), &table.bytes)?;
        write_text(&mut text, table)?;
    }
    fs::write(directory.join("acpi.dump"), text)?;
    Ok(())
}

/// Describes a board with something of everything that the tables can say.
fn board(cpus: u32) -> Board {
    let mut board = Board::new((0..cpus).collect());
    board.ecam.last_bus = 4;
    board.memory_windows_64 = vec![0x80_0000_0000..=0xbf_ffff_ffff];
    board.power.events = Some(GeneralEvents { base: 0x620, len: 16 });
    board.root_ports = vec![1, 2, 3, 28];
    board.endpoints = vec![4, 5];
    board
}

/// Adds a table as acpidump would print it.
fn write_text(text: &mut String, table: &Placed) -> std::fmt::Result {
    writeln!(text, "{} @ 0x{:016X}", name(table), table.address)?;
    for (line, bytes) in table.bytes.chunks(LINE_LEN).enumerate() {
        write!(text, "  {:04X}:", line * LINE_LEN)?;
        for byte in bytes {
            write!(text, " {byte:02X}")?;
        }
        let padding = (LINE_LEN - bytes.len()) * 3 + 2;
        let printable = |&byte: &u8| if (0x20..0x7f).contains(&byte) { char::from(byte) } else { '.' };
        writeln!(text, "{:padding$}{}", "", bytes.iter().map(printable).collect::<String>())?;
    }
    writeln!(text)
}

/// Names the table as acpidump does: by its signature, but for the RSDP, whose signature has spaces in it.
fn name(table: &Placed) -> &'static str {
    match table.id {
        TableId::Rsdp => "RSDP",
        id => id.signature(),
    }
}
