//! Option ROMs: the images in one, what each is for, what is wrong with it, and the one thing that can be mended.
//!
//! Takes any bytes: a card's ROM, a file, noise. Bounded by [`MOST_IMAGES`] and by the bytes given. Not here: reading one
//! from a card, and running it. Sources: PCI Firmware Specification 3.3, section 5.1; UEFI 2.10, section 14.4.2.

mod image;
mod judge;

pub use image::{CodeType, EfiHeader, Image};
pub use judge::{RomFault, judge};

/// Images in one ROM at most; real ones have up to five.
pub const MOST_IMAGES: usize = 32;

/// Image lengths count in these many bytes.
pub(crate) const UNIT: usize = 512;

/// An option ROM, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rom {
    /// Its images, in order.
    pub images: Vec<Image>,
    /// Bytes that the images take, from the first.
    pub used: usize,
    /// Where the chain of images is broken, if it is.
    pub broken: Option<BrokenChain>,
}

/// A chain of images that does not end with one that says that it is the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenChain {
    /// Where the next image should be.
    pub at: usize,
    /// What is there instead.
    pub why: ChainFault,
}

/// What is in an image's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainFault {
    /// The ROM ends.
    End,
    /// Bytes that are no image: no 55 AA.
    NoSignature,
    /// An image without its data structure: no PCIR where the header points.
    NoData,
    /// An image that says that it has no bytes, and so would come again and again.
    NoLength,
    /// Another image, after more of them than any ROM has.
    TooMany,
}

impl Rom {
    /// Takes `bytes` apart.
    pub fn parse(bytes: &[u8]) -> Self {
        let mut rom = Self::default();
        for _ in 0..MOST_IMAGES {
            let at = rom.used;
            let broken = |why| Some(BrokenChain { at, why });
            if at >= bytes.len() {
                rom.broken = broken(ChainFault::End);
                return rom;
            }
            let image = match Image::at(bytes, at) {
                Ok(image) => image,
                Err(why) => {
                    rom.broken = broken(why);
                    return rom;
                }
            };
            rom.used = at.saturating_add(image.length);
            let last = image.last;
            rom.images.push(image);
            if last {
                return rom;
            }
        }
        rom.broken = Some(BrokenChain { at: rom.used, why: ChainFault::TooMany });
        rom
    }

    /// Whether firmware of the old kind finds something to run in it.
    pub fn has_x86(&self) -> bool {
        self.images.iter().any(|image| image.code_type == CodeType::X86)
    }

    /// Whether UEFI firmware finds a driver for this processor in it.
    pub fn has_efi(&self) -> bool {
        self.images.iter().any(|image| image.efi.is_some_and(|efi| efi.machine == EfiHeader::X86_64))
    }
}

/// Gives the images that name `vendor` and are not for `device` its id: some cards of a family share a ROM, and firmware
/// runs none that names another device (QEMU does the same, `vfio_pci_load_rom`).
pub fn repair(bytes: &mut [u8], vendor: u16, device: u16) {
    for image in Rom::parse(bytes).images {
        if image.vendor == vendor && !image.is_for(vendor, device) {
            image::rename(bytes, &image, device);
        }
    }
}

#[cfg(test)]
mod tests;
