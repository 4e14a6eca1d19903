//! Walks capability chains that hardware or a guest wrote, and may have written wrong.
//!
//! Used for assigned functions, whose chains come from the device. Every walk is bounded and ends with what was found
//! so far; what was wrong is reported, never an error. PCI Local Bus 3.0, section 6.7; PCI Express Base, section 7.6.3.

use crate::register::{self, status};

/// Standard capabilities in one chain at most: as many dwords as lie between 0x40 and 0x100.
pub const STANDARD_LIMIT: usize = 48;
/// Extended capabilities in one chain at most: as many 8-byte steps as lie between 0x100 and 0x1000.
pub const EXTENDED_LIMIT: usize = 480;

const STANDARD_START: u16 = 0x40;
const STANDARD_END: u16 = 0x100;
const EXTENDED_END: u16 = 0x1000;

/// Ids of standard capabilities.
pub mod standard_id {
    /// Power management.
    pub const POWER_MANAGEMENT: u8 = 0x01;
    /// Vital product data.
    pub const VITAL_PRODUCT_DATA: u8 = 0x03;
    /// Message signaled interrupts.
    pub const MSI: u8 = 0x05;
    /// Vendor specific.
    pub const VENDOR: u8 = 0x09;
    /// PCI Express.
    pub const EXPRESS: u8 = 0x10;
    /// MSI-X.
    pub const MSIX: u8 = 0x11;
    /// Advanced features of a conventional function.
    pub const ADVANCED_FEATURES: u8 = 0x13;
}

/// Ids of extended capabilities.
pub mod extended_id {
    /// Left empty by hardware that hides one.
    pub const NULL: u16 = 0x0000;
    /// Advanced error reporting.
    pub const ADVANCED_ERRORS: u16 = 0x0001;
    /// Device serial number.
    pub const SERIAL_NUMBER: u16 = 0x0003;
    /// Access control services.
    pub const ACCESS_CONTROL: u16 = 0x000d;
    /// Alternative routing id.
    pub const ARI: u16 = 0x000e;
    /// Address translation services.
    pub const ATS: u16 = 0x000f;
    /// Single root I/O virtualization.
    pub const SRIOV: u16 = 0x0010;
    /// Page requests.
    pub const PAGE_REQUEST: u16 = 0x0013;
    /// Resizable BARs.
    pub const RESIZABLE_BAR: u16 = 0x0015;
    /// Process address spaces.
    pub const PASID: u16 = 0x001b;
}

/// A capability as found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// Its id; standard ones have 8 bits.
    pub id: u16,
    /// Its version; standard ones have none there, so 0.
    pub version: u8,
    /// Where it starts.
    pub offset: u16,
    /// The pointer it holds, its reserved bits cleared; 0 at the end.
    pub next: u16,
    /// Bytes until another capability of the chain starts, or the space ends. It cannot be longer.
    pub room: u16,
}

/// What ended a walk before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// A pointer leads into the header, or in an extended chain below 0x100.
    Outside {
        /// The capability, or register, that holds it.
        at: u16,
        /// Where it leads.
        pointer: u16,
    },
    /// A pointer leads back into the chain.
    Loop {
        /// The capability that holds it.
        at: u16,
        /// Where it leads.
        pointer: u16,
    },
    /// The bytes are all ones: the device is gone, or the pointer leads nowhere.
    Absent {
        /// Where.
        at: u16,
    },
    /// More capabilities than fit.
    TooMany,
}

/// What a walk found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// The capabilities, in the order of the chain.
    pub capabilities: Vec<Capability>,
    /// Why the walk ended early, if it did.
    pub flaw: Option<Flaw>,
}

impl Chain {
    /// The first capability with an id.
    pub fn find(&self, id: impl Into<u16>) -> Option<&Capability> {
        let id = id.into();
        self.capabilities.iter().find(|capability| capability.id == id)
    }
}

/// Walks the standard chain; `byte` reads config space.
pub fn walk_standard(byte: impl Fn(u16) -> u8) -> Chain {
    let status = u16::from_le_bytes([byte(register::STATUS), byte(register::STATUS + 1)]);
    if status & status::CAPABILITIES == 0 {
        return Chain::default();
    }
    if status == u16::MAX {
        return Chain { capabilities: Vec::new(), flaw: Some(Flaw::Absent { at: register::STATUS }) };
    }
    // The two low bits of pointers are reserved: software masks them.
    let pointer = |at| u16::from(byte(at) & !3);
    let read = |offset| {
        let id = byte(offset);
        (id != 0xff).then(|| (id.into(), 0, pointer(offset + 1)))
    };
    walk(
        &Walk { start: STANDARD_START, end: STANDARD_END, limit: STANDARD_LIMIT },
        register::CAPABILITIES,
        pointer(register::CAPABILITIES),
        read,
    )
}

