//! The expansion ROM as the kernel shows it: a size, and content that may or may not be readable.
//!
//! Not here: what the content means, repairs, and ROM files; the machine's assigned functions do that.

use super::config::Config;
use super::{Cause, Device, DeviceError, PAGE_SIZE, RegionIndex};

/// The largest ROM a BAR can ask for: 24 address bits (PCI 3.0, 6.2.5.2).
pub const MAX_ROM_BYTES: u64 = 16 << 20;

const ROM_BAR: u64 = 0x30;
/// The address bits of the ROM BAR.
const ADDRESS: u32 = 0xffff_f800;

/// The expansion ROM of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rom {
    /// Size of the BAR in bytes; 0 when there is none.
    pub bar_size: u64,
    /// What could be read.
    pub content: RomContent,
}

/// The content of an expansion ROM, as far as it can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RomContent {
    /// The kernel shows no ROM, or the function does not answer: both are ordinary.
    Unreadable,
    /// The first bytes; fewer than the region when the rest did not answer.
    Bytes(Vec<u8>),
}

/// Sizes the ROM BAR and reads the ROM; a ROM that cannot be read is a fact and no error.
///
/// The size comes from the BAR: the region tells what the kernel can read, which is 0 for a ROM it finds invalid and
/// 128 KiB for the shadow of the boot display (`vfio_pci_core.c`, `vfio_pci_ioctl_get_region_info`).
pub fn read_rom(device: &dyn Device) -> Result<Rom, DeviceError> {
    let bar_size = rom_bar_size(device)?;
    let readable = device.region(RegionIndex::ROM).map_or(0, |region| region.size.min(MAX_ROM_BYTES));
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < readable {
        let offset = bytes.len() as u64;
        let mut chunk = vec![0xff; (readable - offset).min(PAGE_SIZE) as usize];
        match device.read(RegionIndex::ROM, offset, &mut chunk) {
            Ok(()) => bytes.extend(chunk),
            Err(DeviceError { cause: Cause::Short { done, .. }, .. }) => {
                bytes.extend(chunk.get(..done).unwrap_or_default());
                break;
            }
            Err(_) => break,
        }
    }
    let content = if bytes.is_empty() { RomContent::Unreadable } else { RomContent::Bytes(bytes) };
    Ok(Rom { bar_size, content })
}

/// Sizes the ROM BAR; 0 when there is none. The kernel keeps a copy of it for us, so the function sees none of this.
pub fn rom_bar_size(device: &dyn Device) -> Result<u64, DeviceError> {
    let config = Config(device);
    let before = config.read_u32(ROM_BAR)?;
    config.write_u32(ROM_BAR, ADDRESS)?;
    let mask = config.read_u32(ROM_BAR)? & ADDRESS;
    if mask == 0 {
        // There is no such BAR, so the question has left no trace.
        return Ok(0);
    }
    config.write_u32(ROM_BAR, before)?;
    Ok(u64::from(!mask) + 1)
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::{Rom, RomContent, read_rom};
    use crate::vfio::fake::{FakeDevice, FakeRom, Removal, Script};

    #[test]
    fn size_and_content_are_told_apart() {
        let whole = FakeRom::honest(vec![0x55; 0x1800]);
        let bytes = whole.content.clone();
        let short = FakeRom { content: bytes[..0x1234].to_vec(), ..whole.clone() };
        let shadow = FakeRom { region_size: 0x1000, ..whole.clone() };
        let hidden = FakeRom { region_size: 0, ..whole.clone() };
        let failing = FakeRom { fails: Some(Errno::IO), ..whole.clone() };
        for (rom, bar_size, content) in [
            (FakeRom::default(), 0, RomContent::Unreadable),
            (short, 0x2000, RomContent::Bytes(bytes[..0x1234].to_vec())),
            (shadow, 0x2000, RomContent::Bytes(bytes[..0x1000].to_vec())),
            (hidden, 0x2000, RomContent::Unreadable),
            (failing, 0x2000, RomContent::Unreadable),
            (whole, 0x2000, RomContent::Bytes(bytes)),
        ] {
            let device = FakeDevice::new(Script { rom: rom.clone(), ..Script::new(1, 2) }).unwrap();
            assert_eq!(read_rom(&device), Ok(Rom { bar_size, content }), "{rom:?}");
        }
    }

    #[test]
    fn the_bar_is_left_as_it_was() {
        let rom = FakeRom::honest(vec![0x55; 0x1000]);
        let device = FakeDevice::new(Script { rom, ..Script::new(1, 2) }).unwrap();
        let config = crate::vfio::config::Config(&device);
        config.write_u32(0x30, 0xfe00_0001).unwrap();
        read_rom(&device).unwrap();
        assert_eq!(config.read_u32(0x30).unwrap(), 0xfe00_0001);
    }

    #[test]
    fn a_function_removed_at_any_call_is_an_error_or_a_rom_that_cannot_be_read() {
        let rom = FakeRom::honest(vec![0x55; 0x2000]);
        for calls in 0..8 {
            let device = FakeDevice::new(Script { rom: rom.clone(), ..Script::new(1, 2) }).unwrap();
            device.remove_after(calls, Removal::Fails(Errno::NODEV));
            let whole = matches!(read_rom(&device), Ok(Rom { content: RomContent::Bytes(bytes), .. }) if bytes.len() == 0x2000);
            assert_eq!(whole, calls == 7, "{calls}");
        }
    }
}
