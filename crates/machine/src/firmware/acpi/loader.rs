//! The tables as stock firmware takes them: two files of tables and a script by which it places and links them.
//!
//! Not here: the device by which the files reach it. Script: SeaBIOS src/fw/romfile_loader.h, OVMF
//! OvmfPkg/AcpiPlatformDxe/QemuLoader.h. Started without firmware, a guest gets the same tables from `layout`.

use super::table::{Table, TableId};
use super::tpm;

/// The file with the script.
pub const SCRIPT_FILE: &str = "etc/table-loader";
/// The file with the root pointer.
pub const RSDP_FILE: &str = "etc/acpi/rsdp";
/// The file with all other tables.
pub const TABLES_FILE: &str = "etc/acpi/tables";
/// The file that becomes the log of what firmware measures into a TPM, all zeros.
pub const LOG_FILE: &str = "etc/tpm/log";

/// The files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoaderFiles {
    /// [`SCRIPT_FILE`].
    pub script: Vec<u8>,
    /// [`RSDP_FILE`].
    pub rsdp: Vec<u8>,
    /// [`TABLES_FILE`].
    pub tables: Vec<u8>,
}

/// Bytes of a command, whatever it says.
const COMMAND_LEN: usize = 128;
const FILE_NAME_LEN: usize = 56;

const ALLOCATE: u32 = 1;
const ADD_POINTER: u32 = 2;
const ADD_CHECKSUM: u32 = 3;

/// Anywhere below 4 GiB.
const ZONE_HIGH: u8 = 1;
/// Where a guest searches for the root pointer: 0xF0000 to 0xFFFFF.
const ZONE_F_SEGMENT: u8 = 2;

/// Alignment of the tables' file: that of the FACS, the strictest.
const TABLES_ALIGN: u32 = 64;
const RSDP_ALIGN: u32 = 16;

/// A file of tables has room to say more when the guest has set its hardware up: sizes are told before.
const TABLES_STEP: usize = 4096;
const TABLES_ROOM: usize = 1024;

/// Puts `tables` into files. A pointer's field holds the offset in its target's file, to which the script adds where
/// that file lies.
pub fn files(tables: &[Table]) -> LoaderFiles {
    let mut rsdp = Vec::new();
    let mut others = Vec::new();
    let mut offsets = Vec::new();
    for table in tables {
        if table.id == TableId::Rsdp {
            rsdp.clone_from(&table.bytes);
            continue;
        }
        let offset = others.len().next_multiple_of(table.align as usize);
        others.resize(offset, 0);
        others.extend_from_slice(&table.bytes);
        offsets.push((table.id, offset));
    }
    let mut script = Vec::new();
    allocate(&mut script, RSDP_FILE, RSDP_ALIGN, ZONE_F_SEGMENT);
    allocate(&mut script, TABLES_FILE, TABLES_ALIGN, ZONE_HIGH);
    let offset_of = |id| offsets.iter().find(|(other, _)| *other == id).map_or(0, |(_, offset)| *offset);
    for table in tables {
        let (name, bytes, start) = match table.id {
            TableId::Rsdp => (RSDP_FILE, &mut rsdp, 0),
            id => (TABLES_FILE, &mut others, offset_of(id)),
        };
        for pointer in &table.pointers {
            let at = start + pointer.offset;
            let target = offset_of(pointer.to).to_le_bytes();
            if let (Some(field), Some(target)) =
                (bytes.get_mut(at..at + pointer.len), target.get(..pointer.len))
            {
                field.copy_from_slice(target);
            }
            add_pointer(&mut script, name, TABLES_FILE, (at, pointer.len));
        }
        if table.id == TableId::Tpm2 {
            log_area(&mut script, bytes, start);
        }
        for checksum in &table.checksums {
            let at = start + checksum.offset;
            // The script subtracts from what is there.
            if let Some(byte) = bytes.get_mut(at) {
                *byte = 0;
            }
            command(&mut script, ADD_CHECKSUM, |body| {
                body.extend(file_name(name));
                body.extend((at as u32).to_le_bytes());
                body.extend(((start + checksum.over.start) as u32).to_le_bytes());
                body.extend((checksum.over.len() as u32).to_le_bytes());
            });
        }
    }
    others.resize((others.len() + TABLES_ROOM).next_multiple_of(TABLES_STEP), 0);
    LoaderFiles { script, rsdp, tables: others }
}

/// Gives the TPM's table, which begins at `start` of `tables`, an area for a log.
fn log_area(script: &mut Vec<u8>, tables: &mut [u8], start: usize) {
    let (size_at, address_at) = (start + tpm::LOG_SIZE_AT, start + tpm::LOG_ADDRESS_AT);
    if let Some(size) = tables.get_mut(size_at..address_at) {
        size.copy_from_slice(&tpm::LOG_LEN.to_le_bytes());
    }
    allocate(script, LOG_FILE, 1, ZONE_HIGH);
    add_pointer(script, TABLES_FILE, LOG_FILE, (address_at, 8));
}

fn allocate(script: &mut Vec<u8>, name: &str, align: u32, zone: u8) {
    command(script, ALLOCATE, |body| {
        body.extend(file_name(name));
        body.extend(align.to_le_bytes());
        body.push(zone);
    });
}

