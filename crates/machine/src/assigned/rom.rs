//! The expansion ROM of an assigned function: read when the guest first asks, checked, and repaired where it names
//! another device.
//!
//! Whether it can be read at all is a fact of the card and the host, never an error: what cannot be read reads as ones,
//! as an empty socket does. Not here: running it, which is the firmware's.

use std::sync::OnceLock;

use linux::vfio::{RomContent, read_rom};

use super::hardware::Hardware;

/// The ROM of one function, not read before it is needed: reading may take a second on a slow flash chip.
#[derive(Debug, Default)]
pub(crate) struct LazyRom(OnceLock<Vec<u8>>);

// Offsets in an image's header and in its PCI data structure (PCI Firmware Specification 3.3, section 5.1).
const SIGNATURE: [u8; 2] = [0x55, 0xaa];
const CHECKSUM: usize = 6;
const DATA_POINTER: usize = 0x18;
const DATA_SIGNATURE: &[u8] = b"PCIR";
const DATA_VENDOR: usize = 4;
const DATA_DEVICE: usize = 6;
const DATA_LENGTH: usize = 0x10;
const DATA_CODE_TYPE: usize = 0x14;
const DATA_INDICATOR: usize = 0x15;
const LAST_IMAGE: u8 = 0x80;
/// The code type whose images carry a checksum.
const X86_CODE: u8 = 0;
/// Image lengths count in these.
const UNIT: usize = 512;
/// Images in one ROM at most; real ones have up to five.
const MOST_IMAGES: usize = 32;

/// The smallest ROM BAR there is (PCI Local Bus 3.0, section 6.2.5.2).
const SMALLEST_BAR: u64 = 2 << 10;

/// The size of the BAR that shows a ROM of a file.
pub(crate) fn bar_size(rom: &[u8]) -> u64 {
    (rom.len() as u64).next_power_of_two().max(SMALLEST_BAR)
}

impl LazyRom {
    /// A ROM from a file, for the function whose registers are `config`.
    pub(crate) fn of_file(mut bytes: Vec<u8>, config: &pci::ConfigSpace) -> Self {
        repair(&mut bytes, config.u16(pci::register::VENDOR_ID), config.u16(pci::register::DEVICE_ID));
        Self(OnceLock::from(bytes))
    }

    /// Answers a read in the ROM.
    pub(crate) fn read(&self, hardware: &Hardware, offset: u64, data: &mut [u8]) {
        let bytes = self.0.get_or_init(|| content(hardware));
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = bytes.get(start..).unwrap_or_default();
        data.fill(0xff);
        data.iter_mut().zip(rest).for_each(|(place, byte)| *place = *byte);
    }
}

fn content(hardware: &Hardware) -> Vec<u8> {
    match read_rom(hardware.device.as_ref()).map(|rom| rom.content) {
        Ok(RomContent::Bytes(mut bytes)) => {
            let (config, register) = (&hardware.view.config, pci::register::DEVICE_ID);
            repair(&mut bytes, config.u16(pci::register::VENDOR_ID), config.u16(register));
            bytes
        }
        _ => {
            hardware.health.note("its option ROM cannot be read, so no firmware in the guest can run it");
            Vec::new()
        }
    }
}

/// Gives the images that name the function's vendor its device id: some cards of a family share a ROM, and firmware runs
/// none that names another device (QEMU does the same, vfio_pci_load_rom).
fn repair(rom: &mut [u8], vendor: u16, device: u16) {
    let mut start = 0;
    for _ in 0..MOST_IMAGES {
        let Some(image) = Image::at(rom, start) else { return };
        let end = start.saturating_add(image.length).min(rom.len());
        if image.vendor == vendor && image.device != device {
            put_u16(rom, image.data + DATA_DEVICE, device);
            if image.code_type == X86_CODE {
                fix_checksum(rom, start, end);
            }
        }
        if image.last || image.length == 0 {
            return;
        }
        start = end;
    }
}

/// What is needed of an image, with offsets in the whole ROM.
struct Image {
    data: usize,
    vendor: u16,
    device: u16,
    code_type: u8,
    length: usize,
    last: bool,
}

