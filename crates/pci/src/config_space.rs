//! A function's config space as registers with write masks, the two standard headers, and the capability chain.
//!
//! Bytes and rules only: what a write means beyond the bytes is for the function that owns the space.

use crate::register::{self, Register, bridge_control, command, header_type, status};
use crate::{Bar, BarError, BarRange, Pin};

/// How much config space a function has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigSize {
    /// 256 bytes: a conventional function.
    Conventional,
    /// 4096 bytes: an express function.
    Express,
}

/// Who a function says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Revision.
    pub revision: u8,
    /// Class code: base class 23:16, subclass 15:8, interface 7:0.
    pub class: u32,
    /// Subsystem vendor id; a bridge has none in its header.
    pub subsystem_vendor: u16,
    /// Subsystem id; a bridge has none in its header.
    pub subsystem: u16,
}

/// The config space has no room for another capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no room for capability {id:#x} of {length} bytes in config space")]
pub struct NoRoom {
    /// Its id.
    pub id: u16,
    /// Its bytes, header included.
    pub length: u16,
}

/// Config space as registers.
#[derive(Clone, Debug)]
pub struct ConfigSpace {
    value: Vec<u8>,
    power_on: Vec<u8>,
    writable: Vec<u8>,
    clears: Vec<u8>,
    bars: Vec<Bar>,
    // The register that points to the next standard capability to come, and where that may lie.
    standard_link: u16,
    standard_free: u16,
    // The same for extended capabilities; no link yet means the first one goes to 0x100.
    extended_link: Option<u16>,
    extended_free: u16,
}

impl ConfigSpace {
    /// A type 0 header: an endpoint.
    pub fn endpoint(size: ConfigSize, identity: &Identity) -> Self {
        let mut config = Self::common(size, identity, 0);
        config.define(register::SUBSYSTEM_VENDOR_ID, Register::word(identity.subsystem_vendor));
        config.define(register::SUBSYSTEM_ID, Register::word(identity.subsystem));
        config
    }

    /// A type 1 header: a bridge with 32-bit memory, 64-bit prefetchable and 16-bit I/O windows, all closed.
    pub fn bridge(size: ConfigSize, identity: &Identity) -> Self {
        let mut config = Self::common(size, identity, header_type::BRIDGE);
        for bus in [register::PRIMARY_BUS, register::SECONDARY_BUS, register::SUBORDINATE_BUS] {
            config.define(bus, Register::byte(0).writable(0xff));
        }
        // The closed state is base above limit: PCI-to-PCI Bridge 1.2, section 3.2.5.6.
        for (base, limit) in [
            (register::MEMORY_BASE, register::MEMORY_LIMIT),
            (register::PREFETCHABLE_BASE, register::PREFETCHABLE_LIMIT),
        ] {
            let wide = u16::from(base == register::PREFETCHABLE_BASE);
            config.define(base, Register::word(0xfff0 | wide).writable(0xfff0));
            config.define(limit, Register::word(wide).writable(0xfff0));
        }
        config.define(register::PREFETCHABLE_BASE_UPPER, Register::dword(0).writable(u32::MAX));
        config.define(register::PREFETCHABLE_LIMIT_UPPER, Register::dword(0).writable(u32::MAX));
        config.define(register::IO_BASE, Register::byte(0xf0).writable(0xf0));
        config.define(register::IO_LIMIT, Register::byte(0).writable(0xf0));
        config.define(register::SECONDARY_STATUS, Register::word(0).clears(status::ERRORS.into()));
        config.define(register::BRIDGE_CONTROL, Register::word(0).writable(bridge_control::WRITABLE.into()));
        config
    }

    /// Puts a register at `offset`, at its power-on value. Bytes past the end of the space are dropped.
    pub fn define(&mut self, offset: u16, register: Register) {
        let start = usize::from(offset);
        for (store, bits) in [
            (&mut self.value, register.value),
            (&mut self.power_on, register.value),
            (&mut self.writable, register.writable),
            (&mut self.clears, register.clears),
        ] {
            for (byte, bits) in store.iter_mut().skip(start).zip(bits.to_le_bytes()).take(register.bytes) {
                *byte = bits;
            }
        }
    }

