//! Tests of the tables as a guest reads them: placed in memory and followed from the RSDP.

use std::ops::RangeInclusive;

use super::*;

/// The area in which the tests have tables placed.
const AREA: std::ops::Range<u64> = 0xe_0040..0x10_0000;
const RSDP: u64 = 0xe_0000;

/// A board with something of everything that the tables can say.
fn full_board() -> Board {
    let mut board = Board::new(vec![0, 1, 2, 3]);
    board.ecam.last_bus = 3;
    board.memory_windows_64 = vec![0x80_0000_0000..=0xbf_ffff_ffff];
    board.serial_ports.push(SerialPort { base: 0x2f8, irq: 3 });
    board.tpm = true;
    board.root_ports = vec![1, 2, 28];
    board.endpoints = vec![4];
    board
}

/// A board with nothing that can be left out.
fn bare_board() -> Board {
    let mut board = Board::new(vec![0]);
    board.power.timer = false;
    board.power.events = false;
    board.serial_ports.clear();
    board.rtc = false;
    board.keyboard_controller = false;
    board
}

/// A board with more CPUs than xAPIC can name, in a topology that leaves gaps between their ids.
fn wide_board() -> Board {
    Board::new((0..300).map(|cpu| cpu / 6 * 8 + cpu % 6).collect())
}

fn boards() -> [(&'static str, Board); 4] {
    [("plain", Board::new(vec![0])), ("full", full_board()), ("bare", bare_board()), ("wide", wide_board())]
}

fn placed(board: &Board) -> Placement {
    place(&tables(board).unwrap(), RSDP, AREA).unwrap()
}

/// What a guest finds at an address: the table there, which must carry the signature it is looked up by.
fn at<'a>(placement: &'a Placement, address: u64, signature: &str) -> &'a [u8] {
    let table = placement.tables.iter().find(|table| table.address == address);
    let bytes = &table.unwrap_or_else(|| panic!("no table at {address:#x}")).bytes;
    assert!(bytes.starts_with(signature.as_bytes()), "{address:#x} is no {signature}");
    bytes
}

