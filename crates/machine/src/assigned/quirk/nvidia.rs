//! The doors of NVIDIA's cards: config space at 0x88000 of BAR 0, and for those that are the first display at 0x1800 too,
//! by the pair of registers in BAR 5, and by a sequence of writes to the VGA's CRT controller.
//!
//! Drivers of these cards acknowledge MSI by a write to the capability's id in the mirror at 0x88000, which config space
//! would ignore: the hardware gets it.

use pci::{BarIndex, BarKind};

use super::mirror::Mirror;
use super::window::Window;
use super::{Access, Door, Facts, Read, Write, value};

pub(super) const VENDOR: u16 = 0x10de;

const MIRROR: u32 = 0x8_8000;
/// The older place has the conventional part alone.
const OLD_MIRROR: u32 = 0x1800;
const OLD_BYTES: u32 = 0x100;

// Registers of BAR 5.
const MASTER: u64 = 0x0;
const ENABLE: u64 = 0x4;
const ADDRESS: u64 = 0x8;
const DATA: u64 = 0xc;

/// Bytes of an MSI capability before its control word.
const MSI_HEADER: u16 = 2;

pub(super) fn doors(facts: &Facts) -> Vec<Box<dyn Door>> {
    let mut doors: Vec<Box<dyn Door>> = Vec::new();
    let mirror = MIRROR..MIRROR + u32::from(facts.config_size);
    if let (true, Some(bar)) = (facts.is_vga(), facts.bar(0)) {
        let acknowledged_by = facts.msi.map_or(0..0, |at| at..at + MSI_HEADER);
        let bytes = mirror.start.into()..mirror.end.into();
        if bar.kind.space() == pci::Space::Memory && bytes.end <= bar.size {
            doors.push(Box::new(Mirror { bar: bar.index, bytes, acknowledged_by }));
        }
    }
    if !facts.legacy_vga {
        return doors;
    }
    let old_mirror = OLD_MIRROR..OLD_MIRROR + OLD_BYTES;
    if let Some(bar) = facts.bar(0).filter(|bar| u64::from(old_mirror.end) <= bar.size) {
        let bytes = old_mirror.start.into()..old_mirror.end.into();
        doors.push(Box::new(Mirror { bar: bar.index, bytes, acknowledged_by: 0..0 }));
    }
    if let Some(bar) = facts.bar(5).filter(|bar| bar.kind == BarKind::Io32) {
        let window = Window::new(bar.index, ADDRESS, DATA, vec![mirror, old_mirror]);
        doors.push(Box::new(window.behind(&[MASTER, ENABLE])));
    }
    if facts.bar(1).is_some() {
        doors.push(Box::new(CrtSequence::default()));
    }
    doors
}

/// The sequence by which the VGA's ports reach the older mirror (seen on a GeForce 7300): 0x338 to port 0x3D4, the address to
/// 0x3D0, 0x538 or 0x738 to 0x3D4, and 0x3D0 is what was addressed, to read or to write.
#[derive(Default)]
struct CrtSequence(Step);

#[derive(Clone, Copy, Default)]
enum Step {
    #[default]
    Nothing,
    Selected,
    Addressed(u16),
    Reads(u16),
    Writes(u16),
}

// In the range that begins at port 0x3C0.
const VALUE_PORT: u64 = 0x10;
const ORDER_PORT: u64 = 0x14;
/// The last byte of the order's word.
const PORTS_END: u64 = 0x16;

const SELECT: u32 = 0x338;
const READ: u32 = 0x538;
const WRITE: u32 = 0x738;

impl CrtSequence {
    fn concerns(access: Access) -> bool {
        access.within(BarIndex::VGA_PORTS_COLOR, &(VALUE_PORT..PORTS_END)).is_some()
    }
}

impl Door for CrtSequence {
    fn read(&mut self, access: Access) -> Read {
        if !Self::concerns(access) {
            return Read::Hardware;
        }
        match std::mem::take(&mut self.0) {
            Step::Reads(at) if access.offset == VALUE_PORT => Read::ConfigBeside(at),
            _ => Read::Hardware,
        }
    }

    fn write(&mut self, access: Access, data: &[u8]) -> Write {
        if !Self::concerns(access) {
            return Write::Hardware;
        }
        let value = value(data);
        self.0 = match (self.0, access.offset, value) {
            (Step::Nothing, ORDER_PORT, Some(SELECT)) => Step::Selected,
            (Step::Selected, VALUE_PORT, Some(address))
                if (OLD_MIRROR..OLD_MIRROR + OLD_BYTES).contains(&address) =>
            {
                Step::Addressed((address - OLD_MIRROR) as u16)
            }
            (Step::Addressed(at), ORDER_PORT, Some(READ)) => Step::Reads(at),
            (Step::Addressed(at), ORDER_PORT, Some(WRITE)) => Step::Writes(at),
            (Step::Writes(at), VALUE_PORT, _) => {
                self.0 = Step::Nothing;
                return Write::Config(at);
            }
            (Step::Reads(at), ..) => Step::Reads(at),
            _ => Step::Nothing,
        };
        Write::Hardware
    }
}

#[cfg(test)]
mod tests {
    use pci::{BarIndex, BarKind};

    use super::super::testing::{bar, vga};
    use super::super::{Access, Doors, Facts, Read, Write};
    use super::VENDOR;

