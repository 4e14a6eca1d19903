//! The card as a PCI function: its memory as BAR 0, its registers as BAR 2, its BIOS as ROM, and the legacy ranges.

use std::sync::Arc;

use linux::kvm::Vm;
use pci::{
    Bar, BarError, BarIndex, BarKind, BarRange, Change, ConfigSize, ConfigSpace, Function, Identity, Mapping,
};

use super::edid::{EDID_BYTES, edid};
use super::video_memory::{VIDEO_MEMORY, VideoMemory};
use super::{Card, Display};
use crate::followers::{KvmSlots, MemoryFollower};
use crate::pci_host::BarFollower;

/// Vendor and device that drivers know the card by, and QEMU's subsystem, which Windows' driver packages name.
const IDENTITY: Identity = Identity {
    vendor: 0x1234,
    device: 0x1111,
    // Drivers look for the registers in BAR 2 from revision 2 on.
    revision: 2,
    // A VGA compatible display controller.
    class: 0x03_0000,
    subsystem_vendor: 0x1af4,
    subsystem: 0x1100,
};

const MEMORY_BAR: BarIndex = bar(0);
const REGISTER_BAR: BarIndex = bar(2);
const REGISTER_BYTES: u64 = 0x1000;

/// Where things lie in the register BAR.
const VGA_PORTS: std::ops::Range<u64> = 0x400..0x420;
const DISPI: std::ops::Range<u64> = 0x500..0x516;
/// The size of the extended registers, which is all of them that there is.
const EXTENDED_SIZE: u64 = 0x600;
const EXTENDED_BYTES: u32 = 4;

/// The legacy ranges' first addresses.
const MONO_PORTS: u64 = 0x3b0;
const COLOR_PORTS: u64 = 0x3c0;

/// ROMs are this large at least, and at most.
const ROM_BYTES: std::ops::RangeInclusive<usize> = 2048..=(16 << 20);

const fn bar(index: u8) -> BarIndex {
    match BarIndex::bar(index) {
        Some(bar) => bar,
        None => BarIndex::ROM,
    }
}

/// The function.
pub(crate) struct DisplayFunction {
    display: Arc<Display>,
    config: ConfigSpace,
    card: Card,
    edid: [u8; EDID_BYTES],
}

impl DisplayFunction {
    /// Shows `display`, which is that of `card`.
    pub(crate) fn new(display: Arc<Display>, card: &Card) -> Result<Self, BarError> {
        let mut config = ConfigSpace::endpoint(ConfigSize::Conventional, &IDENTITY);
        config.add_bars(&[
            Bar { index: MEMORY_BAR, kind: BarKind::Memory32, size: VIDEO_MEMORY, prefetchable: true },
            Bar { index: REGISTER_BAR, kind: BarKind::Memory32, size: REGISTER_BYTES, prefetchable: false },
        ])?;
        if let Some(rom) = card.config.rom.as_ref().filter(|rom| !rom.is_empty()) {
            let size = rom.len().clamp(*ROM_BYTES.start(), *ROM_BYTES.end()).next_power_of_two() as u64;
            config.add_bars(&[Bar {
                index: BarIndex::ROM,
                kind: BarKind::Rom,
                size,
                prefetchable: false,
            }])?;
        }
        let edid = edid(card.config.width, card.config.height);
        Ok(Self { display, config, card: card.clone(), edid })
    }

    fn read_register(&self, offset: u64) -> u8 {
        if VGA_PORTS.contains(&offset) {
            return self.display.read_vga_port(COLOR_PORTS + (offset - VGA_PORTS.start));
        }
        if DISPI.contains(&offset) {
            let [low, high] = self.display.read_dispi(((offset - DISPI.start) / 2) as u16).to_le_bytes();
            return if offset.is_multiple_of(2) { low } else { high };
        }
        let extended = offset.checked_sub(EXTENDED_SIZE).and_then(|at| usize::try_from(at).ok());
        if let Some(byte) = extended.and_then(|at| EXTENDED_BYTES.to_le_bytes().get(at).copied()) {
            return byte;
        }
        let edid = usize::try_from(offset).ok().and_then(|at| self.edid.get(at));
        edid.copied().unwrap_or(0)
    }

