//! The expansion ROM of an assigned function: read when the guest first asks, checked, and repaired where it names
//! another device.
//!
//! Whether it can be read at all is a fact of the card and the host: what cannot be read reads as ones, as an empty socket
//! does. Only the first display of a machine with a BIOS is nothing without it. One that lies is another matter: firmware
//! would believe it. Not here: what is in it (`pci::rom`), and running it, which is the firmware's.

use std::sync::OnceLock;

use linux::vfio::{Device, MAX_ROM_BYTES, RegionIndex, RomContent, read_rom, rom_bar_size};
use pci::rom::{Rom, RomFault, judge};
use pci::{ConfigSpace, register};
use spec::Bytes;

use super::hardware::{ExamineError, Hardware};

/// The ROM of one function, not read before it is needed: reading may take a second on a slow flash chip.
#[derive(Debug, Default)]
pub(crate) struct LazyRom(OnceLock<Vec<u8>>);

/// The option ROM that a guest sees on an assigned function.
#[derive(Debug, Default)]
pub enum GuestRom {
    /// The card's own, if it has one.
    #[default]
    Own,
    /// These bytes, whatever the card has.
    Given(Vec<u8>),
    /// None, whatever the card has.
    Hidden,
}

/// A card's ROM says something of itself that is not so.
#[derive(Debug, thiserror::Error)]
pub enum RomLie {
    /// The kernel or the card tells a size that no ROM BAR has.
    #[error(
        "it has {0}, and the BAR of a ROM has a power of two of bytes and at most 16 MiB (PCI Local Bus 3.0, section 6.2.5.2)"
    )]
    Size(Bytes),
    /// The images are not what they say.
    #[error("{0}")]
    Content(RomFault),
}

/// The smallest ROM BAR there is (PCI Local Bus 3.0, section 6.2.5.2).
const SMALLEST_BAR: u64 = 2 << 10;

impl GuestRom {
    /// The size of the BAR that shows the ROM on `device`; 0 for none.
    pub(crate) fn bar_size(&self, device: &dyn Device) -> Result<u64, ExamineError> {
        match self {
            Self::Own => own_bar_size(device),
            Self::Given(bytes) => Ok((bytes.len() as u64).next_power_of_two().max(SMALLEST_BAR)),
            Self::Hidden => Ok(0),
        }
    }
}

/// The size of a card's own BAR, if it is one that there can be.
///
/// The kernel's region is as large as the BAR; for a ROM that firmware has handed over, which may be smaller than any BAR,
/// it is the next power of two (`drivers/vfio/pci/vfio_pci_core.c`, vfio_pci_ioctl_get_region_info). One that cannot be
/// asked for has nothing to read, and that is for the time when it is read.
fn own_bar_size(device: &dyn Device) -> Result<u64, ExamineError> {
    let bar = rom_bar_size(device)?;
    if bar == 0 {
        return Ok(0);
    }
    let region = device.region(RegionIndex::ROM).map_or(0, |region| region.size);
    let is_wrong = |size: &u64| *size != 0 && (!size.is_power_of_two() || *size > MAX_ROM_BYTES);
    match [bar, region].into_iter().find(is_wrong) {
        Some(size) => Err(RomLie::Size(Bytes(size)).into()),
        None => Ok(bar),
    }
}

impl LazyRom {
    /// The ROM of the function whose registers are `config`.
    pub(crate) fn new(rom: GuestRom, config: &ConfigSpace) -> Self {
        match rom {
            GuestRom::Own => Self::default(),
            GuestRom::Given(mut bytes) => {
                repair(&mut bytes, config);
                Self(OnceLock::from(bytes))
            }
            GuestRom::Hidden => Self(OnceLock::from(Vec::new())),
        }
    }

