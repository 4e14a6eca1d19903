//! The structures of a machine, by type: BIOS (0), system (1), chassis (3), processor (4), memory (16, 17, 19), boot
//! status (32), end (127). Field by field in the order of SMBIOS 3.0, sections 7.1 to 7.45.

use super::Facts;
use super::structure::Structure;
use crate::layout;

const MAKER: &str = "Allod";
const PRODUCT: &str = "Desktop Q35";
/// What the tables call themselves where a machine has no other firmware.
const BIOS_DATE: &str = "01/01/2026";
const BIOS_SEGMENT: u16 = 0xf000;

const MIB: u64 = 1 << 20;
const KIB: u64 = 1 << 10;

/// Handles: each structure's own number.
mod handle {
    pub(super) const BIOS: u16 = 0;
    pub(super) const SYSTEM: u16 = 0x100;
    pub(super) const CHASSIS: u16 = 0x300;
    pub(super) const PROCESSOR: u16 = 0x400;
    pub(super) const MEMORY_ARRAY: u16 = 0x1000;
    pub(super) const MEMORY_DEVICE: u16 = 0x1100;
    pub(super) const MEMORY_RANGE: u16 = 0x1300;
    pub(super) const BOOT: u16 = 0x2000;
    pub(super) const END: u16 = 0x7f00;
    /// "There is none."
    pub(super) const NONE: u16 = 0xffff;
    /// "It is not told."
    pub(super) const NO_ERRORS_TOLD: u16 = 0xfffe;
}

/// The largest memory device described; more memory is more of them.
const LARGEST_DEVICE: u64 = 16 << 30;

/// Writes all structures, with or without the one about the BIOS.
pub(super) fn all(facts: &Facts<'_>, with_bios: bool) -> Vec<u8> {
    let mut out = Vec::new();
    if with_bios {
        bios().write(&mut out);
    }
    system(facts.name).write(&mut out);
    chassis(facts.name).write(&mut out);
    processor(facts.cpus).write(&mut out);
    memory(facts.ram_size, &mut out);
    // Reserved bytes, then "no errors detected".
    Structure::new(32, handle::BOOT).bytes(&[0; 6]).byte(0).write(&mut out);
    Structure::new(127, handle::END).write(&mut out);
    out
}

fn bios() -> Structure {
    /// PCI is supported; the rest is of no BIOS call, as there is none.
    const CHARACTERISTICS: u64 = 1 << 7;
    /// ACPI is supported; this is a virtual machine.
    const EXTENSION: [u8; 2] = [1 << 0, 1 << 4];
    Structure::new(0, handle::BIOS)
        .string(MAKER)
        .string(env!("CARGO_PKG_VERSION"))
        .word(BIOS_SEGMENT)
        .string(BIOS_DATE)
        // Its size in units of 64 KiB, less one.
        .byte(0)
        .qword(CHARACTERISTICS)
        .bytes(&EXTENSION)
        // BIOS release, embedded controller's release: not told.
        .bytes(&[0xff; 4])
}

fn system(name: &str) -> Structure {
    const POWER_SWITCH: u8 = 6;
    Structure::new(1, handle::SYSTEM)
        .string(MAKER)
        .string(PRODUCT)
        .string(env!("CARGO_PKG_VERSION"))
        .string(name)
        .bytes(&uuid(name))
        .byte(POWER_SWITCH)
        .string(PRODUCT)
        .string(MAKER)
}

fn chassis(name: &str) -> Structure {
    const DESKTOP: u8 = 3;
    const SAFE: u8 = 3;
    const SECURITY_NONE: u8 = 3;
    Structure::new(3, handle::CHASSIS)
        .string(MAKER)
        .byte(DESKTOP)
        .string(PRODUCT)
        .string(name)
        .string(name)
        // Boot-up, power supply, thermal state.
        .bytes(&[SAFE; 3])
        .byte(SECURITY_NONE)
        .dword(0)
        // Height not told, one power cord, no contained elements.
        .bytes(&[0, 1, 0, 0])
        .string(PRODUCT)
}

fn processor(cpus: usize) -> Structure {
    const CENTRAL: u8 = 3;
    const SEE_FAMILY_2: u8 = 0xfe;
    const FAMILY_OTHER: u16 = 1;
    const POPULATED_AND_ENABLED: u8 = 0x41;
    const UPGRADE_OTHER: u8 = 1;
    // 64-bit capable, and multi-core.
    let characteristics: u16 = if cpus > 1 { 0b1100 } else { 0b0100 };
    let narrow = u8::try_from(cpus).unwrap_or(0xff);
    let wide = u16::try_from(cpus).unwrap_or(0xfffe);
    let mut structure = Structure::new(4, handle::PROCESSOR)
        .string("CPU 0")
        .byte(CENTRAL)
        .byte(SEE_FAMILY_2)
        .string(MAKER)
        // Its CPUID says who it is; here nothing is told twice.
        .qword(0)
        .string("virtual")
        // Voltage, clock, greatest and present speed: not told.
        .byte(0)
        .word(0)
        .word(0)
        .word(0)
        .byte(POPULATED_AND_ENABLED)
        .byte(UPGRADE_OTHER);
    for _ in 0..3 {
        structure = structure.word(handle::NONE);
    }
    structure
        .string("0")
        .string("CPU 0")
        .string("virtual")
        .bytes(&[narrow; 3])
        .word(characteristics)
        .word(FAMILY_OTHER)
        .word(wide)
        .word(wide)
        .word(wide)
}

