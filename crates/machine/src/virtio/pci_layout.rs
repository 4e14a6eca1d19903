//! Where a virtio function's structures lie: one 4 KiB BAR for all of them, and the capabilities that say so
//! (section 4.1.4).
//!
//! Small on purpose: a guest that looks for a capability reads all that come before it, and each read is an exit.

use std::ops::Range;

use pci::capability::standard_id;
use pci::register::Register;
use pci::{Bar, BarIndex, BarKind, ConfigSpace, MsixLayout, NoRoom};

use super::registers::COMMON_BYTES;

/// The BAR.
pub(crate) const BAR: BarIndex = match BarIndex::bar(0) {
    Some(bar) => bar,
    None => BarIndex::ROM,
};

const BAR_BYTES: u64 = 0x1000;
const COMMON: Range<u64> = 0x000..COMMON_BYTES as u64;
const ISR: Range<u64> = 0x040..0x044;
const DEVICE: Range<u64> = 0x100..0x200;
const NOTIFY: Range<u64> = 0x200..0x300;
const TABLE: u32 = 0x800;
const PENDING: u32 = 0xc00;

/// Bytes between the doorbells of two queues.
const DOORBELL_BYTES: u64 = 4;

/// Capability types (VIRTIO_PCI_CAP_*).
const COMMON_TYPE: u8 = 1;
const NOTIFY_TYPE: u8 = 2;
const ISR_TYPE: u8 = 3;
const DEVICE_TYPE: u8 = 4;
const CONFIG_ACCESS_TYPE: u8 = 5;

/// A place in the BAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The common structure, at this offset from its start.
    Common(u64),
    /// The ISR status.
    Isr,
    /// The device's own configuration, at this offset from its start.
    Device(u64),
    /// The doorbells, at this offset from the first one.
    Doorbell(u64),
    /// MSI-X's, or nothing.
    Rest,
}

/// What lies at an offset in the BAR.
pub(super) fn part(offset: u64) -> Part {
    if COMMON.contains(&offset) {
        Part::Common(offset)
    } else if offset == ISR.start {
        Part::Isr
    } else if DEVICE.contains(&offset) {
        Part::Device(offset - DEVICE.start)
    } else if NOTIFY.contains(&offset) {
        Part::Doorbell(offset - NOTIFY.start)
    } else {
        Part::Rest
    }
}

/// The offset of a queue's doorbell in the BAR.
pub(super) fn doorbell(queue: u16) -> u64 {
    NOTIFY.start + u64::from(queue) * DOORBELL_BYTES
}

/// The BAR's declaration. Below 4 GiB, where firmware of any width reaches it.
pub(super) fn bar() -> Bar {
    Bar { index: BAR, kind: BarKind::Memory32, size: BAR_BYTES, prefetchable: false }
}

/// The BAR that shows an option ROM, of any size there can be (PCI Local Bus 3.0, section 6.2.5.2).
pub(super) fn rom_bar(rom: &[u8]) -> Bar {
    let size = rom.len().clamp(SMALLEST_ROM, LARGEST_ROM).next_power_of_two() as u64;
    Bar { index: BarIndex::ROM, kind: BarKind::Rom, size, prefetchable: false }
}

const SMALLEST_ROM: usize = 2 << 10;
const LARGEST_ROM: usize = 16 << 20;

/// Where MSI-X lies for this many vectors.
pub(super) fn msix(vectors: u16) -> MsixLayout {
    MsixLayout { vectors, table_bar: BAR, table_offset: TABLE, pending_bar: BAR, pending_offset: PENDING }
}

/// Appends the capabilities for the structures in the BAR.
pub(super) fn add_structures(config: &mut ConfigSpace, device_bytes: usize) -> Result<(), NoRoom> {
    add(config, COMMON_TYPE, &COMMON, 16)?;
    add(config, ISR_TYPE, &(ISR.start..ISR.start + 1), 16)?;
    let notify = add(config, NOTIFY_TYPE, &NOTIFY, 20)?;
    config.define(notify + 16, Register::dword(DOORBELL_BYTES as u32));
    if device_bytes > 0 {
        add(config, DEVICE_TYPE, &(DEVICE.start..DEVICE.start + device_bytes as u64), 16)?;
    }
    Ok(())
}

/// Appends the capability by which the BAR is reached through config space, and gives its offset.
pub(super) fn add_access(config: &mut ConfigSpace) -> Result<u16, NoRoom> {
    let access = add(config, CONFIG_ACCESS_TYPE, &(0..0), 20)?;
    // Driver's: which BAR, where, how many bytes; the last dword is the access itself.
    config.define(access + 4, Register::byte(0).writable(0xff));
    config.define(access + 8, Register::dword(0).writable(u32::MAX));
    config.define(access + 12, Register::dword(0).writable(u32::MAX));
    Ok(access)
}

fn add(config: &mut ConfigSpace, kind: u8, range: &Range<u64>, length: u8) -> Result<u16, NoRoom> {
    let offset = config.add_capability(standard_id::VENDOR, length.into())?;
    config.define(offset + 2, Register::byte(length));
    config.define(offset + 3, Register::byte(kind));
    config.define(offset + 4, Register::byte(BAR.get()));
    config.define(offset + 8, Register::dword(range.start as u32));
    config.define(offset + 12, Register::dword((range.end - range.start) as u32));
    Ok(offset)
}