    fn write_register(&self, offset: u64, data: &[u8]) {
        if let (true, [low, high], 0) = (DISPI.contains(&offset), data, offset % 2) {
            let index = ((offset - DISPI.start) / 2) as u16;
            return self.display.write_dispi(index, u16::from_le_bytes([*low, *high]));
        }
        for (at, value) in (offset..).zip(data) {
            if VGA_PORTS.contains(&at) {
                self.display.write_vga_port(COLOR_PORTS + (at - VGA_PORTS.start), *value);
            }
        }
    }

    fn read_rom(&self, offset: u64) -> u8 {
        let rom = self.card.config.rom.as_deref().unwrap_or_default();
        usize::try_from(offset).ok().and_then(|at| rom.get(at)).copied().unwrap_or(0xff)
    }
}

impl Function for DisplayFunction {
    fn name(&self) -> &str {
        "display"
    }

    fn read_config(&mut self, offset: u16, data: &mut [u8]) {
        self.config.read(offset, data);
    }

    fn write_config(&mut self, offset: u16, data: &[u8]) -> Vec<Change> {
        self.config.write(offset, data);
        Vec::new()
    }

    fn bars(&self) -> Vec<BarRange> {
        let mut bars = self.config.bars();
        bars.extend(BarRange::legacy_vga(self.config.command()));
        bars
    }

    fn reset(&mut self) -> Vec<Change> {
        self.config.reset();
        self.display.reset();
        Vec::new()
    }

    fn read_bar(&mut self, bar: BarIndex, offset: u64, data: &mut [u8]) -> Vec<Change> {
        if bar == MEMORY_BAR {
            // Reached only where KVM had no slot for it.
            self.display.memory.read(offset, data);
            return Vec::new();
        }
        for (at, byte) in (offset..).zip(data) {
            *byte = match bar {
                BarIndex::VGA_MEMORY => self.display.read_window(at),
                BarIndex::VGA_PORTS_MONO => self.display.read_vga_port(MONO_PORTS.wrapping_add(at)),
                BarIndex::VGA_PORTS_COLOR => self.display.read_vga_port(COLOR_PORTS.wrapping_add(at)),
                BarIndex::ROM => self.read_rom(at),
                _ => self.read_register(at),
            };
        }
        Vec::new()
    }

    fn write_bar(&mut self, bar: BarIndex, offset: u64, data: &[u8]) -> Vec<Change> {
        match bar {
            MEMORY_BAR => self.display.memory.write(offset, data),
            REGISTER_BAR => self.write_register(offset, data),
            BarIndex::ROM => {}
            _ => {
                for (at, value) in (offset..).zip(data) {
                    match bar {
                        BarIndex::VGA_MEMORY => self.display.write_window(at, *value),
                        BarIndex::VGA_PORTS_MONO => {
                            self.display.write_vga_port(MONO_PORTS.wrapping_add(at), *value)
                        }
                        _ => self.display.write_vga_port(COLOR_PORTS.wrapping_add(at), *value),
                    }
                }
            }
        }
        Vec::new()
    }
}

/// Shows the card's memory to the guest wherever it puts BAR 0.
pub(crate) struct MemoryPlace {
    slots: KvmSlots,
    memory: Arc<VideoMemory>,
}

impl MemoryPlace {
    /// For the memory of `card`, in `vm`.
    pub(crate) fn new(vm: &Vm, card: &Card) -> Self {
        Self { slots: KvmSlots::new(vm), memory: Arc::clone(&card.memory) }
    }
}

impl BarFollower for MemoryPlace {
    fn map(&mut self, mapping: &Mapping) {
        if let (MEMORY_BAR, Some(memory)) = (mapping.bar, self.memory.mapping()) {
            // Without a slot every access is trapped: slow, and right.
            let _ = self.slots.show(mapping.range.start, memory);
        }
    }

