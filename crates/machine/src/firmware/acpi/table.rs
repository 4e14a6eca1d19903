//! One ACPI table with its pointers and checksums named, so that whoever places it can fill them in.
//!
//! Not here: what a table says, and addresses. The table writers make these; `layout` and the firmware's table
//! loader resolve them.

use std::ops::Range;

use acpi_tables::rsdp::Rsdp;
use acpi_tables::{Aml, CREATOR_ID, CREATOR_REVISION};

use super::{OEM_ID, OEM_REVISION, OEM_TABLE_ID};

/// Length of the header that all tables but RSDP and FACS begin with (ACPI 6.5, section 5.2.6).
pub(super) const HEADER_LEN: usize = 36;
/// Where that header keeps the table's length.
const LENGTH_AT: usize = 4;
/// Where that header keeps the checksum.
const CHECKSUM_AT: usize = 9;
/// Where the RSDP keeps the XSDT's address.
const RSDP_XSDT_AT: usize = 24;

/// Names a table of the board.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TableId {
    /// The root: what firmware or boot loader hands to the kernel.
    Rsdp,
    /// The list of the others.
    Xsdt,
    /// Fixed hardware: power management, reset, what legacy devices there are.
    Fadt,
    /// Interrupt controllers and CPUs.
    Madt,
    /// The enhanced configuration space.
    Mcfg,
    /// The TPM.
    Tpm2,
    /// Memory shared between firmware and kernel.
    Facs,
    /// The namespace, in AML.
    Dsdt,
}

impl TableId {
    /// Gives the signature the table begins with.
    pub fn signature(self) -> &'static str {
        match self {
            Self::Rsdp => "RSD PTR ",
            Self::Xsdt => "XSDT",
            Self::Fadt => "FACP",
            Self::Madt => "APIC",
            Self::Mcfg => "MCFG",
            Self::Tpm2 => "TPM2",
            Self::Facs => "FACS",
            Self::Dsdt => "DSDT",
        }
    }
}

/// A table whose pointers are zero and whose checksums are right for that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Which one.
    pub id: TableId,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The alignment its address needs, a power of two.
    pub align: u64,
    /// The fields that want another table's address.
    pub pointers: Vec<Pointer>,
    /// The checksums, in the order in which they must be made.
    pub checksums: Vec<Checksum>,
}

/// A field that holds another table's guest-physical address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// Where the field begins in the table.
    pub offset: usize,
    /// Its width in bytes, 4 or 8.
    pub len: usize,
    /// The table it points to.
    pub to: TableId,
}

/// A byte that makes a range of its table sum up to zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checksum {
    /// Where the byte is.
    pub offset: usize,
    /// What it makes sum up.
    pub over: Range<usize>,
}

impl Table {
    /// Starts a table with the common header; the caller pushes the body and then seals it.
    pub(super) fn new(id: TableId, revision: u8) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(id.signature().as_bytes());
        bytes.extend_from_slice(&0u32.to_le_bytes());
        bytes.extend_from_slice(&[revision, 0]);
        bytes.extend_from_slice(&OEM_ID);
        bytes.extend_from_slice(&OEM_TABLE_ID);
        bytes.extend_from_slice(&OEM_REVISION.to_le_bytes());
        bytes.extend_from_slice(&CREATOR_ID);
        bytes.extend_from_slice(&CREATOR_REVISION);
        debug_assert_eq!(bytes.len(), HEADER_LEN);
        Self { id, bytes, align: 8, pointers: Vec::new(), checksums: Vec::new() }
    }

    /// Takes over a whole table, header and all, that a library wrote.
    pub(super) fn from_aml(id: TableId, table: &dyn Aml) -> Self {
        let mut bytes = Vec::new();
        table.to_aml_bytes(&mut bytes);
        Self { id, bytes, align: 8, pointers: Vec::new(), checksums: Vec::new() }.sealed()
    }

    /// Writes the header's length and checksum for the bytes as they now are.
    pub(super) fn sealed(mut self) -> Self {
        let len = self.bytes.len();
        self.bytes[LENGTH_AT..LENGTH_AT + 4].copy_from_slice(&(len as u32).to_le_bytes());
        self.checksums = vec![Checksum { offset: CHECKSUM_AT, over: 0..len }];
        self.sum();
        self
    }

    /// Makes the checksums anew.
    pub(super) fn sum(&mut self) {
        for Checksum { offset, over } in &self.checksums {
            self.bytes[*offset] = 0;
            let sum = self.bytes[over.clone()].iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
            self.bytes[*offset] = sum.wrapping_neg();
        }
    }
}

/// Writes the root pointer (ACPI 6.5, section 5.2.5.3).
pub(super) fn rsdp() -> Table {
    let mut bytes = Vec::new();
    Rsdp::new(OEM_ID, 0).to_aml_bytes(&mut bytes);
    let len = bytes.len();
    Table {
        id: TableId::Rsdp,
        bytes,
        align: 16,
        pointers: vec![Pointer { offset: RSDP_XSDT_AT, len: 8, to: TableId::Xsdt }],
        // The first covers what ACPI 1.0 knew of the structure; the second covers the first, so it comes after it.
        checksums: vec![Checksum { offset: 8, over: 0..20 }, Checksum { offset: 32, over: 0..len }],
    }
}

/// Writes the list of the tables that stand on their own.
pub(super) fn xsdt(listed: &[Table]) -> Table {
    let mut xsdt = Table::new(TableId::Xsdt, 1);
    for table in listed {
        xsdt.pointers.push(Pointer { offset: xsdt.bytes.len(), len: 8, to: table.id });
        xsdt.bytes.extend_from_slice(&0u64.to_le_bytes());
    }
    xsdt.sealed()
}