impl Image {
    /// The image at `start`; `None` where there is none, or one that points outside the ROM.
    fn at(rom: &[u8], start: usize) -> Option<Self> {
        let image = rom.get(start..)?;
        let data = usize::from(u16_at(image, DATA_POINTER)?);
        if image.get(..2)? != SIGNATURE || image.get(data..data + 4)? != DATA_SIGNATURE {
            return None;
        }
        Some(Self {
            data: start + data,
            vendor: u16_at(image, data + DATA_VENDOR)?,
            device: u16_at(image, data + DATA_DEVICE)?,
            code_type: *image.get(data + DATA_CODE_TYPE)?,
            length: usize::from(u16_at(image, data + DATA_LENGTH)?) * UNIT,
            last: image.get(data + DATA_INDICATOR)? & LAST_IMAGE != 0,
        })
    }
}

/// Makes the bytes of an image add up to zero, as firmware demands.
fn fix_checksum(rom: &mut [u8], start: usize, end: usize) {
    let sum = rom.get(start..end).unwrap_or_default().iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    if let Some(byte) = rom.get_mut(start + CHECKSUM) {
        *byte = byte.wrapping_sub(sum);
    }
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes.get(offset..)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))
}

fn put_u16(bytes: &mut [u8], offset: usize, value: u16) {
    if let Some(place) = bytes.get_mut(offset..offset + 2) {
        place.copy_from_slice(&value.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::repair;

    /// An image of 1 KiB whose bytes add up to zero.
    fn image(vendor: u16, device: u16, code_type: u8, last: bool) -> Vec<u8> {
        let mut image = vec![0; 1024];
        image[..2].copy_from_slice(&[0x55, 0xaa]);
        image[0x18] = 0x40;
        image[0x40..0x44].copy_from_slice(b"PCIR");
        image[0x44..0x46].copy_from_slice(&vendor.to_le_bytes());
        image[0x46..0x48].copy_from_slice(&device.to_le_bytes());
        image[0x50] = 2;
        image[0x54] = code_type;
        image[0x55] = if last { 0x80 } else { 0 };
        image[6] = 0_u8.wrapping_sub(sum(&image));
        image
    }

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    #[test]
    fn images_of_the_vendor_get_the_device_id_and_a_right_checksum() {
        let foreign = image(0x10de, 0x1111, 0, false);
        let legacy = image(0x1002, 0x1111, 0, false);
        let efi = image(0x1002, 0x1111, 3, true);
        let mut rom = [foreign.clone(), legacy, efi].concat();
        repair(&mut rom, 0x1002, 0x2222);
        assert_eq!(rom[..1024], foreign);
        assert_eq!(rom[1024 + 0x46..1024 + 0x48], 0x2222_u16.to_le_bytes());
        assert_eq!(sum(&rom[1024..2048]), 0);
        assert_eq!(rom[2048 + 0x46..2048 + 0x48], 0x2222_u16.to_le_bytes());
    }

    #[test]
    fn what_is_no_image_stays_as_it_is() {
        let good = image(0x1002, 0x1111, 0, false);
        let unsigned = {
            let mut rom = good.clone();
            rom[0] = 0;
            rom
        };
        let outside = {
            let mut rom = good.clone();
            rom[0x18..0x1a].copy_from_slice(&[0xfe, 0x03]);
            rom
        };
        let no_data = {
            let mut rom = good.clone();
            rom[0x40] = 0;
            rom
        };
        let behind_last = [image(0x10de, 1, 0, true), good.clone()].concat();
        for rom in [vec![], vec![0x55], unsigned, outside, no_data, behind_last, vec![0xff; 4096]] {
            let mut repaired = rom.clone();
            repair(&mut repaired, 0x1002, 0x2222);
            assert_eq!(repaired, rom);
        }
    }

    #[test]
    fn lengths_that_lie_do_not_lead_outside() {
        for length in [[0, 0], [0xff, 0xff], [3, 0]] {
            let mut rom = image(0x1002, 0x1111, 0, false);
            rom[0x50..0x52].copy_from_slice(&length);
            repair(&mut rom, 0x1002, 0x2222);
            assert_eq!(rom[0x46..0x48], 0x2222_u16.to_le_bytes());
        }
    }
}
