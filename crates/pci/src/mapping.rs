//! Which BARs are mapped: the pure rules of who gets an address, apart from where the wishes come from.

use std::ops::Range;

use crate::{BarIndex, BarKind, BarRange, FunctionId};

/// The address space of a BAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// Guest physical memory.
    Memory,
    /// Ports.
    Io,
}

/// Where the board lets BARs be. Anything outside is RAM, firmware or the board's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Apertures {
    /// Memory below 4 GiB.
    pub low: Range<u64>,
    /// Memory above RAM, inside the CPU's physical bits; may be empty.
    pub high: Range<u64>,
    /// Ports.
    pub io: Range<u64>,
}

impl Apertures {
    /// True when the board lets `bar` be at `range`; the legacy VGA ranges have their fixed place.
    pub fn admit(&self, bar: &BarRange, range: &Range<u64>) -> bool {
        let within = |window: &Range<u64>| window.start <= range.start && range.end <= window.end;
        match bar.kind {
            BarKind::VgaMemory | BarKind::VgaPorts => true,
            kind if kind.space() == Space::Io => within(&self.io),
            _ => within(&self.low) || within(&self.high),
        }
    }
}

/// A BAR at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Whose.
    pub function: FunctionId,
    /// Which.
    pub bar: BarIndex,
    /// In which space.
    pub space: Space,
    /// Where.
    pub range: Range<u64>,
}

impl Mapping {
    fn meets(&self, other: &Self) -> bool {
        self.space == other.space && self.range.start < other.range.end && other.range.start < self.range.end
    }
}

/// Makes `mapped` follow `wanted`, and gives what left and what came.
///
/// What is mapped stays until it is no longer wanted; what is wanted comes in order, if its place is free.
pub(crate) fn settle(mapped: &mut Vec<Mapping>, wanted: &[Mapping]) -> (Vec<Mapping>, Vec<Mapping>) {
    let left: Vec<_> = mapped.extract_if(.., |mapping| !wanted.contains(mapping)).collect();
    let mut came = Vec::new();
    for mapping in wanted {
        // Covers the mapping itself, when it is there already.
        if !mapped.iter().any(|present| present.meets(mapping)) {
            mapped.push(mapping.clone());
            came.push(mapping.clone());
        }
    }
    (left, came)
}
