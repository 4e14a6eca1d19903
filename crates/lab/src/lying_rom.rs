//! Option ROMs that lie, or are none.
//!
//! A [card](crate::profile::Card) may be given one, so that scenarios see what becomes of machines with such a card.

use serde::{Deserialize, Serialize};

/// What is wrong with the ROM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LyingRom {
    /// Its only image says that it is twice as long as the ROM.
    Cut,
    /// Its first image says that it has no bytes, so who looks for the next one is where he was.
    Endless,
    /// All of it is ones.
    Ones,
}

/// Bytes of the ROM, the fewest that a BAR can show (PCI Local Bus 3.0, section 6.2.5.2).
const LEN: usize = 2 << 10;
/// Where the data structure of the image stands, and what points to it (PCI Firmware 3.3, section 5.1).
const DATA: usize = 0x1c;
const POINTER: usize = 0x18;

impl LyingRom {
    /// Makes the ROM. It is for QEMU's test device, and marked as one for EFI, so that no BIOS on the way tries to run it.
    pub fn bytes(self) -> Vec<u8> {
        match self {
            Self::Cut => image(2 * LEN / 512),
            Self::Endless => image(0),
            Self::Ones => vec![0xff; LEN],
        }
    }
}

/// An image that says that it has as many blocks of 512 bytes.
fn image(blocks: usize) -> Vec<u8> {
    let mut rom = vec![0; LEN];
    // Vendor, device, no list of devices, and the structure's own length; lengths of images count in 512 bytes.
    let mut data = b"PCIR\x36\x1b\x05\x00\x00\x00\x18\x00\x03\x00\x00\xff".to_vec();
    data.extend(blocks.to_le_bytes().iter().take(2));
    // Revision of the code; EFI; the last image, which ends the walk of the BIOS that starts the host.
    data.extend([0, 0, 3, 0x80]);
    let parts: [(usize, &[u8]); 3] = [(0, &[0x55, 0xaa]), (POINTER, &[DATA as u8, 0]), (DATA, &data)];
    for (at, part) in parts {
        rom.iter_mut().skip(at).zip(part).for_each(|(place, byte)| *place = *byte);
    }
    rom
}
