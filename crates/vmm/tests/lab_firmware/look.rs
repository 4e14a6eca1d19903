//! What firmware and its guests find, held against what the machine was built with.

use std::ops::Range;

use lab::{Failure, Host, Output};
use machine::firmware::acpi::{self, Board, Ecam, TableId};
use machine::layout;

use crate::disks::shell_disk;
use crate::{machine, run, without_escapes};

/// What a UEFI memory map calls memory that is there, whoever has it now; the rest is reserved, or registers.
const RAM: [&str; 8] =
    ["LoaderCode", "LoaderData", "BS_Code", "BS_Data", "RT_Code", "RT_Data", "Available", "ACPI_Recl"];

/// Memory of the machine, in bytes.
const MEMORY: u64 = 512 << 20;

pub(crate) fn shell_agrees(host: &Host) -> Result<(), Failure> {
    let disk = shell_disk(host, "memmap\r\npci\r\nreset -s\r\n")?;
    run(host, "truncate -s 8M /tmp/fl-nvme")?;
    let flags = format!("--firmware uefi --display --disk {disk} --disk /tmp/fl-nvme,as=nvme");
    let (output, _) = machine(host, &flags)?;
    let text = without_escapes(&output.stdout);
    let map = memory_map(&text);
    assert!(map.len() > 8, "{output:?}");
    // All memory is in the map once, with nothing between, and there is none elsewhere.
    for block in [0..layout::VGA_HOLE.start, layout::HIGH_MEMORY..MEMORY] {
        let mut inside: Vec<_> = map.iter().filter(|(_, range)| block.contains(&range.start)).collect();
        inside.sort_by_key(|(_, range)| range.start);
        let mut end = block.start;
        for (kind, range) in inside {
            assert_eq!(range.start, end, "{kind} {range:x?} in {text}");
            end = range.end;
        }
        assert_eq!(end, block.end, "{text}");
    }
    for (kind, range) in map.iter().filter(|(kind, _)| RAM.contains(&kind.as_str())) {
        assert!(
            layout::ram_blocks(MEMORY)
                .iter()
                .any(|block| block.start <= range.start && range.end <= block.end),
            "{kind} {range:x?} in {text}"
        );
    }
    // What is not memory and must be left alone: config space, and the pages that KVM has for itself.
    for reserved in
        [0xe000_0000..0xf000_0000, layout::KVM_PRIVATE..layout::KVM_PRIVATE + layout::KVM_PRIVATE_LEN]
    {
        let covers = |range: &Range<u64>| range.start <= reserved.start && reserved.end <= range.end;
        assert!(map.iter().any(|(_, range)| covers(range)), "{reserved:x?} in {text}");
    }
    let functions = [
        ("00:00.0", "8086:29C0"),
        ("00:01.0", "1AF4:1044"),
        ("00:02.0", "1AF4:1042"),
        ("00:03.0", "1B36:0010"),
        ("00:0A.0", "1234:1111"),
        ("00:0A.1", "1AF4:1052"),
        ("00:1F.0", "8086:2918"),
    ];
    assert_eq!(pci_functions(&text), functions.map(|(at, ids)| (at.to_owned(), ids.to_owned())), "{text}");
    Ok(())
}

/// Lines of the shell's `memmap`: a kind, and the first and last address.
fn memory_map(text: &str) -> Vec<(String, Range<u64>)> {
    let address = |digits: &str| u64::from_str_radix(digits, 16).ok();
    let entry = |line: &str| {
        let mut words = line.split_whitespace();
        let (kind, (first, last)) = (words.next()?, words.next()?.split_once('-')?);
        Some((kind.to_owned(), address(first)?..address(last)?.checked_add(1)?))
    };
    text.lines().filter_map(entry).collect()
}

/// Functions of the shell's `pci`, in two lines each: where it is (segment, bus, device, function), and what it is.
fn pci_functions(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut place = None;
    for line in text.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            [_, bus, device, function, "==>", ..] => {
                place =
                    Some(format!("{bus}:{device}.{}", function.trim_start_matches('0').parse().unwrap_or(0)));
            }
            ["Vendor", vendor, "Device", device, ..] => {
                found.extend(place.take().map(|place| (place, format!("{vendor}:{device}"))));
            }
            _ => {}
        }
    }
    found
}

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
