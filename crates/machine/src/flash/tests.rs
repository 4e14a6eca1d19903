//! The flash as OVMF drives it, and firmware files as people give them.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use linux::disk::Disk;
use spec::seat_file::FirmwareKind;

use super::chip::{BLOCK, Chip};
use super::{Firmware, Flash, FlashError};
use crate::bus::{Device, Effect};

/// A file with these bytes.
fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

fn volume(len: usize) -> Vec<u8> {
    let mut bytes = vec![0x11; len];
    bytes[40..44].copy_from_slice(b"_FVH");
    bytes
}

fn bios(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    bytes[len - 16] = 0xea;
    bytes
}

const CODE: usize = 192 << 10;
const VARIABLES: usize = 64 << 10;

/// OVMF in small, and another handle to the file of its variables.
fn flash() -> (Arc<Flash>, File) {
    let variables = file(&volume(VARIABLES));
    let store = Disk::from_file(OwnedFd::from(variables.try_clone().unwrap())).unwrap();
    let image = file(&volume(CODE));
    let firmware = Firmware { kind: FirmwareKind::Uefi, image, variables: Some(store) };
    (Arc::new(Flash::load(firmware).unwrap()), variables)
}

fn saved(file: &mut File, at: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    file.seek(std::io::SeekFrom::Start(at)).unwrap();
    file.read_exact(&mut bytes).unwrap();
    bytes
}

fn read(chip: &mut Chip, offset: u64) -> u8 {
    let mut byte = [0];
    chip.read(offset, &mut byte);
    byte[0]
}

#[test]
fn the_chip_is_recognised_as_ovmf_recognises_it() {
    let (flash, _) = flash();
    let mut chip = Chip::new(flash);
    let original = read(&mut chip, 0);
    // Clear the status: still memory. Read the status: cleared. Read cells: memory again.
    for (command, found, effects) in [
        (0x50, original, vec![]),
        (0x70, 0x00, vec![Effect::FlashMode]),
        (0xff, original, vec![Effect::FlashMode]),
        (0x90, 0x89, vec![Effect::FlashMode]),
        (0xf0, original, vec![Effect::FlashMode]),
    ] {
        assert_eq!(chip.write(0, &[command]), effects, "{command:#x}");
        assert_eq!(read(&mut chip, 0), found, "{command:#x}");
        assert_eq!(chip.reads_as_memory(), found == original, "{command:#x}");
    }
}

#[test]
fn bytes_are_programmed_one_by_one_and_saved_at_the_end() {
    let (flash, mut file) = flash();
    let mut chip = Chip::new(flash);
    for (offset, byte) in (0x1000..).zip(b"boot order") {
        chip.write(offset, &[0x10]);
        assert!(!chip.reads_as_memory());
        chip.write(offset, &[*byte]);
        assert_eq!(read(&mut chip, offset), 0x80, "ready");
    }
    assert_eq!(saved(&mut file, 0x1000, 4), [0x11; 4], "the sequence is not at its end");
    assert_eq!(chip.write(0x1009, &[0xff]), [Effect::FlashMode]);
    assert_eq!(saved(&mut file, 0xfff, 12), b"\x11boot order\x11");
    assert_eq!(read(&mut chip, 0x1000), b'b');
}

#[test]
fn a_block_is_erased_only_with_its_confirmation() {
    let (flash, mut file) = flash();
    let mut chip = Chip::new(flash);
    chip.write(0x2345, &[0x20]);
    chip.write(0x2345, &[0x12]);
    assert_eq!(read(&mut chip, 0), 0xb0, "a sequence error");
    assert_eq!(saved(&mut file, 0x2345, 1), [0x11]);
    chip.write(0x2345, &[0x20]);
    chip.write(0x2345, &[0xd0]);
    let around = saved(&mut file, 0x1fff, BLOCK as usize + 2);
    assert_eq!((around[0], around[BLOCK as usize + 1]), (0x11, 0x11));
    assert!(around[1..=BLOCK as usize].iter().all(|byte| *byte == 0xff));
}

