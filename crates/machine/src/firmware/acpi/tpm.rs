//! The TPM in the tables: which interface it has and where, and its device in the namespace.
//!
//! TCG ACPI Specification 1.3, section 8 (the table) and TCG PC Client Platform TPM Profile 1.05, section 6.7 (the device).
//! The table is made without a log area: where nobody has measured before the kernel, there is nothing to log. `loader` adds
//! one for firmware, as a BIOS without it measures nothing (SeaBIOS src/tcgbios.c, tpm_tpm2_probe). Called by
//! `acpi::tables`, `dsdt` and `loader`.

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

/// Where the table has the size of the log area, 4 bytes, and its address, 8 bytes.
pub(super) const LOG_SIZE_AT: usize = 64;
pub(super) const LOG_ADDRESS_AT: usize = LOG_SIZE_AT + 4;
/// Bytes of the log area: what a client's firmware has at least (TCG PC Client Platform Firmware Profile 1.05, section 10).
pub(crate) const LOG_LEN: u32 = 0x1_0000;

/// Says where the control area is.
pub(super) fn table() -> Table {
    let mut table = Table::new(TableId::Tpm2, REVISION);
    table.bytes.extend(CLIENT.to_le_bytes());
    table.bytes.extend([0; 2]);
    table.bytes.extend((layout::TPM.start + CONTROL_AREA).to_le_bytes());
    table.bytes.extend(COMMAND_RESPONSE_BUFFER.to_le_bytes());
    table.bytes.extend([0; PARAMETERS]);
    debug_assert_eq!(table.bytes.len(), LOG_SIZE_AT);
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
