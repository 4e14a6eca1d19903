//! Tables in files, as the tools that check them want them.
//!
//! Shared by the example and by the test that runs those tools.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use machine::firmware::acpi::{Board, Placed, TableId, place, tables};

/// Bytes that acpidump writes on a line.
const LINE_LEN: usize = 16;

/// Describes a board with something of everything that the tables can say.
pub(crate) fn full_board(cpus: Vec<u32>) -> Board {
    let mut board = Board::new(cpus);
    board.ecam.last_bus = 4;
    board.memory_windows_64 = vec![0x80_0000_0000..=0xbf_ffff_ffff];
    board.root_ports = vec![1, 2, 3, 28];
    board.endpoints = vec![4, 5];
    board
}

/// Writes a board's tables into a directory, each as `signature.dat` and all as `acpi.dump`.
pub(crate) fn write(directory: &Path, board: &Board) -> Result<(), Box<dyn Error>> {
    let placement = place(&tables(board)?, 0xe_0000, 0xe_0040..0x10_0000)?;
    fs::create_dir_all(directory)?;
    let mut text = String::new();
    for table in &placement.tables {
        fs::write(directory.join(format!("{}.dat", name(table).to_lowercase())), &table.bytes)?;
        write_text(&mut text, table)?;
    }
    fs::write(directory.join("acpi.dump"), text)?;
    Ok(())
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