    /// Declares BARs.
    ///
    /// # Errors
    /// When a size cannot be described or two share a register.
    pub fn add_bars(&mut self, bars: &[Bar]) -> Result<(), BarError> {
        for bar in bars {
            let registers = bar.registers();
            let taken = |other: &Bar| {
                other.registers().start < registers.end && registers.start < other.registers().end
            };
            if self.bars.iter().any(taken) {
                return Err(BarError::Taken { index: bar.index });
            }
            bar.define(self)?;
            self.bars.push(*bar);
        }
        Ok(())
    }

    /// Declares the interrupt pin.
    pub fn set_interrupt_pin(&mut self, pin: Option<Pin>) {
        self.define(register::INTERRUPT_PIN, Register::byte(pin.map_or(0, Pin::register)));
    }

    /// Appends a standard capability of `length` bytes, its two header bytes included, and gives its offset.
    ///
    /// # Errors
    /// When the first 256 bytes are full.
    pub fn add_capability(&mut self, id: u8, length: u16) -> Result<u16, NoRoom> {
        let offset = self.standard_free;
        let end = dword_end(offset, length.max(2));
        if end > register::EXTENDED_CAPABILITIES {
            return Err(NoRoom { id: id.into(), length });
        }
        self.define(offset, Register::byte(id));
        self.define(self.standard_link, Register::byte(u8::try_from(offset).unwrap_or(0)));
        let status = self.u16(register::STATUS) | status::CAPABILITIES;
        self.define(register::STATUS, Register::word(status).clears(status::ERRORS.into()));
        self.standard_link = offset + 1;
        self.standard_free = end;
        Ok(offset)
    }

    /// Appends an extended capability of `length` bytes, its four header bytes included, and gives its offset.
    ///
    /// # Errors
    /// When the space is full, or conventional.
    pub fn add_extended_capability(&mut self, id: u16, version: u8, length: u16) -> Result<u16, NoRoom> {
        let offset = self.extended_free;
        let end = dword_end(offset, length.max(4));
        if usize::from(end) > self.value.len() {
            return Err(NoRoom { id, length });
        }
        let header = u32::from(id) | u32::from(version & 0xf) << 16;
        if let Some(link) = self.extended_link {
            let before = self.u32(link) & 0x000f_ffff;
            self.define(link, Register::dword(before | u32::from(offset) << 20));
        }
        self.define(offset, Register::dword(header));
        self.extended_link = Some(offset);
        self.extended_free = end;
        Ok(offset)
    }

    /// Reads as the bus does; bytes past the end are ones.
    pub fn read(&self, offset: u16, data: &mut [u8]) {
        let mut bytes = self.value.iter().skip(usize::from(offset));
        for byte in data {
            *byte = bytes.next().copied().unwrap_or(0xff);
        }
    }

    /// Writes as the bus does: through the masks; bytes past the end vanish.
    pub fn write(&mut self, offset: u16, data: &[u8]) {
        let start = usize::from(offset);
        let masks = self.writable.iter().zip(&self.clears).skip(start);
        for ((value, (writable, clears)), &written) in self.value.iter_mut().skip(start).zip(masks).zip(data)
        {
            *value = (*value & !writable & !(written & clears)) | (written & writable);
        }
    }

    /// Goes back to the power-on values.
    pub fn reset(&mut self) {
        self.value.copy_from_slice(&self.power_on);
    }

    /// The byte at `offset`; ones past the end.
    pub fn u8(&self, offset: u16) -> u8 {
        u8::from_le_bytes(self.bytes(offset))
    }

    /// The word at `offset`; ones past the end.
    pub fn u16(&self, offset: u16) -> u16 {
        u16::from_le_bytes(self.bytes(offset))
    }

