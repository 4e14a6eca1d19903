//! The tables that a guest finds behind firmware, held against those that are made for its board.

use lab::Output;
use machine::firmware::acpi::{self, Board, Ecam, TableId};
use machine::layout;

/// Says the bytes of the tables that name no address where firmware has put a table, and of the one that does.
pub(crate) const TABLES: &str = "cd /sys/firmware/acpi/tables; for t in APIC DSDT FACP MCFG TPM2; do echo bytes $t; \
                                 od -v -An -t x1 $t; done; echo bytes end;";

/// The tables that a guest found behind OVMF are byte for byte those that are made for a board with two processors, an
/// entropy device, a disk and a TPM, as OVMF has set it up.
pub(crate) fn tables_are_those_made(output: &Output) {
    let mut board = Board::new(vec![0, 1]);
    board.keyboard_controller = false;
    board.tpm = true;
    board.endpoints = vec![1, 2];
    board.ecam = Ecam { base: 0xe000_0000, last_bus: 255 };
    board.memory_windows_32 = vec![0xa_0000..=0xb_ffff, 0x8000_0000..=0xdfff_ffff, 0xf000_0000..=0xfebf_ffff];
    // Where above memory is OVMF's choice, which the guest was told.
    let windows = output.stdout.lines().filter_map(|line| {
        let (first, last) = line.trim().strip_suffix(" : PCI Bus 0000:00")?.split_once('-')?;
        let address = |digits| u64::from_str_radix(digits, 16).ok();
        Some(address(first)?..=address(last)?).filter(|window| *window.start() >= layout::ABOVE_4G)
    });
    board.memory_windows_64 = windows.collect();
    let made = acpi::tables(&board).unwrap();
    for id in [TableId::Madt, TableId::Dsdt, TableId::Mcfg, TableId::Tpm2, TableId::Fadt] {
        let mut expected = made.iter().find(|table| table.id == id).unwrap().clone();
        let mut found = bytes_of(output, id.signature());
        assert_eq!(found.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)), 0, "{id:?} {output:?}");
        if id == TableId::Tpm2 {
            // Firmware's log: its size and address, and the sum that counts them.
            assert!(found[64..68] == [0, 0, 1, 0] && found[68..76] != [0; 8], "{output:?}");
            for at in (64..76).chain([9]) {
                (expected.bytes[at], found[at]) = (0, 0);
            }
        }
        if !expected.pointers.is_empty() {
            // Addresses of tables, and the sum that counts them.
            let fields = expected.pointers.iter().map(|pointer| pointer.offset..pointer.offset + pointer.len);
            for at in fields.flatten().chain([9]).collect::<Vec<_>>() {
                (expected.bytes[at], found[at]) = (0, 0);
            }
        }
        assert_eq!(found, expected.bytes, "{id:?} {output:?}");
    }
}

/// The bytes that follow `bytes NAME`.
fn bytes_of(output: &Output, name: &str) -> Vec<u8> {
    let lines =
        output.stdout.lines().map(str::trim).skip_while(|line| *line != format!("bytes {name}")).skip(1);
    let digits = lines.take_while(|line| !line.starts_with("bytes ")).flat_map(str::split_whitespace);
    digits.filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect()
}