#[test]
fn accesses_past_the_end_and_of_every_width_do_no_harm() {
    let (flash, mut file) = flash();
    let mut chip = Chip::new(flash);
    for offset in [VARIABLES as u64 - 1, VARIABLES as u64, u64::MAX - 1] {
        chip.write(offset, &[0x10]);
        chip.write(offset, &[0x55; 2]);
        chip.write(offset, &[]);
        let mut wide = [0; 8];
        chip.read(offset, &mut wide);
        chip.write(offset, &[0x20]);
        chip.write(offset, &[0xd0]);
        chip.write(offset, &[0xff]);
    }
    assert_eq!(saved(&mut file, 0, 4), [0x11; 4]);
}

#[test]
fn a_file_that_takes_nothing_is_told_of_once() {
    let mut variables = tempfile::NamedTempFile::new().unwrap();
    variables.write_all(&volume(VARIABLES)).unwrap();
    let read_only = File::open(variables.path()).unwrap();
    let store = Disk::from_file(OwnedFd::from(read_only)).unwrap();
    let firmware = Firmware { kind: FirmwareKind::Uefi, image: file(&volume(CODE)), variables: Some(store) };
    let mut chip = Chip::new(Arc::new(Flash::load(firmware).unwrap()));
    for round in 0..2 {
        chip.write(0, &[0x10]);
        chip.write(0, &[0x00]);
        let effects = chip.write(0, &[0xff]);
        let told = effects.iter().any(|effect| matches!(effect, Effect::Note(_)));
        assert_eq!(told, round == 0, "{effects:?}");
        assert_eq!(read(&mut chip, 0), 0x00, "the guest reads what it wrote");
    }
}

#[test]
fn files_that_are_no_firmware_are_refused() {
    let load = |kind, image: &[u8], variables: Option<Vec<u8>>| {
        let variables = variables.map(|bytes| Disk::from_file(OwnedFd::from(file(&bytes))).unwrap());
        Flash::load(Firmware { kind, image: file(image), variables }).map(|_| ())
    };
    use FirmwareKind::{Bios, Uefi};
    for (kind, image, variables, good) in [
        (Bios, bios(256 << 10), None, true),
        (Bios, bios(128 << 10), None, true),
        (Uefi, volume(CODE), Some(volume(VARIABLES)), true),
        (Uefi, volume(1 << 20), None, true),
    ] {
        assert_eq!(load(kind, &image, variables).is_ok(), good);
    }
    for (kind, image, variables, words) in [
        (Bios, bios(64 << 10), None, "65536 bytes"),
        (Bios, vec![0; 256 << 10], None, "no BIOS"),
        (Bios, vec![], None, "0 bytes"),
        (Bios, bios((8 << 20) + 4096), None, "128 KiB to 8 MiB"),
        (Bios, bios((256 << 10) + 1), None, "whole 4 KiB"),
        (Bios, bios(256 << 10), Some(volume(VARIABLES)), "keeps no UEFI variables"),
        (Uefi, bios(256 << 10), None, "no UEFI firmware"),
        (Uefi, volume(CODE), Some(vec![0; VARIABLES]), "is none"),
        (Uefi, volume(CODE), Some(vec![]), "0 bytes"),
        (Uefi, volume(CODE), Some(volume(2 * VARIABLES)), "different builds"),
        (Uefi, volume(CODE), Some(volume(VARIABLES - 1)), "65535 bytes"),
    ] {
        let error: FlashError = load(kind, &image, variables).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn a_bios_ends_below_1_mib_too() {
    let firmware = Firmware { kind: FirmwareKind::Bios, image: file(&bios(256 << 10)), variables: None };
    let flash = Flash::load(firmware).unwrap();
    assert_eq!(flash.low_copy().unwrap().len(), 128 << 10);
    assert!(flash.chip_range().is_none());
}