    /// The dword at `offset`; ones past the end.
    pub fn u32(&self, offset: u16) -> u32 {
        u32::from_le_bytes(self.bytes(offset))
    }

    /// Sets bytes from the function's side, past the masks, until the next reset.
    pub fn set(&mut self, offset: u16, data: &[u8]) {
        for (value, &byte) in self.value.iter_mut().skip(usize::from(offset)).zip(data) {
            *value = byte;
        }
    }

    /// Sets bytes from the function's side, past the masks, now and at each reset.
    pub fn preset(&mut self, offset: u16, data: &[u8]) {
        self.set(offset, data);
        for (value, &byte) in self.power_on.iter_mut().skip(usize::from(offset)).zip(data) {
            *value = byte;
        }
    }

    /// The command register.
    pub fn command(&self) -> u16 {
        self.u16(register::COMMAND)
    }

    /// The interrupt pin.
    pub fn interrupt_pin(&self) -> Option<Pin> {
        Pin::from_register(self.u8(register::INTERRUPT_PIN))
    }

    /// True for a type 1 header.
    pub fn is_bridge(&self) -> bool {
        self.u8(register::HEADER_TYPE) & header_type::LAYOUT == header_type::BRIDGE
    }

    /// The ranges the BARs now ask for.
    pub fn bars(&self) -> Vec<BarRange> {
        self.bars.iter().map(|bar| bar.range(self)).collect()
    }

    fn bytes<const N: usize>(&self, offset: u16) -> [u8; N] {
        let mut bytes = [0; N];
        self.read(offset, &mut bytes);
        bytes
    }

    fn common(size: ConfigSize, identity: &Identity, layout: u8) -> Self {
        let bytes = match size {
            ConfigSize::Conventional => 0x100,
            ConfigSize::Express => 0x1000,
        };
        let mut config = Self {
            value: vec![0; bytes],
            power_on: vec![0; bytes],
            writable: vec![0; bytes],
            clears: vec![0; bytes],
            bars: Vec::new(),
            standard_link: register::CAPABILITIES,
            standard_free: 0x40,
            extended_link: None,
            extended_free: register::EXTENDED_CAPABILITIES,
        };
        config.define(register::VENDOR_ID, Register::word(identity.vendor));
        config.define(register::DEVICE_ID, Register::word(identity.device));
        config.define(register::COMMAND, Register::word(0).writable(command::WRITABLE.into()));
        config.define(register::STATUS, Register::word(0).clears(status::ERRORS.into()));
        config
            .define(register::REVISION, Register::dword(identity.class << 8 | u32::from(identity.revision)));
        config.define(register::CACHE_LINE_SIZE, Register::byte(0).writable(0xff));
        config.define(register::HEADER_TYPE, Register::byte(layout));
        config.define(register::INTERRUPT_LINE, Register::byte(0).writable(0xff));
        config
    }
}

