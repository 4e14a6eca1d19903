//! The processor state both boot protocols start from: 32-bit protected mode, paging off, flat segments.

use linux::kvm::{DescriptorTable, Registers, Segment, StartState};
use linux::memory::GuestMemory;

use super::{GDT, LoadError, write};

// The Linux boot protocol wants exactly these (Documentation/arch/x86/boot.rst, 32-bit boot protocol).
const CODE_SELECTOR: u16 = 0x10;
const DATA_SELECTOR: u16 = 0x18;

// Descriptors of flat 4 GiB segments, 32-bit, ring 0 (Intel SDM volume 3, section 3.4.5).
const CODE_DESCRIPTOR: u64 = 0x00cf_9b00_0000_ffff;
const DATA_DESCRIPTOR: u64 = 0x00cf_9300_0000_ffff;

const GDT_ENTRIES: [u64; 4] = [0, 0, CODE_DESCRIPTOR, DATA_DESCRIPTOR];

/// Protection enabled; the extension type bit is always one.
const CR0: u64 = 0x11;

pub(super) fn write_gdt(ram: &GuestMemory) -> Result<(), LoadError> {
    let bytes: Vec<u8> = GDT_ENTRIES.iter().flat_map(|entry| entry.to_le_bytes()).collect();
    write(ram, GDT, &bytes, "descriptor table")
}

pub(super) fn protected_mode(registers: Registers) -> StartState {
    let flat = Segment { base: 0, limit: 0xffff_ffff, present: 1, s: 1, db: 1, g: 1, ..Default::default() };
    StartState {
        registers,
        cr0: CR0,
        code: Segment { selector: CODE_SELECTOR, type_: 0xb, ..flat },
        data: Segment { selector: DATA_SELECTOR, type_: 0x3, ..flat },
        // PVH wants a valid 32-bit task segment at 0 (xen docs/misc/pvh.pandoc); the processor does too.
        task: Segment { limit: 0x67, type_: 0xb, present: 1, ..Default::default() },
        gdt: DescriptorTable { base: GDT, limit: (GDT_ENTRIES.len() * 8 - 1) as u16, ..Default::default() },
    }
}
