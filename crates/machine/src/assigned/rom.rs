//! The expansion ROM of an assigned function: read when the guest first asks, checked, and repaired where it names
//! another device.
//!
//! Whether it can be read at all is a fact of the card and the host: what cannot be read reads as ones, as an empty socket
//! does. Only the first display of a machine with a BIOS is nothing without it. Not here: what is in it (`pci::rom`), and running it, which is the firmware's.

use std::sync::OnceLock;

use linux::vfio::{RomContent, read_rom};
use pci::rom::{Rom, judge};
use pci::{ConfigSpace, register};

use super::hardware::Hardware;

/// The ROM of one function, not read before it is needed: reading may take a second on a slow flash chip.
#[derive(Debug, Default)]
pub(crate) struct LazyRom(OnceLock<Vec<u8>>);

/// The smallest ROM BAR there is (PCI Local Bus 3.0, section 6.2.5.2).
const SMALLEST_BAR: u64 = 2 << 10;

/// The size of the BAR that shows a ROM of a file.
pub(crate) fn bar_size(rom: &[u8]) -> u64 {
    (rom.len() as u64).next_power_of_two().max(SMALLEST_BAR)
}

impl LazyRom {
    /// A ROM from a file, for the function whose registers are `config`.
    pub(crate) fn of_file(mut bytes: Vec<u8>, config: &ConfigSpace) -> Self {
        repair(&mut bytes, config);
        Self(OnceLock::from(bytes))
    }

    /// Says what is wrong if a BIOS finds nothing to run in the ROM.
    pub(crate) fn check_bios(&self, hardware: &Hardware) -> Result<(), String> {
        let bytes = self.bytes(hardware);
        let rom = Rom::parse(bytes);
        match judge(bytes, None).first() {
            _ if rom.has_x86() => Ok(()),
            Some(fault) if rom.images.is_empty() => Err(fault.to_string()),
            _ => Err("it has no image for a BIOS".to_owned()),
        }
    }

    /// Answers a read in the ROM.
    pub(crate) fn read(&self, hardware: &Hardware, offset: u64, data: &mut [u8]) {
        let bytes = self.bytes(hardware);
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = bytes.get(start..).unwrap_or_default();
        data.fill(0xff);
        data.iter_mut().zip(rest).for_each(|(place, byte)| *place = *byte);
    }

    fn bytes(&self, hardware: &Hardware) -> &[u8] {
        self.0.get_or_init(|| content(hardware))
    }
}

fn content(hardware: &Hardware) -> Vec<u8> {
    match read_rom(hardware.device.as_ref()).map(|rom| rom.content) {
        Ok(RomContent::Bytes(mut bytes)) => {
            repair(&mut bytes, &hardware.view.config);
            bytes
        }
        _ => {
            hardware.health.note("its option ROM cannot be read, so no firmware in the guest can run it");
            Vec::new()
        }
    }
}

/// Lets firmware that runs a ROM only for the device it names run this one.
fn repair(bytes: &mut [u8], config: &ConfigSpace) {
    pci::rom::repair(bytes, config.u16(register::VENDOR_ID), config.u16(register::DEVICE_ID));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use linux::vfio::Errno;
    use linux::vfio::fake::{FakeDevice, FakeRom, Script};

    use spec::PciAddress;

    use super::super::hardware::Hardware;
    use super::super::health::Health;
    use super::super::testing;
    use crate::events::{Event, Events};

    #[test]
    fn a_rom_that_lies_of_its_size_or_does_not_answer_reads_as_ones_and_stops_nobody() {
        let whole = FakeRom::honest(vec![0x5a; 0x1800]);
        for (rom, answers) in [
            (FakeRom { content: whole.content[..0x1234].to_vec(), ..whole.clone() }, 0x1234),
            (FakeRom { region_size: 0x1000, ..whole.clone() }, 0x1000),
            (FakeRom { region_size: u64::MAX, ..whole.clone() }, 0x1800),
            (FakeRom { region_size: 0, ..whole.clone() }, 0),
            (FakeRom { fails: Some(Errno::IO), ..whole }, 0),
        ] {
            let device = Arc::new(FakeDevice::new(Script { rom: rom.clone(), ..Script::new(1, 2) }).unwrap());
            let (hardware, events) = testing::hardware(&device);
            let mut seen = vec![0; 0x2000];
            hardware.rom.read(&hardware, 0, &mut seen);
            let read = seen.iter().take_while(|byte| **byte == 0x5a).count();
            assert_eq!((read, seen[read..].iter().all(|byte| *byte == 0xff)), (answers, true), "{rom:?}");
            let told = matches!(events.take(), Some(Event::Note(text)) if text.contains("cannot be read"));
            assert_eq!(told, answers == 0, "{rom:?}");
            hardware.rom.read(&hardware, u64::MAX, &mut seen[..4]);
            assert_eq!(seen[..4], [0xff; 4], "{rom:?}");
        }
    }
    #[test]
    fn a_primary_display_has_legacy_vga_and_a_rom_for_a_bios() {
        let address = PciAddress::new(0, 3, 0, 0).unwrap();
        let bios = testing::rom_of(0);
        let silent = FakeRom { fails: Some(Errno::IO), ..bios.clone() };
        let ones = FakeRom::honest(vec![0xff; 0x800]);
        for (vga, rom, file, expected) in [
            (true, bios.clone(), None, None),
            (true, silent.clone(), Some(bios.content.clone()), None),
            (false, bios, None, Some("class 0300")),
            (true, silent, None, Some("it has no byte")),
            (true, ones, None, Some("reads as ones")),
            (true, testing::rom_of(3), None, Some("no image for a BIOS")),
        ] {
            let script = Script { vga, rom, ..Script::new(0x1013, 0xb8) };
            let device = Arc::new(FakeDevice::new(script).unwrap());
            let health = Health::new(address, Arc::new(Events::new().unwrap()));
            let refused = Hardware::examine(address, device as _, file, true, health).err();
            let said = refused.map(|error| error.to_string()).unwrap_or_default();
            match expected {
                Some(why) => assert!(said.contains(why), "{said}"),
                None => assert_eq!(said, ""),
            }
        }
    }
}
