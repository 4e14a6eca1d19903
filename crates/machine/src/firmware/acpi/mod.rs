//! The ACPI tables: from a plain description of the board to tables whose pointers are still symbolic.
//!
//! Not here: placing them in guest memory (the boot path does, with [`layout`]), and the devices they speak of.
//! The machine fills in a [`Board`] from the devices it has built and calls [`tables`]. What those devices must
//! keep to stands in [`board`].

pub mod board;
mod dsdt;
mod fadt;
mod isa;
pub mod layout;
pub mod loader;
mod madt;
mod pci_root;
mod table;
#[cfg(test)]
mod tests;
mod tpm;

use acpi_tables::mcfg::MCFG;

pub use board::{Board, BoardError, Ecam, PowerBlock, SerialPort, intx_gsi};
pub use layout::{Placed, Placement, PlacementError, place};
pub use table::{Checksum, Pointer, Table, TableId};
pub(crate) use tpm::LOG_LEN as TPM_LOG_LEN;

/// The maker's name in every table.
const OEM_ID: [u8; 6] = *b"ALLOD ";
/// The board's name in every table.
const OEM_TABLE_ID: [u8; 8] = *b"ALLODQ35";
/// The version of what the tables say.
const OEM_REVISION: u32 = 1;

/// Describes the board in ACPI tables: the RSDP first, then the XSDT, then what it points to.
///
/// # Errors
/// The description contradicts itself or has more of something than a table can name.
pub fn tables(board: &Board) -> Result<Vec<Table>, BoardError> {
    board.check()?;
    let mut described = vec![fadt::fadt(board), madt::madt(board), mcfg(&board.ecam)];
    described.extend(board.tpm.then(tpm::table));
    let mut tables = vec![table::rsdp(), table::xsdt(&described)];
    tables.extend(described);
    tables.push(fadt::facs());
    tables.push(dsdt::dsdt(board));
    Ok(tables)
}

/// Says where the enhanced configuration space is (PCI Firmware Specification 3.3, section 4.1.2).
fn mcfg(ecam: &Ecam) -> Table {
    let mut mcfg = MCFG::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    mcfg.add_ecam(ecam.base.into(), 0, 0, ecam.last_bus);
    Table::from_aml(TableId::Mcfg, &mcfg)
}
