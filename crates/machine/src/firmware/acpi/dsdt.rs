//! DSDT: the namespace, with nothing in it that runs at boot except `_OSC`.
//!
//! Names instead of methods throughout, because the guest interprets AML on every look-up. PCI's part is in
//! `pci_root`, the LPC bridge's in `isa`. Called by `acpi::tables`.

use acpi_tables::Aml;
use acpi_tables::aml::{Device, EISAName, Memory32Fixed, Name, Package, ResourceTemplate, Scope};

use super::board::{Board, Ecam, S5_SLEEP_TYPE};
use super::table::{Table, TableId};
use super::{isa, pci_root, tpm};

/// Revision 2 and above means 64-bit integers.
const REVISION: u8 = 2;

/// Writes the namespace's table.
pub(super) fn dsdt(board: &Board) -> Table {
    let mut table = Table::new(TableId::Dsdt, REVISION);
    let mut system = Vec::new();
    motherboard(&board.ecam, &mut system);
    pci_root::device(board, &mut system);
    if board.tpm {
        tpm::device(&mut system);
    }
    for (number, &id) in board.cpus.iter().enumerate() {
        processor(number, id, &mut system);
    }
    table.bytes.extend_from_slice(&Scope::raw("\\_SB_".into(), system));
    isa::scope(board, &mut table.bytes);
    soft_off(&mut table.bytes);
    table.sealed()
}

/// Reserves the enhanced configuration space: Linux uses none that no motherboard resource or memory map reserves
/// (arch/x86/pci/mmconfig-shared.c).
fn motherboard(ecam: &Ecam, out: &mut Vec<u8>) {
    // The board's check has it end at or below 4 GiB.
    let window = Memory32Fixed::new(true, ecam.base, ecam.len_bytes() as u32);
    Device::new(
        "MBRD".into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0C02")),
            &Name::new("_CRS".into(), &ResourceTemplate::new(vec![&window])),
        ],
    )
    .to_aml_bytes(out);
}

/// Adds a CPU; its ACPI id ties it to its entry in the MADT.
fn processor(number: usize, id: u32, out: &mut Vec<u8>) {
    Device::new(
        format!("C{number:03X}").as_str().into(),
        vec![&Name::new("_HID".into(), &"ACPI0007"), &Name::new("_UID".into(), &id)],
    )
    .to_aml_bytes(out);
}

/// Says how to power off, the only sleep state there is.
fn soft_off(out: &mut Vec<u8>) {
    let package = Package::new(vec![&S5_SLEEP_TYPE, &S5_SLEEP_TYPE, &0u8, &0u8]);
    Name::new("\\_S5_".into(), &package).to_aml_bytes(out);
}
