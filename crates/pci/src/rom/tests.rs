//! ROMs as cards have them, and as they should not be; and any bytes at all.

use proptest::prelude::*;

use super::{BrokenChain, ChainFault, CodeType, EfiHeader, MOST_IMAGES, Rom, RomFault, judge, repair};

const VENDOR: u16 = 0x1002;
const DEVICE: u16 = 0x73bf;

/// An image of `units` times 512 bytes with a right checksum.
fn image(code_type: u8, units: u8, last: bool) -> Vec<u8> {
    let mut bytes = vec![0x90; usize::from(units) * 512];
    bytes[..3].copy_from_slice(&[0x55, 0xaa, units]);
    bytes[0x18..0x1a].copy_from_slice(&0x40_u16.to_le_bytes());
    let data = &mut bytes[0x40..0x60];
    data.fill(0);
    data[..4].copy_from_slice(b"PCIR");
    data[4..6].copy_from_slice(&VENDOR.to_le_bytes());
    data[6..8].copy_from_slice(&DEVICE.to_le_bytes());
    data[8..10].copy_from_slice(&0x18_u16.to_le_bytes());
    data[0xc] = 3;
    data[0xd..0x10].copy_from_slice(&[0x00, 0x00, 0x03]);
    data[0x10] = units;
    data[0x14] = code_type;
    data[0x15] = if last { 0x80 } else { 0 };
    data[0x18..0x1e].copy_from_slice(&[0xaf, 0x73, 0xa5, 0x73, 0, 0]);
    if code_type == 3 {
        bytes[4..8].copy_from_slice(&0x0ef1_u32.to_le_bytes());
        bytes[8..10].copy_from_slice(&11_u16.to_le_bytes());
        bytes[10..12].copy_from_slice(&EfiHeader::X86_64.to_le_bytes());
        bytes[12..14].copy_from_slice(&1_u16.to_le_bytes());
    }
    if code_type == 0 {
        let sum = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        bytes[6] = bytes[6].wrapping_sub(sum);
    }
    bytes
}

fn both() -> Vec<u8> {
    [image(0, 4, false), image(3, 8, true)].concat()
}

#[test]
fn both_images_of_a_display_card_are_found() {
    let mut bytes = both();
    // What lies behind the last image is of no account.
    bytes.resize(65536, 0xff);
    let rom = Rom::parse(&bytes);
    assert_eq!((rom.used, rom.broken, rom.has_x86(), rom.has_efi()), (12 * 512, None, true, true));
    let [x86, efi] = &rom.images[..] else { panic!("{rom:?}") };
    assert_eq!(
        (x86.code_type, x86.checksum, x86.last, x86.class),
        (CodeType::X86, Some(true), false, 0x03_0000)
    );
    assert_eq!(x86.devices, [0x73af, 0x73a5]);
    assert!(x86.is_for(VENDOR, DEVICE) && x86.is_for(VENDOR, 0x73a5) && !x86.is_for(VENDOR, 0x1234));
    assert_eq!(efi.efi, Some(EfiHeader { machine: EfiHeader::X86_64, subsystem: 11, compressed: true }));
    assert_eq!(judge(&bytes, Some((VENDOR, 0x73af))), []);
}

#[test]
fn images_of_the_vendor_get_the_device_id_and_a_right_checksum() {
    let mut foreign = image(0, 2, false);
    foreign[0x44..0x46].copy_from_slice(&0x10de_u16.to_le_bytes());
    let mut bytes = [foreign.clone(), both()].concat();
    repair(&mut bytes, VENDOR, 0x2222);
    assert_eq!(bytes[..1024], foreign);
    let rom = Rom::parse(&bytes);
    assert_eq!((rom.images[1].device, rom.images[1].checksum), (0x2222, Some(true)));
    assert_eq!((rom.images[2].device, rom.images[2].code_type), (0x2222, CodeType::Efi));
}

#[test]
fn what_needs_no_repair_or_is_no_image_stays_as_it_is() {
    let mut unsigned = both();
    unsigned[0] = 0;
    let mut outside = both();
    outside[0x18..0x1a].copy_from_slice(&[0xfe, 0x0f]);
    for (bytes, device) in [
        (both(), DEVICE),
        // In the list of devices.
        (both(), 0x73a5),
        (unsigned, 0x2222),
        (outside, 0x2222),
        (vec![], 0x2222),
        (vec![0x55], 0x2222),
        (vec![0xff; 4096], 0x2222),
    ] {
        let mut repaired = bytes.clone();
        repair(&mut repaired, VENDOR, device);
        assert_eq!(repaired, bytes);
    }
}

#[test]
fn what_is_wrong_is_named() {
    let damaged = {
        let mut bytes = both();
        bytes[0x123] ^= 1;
        bytes
    };
    let no_data = {
        let mut bytes = both();
        bytes[0x40] = b'X';
        bytes
    };
    let no_length = {
        let mut bytes = both();
        bytes[0x50] = 0;
        bytes
    };
    let chain = |number, why| RomFault::Chain { number, why };
    for (bytes, card, fault) in [
        (vec![], None, RomFault::Empty),
        (vec![0xff; 65536], None, RomFault::AllOnes),
        (vec![0; 512], None, RomFault::AllZeros),
        (b"NVGI, a header of the vendor's own".to_vec(), None, RomFault::NotARom),
        (damaged, None, RomFault::Checksum { number: 0 }),
        (no_data, None, chain(0, ChainFault::NoData)),
        (no_length, None, chain(0, ChainFault::NoLength)),
        (image(0, 4, false), None, chain(1, ChainFault::End)),
        ([image(0, 4, false), vec![0xff; 512]].concat(), None, chain(1, ChainFault::NoSignature)),
        (both()[..10 * 512].to_vec(), None, RomFault::Truncated { number: 1, missing: 1024 }),
        (image(0, 1, false).repeat(40), None, chain(32, ChainFault::TooMany)),
        (both(), Some((0x10de, 0x2684)), RomFault::Foreign { vendor: VENDOR, device: DEVICE }),
    ] {
        let faults = judge(&bytes, card);
        assert_eq!(faults, [fault]);
        assert!(!faults[0].to_string().is_empty());
    }
}

proptest! {
    #[test]
    fn any_bytes_end_and_stay_inside(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
        judge(&bytes, Some((VENDOR, DEVICE)));
    }

    #[test]
    fn a_rom_with_any_byte_changed_ends_and_stays_inside(at in 0_usize..6144, byte: u8, cut in 0_usize..6144) {
        let mut bytes = both();
        bytes[at] = byte;
        bytes.truncate(cut);
        let rom = Rom::parse(&bytes);
        prop_assert!(rom.images.len() <= MOST_IMAGES);
        let mut next = 0;
        for image in &rom.images {
            prop_assert_eq!(image.start, next);
            prop_assert!(image.length > 0 && image.start < bytes.len());
            next += image.length;
        }
        if let Some(BrokenChain { at, .. }) = rom.broken {
            prop_assert_eq!(at, next);
        }
        judge(&bytes, None);
    }
}
