//! The status machine and the queue registers, row by row.

use super::{Command, Registers, status};
use crate::virtio::interrupt::{NO_VECTOR, Vectors};
use crate::virtio::ring::Placement;

const VERSION_1: u32 = 1;
const OWN: u64 = 0x240;

fn registers() -> Registers {
    Registers::new(OWN, &[16, 8], 3)
}

fn read<const N: usize>(registers: &Registers, offset: u64) -> [u8; N] {
    let mut data = [0xaa; N];
    registers.read(offset, &mut data, false);
    data
}

fn word(registers: &Registers, offset: u64) -> u16 {
    u16::from_le_bytes(read(registers, offset))
}

fn dword(registers: &Registers, offset: u64) -> u32 {
    u32::from_le_bytes(read(registers, offset))
}

fn accept(registers: &mut Registers, low: u32, high: u32) {
    for (select, value) in [(0_u32, low), (1, high)] {
        registers.write(0x08, &select.to_le_bytes());
        registers.write(0x0c, &value.to_le_bytes());
    }
}

#[test]
fn features_are_shown_in_halves_and_end_there() {
    let mut registers = registers();
    for (select, bits) in [(0, 0x3000_0240), (1, 1), (2, 0), (u32::MAX, 0)] {
        registers.write(0x00, &select.to_le_bytes());
        assert_eq!(dword(&registers, 0x04), bits, "{select}");
        assert_eq!(dword(&registers, 0x00), select);
    }
    assert_eq!(word(&registers, 0x12), 2, "queues");
}

#[test]
fn the_device_starts_only_after_sound_steps() {
    use status::{ACKNOWLEDGE, DRIVER, DRIVER_OK, FAILED, FEATURES_OK, NEEDS_RESET};
    let agreed = ACKNOWLEDGE | DRIVER | FEATURES_OK;
    // Accepted features, the statuses written, and what the status is then; whether it started.
    for (name, low, high, written, reads, starts) in [
        ("by the book", 0x240, VERSION_1, vec![1, 3, 11, 15], agreed | DRIVER_OK, true),
        ("all at once", 0x40, VERSION_1, vec![15], agreed | DRIVER_OK, true),
        ("no features but the version", 0, VERSION_1, vec![3, 11], agreed, false),
        ("without the version", 0x240, 0, vec![3, 11, 15], ACKNOWLEDGE | DRIVER, false),
        ("with a feature that is not there", 1, VERSION_1, vec![3, 11, 15], ACKNOWLEDGE | DRIVER, false),
        ("without agreeing", 0, VERSION_1, vec![3, 7], ACKNOWLEDGE | DRIVER, false),
        ("taking a step back", 0, VERSION_1, vec![3, 11, 1], agreed, false),
        ("giving up", 0, VERSION_1, vec![3, 0x83], ACKNOWLEDGE | DRIVER | FAILED, false),
        ("the device's own bit and one that is none", 0, 0, vec![NEEDS_RESET | 0x10 | 1], ACKNOWLEDGE, false),
    ] {
        let mut registers = registers();
        accept(&mut registers, low, high);
        let commands: Vec<_> =
            written.iter().filter_map(|status| registers.write(0x14, &[*status])).collect();
        assert_eq!(read(&registers, 0x14), [reads], "{name}");
        assert_eq!(!commands.is_empty(), starts, "{name}");
        assert_eq!(registers.write(0x14, &[0]), Some(Command::Reset), "{name}");
        assert_eq!(read(&registers, 0x14), [0], "{name}");
    }
}

#[test]
fn what_was_agreed_on_stays_until_the_reset() {
    let mut registers = registers();
    accept(&mut registers, 0x40, VERSION_1);
    registers.write(0x14, &[11]);
    accept(&mut registers, 0x200, VERSION_1);
    let Some(Command::Start { features, .. }) = registers.write(0x14, &[15]) else { panic!("no start") };
    assert_eq!(features, 0x40 | 1 << 32);
    assert!(registers.write(0x14, &[15]).is_none(), "one start");
}

#[test]
fn a_broken_device_says_so() {
    let mut data = [0];
    registers().read(0x14, &mut data, true);
    assert_eq!(data, [status::NEEDS_RESET]);
}

