//! MADT: the interrupt controllers, which ISA interrupts are not where a PC has them, and the CPUs.
//!
//! Written by hand: the library's table can neither say that there is a PIC nor name x2APICs, overrides and NMIs.
//! Called by `acpi::tables`.

use super::board::{Board, IO_APIC_BASE, IO_APIC_ID, LOCAL_APIC_BASE, SCI_GSI, TIMER_GSI};
use super::table::{Table, TableId};

/// The table's revision in ACPI 6.5.
const REVISION: u8 = 6;
/// MADT flag: the board has a pair of 8259s as well.
const PCAT_COMPAT: u32 = 1 << 0;
/// A CPU's flag: it can be used.
const ENABLED: u32 = 1 << 0;
/// The highest APIC id that the 8-bit structure can name; 255 addresses all CPUs.
const MAX_LOCAL_APIC_ID: u32 = 254;
/// The bus that overrides speak of: ISA.
const ISA_BUS: u8 = 0;
/// Interrupt flags: as the bus has it, which for ISA is edge, active high.
const CONFORMS: u16 = 0;
/// Interrupt flags: level, active high.
const LEVEL_HIGH: u16 = 0b1101;
/// The local interrupt pin that NMIs arrive at.
const NMI_LINT: u8 = 1;

/// The kinds of entry (ACPI 6.5, table 5.21).
mod kind {
    pub(super) const LOCAL_APIC: u8 = 0;
    pub(super) const IO_APIC: u8 = 1;
    pub(super) const SOURCE_OVERRIDE: u8 = 2;
    pub(super) const LOCAL_APIC_NMI: u8 = 4;
    pub(super) const LOCAL_X2APIC: u8 = 9;
    pub(super) const LOCAL_X2APIC_NMI: u8 = 10;
}

/// Writes the interrupt controllers' table (ACPI 6.5, section 5.2.12).
pub(super) fn madt(board: &Board) -> Table {
    let mut table = Table::new(TableId::Madt, REVISION);
    let out = &mut table.bytes;
    out.extend_from_slice(&LOCAL_APIC_BASE.to_le_bytes());
    out.extend_from_slice(&PCAT_COMPAT.to_le_bytes());
    for &id in &board.cpus {
        cpu(out, id);
    }
    entry(out, kind::IO_APIC, &[&[IO_APIC_ID, 0], &IO_APIC_BASE.to_le_bytes(), &0u32.to_le_bytes()]);
    source_override(out, 0, TIMER_GSI, CONFORMS);
    source_override(out, SCI_GSI, SCI_GSI.into(), LEVEL_HIGH);
    // One entry for all CPUs of the kind: 0xff, or 0xffffffff, in the place of a CPU's id.
    entry(out, kind::LOCAL_APIC_NMI, &[&[0xff], &CONFORMS.to_le_bytes(), &[NMI_LINT]]);
    if board.cpus.iter().any(|&id| id > MAX_LOCAL_APIC_ID) {
        entry(
            out,
            kind::LOCAL_X2APIC_NMI,
            &[&CONFORMS.to_le_bytes(), &u32::MAX.to_le_bytes(), &[NMI_LINT, 0, 0, 0]],
        );
    }
    table.sealed()
}

/// Adds a CPU, with its APIC id as its ACPI id.
fn cpu(out: &mut Vec<u8>, id: u32) {
    match u8::try_from(id) {
        Ok(short) if id <= MAX_LOCAL_APIC_ID => {
            entry(out, kind::LOCAL_APIC, &[&[short, short], &ENABLED.to_le_bytes()]);
        }
        _ => entry(
            out,
            kind::LOCAL_X2APIC,
            &[&[0, 0], &id.to_le_bytes(), &ENABLED.to_le_bytes(), &id.to_le_bytes()],
        ),
    }
}

/// Says that ISA interrupt `irq` arrives at `gsi`, in the way that `flags` tells.
fn source_override(out: &mut Vec<u8>, irq: u8, gsi: u32, flags: u16) {
    entry(out, kind::SOURCE_OVERRIDE, &[&[ISA_BUS, irq], &gsi.to_le_bytes(), &flags.to_le_bytes()]);
}

/// Adds one entry: its kind, its length, its fields.
fn entry(out: &mut Vec<u8>, kind: u8, fields: &[&[u8]]) {
    let body = fields.concat();
    out.extend_from_slice(&[kind, body.len() as u8 + 2]);
    out.extend_from_slice(&body);
}