    /// Says what the card's own ROM, which firmware is going to look at, lies about.
    pub(crate) fn check(&self, hardware: &Hardware) -> Result<(), RomLie> {
        let config = &hardware.view.config;
        let ids = (config.u16(register::VENDOR_ID), config.u16(register::DEVICE_ID));
        let faults = judge(self.bytes(hardware), Some(ids));
        faults.into_iter().find(|fault| fault.is_lie()).map_or(Ok(()), |fault| Err(RomLie::Content(fault)))
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

    use super::super::hardware::{Hardware, Terms};
    use super::super::health::Health;
    use super::super::testing;
    use super::GuestRom;
    use crate::events::{Event, Events};

    #[test]
    fn a_rom_that_is_short_or_does_not_answer_reads_as_ones_and_stops_nobody() {
        let whole = FakeRom::honest(vec![0x5a; 0x1800]);
        for (rom, answers) in [
            (FakeRom { content: whole.content[..0x1234].to_vec(), ..whole.clone() }, 0x1234),
            (FakeRom { region_size: 0x1000, ..whole.clone() }, 0x1000),
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

    /// What is said when such a function is examined for a machine that firmware starts, or that starts a kernel.
    fn said(rom: FakeRom, shown: GuestRom, firmware: bool) -> String {
        let device = Arc::new(FakeDevice::new(Script { rom, ..Script::new(0x1013, 0xb8) }).unwrap());
        let health = Health::new(PciAddress::new(0, 3, 0, 0).unwrap(), Arc::new(Events::new().unwrap()));
        let terms = Terms { rom: shown, legacy_vga: false, firmware };
        let refused =
            Hardware::examine(PciAddress::new(0, 3, 0, 0).unwrap(), device as _, terms, health).err();
        refused.map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_rom_of_a_size_that_there_is_not_is_refused_unless_the_guest_is_not_to_see_it() {
        let honest = testing::rom_of(0);
        let region = |region_size| FakeRom { region_size, ..honest.clone() };
        for (rom, expected) in [
            (honest.clone(), None),
            (region(0), None),
            // As the kernel tells of a ROM that firmware has handed over, and of the copy of one that has run.
            (region(0x200), None),
            (region(0x2_0000), None),
            (region(16 << 20), None),
            (region(0x1801), Some("6145B")),
            (region(32 << 20), Some("32MiB")),
            (region(u64::MAX), Some("18446744073709551615B")),
            (FakeRom { bar_size: 32 << 20, ..honest.clone() }, Some("32MiB")),
        ] {
            for firmware in [false, true] {
                let text = said(rom.clone(), GuestRom::Own, firmware);
                match expected {
                    None => assert_eq!(text, "", "{rom:x?}"),
                    Some(size) => assert!(text.contains(size) && text.contains("rom=none"), "{text}"),
                }
                assert_eq!(said(rom.clone(), GuestRom::Hidden, firmware), "");
                assert_eq!(said(rom.clone(), GuestRom::Given(vec![0x55]), firmware), "");
            }
        }
    }

    #[test]
    fn firmware_gets_no_rom_that_lies_and_a_kernel_does_not_care() {
        let honest = testing::rom_of(0);
        let with = |at: usize, byte: u8| {
            let mut rom = honest.clone();
            rom.content[at] = byte;
            rom
        };
        for (rom, expected) in [
            (honest.clone(), None),
            // What is absent, or is no ROM.
            (FakeRom { fails: Some(Errno::IO), ..honest.clone() }, None),
            (FakeRom::honest(vec![0xff; 0x800]), None),
            (FakeRom::honest(vec![0; 0x800]), None),
            (with(0, 0x12), None),
            // One that has run, another card of its maker's, and a last image that does not say so.
            (with(0x100, 0x12), None),
            (with(0x22, 0x12), None),
            (with(0x31, 0), None),
            (with(0x2c, 5), Some("lacks its last 512 bytes")),
            (with(0x2c, 0), Some("says that it has no bytes")),
            (with(0x1c, 0), Some("no PCI data structure")),
            (with(0x20, 0x12), Some("names 1012:00b8")),
        ] {
            let text = said(rom.clone(), GuestRom::Own, true);
            match expected {
                None => assert_eq!(text, "", "{rom:x?}"),
                Some(why) => assert!(text.contains(why) && text.contains("rom=none"), "{text}"),
            }
            assert_eq!(said(rom.clone(), GuestRom::Own, false), "");
            assert_eq!(said(rom, GuestRom::Hidden, true), "");
        }
    }

    #[test]
    fn a_hidden_rom_has_no_bar() {
        let script = Script { rom: testing::rom_of(0), ..Script::new(0x1013, 0xb8) };
        for (rom, bar) in
            [(GuestRom::Own, true), (GuestRom::Given(vec![0x55]), true), (GuestRom::Hidden, false)]
        {
            let device = Arc::new(FakeDevice::new(script.clone()).unwrap());
            let health = Health::new(PciAddress::new(0, 3, 0, 0).unwrap(), Arc::new(Events::new().unwrap()));
            let terms = Terms { rom, ..Terms::default() };
            let hardware =
                Hardware::examine(PciAddress::new(0, 3, 0, 0).unwrap(), device as _, terms, health).unwrap();
            let mut config = hardware.view.config.clone();
            config.write(pci::register::ROM_TYPE0, &[0, 0xf8, 0xff, 0xff]);
            assert_eq!(config.u32(pci::register::ROM_TYPE0) != 0, bar);
        }
    }

    #[test]
    fn a_primary_display_has_legacy_vga_and_a_rom_for_a_bios() {
        let address = PciAddress::new(0, 3, 0, 0).unwrap();
        let bios = testing::rom_of(0);
        let silent = FakeRom { fails: Some(Errno::IO), ..bios.clone() };
        let ones = FakeRom::honest(vec![0xff; 0x800]);
        for (vga, rom, file, expected) in [
            (true, bios.clone(), GuestRom::Own, None),
            (true, silent.clone(), GuestRom::Given(bios.content.clone()), None),
            (true, bios.clone(), GuestRom::Hidden, Some("it has no byte")),
            (false, bios, GuestRom::Own, Some("class 0300")),
            (true, silent, GuestRom::Own, Some("it has no byte")),
            (true, ones, GuestRom::Own, Some("reads as ones")),
            (true, testing::rom_of(3), GuestRom::Own, Some("no image for a BIOS")),
        ] {
            let script = Script { vga, rom, ..Script::new(0x1013, 0xb8) };
            let device = Arc::new(FakeDevice::new(script).unwrap());
            let health = Health::new(address, Arc::new(Events::new().unwrap()));
            let terms = Terms { rom: file, legacy_vga: true, firmware: true };
            let refused = Hardware::examine(address, device as _, terms, health).err();
            let said = refused.map(|error| error.to_string()).unwrap_or_default();
            match expected {
                Some(why) => assert!(said.contains(why), "{said}"),
                None => assert_eq!(said, ""),
            }
        }
    }
}
