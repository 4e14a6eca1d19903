//! What an option ROM is found to be: `allod rom show --json`.

use serde::{Deserialize, Serialize};

use crate::PciAddress;

/// An option ROM, taken apart and judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RomReport {
    /// The card's address, or the file's name.
    pub source: String,
    /// Bytes that were read.
    pub bytes: u64,
    /// The ids of the card that it was read from.
    pub card: Option<CardIds>,
    /// Its images, in order.
    pub images: Vec<RomImage>,
    /// What is wrong with it, each a sentence.
    pub faults: Vec<String>,
}

/// A clean option ROM that is kept on this host: `allod rom list --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptRomReport {
    /// The cards it is for, by vendor, device and the ids of the board: `1002-73ff-1da2-e451`.
    pub card: String,
    /// Cards of this host that it is for.
    pub addresses: Vec<PciAddress>,
    /// What is in it.
    pub rom: RomReport,
}

/// Whom a card says that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CardIds {
    /// The vendor's id.
    pub vendor: u16,
    /// The device's id.
    pub device: u16,
}

/// One image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RomImage {
    /// Where it starts, in bytes.
    pub offset: u64,
    /// Its length as it says, in bytes.
    pub length: u64,
    /// What its code is for, for example `x86 BIOS` or `EFI`.
    pub code: String,
    /// The ids that it names first.
    pub ids: CardIds,
    /// Further devices of the vendor that it is for.
    pub devices: Vec<u16>,
    /// The class of device that it is for.
    pub class: u32,
    /// The vendor's revision of the code.
    pub revision: u16,
    /// Whether its bytes sum up to zero; `None` where they need not.
    pub checksum: Option<bool>,
    /// The processor that its EFI driver is for, as PE files number them.
    pub efi_machine: Option<u16>,
    /// Readable text from its beginning, as vendors put their names and versions there.
    pub texts: Vec<String>,
}
