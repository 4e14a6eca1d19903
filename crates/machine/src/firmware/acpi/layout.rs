//! Places tables in guest memory: addresses for all, pointers filled in, checksums made anew.
//!
//! For guests started without firmware; with firmware, its table loader does this. Writes nothing itself: the boot
//! path copies what it gets and marks the areas as reserved in the memory map.

use std::ops::Range;

use super::table::{Table, TableId};

/// A table at its address, ready to be copied there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Which one.
    pub id: TableId,
    /// Its guest-physical address.
    pub address: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// All tables at their addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The RSDP's guest-physical address, which the kernel is told.
    pub rsdp: u64,
    /// The tables, each to be copied to its address.
    pub tables: Vec<Placed>,
    /// The first address behind the tables in their area.
    pub end: u64,
}

/// Why tables could not be placed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// The area is too small.
    #[error("ACPI tables need {needed:#x} bytes from {:#x} on, the area ends at {:#x}", area.start, area.end)]
    AreaTooSmall {
        /// The area given.
        area: Range<u64>,
        /// Bytes the tables need from its start.
        needed: u64,
    },
    /// The RSDP's address is not a multiple of 16.
    #[error("RSDP address {0:#x} is not a multiple of 16")]
    RsdpUnaligned(u64),
    /// The RSDP would lie on the other tables.
    #[error("RSDP at {0:#x} lies in the area of the other tables")]
    RsdpInArea(u64),
    /// A table with a 32-bit pointer to it lies too high.
    #[error("{} at {address:#x} is above 4 GiB, where a 32-bit field must point to it", to.signature())]
    TooHigh {
        /// The table.
        to: TableId,
        /// Its address.
        address: u64,
    },
    /// A pointer names a table that is not among those given.
    #[error("no {} among the tables, though another one points to it", .0.signature())]
    Missing(TableId),
}

/// Places the RSDP at `rsdp` and the other tables one behind the other in `area`.
///
/// A guest that searches for the RSDP looks at multiples of 16 between 0xE0000 and 0xFFFFF; the FADT needs its
/// tables below 4 GiB.
///
/// # Errors
/// The addresses cannot hold the tables or the tables do not belong together.
pub fn place(tables: &[Table], rsdp: u64, area: Range<u64>) -> Result<Placement, PlacementError> {
    if !rsdp.is_multiple_of(16) {
        return Err(PlacementError::RsdpUnaligned(rsdp));
    }
    let mut end = area.start;
    let mut addresses = Vec::with_capacity(tables.len());
    for table in tables {
        let address = if table.id == TableId::Rsdp {
            rsdp
        } else {
            let address = end.next_multiple_of(table.align);
            end = address + table.bytes.len() as u64;
            address
        };
        addresses.push((table.id, address));
    }
    if end > area.end {
        return Err(PlacementError::AreaTooSmall { needed: end - area.start, area });
    }
    let rsdp_len = tables.iter().find(|table| table.id == TableId::Rsdp).map_or(0, |table| table.bytes.len());
    if rsdp < end && rsdp + rsdp_len as u64 > area.start {
        return Err(PlacementError::RsdpInArea(rsdp));
    }
    let mut placed = Vec::with_capacity(tables.len());
    for (table, &(id, address)) in tables.iter().zip(&addresses) {
        placed.push(Placed { id, address, bytes: resolve(table, &addresses)? });
    }
    Ok(Placement { rsdp, tables: placed, end })
}

/// Gives a table's bytes with its pointers filled in.
fn resolve(table: &Table, addresses: &[(TableId, u64)]) -> Result<Vec<u8>, PlacementError> {
    let mut table = table.clone();
    for pointer in &table.pointers {
        let target = addresses.iter().find(|(id, _)| *id == pointer.to);
        let &(to, address) = target.ok_or(PlacementError::Missing(pointer.to))?;
        let (low, high) = (address as u32, address >> 32);
        if pointer.len == 4 && high != 0 {
            return Err(PlacementError::TooHigh { to, address });
        }
        let field = &mut table.bytes[pointer.offset..pointer.offset + pointer.len];
        match pointer.len {
            4 => field.copy_from_slice(&low.to_le_bytes()),
            _ => field.copy_from_slice(&address.to_le_bytes()),
        }
    }
    table.sum();
    Ok(table.bytes)
}
