//! What is wrong with an option ROM, in the words of somebody who wants a card to show a picture.

use std::fmt;

use super::{ChainFault, CodeType, Rom};

/// Something wrong with a ROM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RomFault {
    /// There is no byte.
    Empty,
    /// All bytes are ones: nobody answers, the ROM is switched off or has no chip.
    AllOnes,
    /// All bytes are zeros.
    AllZeros,
    /// It does not begin with an image.
    NotARom,
    /// The chain of images breaks.
    Chain {
        /// The image's number, from 0.
        number: usize,
        /// How.
        why: ChainFault,
    },
    /// An image is longer than the ROM.
    Truncated {
        /// The image's number, from 0.
        number: usize,
        /// Bytes that are missing.
        missing: usize,
    },
    /// An x86 image does not sum up to zero: it was changed since it was made, as one that has run has changed itself.
    Checksum {
        /// The image's number, from 0.
        number: usize,
    },
    /// No image is for the card.
    Foreign {
        /// The vendor of the first image.
        vendor: u16,
        /// The device of the first image.
        device: u16,
    },
    /// An EFI image has no header of that kind, or is for another processor.
    Efi {
        /// The image's number, from 0.
        number: usize,
    },
}

impl RomFault {
    /// Whether the ROM says something of itself that is not so, and firmware that believes it runs what is not there, walks
    /// in a circle or runs nothing.
    ///
    /// What is only missing is no lie. A last image that does not say that it is the last is one neither: there are such
    /// cards, and the kernel ends their ROM there (`drivers/pci/rom.c`, pci_get_rom_size). Nor is a wrong sum: what has run
    /// has changed itself, and the kernel shows such a copy of the boot display's ROM.
    pub fn is_lie(self) -> bool {
        match self {
            Self::Truncated { .. } | Self::Foreign { .. } => true,
            Self::Chain { number: 0, why } => why != ChainFault::NoSignature,
            Self::Chain { why, .. } => !matches!(why, ChainFault::NoSignature | ChainFault::End),
            Self::Empty | Self::AllOnes | Self::AllZeros | Self::NotARom => false,
            Self::Checksum { .. } | Self::Efi { .. } => false,
        }
    }
}

impl fmt::Display for RomFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Empty => f.write_str("it has no byte"),
            Self::AllOnes => {
                f.write_str("all of it reads as ones: the card shows no ROM; use a file of it instead")
            }
            Self::AllZeros => {
                f.write_str("all of it reads as zeros: the card shows no ROM; use a file of it instead")
            }
            Self::NotARom => f.write_str(
                "it does not begin with 55 AA, as option ROMs do; a file from a vendor may have its own header in front",
            ),
            Self::Chain { number, why } => {
                write!(f, "the chain of images breaks at number {number}: ")?;
                f.write_str(match why {
                    ChainFault::End => "the ROM ends, and the image before is not marked as the last",
                    ChainFault::NoSignature => "what is there is no image",
                    ChainFault::NoData => "the image has no PCI data structure",
                    ChainFault::NoLength => "the image says that it has no bytes",
                    ChainFault::TooMany => "there are more images than any ROM has",
                })
            }
            Self::Truncated { number, missing } => {
                write!(f, "image {number} lacks its last {missing} bytes: the ROM or the file is cut short")
            }
            Self::Checksum { number } => write!(
                f,
                "image {number} does not sum up to zero: it is damaged, or it has run and has changed itself; read it before it runs, or use a file"
            ),
            Self::Foreign { vendor, device } => {
                write!(f, "it is for another card: its first image names {vendor:04x}:{device:04x}")
            }
            Self::Efi { number } => {
                write!(f, "image {number} is marked as EFI and has no driver for this processor")
            }
        }
    }
}

/// Lists what is wrong with `bytes` as the ROM of a card with these ids, if they are given.
pub fn judge(bytes: &[u8], card: Option<(u16, u16)>) -> Vec<RomFault> {
    let all = |value| bytes.iter().all(|byte| *byte == value);
    if bytes.is_empty() {
        return vec![RomFault::Empty];
    }
    if all(0xff) {
        return vec![RomFault::AllOnes];
    }
    if all(0) {
        return vec![RomFault::AllZeros];
    }
    let rom = Rom::parse(bytes);
    let Some(first) = rom.images.first() else {
        let why = rom.broken.map_or(ChainFault::NoSignature, |broken| broken.why);
        return vec![match why {
            ChainFault::NoSignature => RomFault::NotARom,
            why => RomFault::Chain { number: 0, why },
        }];
    };
    let mut faults = Vec::new();
    for (number, image) in rom.images.iter().enumerate() {
        if image.truncated {
            let missing = rom_end(image.start, image.length).saturating_sub(bytes.len());
            faults.push(RomFault::Truncated { number, missing });
        } else if image.checksum == Some(false) {
            faults.push(RomFault::Checksum { number });
        }
        if image.code_type == CodeType::Efi && image.efi.is_none() {
            faults.push(RomFault::Efi { number });
        }
    }
    // A chain that ends with a cut image is told of once.
    let cut = rom.images.last().is_some_and(|image| image.truncated);
    if let (Some(broken), false) = (rom.broken, cut) {
        faults.push(RomFault::Chain { number: rom.images.len(), why: broken.why });
    }
    if let Some((vendor, device)) = card
        && !rom.images.iter().any(|image| image.is_for(vendor, device))
    {
        faults.push(RomFault::Foreign { vendor: first.vendor, device: first.device });
    }
    faults
}

fn rom_end(start: usize, length: usize) -> usize {
    start.saturating_add(length)
}
