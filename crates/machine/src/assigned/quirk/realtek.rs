//! The door of Realtek's RTL8168: a pair of registers in BAR 2 by which its driver reaches the MSI-X table.
//!
//! At 0x74 is the address: bits 30 to 16 say what is addressed, 1 is the MSI-X table; bits 11 to 0 the offset there; bit 31
//! orders a write of what was put at 0x70, and turns when the order is carried out.

use std::ops::Range;

use pci::{BarIndex, Space};

use super::{Access, Door, Facts, Read, Write, value};

pub(super) const VENDOR: u16 = 0x10ec;
const RTL8168: u16 = 0x8168;

const DATA: u64 = 0x70;
const ADDRESS: u64 = 0x74;
const END: u64 = 0x78;

const KIND: u32 = 0x7fff_0000;
const MSIX_TABLE: u32 = 0x1_0000;
const TURNS: u32 = 1 << 31;
const OFFSET: u32 = 0xfff;

pub(super) fn doors(facts: &Facts) -> Vec<Box<dyn Door>> {
    let bar = facts.bar(2).filter(|bar| bar.kind.space() == Space::Memory && END <= bar.size);
    match bar.filter(|_| facts.device == RTL8168) {
        Some(bar) => vec![Box::new(TablePair { bar: bar.index, address: None, data: 0 })],
        None => Vec::new(),
    }
}

struct TablePair {
    bar: BarIndex,
    // What was written last, if it is an address in the table.
    address: Option<u32>,
    data: u32,
}

impl Door for TablePair {
    fn trapped(&self) -> Option<(BarIndex, Range<u64>)> {
        Some((self.bar, DATA..END))
    }

    fn read(&mut self, access: Access) -> Read {
        match (self.address, access) {
            (Some(address), Access { bar, offset: ADDRESS, len: 4 }) if bar == self.bar => {
                Read::Value(address ^ TURNS)
            }
            (Some(address), Access { bar, offset: DATA, len: 4 }) if bar == self.bar => {
                Read::Table((address & OFFSET).into())
            }
            _ => Read::Hardware,
        }
    }

    fn write(&mut self, access: Access, data: &[u8]) -> Write {
        let Access { bar, offset, len: 4 } = access else { return Write::Hardware };
        match (offset, value(data)) {
            (DATA, Some(value)) if bar == self.bar => self.data = value,
            (ADDRESS, Some(value)) if bar == self.bar => {
                self.address = (value & KIND == MSIX_TABLE).then_some(value);
                if self.address.is_some() && value & TURNS != 0 {
                    return Write::Table((value & OFFSET).into(), self.data);
                }
            }
            _ => {}
        }
        Write::Hardware
    }
}

#[cfg(test)]
mod tests {
    use pci::{BarIndex, BarKind};

    use super::super::testing::{bar, vga};
    use super::super::{Access, Doors, Facts, Read, Write};
    use super::{RTL8168, VENDOR};

    #[test]
    fn the_pair_leads_to_the_guests_table_and_to_nothing_else() {
        let bars = vec![bar(2, BarKind::Memory64, 0x1000)];
        let facts = Facts { device: RTL8168, class: 0x02_0000, legacy_vga: false, ..vga(VENDOR, bars) };
        let mut doors = Doors::of(&facts);
        assert_eq!(doors.trapped().map(|(_, bytes)| bytes).collect::<Vec<_>>(), [0x70..0x78]);
        let at = |offset| Access { bar: BarIndex::bar(2).unwrap(), offset, len: 4 };
        assert_eq!(doors.read(at(0x70)), Read::Hardware);
        assert_eq!(doors.write(at(0x74), &0x0001_f010_u32.to_le_bytes()), Write::Hardware);
        assert_eq!(
            (doors.read(at(0x74)), doors.read(at(0x70))),
            (Read::Value(0x8001_f010), Read::Table(0x10))
        );
        assert_eq!(doors.write(at(0x70), &0xfee0_0000_u32.to_le_bytes()), Write::Hardware);
        assert_eq!(doors.write(at(0x74), &0x8001_f000_u32.to_le_bytes()), Write::Table(0, 0xfee0_0000));
        assert_eq!(doors.read(at(0x74)), Read::Value(0x0001_f000));
        assert_eq!(doors.write(at(0x74), &0x0002_0000_u32.to_le_bytes()), Write::Hardware);
        assert_eq!((doors.read(at(0x74)), doors.read(at(0x70))), (Read::Hardware, Read::Hardware));
    }

    #[test]
    fn other_cards_of_the_maker_have_no_door() {
        let facts = Facts { device: 0x8139, ..vga(VENDOR, vec![bar(2, BarKind::Memory64, 0x1000)]) };
        assert_eq!(Doors::of(&facts).trapped().count(), 0);
    }
}