fn table(board: &Board, id: TableId) -> Vec<u8> {
    placed(board).tables.into_iter().find(|table| table.id == id).unwrap().bytes
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn every_table_is_found_from_the_rsdp() {
    for (name, board) in boards() {
        let placement = placed(&board);
        let rsdp = at(&placement, placement.rsdp, "RSD PTR ");
        let xsdt = at(&placement, u64_at(rsdp, 24), "XSDT");
        let entries: Vec<u64> = (36..xsdt.len()).step_by(8).map(|entry| u64_at(xsdt, entry)).collect();
        assert_eq!(entries.len(), 3 + usize::from(board.tpm), "{name}");
        let fadt = at(&placement, entries[0], "FACP");
        at(&placement, entries[1], "APIC");
        at(&placement, entries[2], "MCFG");
        if board.tpm {
            at(&placement, entries[3], "TPM2");
        }
        let facs = u32_at(fadt, 36);
        at(&placement, facs.into(), "FACS");
        assert_eq!((facs % 64, u64_at(fadt, 132)), (0, 0), "{name}");
        at(&placement, u64_at(fadt, 140), "DSDT");
        assert_eq!(u64::from(u32_at(fadt, 40)), u64_at(fadt, 140), "{name}");
    }
}

#[test]
fn every_checksum_and_length_is_right() {
    for (name, board) in boards() {
        for table in placed(&board).tables {
            let (bytes, id) = (&table.bytes, table.id);
            let len_at = if id == TableId::Rsdp { 20 } else { 4 };
            assert_eq!(u32_at(bytes, len_at) as usize, bytes.len(), "{name} {id:?}");
            if id == TableId::Rsdp {
                assert_eq!(sum(&bytes[..20]), 0, "{name} {id:?}");
            }
            if id != TableId::Facs {
                assert_eq!(sum(bytes), 0, "{name} {id:?}");
            }
        }
    }
}

#[test]
fn tables_lie_aligned_in_their_area_one_behind_the_other() {
    for (name, board) in boards() {
        let tables = tables(&board).unwrap();
        let placement = place(&tables, RSDP, AREA).unwrap();
        let mut end = AREA.start;
        for (table, placed) in tables.iter().zip(&placement.tables).skip(1) {
            assert!(placed.address >= end && placed.address % table.align == 0, "{name} {:?}", placed.id);
            end = placed.address + placed.bytes.len() as u64;
        }
        assert_eq!((end, end <= AREA.end), (placement.end, true), "{name}");
    }
}

#[test]
fn unplaced_tables_name_all_their_pointers_and_checksums() {
    for (name, board) in boards() {
        let tables = tables(&board).unwrap();
        let of = |id| tables.iter().find(|table| table.id == id).unwrap();
        let targets = |id| of(id).pointers.iter().map(|pointer| pointer.to).collect::<Vec<_>>();
        assert_eq!(targets(TableId::Rsdp), [TableId::Xsdt], "{name}");
        let listed = [TableId::Fadt, TableId::Madt, TableId::Mcfg].into_iter();
        let listed: Vec<_> = listed.chain(board.tpm.then_some(TableId::Tpm2)).collect();
        assert_eq!(targets(TableId::Xsdt), listed, "{name}");
        assert_eq!(targets(TableId::Fadt), [TableId::Facs, TableId::Dsdt, TableId::Dsdt], "{name}");
        for table in &tables {
            for pointer in &table.pointers {
                let field = &table.bytes[pointer.offset..pointer.offset + pointer.len];
                assert!(field.iter().all(|byte| *byte == 0), "{name} {pointer:?}");
            }
            for checksum in &table.checksums {
                assert_eq!(sum(&table.bytes[checksum.over.clone()]), 0, "{name} {:?}", table.id);
            }
        }
    }
}

#[test]
fn placing_refuses_addresses_that_cannot_work() {
    let all = tables(&full_board()).unwrap();
    let without_facs: Vec<_> = all.iter().filter(|table| table.id != TableId::Facs).cloned().collect();
    let needed = place(&all, RSDP, AREA).unwrap().end - AREA.start;
    let short = AREA.start..AREA.start + needed - 1;
    let facs_above_4g = place(&all, RSDP, 0x1_0000_0000..0x1_0010_0000).unwrap_err();
    let rows = [
        (place(&all, RSDP, short.clone()), PlacementError::AreaTooSmall { area: short, needed }),
        (place(&all, RSDP + 8, AREA), PlacementError::RsdpUnaligned(RSDP + 8)),
        (place(&all, AREA.start + 16, AREA), PlacementError::RsdpInArea(AREA.start + 16)),
        (place(&all, AREA.start - 32, AREA), PlacementError::RsdpInArea(AREA.start - 32)),
        (place(&without_facs, RSDP, AREA), PlacementError::Missing(TableId::Facs)),
    ];
    for (result, error) in rows {
        assert_eq!(result, Err(error));
    }
    assert!(matches!(facs_above_4g, PlacementError::TooHigh { to: TableId::Facs, .. }), "{facs_above_4g}");
    assert!(place(&all, RSDP, AREA.start..AREA.start + needed).is_ok());
}

/// Lists a MADT's entries: kind and fields.
fn madt_entries(board: &Board) -> Vec<(u8, Vec<u8>)> {
    let madt = table(board, TableId::Madt);
    let mut entries = Vec::new();
    let mut rest = &madt[44..];
    while let [kind, len, ..] = *rest {
        let (entry, behind) = rest.split_at(len.into());
        entries.push((kind, entry[2..].to_vec()));
        rest = behind;
    }
    entries
}

#[test]
fn madt_lists_controllers_overrides_and_nmi() {
    let madt = table(&Board::new(vec![0, 1]), TableId::Madt);
    assert_eq!((u32_at(&madt, 36), u32_at(&madt, 40)), (0xfee0_0000, 1));
    let entries = madt_entries(&Board::new(vec![0, 1]));
    let expected: [(u8, &[u8]); 6] = [
        (0, &[0, 0, 1, 0, 0, 0]),
        (0, &[1, 1, 1, 0, 0, 0]),
        (1, &[0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0]),
        (2, &[0, 0, 2, 0, 0, 0, 0, 0]),
        (2, &[0, 9, 9, 0, 0, 0, 0x0d, 0]),
        (4, &[0xff, 0, 0, 1]),
    ];
    assert_eq!(entries, expected.map(|(kind, fields)| (kind, fields.to_vec())));
}

#[test]
fn cpus_beyond_xapic_ids_are_x2apics_with_their_own_nmi() {
    let entries = madt_entries(&Board::new(vec![0, 254, 255, 256, 0x1_0000]));
    let expected: [(u8, &[u8]); 5] = [
        (0, &[0, 0, 1, 0, 0, 0]),
        (0, &[254, 254, 1, 0, 0, 0]),
        (9, &[0, 0, 255, 0, 0, 0, 1, 0, 0, 0, 255, 0, 0, 0]),
        (9, &[0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0]),
        (9, &[0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 1, 0]),
    ];
    assert_eq!(entries[..5], expected.map(|(kind, fields)| (kind, fields.to_vec())));
    assert_eq!(entries.last(), Some(&(10, vec![0, 0, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0])));
}

#[test]
fn fadt_says_what_the_registers_are() {
    // Boot architecture, flags, PM timer, its length, general events, their length.
    let rows = [
        (Board::new(vec![0]), 0x03, 0x565, (0x608, 4), (0x620, 16)),
        (full_board(), 0x03, 0x565, (0x608, 4), (0x620, 16)),
        (bare_board(), 0x20, 0x465, (0, 0), (0, 0)),
        (wide_board(), 0x03, 0x4_0565, (0x608, 4), (0x620, 16)),
    ];
    for (board, boot_arch, flags, timer, events) in rows {
        let fadt = table(&board, TableId::Fadt);
        assert_eq!((u16_at(&fadt, 109), u32_at(&fadt, 112)), (boot_arch, flags));
        assert_eq!((u32_at(&fadt, 76), fadt[91]), timer);
        assert_eq!((u64_at(&fadt, 212), fadt[209]), (timer.0.into(), timer.1 * 8));
        assert_eq!((u32_at(&fadt, 80), fadt[92]), events);
        assert_eq!((u64_at(&fadt, 224), fadt[221]), (events.0.into(), events.1 * 8));
        // SCI, no SMI port, PM1 event and control.
        assert_eq!((u16_at(&fadt, 46), u32_at(&fadt, 48)), (9, 0));
        assert_eq!((u32_at(&fadt, 56), fadt[88], u32_at(&fadt, 64), fadt[89]), (0x600, 4, 0x604, 2));
        // Reset by one byte to a port.
        assert_eq!((&fadt[116..120], u64_at(&fadt, 120), fadt[128]), (&[1, 8, 0, 1][..], 0xcf9, 6));
    }
}

#[test]
fn mcfg_announces_only_the_buses_there_are() {
    for last_bus in [0, 7, 255] {
        let mut board = Board::new(vec![0]);
        board.ecam.last_bus = last_bus;
        let mcfg = table(&board, TableId::Mcfg);
        assert_eq!((u64_at(&mcfg, 44), &mcfg[52..56]), (0xb000_0000, &[0, 0, 0, last_bus][..]));
    }
}

#[test]
fn tpm2_points_to_the_registers_that_start_commands() {
    let tpm = table(&full_board(), TableId::Tpm2);
    assert_eq!(
        (tpm.len(), tpm[8], u16_at(&tpm, 36), u64_at(&tpm, 40), u32_at(&tpm, 48)),
        (76, 4, 0, 0xfed4_0040, 7)
    );
    assert!(tpm[52..].iter().all(|byte| *byte == 0));
}

#[test]
fn intx_lines_rotate_below_device_25_and_stand_from_there_on() {
    let rows = [
        (1, [17, 18, 19, 20]),
        (6, [22, 23, 16, 17]),
        (8, [16, 17, 18, 19]),
        (24, [16, 17, 18, 19]),
        (25, [16, 17, 18, 19]),
        (31, [16, 17, 18, 19]),
    ];
    for (device, gsis) in rows {
        assert_eq!([0, 1, 2, 3].map(|pin| intx_gsi(device, pin)), gsis, "device {device}");
    }
}

#[test]
fn dsdt_routes_intx_of_used_slots_only() {
    let mut board = full_board();
    let route = |device: u8, gsi: u8| [0x12, 0x0b, 4, 0x0c, 0xff, 0xff, device, 0, 0, 0, 0x0a, gsi];
    for (device, gsi, routed) in [(1, 17, true), (4, 20, true), (28, 16, true), (5, 21, false)] {
        assert_eq!(contains(&table(&board, TableId::Dsdt), &route(device, gsi)), routed, "device {device}");
    }
    board.endpoints.push(5);
    assert!(contains(&table(&board, TableId::Dsdt), &route(5, 21)));
}

#[test]
fn dsdt_has_a_device_only_for_what_is_there() {
    let rows: [(&[u8], [bool; 4]); 8] = [
        (b"TPM_", [false, true, false, false]),
        (b"COM1", [true, true, false, true]),
        (b"COM2", [false, true, false, false]),
        (b"RTC_", [true, true, false, true]),
        (b"KBD_", [true, true, false, true]),
        (b"RP1C", [false, true, false, false]),
        (b"C003", [false, true, false, true]),
        (b"C12B", [false, false, false, true]),
    ];
    let dsdts = boards().map(|(_, board)| table(&board, TableId::Dsdt));
    for (name, expected) in rows {
        let found = [0, 1, 2, 3].map(|board| contains(&dsdts[board], name));
        assert_eq!(found, expected, "{}", String::from_utf8_lossy(name));
    }
}

#[test]
fn boards_that_tables_cannot_describe_are_refused() {
    fn with(change: impl FnOnce(&mut Board)) -> Board {
        let mut board = full_board();
        change(&mut board);
        board
    }
    let rows = [
        (with(|b| b.cpus.clear()), "0 CPUs: the tables name 1 to 4096"),
        (with(|b| b.cpus = (0..4097).collect()), "4097 CPUs: the tables name 1 to 4096"),
        (with(|b| b.cpus = vec![0, 2, 2]), "APIC id 2 follows 2: ids must ascend"),
        (
            with(|b| b.ecam.base += 0x1000),
            "enhanced configuration space Ecam { base: b0001000, last_bus: 3 } is not aligned to a bus or passes 4 GiB",
        ),
        (
            with(|b| b.ecam.base = 0xffe0_0000),
            "enhanced configuration space Ecam { base: ffe00000, last_bus: 3 } is not aligned to a bus or passes 4 GiB",
        ),
        (
            with(|b| b.serial_ports = vec![SerialPort { base: 0x3f8, irq: 4 }; 5]),
            "5 serial ports: the tables name at most 4",
        ),
        (
            with(|b| b.memory_windows_32 = vec![RangeInclusive::new(0xc000_0000, 0xbfff_ffff)]),
            "window 0xc0000000-0xbfffffff is empty or too long",
        ),
        (with(|b| b.io_windows = vec![0..=0xffff]), "window 0x0-0xffff is empty or too long"),
        (
            with(|b| b.memory_windows_64 = vec![0..=u64::MAX]),
            "window 0x0-0xffffffffffffffff is empty or too long",
        ),
        (with(|b| b.root_ports = vec![0]), "device number 0 on bus 0 is not free"),
        (with(|b| b.endpoints = vec![31]), "device number 31 on bus 0 is not free"),
        (with(|b| b.endpoints = vec![32]), "device number 32 on bus 0 is not free"),
        (with(|b| b.endpoints = vec![28]), "device number 28 on bus 0 is not free"),
    ];
    for (board, message) in rows {
        assert_eq!(tables(&board).unwrap_err().to_string(), message);
    }
}

#[test]
fn two_thousand_cpus_fit_below_1_mib() {
    let mut board = Board::new((0..2000).collect());
    board.root_ports = (1..31).collect();
    let placement = placed(&board);
    assert!(placement.end <= AREA.end);
}