/// Walks the extended chain; `byte` reads config space. A function without the space reads as ones or zeros: no chain.
pub fn walk_extended(byte: impl Fn(u16) -> u8) -> Chain {
    let header = |offset: u16| u32::from_le_bytes([0, 1, 2, 3].map(|index| byte(offset + index)));
    if matches!(header(register::EXTENDED_CAPABILITIES), 0 | u32::MAX) {
        return Chain::default();
    }
    let read = |offset| {
        let header = header(offset);
        let [id_low, id_high, ..] = header.to_le_bytes();
        let version = u8::try_from(header >> 16 & 0xf).ok()?;
        let next = u16::try_from(header >> 20).ok()? & !3;
        (header != u32::MAX).then_some((u16::from_le_bytes([id_low, id_high]), version, next))
    };
    walk(
        &Walk { start: register::EXTENDED_CAPABILITIES, end: EXTENDED_END, limit: EXTENDED_LIMIT },
        register::EXTENDED_CAPABILITIES,
        register::EXTENDED_CAPABILITIES,
        read,
    )
}

/// Bytes of a standard capability by what its specification or its own length field says, never more than its room.
pub fn standard_length(capability: &Capability, byte: impl Fn(u16) -> u8) -> u16 {
    let at = |index: u16| byte(capability.offset.saturating_add(index));
    let length = match u8::try_from(capability.id).unwrap_or(0) {
        standard_id::POWER_MANAGEMENT | standard_id::VITAL_PRODUCT_DATA => 8,
        standard_id::MSI => {
            let wide = at(2) & 0x80 != 0;
            let maskable = at(3) & 0x01 != 0;
            match (wide, maskable) {
                (false, false) => 10,
                (true, false) => 14,
                (false, true) => 20,
                (true, true) => 24,
            }
        }
        // The length byte counts the header; less than the header is a lie.
        standard_id::VENDOR => u16::from(at(2)).max(3),
        // Version 1 ends with the slot's registers, later ones have the second set.
        standard_id::EXPRESS if at(2) & 0xf < 2 => 0x24,
        standard_id::EXPRESS => 0x3c,
        standard_id::MSIX => 12,
        standard_id::ADVANCED_FEATURES => 6,
        _ => capability.room,
    };
    length.min(capability.room)
}

struct Walk {
    start: u16,
    end: u16,
    limit: usize,
}

