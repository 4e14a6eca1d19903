//! What firmware finds, held against what the machine was built with.

use std::ops::Range;

use lab::{Failure, Host};
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