fn memory(ram_size: u64, out: &mut Vec<u8>) {
    const ON_BOARD: u8 = 3;
    const SYSTEM_MEMORY: u8 = 3;
    const NO_CORRECTION: u8 = 3;
    /// The field is in KiB; this says to look at the one in bytes.
    const SEE_EXTENDED: u32 = 0x8000_0000;
    let devices = ram_size.div_ceil(LARGEST_DEVICE).max(1);
    let kib = u32::try_from(ram_size / KIB).ok().filter(|kib| *kib < SEE_EXTENDED);
    Structure::new(16, handle::MEMORY_ARRAY)
        .byte(ON_BOARD)
        .byte(SYSTEM_MEMORY)
        .byte(NO_CORRECTION)
        .dword(kib.unwrap_or(SEE_EXTENDED))
        .word(handle::NO_ERRORS_TOLD)
        .word(u16::try_from(devices).unwrap_or(u16::MAX))
        .qword(if kib.is_some() { 0 } else { ram_size })
        .write(out);
    for number in 0..u16::try_from(devices).unwrap_or(u16::MAX) {
        let size = (ram_size - u64::from(number) * LARGEST_DEVICE).min(LARGEST_DEVICE);
        device(number, size).write(out);
    }
    let low = ram_size.min(layout::LOW_RAM_LIMIT);
    let ranges = [0..low, layout::ABOVE_4G..layout::ABOVE_4G + (ram_size - low)];
    for (number, range) in (0..).zip(ranges.into_iter().filter(|range| !range.is_empty())) {
        range_of(number, range).write(out);
    }
}

fn device(number: u16, size: u64) -> Structure {
    const DIMM: u8 = 9;
    const RAM: u8 = 7;
    const DETAIL_OTHER: u16 = 1 << 1;
    /// The field is in MiB; this says to look at the wider one.
    const SEE_EXTENDED: u16 = 0x7fff;
    const WIDTH_BITS: u16 = 64;
    let mib = u32::try_from(size / MIB).unwrap_or(u32::MAX);
    let narrow = u16::try_from(mib).ok().filter(|mib| *mib < SEE_EXTENDED);
    Structure::new(17, handle::MEMORY_DEVICE + number)
        .word(handle::MEMORY_ARRAY)
        .word(handle::NO_ERRORS_TOLD)
        .word(WIDTH_BITS)
        .word(WIDTH_BITS)
        .word(narrow.unwrap_or(SEE_EXTENDED))
        .byte(DIMM)
        .byte(0)
        .string(&format!("DIMM {number}"))
        .string(&format!("Bank {number}"))
        .byte(RAM)
        .word(DETAIL_OTHER)
        // Speed: not told.
        .word(0)
        .string(MAKER)
        .string(&number.to_string())
        .string(&format!("DIMM {number}"))
        .string("virtual")
        .byte(0)
        .dword(if narrow.is_some() { 0 } else { mib })
        // Configured speed; least, greatest and configured voltage: not told.
        .bytes(&[0; 8])
}

/// Where the array's memory is in the guest's address space.
fn range_of(number: u16, range: std::ops::Range<u64>) -> Structure {
    const SEE_EXTENDED: u32 = u32::MAX;
    let last = range.end - 1;
    let narrow = |address: u64| u32::try_from(address / KIB).ok().filter(|kib| *kib != SEE_EXTENDED);
    let (start, end, extended) = match (narrow(range.start), narrow(last)) {
        (Some(start), Some(end)) => (start, end, [0, 0]),
        _ => (SEE_EXTENDED, SEE_EXTENDED, [range.start, last]),
    };
    let [extended_start, extended_end] = extended;
    Structure::new(19, handle::MEMORY_RANGE + number)
        .dword(start)
        .dword(end)
        .word(handle::MEMORY_ARRAY)
        .byte(1)
        .qword(extended_start)
        .qword(extended_end)
}

/// The UUID of a machine with this name, the same at every start: version 8 of RFC 9562, by FNV-1a of 128 bits.
fn uuid(name: &str) -> [u8; 16] {
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let hash = name.bytes().fold(BASIS, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME));
    let mut uuid = hash.to_be_bytes();
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    // SMBIOS has the first three fields little-endian (section 7.2.1).
    uuid[..4].reverse();
    uuid[4..6].reverse();
    uuid[6..8].reverse();
    uuid
}
