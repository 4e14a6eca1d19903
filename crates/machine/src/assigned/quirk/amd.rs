//! The doors of AMD's and ATI's cards that are the first display. Their BIOS asks by ports where the card's BARs are, as a
//! BIOS in real mode can.
//!
//! Cards with a BAR 2 of 64 bits have config space at 0x4000 of it, and a pair of registers in BAR 4 that reaches there; of
//! older ones (Rage 128 to R500), BAR 1 has the pair, and config space is at 0xF00 (Linux
//! drivers/gpu/drm/radeon/radeon_reg.h, RADEON_MM_INDEX, RADEON_VENDOR_ID). Port 0x3C3 tells the upper byte of BAR 4's ports.

use pci::{BarIndex, BarKind};

use super::mirror::Mirror;
use super::window::Window;
use super::{Access, Door, Facts, Read, Write};

pub(super) const VENDOR: u16 = 0x1002;

const MIRROR: u32 = 0x4000;
const OLD_MIRROR: u32 = 0xf00;
const OLD_BYTES: u32 = 0x100;

// Registers of the port BAR.
const ADDRESS: u64 = 0;
const DATA: u64 = 4;

pub(super) fn doors(facts: &Facts) -> Vec<Box<dyn Door>> {
    let mut doors: Vec<Box<dyn Door>> = Vec::new();
    if !facts.legacy_vga {
        return doors;
    }
    let ports = |number| facts.bar(number).filter(|bar| bar.kind == BarKind::Io32);
    let mirror = MIRROR..MIRROR + u32::from(facts.config_size);
    let new = facts.bar(2).filter(|bar| bar.kind == BarKind::Memory64);
    if let Some(bar) = new.filter(|bar| u64::from(mirror.end) <= bar.size) {
        let bytes = mirror.start.into()..mirror.end.into();
        doors.push(Box::new(Mirror { bar: bar.index, bytes, acknowledged_by: 0..0 }));
    }
    if let Some(bar) = ports(4) {
        doors.push(Box::new(Window::new(bar.index, ADDRESS, DATA, vec![mirror])));
        // The lowest byte of a BAR of fewer ports could be something.
        if bar.size >= 0x100 {
            doors.push(Box::new(PortsAbove));
        }
    } else if let (Some(bar), None) = (ports(1), new) {
        // The mirror itself stays mapped: it is among the registers of each day.
        let mirror = OLD_MIRROR..OLD_MIRROR + OLD_BYTES;
        doors.push(Box::new(Window::new(bar.index, ADDRESS, DATA, vec![mirror])));
    }
    doors
}

/// Port 0x3C3, which reads as the second byte of BAR 4's register.
struct PortsAbove;

/// In the range that begins at port 0x3C0.
const PORT: u64 = 3;
const BAR_4_SECOND_BYTE: u16 = 0x21;

impl Door for PortsAbove {
    fn read(&mut self, access: Access) -> Read {
        match access.within(BarIndex::VGA_PORTS_COLOR, &(PORT..PORT + 1)) {
            Some(_) => Read::Config(BAR_4_SECOND_BYTE),
            None => Read::Hardware,
        }
    }

    fn write(&mut self, _access: Access, _data: &[u8]) -> Write {
        Write::Hardware
    }
}

#[cfg(test)]
mod tests {
    use pci::{Bar, BarIndex, BarKind};

    use super::super::testing::{bar, vga};
    use super::super::{Access, Doors, Facts, Read, Write};
    use super::VENDOR;

    fn at(number: u8, offset: u64, len: usize) -> Access {
        Access { bar: BarIndex::bar(number).unwrap(), offset, len }
    }

    fn new() -> Vec<Bar> {
        vec![
            bar(0, BarKind::Memory64, 256 << 20),
            bar(2, BarKind::Memory64, 256 << 10),
            bar(4, BarKind::Io32, 0x100),
        ]
    }

    fn old() -> Vec<Bar> {
        let memory = |number, size| bar(number, BarKind::Memory32, size);
        vec![memory(0, 16 << 20), bar(1, BarKind::Io32, 0x100), memory(2, 0x4000)]
    }

    #[test]
    fn the_window_of_ports_leads_to_config_space() {
        for (bars, ports, addresses) in [
            (new(), 4, [(0x4000, Some(0)), (0x4ffc, Some(0xffc)), (0x5000, None), (0xf10, None)]),
            (old(), 1, [(0xf00, Some(0)), (0xffc, Some(0xfc)), (0x1000, None), (0x4010, None)]),
        ] {
            let mut doors = Doors::of(&vga(VENDOR, bars));
            for (address, register) in addresses {
                doors.write(at(ports, 0, 4), &u32::to_le_bytes(address));
                let read = register.map_or(Read::Hardware, Read::Config);
                let write = register.map_or(Write::Hardware, Write::Config);
                assert_eq!(doors.read(at(ports, 4, 4)), read, "{address:#x}");
                assert_eq!(doors.write(at(ports, 4, 4), &[0; 4]), write, "{address:#x}");
            }
            doors.write(at(ports, 0, 4), &u32::to_le_bytes(addresses[0].0));
            doors.write(at(ports, 0, 2), &[0x10, 0]);
            assert_eq!(doors.read(at(ports, 4, 4)), Read::Hardware, "half an address is none");
        }
    }

    #[test]
    fn the_new_mirror_is_trapped_and_the_old_one_is_not() {
        let trapped = |facts: &Facts| {
            let doors = Doors::of(facts);
            doors.trapped().map(|(bar, bytes)| (bar.get(), bytes)).collect::<Vec<_>>()
        };
        assert_eq!(trapped(&vga(VENDOR, new())), [(2, 0x4000..0x5000)]);
        assert_eq!(trapped(&vga(VENDOR, old())), []);
        assert_eq!(trapped(&Facts { legacy_vga: false, ..vga(VENDOR, new()) }), []);
    }

    #[test]
    fn a_vga_port_tells_where_the_ports_are() {
        let port = |offset, len| Access { bar: BarIndex::VGA_PORTS_COLOR, offset, len };
        let mut doors = Doors::of(&vga(VENDOR, new()));
        assert_eq!(doors.read(port(3, 1)), Read::Config(0x21));
        assert_eq!((doors.read(port(2, 1)), doors.read(port(4, 1))), (Read::Hardware, Read::Hardware));
        assert_eq!(Doors::of(&vga(VENDOR, old())).read(port(3, 1)), Read::Hardware);
    }
}