#[test]
fn queues_are_set_up_until_they_are_enabled() {
    let mut registers = registers();
    registers.write(0x16, &1_u16.to_le_bytes());
    assert_eq!((word(&registers, 0x18), word(&registers, 0x1e)), (8, 1), "limit and doorbell");
    for (size, reads) in [(4_u16, 4), (16, 4), (3, 4), (0, 4), (8, 8), (2, 2)] {
        registers.write(0x18, &size.to_le_bytes());
        assert_eq!(word(&registers, 0x18), reads, "{size}");
    }
    registers.write(0x20, &0x1234_5000_u32.to_le_bytes());
    registers.write(0x24, &0x9_u32.to_le_bytes());
    registers.write(0x28, &0x0000_0001_0000_2000_u64.to_le_bytes());
    registers.write(0x30, &0x3000_u32.to_le_bytes());
    for zero in [0_u16, 2] {
        registers.write(0x1c, &zero.to_le_bytes());
        assert_eq!(word(&registers, 0x1c), 0);
    }
    registers.write(0x1c, &1_u16.to_le_bytes());
    assert_eq!(word(&registers, 0x1c), 1);
    // Too late.
    registers.write(0x18, &4_u16.to_le_bytes());
    registers.write(0x20, &0_u32.to_le_bytes());
    registers.write(0x1c, &0_u16.to_le_bytes());
    assert_eq!((word(&registers, 0x18), dword(&registers, 0x20)), (2, 0x1234_5000));

    accept(&mut registers, 0, VERSION_1);
    let start = registers.write(0x14, &[15]).unwrap();
    let at = Placement { size: 2, descriptors: 0x9_1234_5000, available: 0x1_0000_2000, used: 0x3000 };
    assert_eq!(start, Command::Start { features: 1 << 32, queues: vec![None, Some(at)] });
    // One more after the start.
    registers.write(0x16, &0_u16.to_le_bytes());
    let add = registers.write(0x1c, &1_u16.to_le_bytes()).unwrap();
    let at = Placement { size: 16, ..Placement::default() };
    assert_eq!(add, Command::Add { features: 1 << 32, index: 0, at });
}

#[test]
fn a_queue_that_is_not_there_has_size_zero_and_takes_nothing() {
    let mut registers = registers();
    registers.write(0x16, &2_u16.to_le_bytes());
    for offset in [0x18, 0x1a, 0x1c] {
        assert_eq!(registers.write(offset, &1_u16.to_le_bytes()), None);
        assert_eq!(word(&registers, offset), 0);
    }
    registers.write(0x20, &1_u32.to_le_bytes());
    assert_eq!(read(&registers, 0x20), [0_u8; 24]);
}

#[test]
fn vectors_beyond_the_table_read_back_as_none() {
    let mut registers = registers();
    let none = Vectors { config: NO_VECTOR, queues: vec![NO_VECTOR; 2] };
    for (offset, vector, reads, vectors) in [
        (0x10, 2, 2, Vectors { config: 2, ..none.clone() }),
        (0x10, 3, NO_VECTOR, none.clone()),
        (0x1a, 1, 1, Vectors { queues: vec![1, NO_VECTOR], ..none.clone() }),
        (0x1a, NO_VECTOR, NO_VECTOR, none),
    ] {
        assert_eq!(registers.write(offset, &u16::to_le_bytes(vector)), Some(Command::Vectors(vectors)));
        assert_eq!(word(&registers, offset), reads);
    }
}

#[test]
fn accesses_of_other_widths_and_places_change_nothing() {
    let mut registers = registers();
    let before = read::<0x38>(&registers, 0);
    for (offset, data) in [
        (0x14, &[1, 0][..]),
        (0x13, &[1]),
        (0x18, &[4]),
        (0x18, &[4, 0, 0, 0]),
        (0x22, &[1, 0, 0, 0]),
        (0x24, &[1; 8]),
        (0x20, &[1; 3]),
        (0x20, &[]),
        (0x38, &[1, 0, 0, 0]),
        (u64::MAX, &[1]),
        (u64::MAX - 7, &[1; 8]),
    ] {
        assert_eq!(registers.write(offset, data), None);
        assert_eq!(read::<0x38>(&registers, 0), before, "{offset:#x} {data:?}");
    }
    assert_eq!(read(&registers, 0x36), [0; 8], "past the end there is nothing");
}