    const PORTS: BarIndex = BarIndex::VGA_PORTS_COLOR;

    fn facts() -> Facts {
        vga(
            VENDOR,
            vec![
                bar(0, BarKind::Memory32, 16 << 20),
                bar(1, BarKind::Memory64, 256 << 20),
                bar(5, BarKind::Io32, 0x80),
            ],
        )
    }

    fn at(number: u8, offset: u64, len: usize) -> Access {
        Access { bar: BarIndex::bar(number).unwrap(), offset, len }
    }

    #[test]
    fn mirrors_lead_to_config_space_and_their_pages_are_trapped() {
        let mut doors = Doors::of(&facts());
        let trapped: Vec<_> = doors.trapped().map(|(bar, bytes)| (bar.get(), bytes)).collect();
        assert_eq!(trapped, [(0, 0x8_8000..0x8_9000), (0, 0x1800..0x1900)]);
        for (access, read, write) in [
            (at(0, 0x8_8010, 4), Read::ConfigBeside(0x10), Write::Config(0x10)),
            (at(0, 0x8_8ffc, 4), Read::ConfigBeside(0xffc), Write::Config(0xffc)),
            (at(0, 0x8_8ffc, 8), Read::Hardware, Write::Hardware),
            (at(0, 0x8_7ffc, 8), Read::Hardware, Write::Hardware),
            (at(0, 0x1804, 2), Read::ConfigBeside(4), Write::Config(4)),
            (at(0, 0x1900, 4), Read::Hardware, Write::Hardware),
            (at(1, 0x8_8010, 4), Read::Hardware, Write::Hardware),
            // The id and next pointer of MSI are acknowledgements, its control word is the guest's alone.
            (at(0, 0x8_8068, 1), Read::ConfigBeside(0x68), Write::ConfigAndHardware(0x68)),
            (at(0, 0x8_8068, 4), Read::ConfigBeside(0x68), Write::Config(0x68)),
            (at(0, 0x8_806a, 2), Read::ConfigBeside(0x6a), Write::Config(0x6a)),
        ] {
            assert_eq!(doors.read(access), read, "{access:x?}");
            assert_eq!(doors.write(access, &[0; 8][..access.len]), write, "{access:x?}");
        }
    }

    #[test]
    fn a_card_that_is_not_the_first_display_has_the_new_mirror_alone() {
        let trapped = |facts: &Facts| {
            let doors = Doors::of(facts);
            doors.trapped().map(|(_, bytes)| bytes.start).collect::<Vec<_>>()
        };
        assert_eq!(trapped(&Facts { legacy_vga: false, ..facts() }), [0x8_8000]);
        let compute = Facts { legacy_vga: false, class: 0x03_0200, ..facts() };
        assert_eq!(trapped(&compute), Vec::<u64>::new());
        let small = Facts { bars: vec![bar(0, BarKind::Memory32, 0x8_8000)], legacy_vga: false, ..facts() };
        assert_eq!(trapped(&small), Vec::<u64>::new());
    }

    #[test]
    fn the_window_leads_to_config_space_when_both_gates_are_open() {
        let mut doors = Doors::of(&facts());
        let data = at(5, 0xc, 4);
        let choose = |doors: &mut Doors, address: u32| {
            assert_eq!(doors.write(at(5, 8, 4), &address.to_le_bytes()), Write::Hardware);
        };
        choose(&mut doors, 0x8_8004);
        assert_eq!(doors.read(data), Read::Hardware);
        for gate in [0, 4] {
            assert_eq!(doors.write(at(5, gate, 4), &[1, 0, 0, 0]), Write::Hardware);
        }
        assert_eq!(doors.read(data), Read::Hardware, "what was chosen before counts for nothing");
        for (address, read) in [
            (0x8_8004, Read::Config(4)),
            (0x1810, Read::Config(0x10)),
            (0x8_9000, Read::Hardware),
            (0x8_8ffc, Read::Config(0xffc)),
        ] {
            choose(&mut doors, address);
            assert_eq!(doors.read(data), read, "{address:#x}");
        }
        assert_eq!(doors.read(at(5, 0xe, 2)), Read::Config(0xffe));
        assert_eq!(doors.write(at(5, 0xc, 4), &[0; 4]), Write::Config(0xffc));
        doors.write(at(5, 0, 4), &[0; 4]);
        assert_eq!(doors.read(data), Read::Hardware);
    }

    #[test]
    fn the_sequence_of_ports_leads_to_config_space_once() {
        let mut doors = Doors::of(&facts());
        let order = Access { bar: PORTS, offset: 0x14, len: 2 };
        let port = Access { bar: PORTS, offset: 0x10, len: 4 };
        let begin = |doors: &mut Doors, how: u16| {
            doors.write(order, &0x338_u16.to_le_bytes());
            doors.write(port, &0x1810_u32.to_le_bytes());
            doors.write(order, &how.to_le_bytes());
        };
        begin(&mut doors, 0x538);
        assert_eq!((doors.read(port), doors.read(port)), (Read::ConfigBeside(0x10), Read::Hardware));
        begin(&mut doors, 0x738);
        assert_eq!(doors.write(port, &[0; 4]), Write::Config(0x10));
        assert_eq!(doors.write(port, &[0; 4]), Write::Hardware);
        begin(&mut doors, 0x539);
        assert_eq!(doors.read(port), Read::Hardware);
    }
}