/// Adds where the file `to` lies to a field of the file `from`, at an offset and of a length.
fn add_pointer(script: &mut Vec<u8>, from: &str, to: &str, (at, len): (usize, usize)) {
    command(script, ADD_POINTER, |body| {
        body.extend(file_name(from));
        body.extend(file_name(to));
        body.extend((at as u32).to_le_bytes());
        body.push(len as u8);
    });
}

fn command(script: &mut Vec<u8>, number: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let end = script.len() + COMMAND_LEN;
    script.extend(number.to_le_bytes());
    body(script);
    script.resize(end, 0);
}

fn file_name(name: &str) -> [u8; FILE_NAME_LEN] {
    let mut field = [0; FILE_NAME_LEN];
    field.iter_mut().zip(name.bytes()).for_each(|(place, byte)| *place = byte);
    field
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{LoaderFiles, files, tpm};
    use crate::firmware::acpi::{Board, TableId, place, tables};

    /// Where the test's firmware puts the files.
    const RSDP: u64 = 0xf_1230;
    const TABLES: u64 = 0x7ffe_0040;
    const LOG: u64 = 0x7ffd_0040;

    /// Does what firmware does with the script.
    fn execute(files: &LoaderFiles) -> BTreeMap<String, (u64, Vec<u8>)> {
        let number =
            |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let name = |bytes: &[u8]| {
            String::from_utf8(bytes.split(|byte| *byte == 0).next().unwrap().to_vec()).unwrap()
        };
        let log = vec![0; tpm::LOG_LEN as usize];
        let mut memory = BTreeMap::new();
        for command in files.script.chunks(128) {
            let file = name(&command[4..60]);
            match number(command, 0) {
                1 => {
                    let (address, bytes, align, zone) = match file.as_str() {
                        "etc/acpi/rsdp" => (RSDP, &files.rsdp, 16, 2),
                        "etc/acpi/tables" => (TABLES, &files.tables, 64, 1),
                        "etc/tpm/log" => (LOG, &log, 1, 1),
                        other => panic!("{other}"),
                    };
                    assert_eq!((number(command, 60), command[64]), (align, zone));
                    memory.insert(file, (address, bytes.clone()));
                }
                2 => {
                    let source = memory[&name(&command[60..116])].0;
                    let (at, len) = (number(command, 116), usize::from(command[120]));
                    let bytes = &mut memory.get_mut(&file).unwrap().1;
                    let mut value = [0; 8];
                    value[..len].copy_from_slice(&bytes[at..at + len]);
                    let value = u64::from_le_bytes(value) + source;
                    bytes[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
                }
                3 => {
                    let (at, start, len) = (number(command, 60), number(command, 64), number(command, 68));
                    let bytes = &mut memory.get_mut(&file).unwrap().1;
                    let sum =
                        bytes[start..start + len].iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
                    bytes[at] = bytes[at].wrapping_sub(sum);
                }
                other => panic!("{other}"),
            }
        }
        memory
    }

    #[test]
    fn firmware_ends_with_the_tables_that_a_guest_without_firmware_gets() {
        let mut board = Board::new(vec![0, 1, 2]);
        board.root_ports = vec![16, 17];
        let tables = tables(&board).unwrap();
        let memory = execute(&files(&tables));
        // The same tables placed at the same addresses, by the other outlet.
        let placement = place(&tables, RSDP, TABLES..TABLES + 0x1_0000).unwrap();
        for table in &placement.tables {
            let file = if table.id == TableId::Rsdp { "etc/acpi/rsdp" } else { "etc/acpi/tables" };
            let (address, bytes) = &memory[file];
            let start = (table.address - address) as usize;
            assert_eq!(&bytes[start..start + table.bytes.len()], table.bytes, "{:?}", table.id);
        }
    }

    #[test]
    fn firmware_has_an_area_to_log_what_it_measures() {
        let mut board = Board::new(vec![0]);
        board.tpm = true;
        let tables = tables(&board).unwrap();
        let memory = execute(&files(&tables));
        let placement = place(&tables, RSDP, TABLES..TABLES + 0x1_0000).unwrap();
        let table = placement.tables.iter().find(|table| table.id == TableId::Tpm2).unwrap();
        let start = (table.address - TABLES) as usize;
        let placed = &memory["etc/acpi/tables"].1[start..start + table.bytes.len()];
        assert_eq!((&placed[..9], &placed[10..64]), (&table.bytes[..9], &table.bytes[10..64]));
        assert_eq!(placed[64..], [&0x1_0000_u32.to_le_bytes()[..], &LOG.to_le_bytes()].concat());
        assert_eq!(placed.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)), 0);
        assert!(memory.contains_key("etc/tpm/log"));
    }

    #[test]
    fn a_little_more_to_say_does_not_change_the_sizes() {
        let board = Board::new(vec![0]);
        let mut more = board.clone();
        more.memory_windows_64 = vec![0x38_0000_0000..=0x3f_ffff_ffff];
        let [before, after] = [board, more].map(|board| files(&tables(&board).unwrap()));
        assert!(before.tables != after.tables && before.tables.len() == after.tables.len());
        assert_eq!((before.script.len(), before.rsdp.len()), (after.script.len(), after.rsdp.len()));
    }
}