/// Follows pointers from `pointer`, which was read at `at`; `read` gives id, version and next, or `None` for all-ones.
fn walk(bounds: &Walk, mut at: u16, mut pointer: u16, read: impl Fn(u16) -> Option<(u16, u8, u16)>) -> Chain {
    let mut found: Vec<Capability> = Vec::new();
    let mut flaw = None;
    while pointer != 0 {
        flaw = if pointer < bounds.start || pointer >= bounds.end {
            Some(Flaw::Outside { at, pointer })
        } else if found.iter().any(|capability| capability.offset == pointer) {
            Some(Flaw::Loop { at, pointer })
        } else if found.len() == bounds.limit {
            Some(Flaw::TooMany)
        } else if let Some((id, version, next)) = read(pointer) {
            found.push(Capability { id, version, offset: pointer, next, room: bounds.end - pointer });
            (at, pointer) = (pointer, next);
            None
        } else {
            Some(Flaw::Absent { at: pointer })
        };
        if flaw.is_some() {
            break;
        }
    }
    let mut starts: Vec<u16> = found.iter().map(|capability| capability.offset).collect();
    starts.sort_unstable();
    for capability in &mut found {
        let after = starts.partition_point(|&start| start <= capability.offset);
        let end = starts.get(after).copied().unwrap_or(bounds.end);
        capability.room = end - capability.offset;
    }
    Chain { capabilities: found, flaw }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::{Flaw, standard_length, walk_extended, walk_standard};
    use crate::test_function::seeded;

    /// Config space with the capability bit set and these bytes on top.
    fn space(bytes: &[(usize, &[u8])]) -> Vec<u8> {
        let mut space = vec![0; 0x1000];
        space[6] = 0x10;
        for (offset, bytes) in bytes {
            space[*offset..*offset + bytes.len()].copy_from_slice(bytes);
        }
        space
    }

    fn reader(space: &[u8]) -> impl Fn(u16) -> u8 + '_ {
        |offset| space.get(usize::from(offset)).copied().unwrap_or(0xff)
    }

    type Row<'a> = (&'a str, &'a [(usize, &'a [u8])], &'a [(u16, u16, u16, u16)], Option<Flaw>);

    #[test]
    fn standard_chains_end_whatever_they_hold() {
        // Found as (id, offset, room, length).
        let rows: &[Row<'_>] = &[
            ("empty", &[], &[], None),
            (
                "rooms end at the next start, not at the next link",
                &[(0x34, &[0x70]), (0x70, &[5, 0x40, 0x80, 0]), (0x40, &[0x11, 0x50]), (0x50, &[1, 0])],
                &[(5, 0x70, 0x90, 14), (0x11, 0x40, 0x10, 12), (1, 0x50, 0x20, 8)],
                None,
            ),
            ("unaligned", &[(0x34, &[0x43]), (0x40, &[1, 3])], &[(1, 0x40, 0xc0, 8)], None),
            ("in the header", &[(0x34, &[0x10])], &[], Some(Flaw::Outside { at: 0x34, pointer: 0x10 })),
            (
                "to itself",
                &[(0x34, &[0x40]), (0x40, &[1, 0x40])],
                &[(1, 0x40, 0xc0, 8)],
                Some(Flaw::Loop { at: 0x40, pointer: 0x40 }),
            ),
            (
                "back",
                &[(0x34, &[0x40]), (0x40, &[1, 0x48]), (0x48, &[3, 0x40])],
                &[(1, 0x40, 8, 8), (3, 0x48, 0xb8, 8)],
                Some(Flaw::Loop { at: 0x48, pointer: 0x40 }),
            ),
            (
                "ones",
                &[(0x34, &[0x40]), (0x40, &[1, 0xfc]), (0xfc, &[0xff, 0xff])],
                &[(1, 0x40, 0xc0, 8)],
                Some(Flaw::Absent { at: 0xfc }),
            ),
            (
                "vendor lengths that lie",
                &[(0x34, &[0x40]), (0x40, &[9, 0x48, 0xff]), (0x48, &[9, 0xfc, 0]), (0xfc, &[9, 0, 0x10])],
                &[(9, 0x40, 8, 8), (9, 0x48, 0xb4, 3), (9, 0xfc, 4, 4)],
                None,
            ),
            ("MSI-X cut by the end", &[(0x34, &[0xfc]), (0xfc, &[0x11, 0])], &[(0x11, 0xfc, 4, 4)], None),
        ];
        for (name, bytes, expected, flaw) in rows {
            let space = space(bytes);
            let chain = walk_standard(reader(&space));
            let found: Vec<_> = chain
                .capabilities
                .iter()
                .map(|found| (found.id, found.offset, found.room, standard_length(found, reader(&space))))
                .collect();
            assert_eq!((found.as_slice(), chain.flaw), (*expected, *flaw), "{name}");
        }
    }

    #[test]
    fn a_chain_needs_its_status_bit_and_a_present_device() {
        let mut space = space(&[(0x34, &[0x40]), (0x40, &[1, 0])]);
        space[6] = 0;
        assert!(walk_standard(reader(&space)).capabilities.is_empty());
        assert_eq!(walk_standard(|_| 0xff).flaw, Some(Flaw::Absent { at: 6 }));
        assert_eq!(walk_extended(|_| 0xff), super::Chain::default());
    }

    #[test]
    fn extended_chains_end_whatever_they_hold() {
        let header = |id: u32, version: u32, next: u32| (id | version << 16 | next << 20).to_le_bytes();
        // Found as (id, version, offset, room).
        for (name, bytes, expected, flaw) in [
            ("empty", vec![], vec![], None),
            (
                "two",
                vec![(0x100, header(1, 2, 0x148)), (0x148, header(0x10, 1, 0))],
                vec![(1, 2, 0x100, 0x48), (0x10, 1, 0x148, 0xeb8)],
                None,
            ),
            (
                "loop",
                vec![(0x100, header(1, 2, 0x100))],
                vec![(1, 2, 0x100, 0xf00)],
                Some(Flaw::Loop { at: 0x100, pointer: 0x100 }),
            ),
            (
                "into the standard space",
                vec![(0x100, header(1, 2, 0x40))],
                vec![(1, 2, 0x100, 0xf00)],
                Some(Flaw::Outside { at: 0x100, pointer: 0x40 }),
            ),
            (
                "unaligned",
                vec![(0x100, header(0, 0, 0xfff)), (0xffc, header(3, 1, 0))],
                vec![(0, 0, 0x100, 0xefc), (3, 1, 0xffc, 4)],
                None,
            ),
        ] {
            let bytes: Vec<_> = bytes.iter().map(|(offset, bytes)| (*offset, bytes.as_slice())).collect();
            let chain = walk_extended(reader(&space(&bytes)));
            let found: Vec<_> = chain
                .capabilities
                .iter()
                .map(|found| (found.id, found.version, found.offset, found.room))
                .collect();
            assert_eq!((found, chain.flaw), (expected, flaw), "{name}");
        }
    }

    proptest! {
        #![proptest_config(seeded(64))]

        #[test]
        fn found_capabilities_never_overlap(space in proptest::collection::vec(any::<u8>(), 0x1000)) {
            let mut space = space;
            space[6] |= 0x10;
            for chain in [walk_standard(reader(&space)), walk_extended(reader(&space))] {
                let mut found = chain.capabilities;
                found.sort_by_key(|found| found.offset);
                for pair in found.windows(2) {
                    assert!(pair[0].offset + pair[0].room <= pair[1].offset);
                }
                for found in &found {
                    assert!(standard_length(found, reader(&space)) <= found.room);
                    assert!(found.room >= 4 && found.offset + found.room <= 0x1000);
                }
            }
        }
    }
}
