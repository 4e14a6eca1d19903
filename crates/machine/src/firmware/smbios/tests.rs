//! What a reader of the SMBIOS tables finds: lengths, strings, addresses, sums.

use super::{Facts, at, for_firmware};

const FACTS: Facts<'_> = Facts { name: "anna", cpus: 4, ram_size: 6 << 30 };

/// The structures as type, formatted area with header, and strings.
fn parse(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>, Vec<String>)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let len = usize::from(bytes[1]);
        let (area, rest) = bytes.split_at(len);
        let end = rest.windows(2).position(|pair| pair == [0, 0]).unwrap();
        let strings = rest[..end].split(|byte| *byte == 0).filter(|text| !text.is_empty());
        let strings = strings.map(|text| String::from_utf8(text.to_vec()).unwrap()).collect();
        found.push((area[0], area.to_vec(), strings));
        bytes = &rest[end + 2..];
    }
    found
}

#[test]
fn structures_have_the_lengths_of_their_version_and_end_with_the_end() {
    let (_, structures) = for_firmware(&FACTS);
    let lengths: Vec<_> = parse(&structures).iter().map(|(kind, area, _)| (*kind, area.len())).collect();
    assert_eq!(
        lengths,
        [
            (1, 0x1b),
            (3, 0x16),
            (4, 0x30),
            (16, 0x17),
            (17, 0x28),
            (19, 0x1f),
            (19, 0x1f),
            (32, 0x0b),
            (127, 4)
        ]
    );
}

#[test]
fn without_firmware_the_bios_is_described_too_and_found_by_its_address() {
    let bytes = at(&FACTS, 0xf_f000);
    assert_eq!(&bytes[..5], b"_SM3_");
    assert_eq!(bytes[..0x18].iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)), 0);
    assert_eq!(u64::from_le_bytes(bytes[0x10..0x18].try_into().unwrap()), 0xf_f020);
    let structures = parse(&bytes[0x20..]);
    assert_eq!(u32::from_le_bytes(bytes[0xc..0x10].try_into().unwrap()) as usize, bytes.len() - 0x20);
    assert_eq!((structures[0].0, structures[0].1.len()), (0, 0x18));
    assert_eq!(structures.len(), 10);
}

#[test]
fn handles_are_given_once() {
    let structures = parse(&at(&Facts { ram_size: 100 << 30, ..FACTS }, 0xf_f000)[0x20..]);
    let mut handles: Vec<_> = structures.iter().map(|(_, area, _)| [area[2], area[3]]).collect();
    handles.sort_unstable();
    handles.dedup();
    assert_eq!(handles.len(), structures.len());
}

#[test]
fn a_name_gives_the_same_uuid_every_time_and_another_name_another() {
    let uuid = |name| parse(&for_firmware(&Facts { name, ..FACTS }).1)[0].1[8..24].to_vec();
    assert_eq!(uuid("anna"), uuid("anna"));
    assert_ne!(uuid("anna"), uuid("anne"));
    // Version 8 in the upper half of byte 7 as SMBIOS orders them, the variant in byte 8.
    assert_eq!((uuid("anna")[7] >> 4, uuid("anna")[8] >> 6), (8, 2));
}

#[test]
fn memory_adds_up_to_what_the_machine_has() {
    for (ram_size, devices) in [(512_u64 << 20, 1), (16 << 30, 1), (40 << 30, 3), (3 << 40, 192)] {
        let structures = parse(&for_firmware(&Facts { ram_size, ..FACTS }).1);
        let word = |area: &[u8], at: usize| u64::from(u16::from_le_bytes([area[at], area[at + 1]]));
        let sizes: Vec<_> = structures
            .iter()
            .filter(|(kind, ..)| *kind == 17)
            .map(|(_, area, _)| match word(area, 0xc) {
                0x7fff => u64::from(u32::from_le_bytes(area[0x1c..0x20].try_into().unwrap())),
                mib => mib,
            })
            .collect();
        assert_eq!((sizes.len(), sizes.iter().sum::<u64>() << 20), (devices, ram_size), "{ram_size:#x}");
    }
}