    fn unmap(&mut self, mapping: &Mapping) {
        if mapping.bar == MEMORY_BAR {
            let _ = self.slots.hide(mapping.range.start, VIDEO_MEMORY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Card, DispiPorts, Display, DisplayConfig};
    use super::{DisplayFunction, MEMORY_BAR, REGISTER_BAR};
    use crate::bus::Device;
    use pci::{BarIndex, Function};

    fn function(rom: Option<Vec<u8>>) -> DisplayFunction {
        let card = Card::new(DisplayConfig { width: 1280, height: 800, tablet: true, rom }).unwrap();
        DisplayFunction::new(Display::new(&card), &card).unwrap()
    }

    fn read<const N: usize>(function: &mut DisplayFunction, bar: BarIndex, offset: u64) -> [u8; N] {
        let mut data = [0xee; N];
        function.read_bar(bar, offset, &mut data);
        data
    }

    #[test]
    fn the_linux_driver_finds_what_it_looks_for() {
        let mut function = function(None);
        assert_eq!(read(&mut function, REGISTER_BAR, 0x500), [0xc5, 0xb0], "version");
        assert_eq!(read(&mut function, REGISTER_BAR, 0x514), 1024_u16.to_le_bytes(), "memory");
        assert_eq!(read(&mut function, REGISTER_BAR, 0), [0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0], "EDID");
        assert_eq!(read(&mut function, REGISTER_BAR, 0x600), [4, 0, 0, 0], "no byte order register");
        // Its mode, then a pixel, then the picture.
        for (index, value) in [(4_u64, 0_u16), (3, 32), (1, 640), (2, 480), (4, 0x41)] {
            function.write_bar(REGISTER_BAR, 0x500 + 2 * index, &value.to_le_bytes());
        }
        function.write_bar(REGISTER_BAR, 0x402, &[1]);
        function.write_bar(REGISTER_BAR, 0x400, &[0x20]);
        function.write_bar(MEMORY_BAR, 640 * 4 + 4, &[1, 2, 3, 0]);
        let picture = function.display.picture();
        assert_eq!((picture.width, picture.height), (640, 480));
        assert_eq!(picture.pixels[641 * 4..642 * 4], [1, 2, 3, 0]);
        function.reset();
        assert_ne!(function.display.picture().pixels.iter().max(), Some(&3), "dark after a reset");
    }

    #[test]
    fn a_mode_that_is_switched_on_is_black_and_banks_reach_all_of_it() {
        let function = function(None);
        let mut ports = DispiPorts(std::sync::Arc::clone(&function.display));
        let mut set = |index: u16, value: u16| {
            ports.write(0, &index.to_le_bytes());
            ports.write(1, &value.to_le_bytes());
        };
        function.display.write_window(0, 9);
        for (index, value) in [(1, 640), (2, 480), (3, 32), (4, 1), (5, 2)] {
            set(index, value);
        }
        function.display.write_window(0x10, 7);
        assert_eq!((function.display.memory.byte(0x2_0010), function.display.read_window(0x10)), (7, 7));
        let mut data = [0; 2];
        ports.read(1, &mut data);
        assert_eq!(data, [2, 0]);
        ports.read(0, &mut data);
        assert_eq!(data, [5, 0]);
        let mut wide = [0; 4];
        ports.read(0, &mut wide);
        assert_eq!(wide, [0xff; 4]);
    }

    #[test]
    fn the_rom_is_read_and_not_written() {
        let mut function = function(Some(vec![0x55, 0xaa, 0x40]));
        function.write_bar(BarIndex::ROM, 0, &[0; 4]);
        assert_eq!(read(&mut function, BarIndex::ROM, 0), [0x55, 0xaa, 0x40, 0xff]);
        assert_eq!(function.config.bars().iter().find(|bar| bar.index == BarIndex::ROM).unwrap().size, 2048);
    }

    #[test]
    fn no_access_is_too_much_for_it() {
        let mut function = function(None);
        let bars = [
            MEMORY_BAR,
            REGISTER_BAR,
            BarIndex::ROM,
            BarIndex::VGA_MEMORY,
            BarIndex::VGA_PORTS_MONO,
            BarIndex::VGA_PORTS_COLOR,
        ];
        for bar in bars {
            for offset in (0..0x1000).step_by(7).chain([0x1_ffff, u64::MAX - 16]) {
                for len in [1, 2, 4, 8] {
                    function.write_bar(bar, offset, &[0xff, 0x80, 0x7f, 1, 2, 3, 4, 5][..len]);
                    function.read_bar(bar, offset, &mut [0; 8][..len]);
                }
            }
            let picture = function.display.picture();
            assert_eq!(picture.pixels.len() as u64, u64::from(picture.width) * u64::from(picture.height) * 4);
        }
    }
}
