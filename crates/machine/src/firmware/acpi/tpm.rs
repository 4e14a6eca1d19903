//! The TPM in the tables: which interface it has and where, and its device in the namespace.
//!
//! TCG ACPI Specification 1.3, section 8 (the table) and TCG PC Client Platform TPM Profile 1.05, section 6.7 (the device). No
//! log area: UEFI firmware keeps its log by itself, and kernels without firmware have measured nothing. Called by
//! `acpi::tables` and `dsdt`.

use acpi_tables::Aml;
use acpi_tables::aml::{Device, Memory32Fixed, Name, ResourceTemplate};

use super::table::{Table, TableId};
use crate::layout;

/// The revision of the table that may have a log area.
const REVISION: u8 = 4;
/// Not a server's.
const CLIENT: u16 = 0;
/// Where the control area begins in the TPM's range: the registers from `TPM_CRB_CTRL_REQ_x` on.
const CONTROL_AREA: u64 = 0x40;
/// Commands are started by a register of that area, and no method of ACPI.
const COMMAND_RESPONSE_BUFFER: u32 = 7;
/// Bytes of the start method's parameters.
const PARAMETERS: usize = 12;

/// Says where the control area is.
pub(super) fn table() -> Table {
    let mut table = Table::new(TableId::Tpm2, REVISION);
    table.bytes.extend(CLIENT.to_le_bytes());
    table.bytes.extend([0; 2]);
    table.bytes.extend((layout::TPM.start + CONTROL_AREA).to_le_bytes());
    table.bytes.extend(COMMAND_RESPONSE_BUFFER.to_le_bytes());
    table.bytes.extend([0; PARAMETERS]);
    // The log area's size and address.
    table.bytes.extend([0; 4 + 8]);
    table.sealed()
}

/// Adds the device, by which kernels look for a driver and keep others from its range.
pub(super) fn device(out: &mut Vec<u8>) {
    let range = layout::TPM;
    let registers = Memory32Fixed::new(true, range.start as u32, (range.end - range.start) as u32);
    Device::new(
        "TPM_".into(),
        vec![
            &Name::new("_HID".into(), &"MSFT0101"),
            &Name::new("_UID".into(), &1u8),
            &Name::new("_CRS".into(), &ResourceTemplate::new(vec![&registers])),
        ],
    )
    .to_aml_bytes(out);
}