/// Where the next capability may start: past the end of any space when there is no such place.
fn dword_end(offset: u16, length: u16) -> u16 {
    offset.saturating_add(length).checked_next_multiple_of(4).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::{ConfigSize, ConfigSpace, NoRoom};
    use crate::capability::{walk_extended, walk_standard};
    use crate::register::{self, Register};
    use crate::test_function::{bar, endpoint, identity};
    use crate::{Bar, BarError, BarIndex, BarKind};

    #[test]
    fn a_write_changes_only_the_bits_it_may() {
        for (offset, written, expected) in [
            (register::VENDOR_ID, &[0xff; 4][..], 0x5678_1234),
            (register::COMMAND, &[0xff, 0xff][..], 0x0000_0547),
            (register::COMMAND, &[0x07][..], 0x0000_0007),
            (register::REVISION, &[0xff; 4][..], 0x0300_0001),
            (register::CACHE_LINE_SIZE, &[0xff; 4][..], 0x0000_00ff),
            (register::SUBSYSTEM_VENDOR_ID, &[0; 4][..], 0xef01_abcd),
            (register::INTERRUPT_LINE, &[0x0b, 0xff, 0xff, 0xff][..], 0x0000_000b),
        ] {
            let mut config = endpoint();
            config.write(offset, written);
            assert_eq!(config.u32(offset & !3), expected, "{offset:#x} {written:x?}");
        }
    }

    #[test]
    fn ones_clear_what_clears_and_reset_brings_it_back() {
        let mut config = endpoint();
        config.define(0x40, Register::word(0x1234).writable(0x000f).clears(0xff00));
        config.write(0x41, &[0x02]);
        assert_eq!(config.u16(0x40), 0x1034);
        config.write(0x40, &[0xff, 0x00]);
        assert_eq!(config.u16(0x40), 0x103f);
        config.set(0x40, &[0, 0xff]);
        config.reset();
        assert_eq!(config.u16(0x40), 0x1234);
        config.preset(0x40, &[0x21]);
        config.write(0x40, &[0]);
        config.reset();
        assert_eq!(config.u16(0x40), 0x1221);
    }

    #[test]
    fn accesses_across_and_past_the_end_read_ones_and_change_nothing() {
        for (size, offset, expected) in [
            (ConfigSize::Conventional, 0xfe, [0, 0, 0xff, 0xff]),
            (ConfigSize::Conventional, 0x100, [0xff; 4]),
            (ConfigSize::Express, 0xfff, [0, 0xff, 0xff, 0xff]),
            (ConfigSize::Express, 0xffff, [0xff; 4]),
        ] {
            let mut config = ConfigSpace::endpoint(size, &identity());
            config.write(offset, &[0xa5; 4]);
            config.set(offset + (0xffff - offset).min(4), &[0xa5; 4]);
            let mut data = [0x55; 4];
            config.read(offset, &mut data);
            assert_eq!(data, expected, "{size:?} {offset:#x}");
        }
    }

    #[test]
    fn sizing_reads_back_the_size_and_the_kind() {
        let kinds = [
            (bar(0, BarKind::Memory32, 0x10), 0x10, 0xffff_fff0, None),
            (bar(0, BarKind::Memory32, 0x8000_0000), 0x10, 0x8000_0000, None),
            (bar(1, BarKind::Memory64, 0x1000), 0x14, 0xffff_f00c, Some(0xffff_ffff)),
            (bar(4, BarKind::Memory64, 0x1_0000_0000), 0x20, 0x0000_000c, Some(0xffff_ffff)),
            (bar(4, BarKind::Memory64, 0x40_0000_0000), 0x20, 0x0000_000c, Some(0xffff_ffc0)),
            (bar(5, BarKind::Io32, 4), 0x24, 0xffff_fffd, None),
            (bar(5, BarKind::Io16, 0x100), 0x24, 0x0000_ff01, None),
            (bar(6, BarKind::Rom, 0x800), 0x30, 0xffff_f801, None),
            (bar(6, BarKind::Rom, 0x100_0000), 0x30, 0xff00_0001, None),
        ];
        for (bar, offset, low, high) in kinds {
            let mut config = endpoint();
            config.add_bars(&[bar]).unwrap();
            config.write(offset, &[0xff; 8]);
            assert_eq!(config.u32(offset), low, "{bar:?}");
            let next = if bar.index == BarIndex::ROM { None } else { Some(config.u32(offset + 4)) };
            assert_eq!(high, next.filter(|_| high.is_some()), "{bar:?}");
            // Byte by byte, as a guest may: all zero again but for the kind.
            for index in 0..8 {
                config.write(offset + index, &[0]);
            }
            let range = config.bars()[0];
            assert_eq!((range.address, range.size, range.decode), (0, bar.size, false));
        }
    }

    #[test]
    fn bars_that_no_register_can_describe_are_refused() {
        let size = |bar: Bar| BarError::Size { index: bar.index, kind: bar.kind, size: bar.size };
        let taken = |bar: Bar| BarError::Taken { index: bar.index };
        let rom_as_memory = Bar { index: BarIndex::ROM, ..bar(0, BarKind::Memory32, 0x1000) };
        let memory_as_rom = Bar { index: BarIndex::bar(0).unwrap(), ..bar(6, BarKind::Rom, 0x1000) };
        for (bars, error) in [
            (vec![bar(0, BarKind::Memory32, 0)], size(bar(0, BarKind::Memory32, 0))),
            (vec![bar(0, BarKind::Memory32, 8)], size(bar(0, BarKind::Memory32, 8))),
            (vec![bar(0, BarKind::Memory32, 0x1800)], size(bar(0, BarKind::Memory32, 0x1800))),
            (vec![bar(0, BarKind::Memory32, 1 << 32)], size(bar(0, BarKind::Memory32, 1 << 32))),
            (vec![bar(0, BarKind::Io16, 0x1_0000)], size(bar(0, BarKind::Io16, 0x1_0000))),
            (vec![bar(6, BarKind::Rom, 0x200_0000)], size(bar(6, BarKind::Rom, 0x200_0000))),
            (vec![bar(5, BarKind::Memory64, 0x1000)], taken(bar(5, BarKind::Memory64, 0x1000))),
            (
                vec![bar(2, BarKind::Memory64, 0x1000), bar(3, BarKind::Io16, 0x10)],
                taken(bar(3, BarKind::Io16, 0x10)),
            ),
            (vec![rom_as_memory], taken(rom_as_memory)),
            (vec![memory_as_rom], taken(memory_as_rom)),
        ] {
            assert_eq!(endpoint().add_bars(&bars), Err(error), "{bars:?}");
        }
        let mut bridge = ConfigSpace::bridge(ConfigSize::Express, &identity());
        assert!(bridge.add_bars(&[bar(2, BarKind::Memory32, 0x1000)]).is_err(), "a bridge has two");
        assert_eq!(
            bridge.add_bars(&[bar(0, BarKind::Memory64, 0x1000), bar(6, BarKind::Rom, 0x800)]),
            Ok(())
        );
        bridge.write(register::ROM_TYPE1, &[0xff; 4]);
        assert_eq!(bridge.u32(register::ROM_TYPE1), 0xffff_f801);
    }

    #[test]
    fn capabilities_chain_until_the_space_is_full() {
        let mut config = endpoint();
        assert_eq!(config.u16(register::STATUS), 0);
        assert_eq!(config.add_capability(0x01, 8), Ok(0x40));
        assert_eq!(config.add_capability(0x09, 0x15), Ok(0x48));
        assert_eq!(config.add_capability(0x11, 0xa1), Err(NoRoom { id: 0x11, length: 0xa1 }));
        assert_eq!(config.add_capability(0x10, 0xa0), Ok(0x60));
        assert_eq!(config.add_capability(0x05, u16::MAX), Err(NoRoom { id: 0x05, length: u16::MAX }));
        assert_eq!(config.add_extended_capability(0x03, 1, 12), Ok(0x100));
        assert_eq!(config.add_extended_capability(0x01, 2, 0xef0), Ok(0x10c));
        assert_eq!(config.add_extended_capability(0x15, 1, 8), Err(NoRoom { id: 0x15, length: 8 }));
        assert_eq!(config.u16(register::STATUS), 0x10);
        let standard = walk_standard(|offset| config.u8(offset));
        let extended = walk_extended(|offset| config.u8(offset));
        assert_eq!((standard.flaw, extended.flaw), (None, None));
        let offsets = |chain: crate::capability::Chain| -> Vec<_> {
            chain.capabilities.iter().map(|found| (found.id, found.version, found.offset)).collect()
        };
        assert_eq!(offsets(standard), [(1, 0, 0x40), (9, 0, 0x48), (0x10, 0, 0x60)]);
        assert_eq!(offsets(extended), [(3, 1, 0x100), (1, 2, 0x10c)]);
        let mut conventional = ConfigSpace::endpoint(ConfigSize::Conventional, &identity());
        assert!(conventional.add_extended_capability(3, 1, 12).is_err());
    }
}
