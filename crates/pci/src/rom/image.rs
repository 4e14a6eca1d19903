//! One image of an option ROM: its header, its PCI data structure, and for EFI its second header.

use super::{ChainFault, UNIT};

/// What an image's code is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeType {
    /// Programs for a PC's BIOS.
    X86,
    /// Open Firmware.
    OpenFirmware,
    /// HP's PA-RISC.
    PaRisc,
    /// EFI drivers.
    Efi,
    /// Something newer, by its number.
    Other(u8),
}

impl From<u8> for CodeType {
    fn from(value: u8) -> Self {
        match value {
            0 => Self::X86,
            1 => Self::OpenFirmware,
            2 => Self::PaRisc,
            3 => Self::Efi,
            other => Self::Other(other),
        }
    }
}

impl std::fmt::Display for CodeType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::X86 => f.write_str("x86 BIOS"),
            Self::OpenFirmware => f.write_str("Open Firmware"),
            Self::PaRisc => f.write_str("PA-RISC"),
            Self::Efi => f.write_str("EFI"),
            Self::Other(number) => write!(f, "type {number:#x}"),
        }
    }
}

/// What an EFI image says of its driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EfiHeader {
    /// The processor it is for, as in PE files.
    pub machine: u16,
    /// The kind of program: 11 is a boot-service driver, 12 a runtime driver.
    pub subsystem: u16,
    /// Whether the driver is compressed.
    pub compressed: bool,
}

impl EfiHeader {
    /// The machine type of x86-64.
    pub const X86_64: u16 = 0x8664;
}

/// One image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Where it starts in the ROM.
    pub start: usize,
    /// Where its PCI data structure starts in the ROM.
    pub data: usize,
    /// Its length as it says, in bytes; the ROM may end before.
    pub length: usize,
    /// Whether the ROM ends before the image does.
    pub truncated: bool,
    /// What its code is for.
    pub code_type: CodeType,
    /// The vendor it is for.
    pub vendor: u16,
    /// The device it is for.
    pub device: u16,
    /// Further devices it is for.
    pub devices: Vec<u16>,
    /// The class it is for.
    pub class: u32,
    /// The vendor's revision of the code.
    pub revision: u16,
    /// Whether the bytes sum up to zero; only x86 images have to.
    pub checksum: Option<bool>,
    /// What an EFI image says of its driver.
    pub efi: Option<EfiHeader>,
    /// Whether it says that it is the last.
    pub last: bool,
}

const SIGNATURE: [u8; 2] = [0x55, 0xaa];
/// Length in the header, of an x86 image.
const HEADER_LENGTH: usize = 2;
/// A byte of the header that means nothing to anybody and is there to make the sum right.
const CHECKSUM: usize = 6;
const DATA_POINTER: usize = 0x18;

// The PCI data structure.
const DATA_SIGNATURE: &[u8] = b"PCIR";
const DATA_VENDOR: usize = 4;
const DATA_DEVICE: usize = 6;
const DATA_DEVICE_LIST: usize = 8;
const DATA_REVISION: usize = 0xc;
const DATA_CLASS: usize = 0xd;
const DATA_LENGTH: usize = 0x10;
const DATA_CODE_REVISION: usize = 0x12;
const DATA_CODE_TYPE: usize = 0x14;
const DATA_INDICATOR: usize = 0x15;
const LAST_IMAGE: u8 = 0x80;
/// From this revision of the structure on, the pointer at 8 is to a list of devices; before, to vital product data.
const DEVICE_LIST_REVISION: u8 = 3;
/// Devices in a list at most.
const MOST_DEVICES: usize = 256;

// The header of EFI images.
const EFI_SIGNATURE: u32 = 0x0ef1;
const EFI_SIGNATURE_AT: usize = 4;
const EFI_SUBSYSTEM: usize = 8;
const EFI_MACHINE: usize = 0xa;
const EFI_COMPRESSION: usize = 0xc;

impl Image {
    /// Reads the image at `start` of `rom`.
    pub(super) fn at(rom: &[u8], start: usize) -> Result<Self, ChainFault> {
        let bytes = rom.get(start..).unwrap_or_default();
        if bytes.get(..SIGNATURE.len()) != Some(&SIGNATURE) {
            return Err(ChainFault::NoSignature);
        }
        let data_at = u16_at(bytes, DATA_POINTER).map(usize::from).ok_or(ChainFault::NoData)?;
        let data = bytes.get(data_at..).filter(|data| data.starts_with(DATA_SIGNATURE));
        let data = data.filter(|data| data.len() > DATA_INDICATOR).ok_or(ChainFault::NoData)?;
        let byte = |at: usize| data.get(at).copied().unwrap_or(0);
        let word = |at: usize| u16_at(data, at).unwrap_or(0);
        let length = usize::from(word(DATA_LENGTH)) * UNIT;
        if length == 0 {
            return Err(ChainFault::NoLength);
        }
        let code_type = CodeType::from(byte(DATA_CODE_TYPE));
        let whole = bytes.get(..length);
        Ok(Self {
            start,
            data: start + data_at,
            length,
            truncated: whole.is_none(),
            code_type,
            vendor: word(DATA_VENDOR),
            device: word(DATA_DEVICE),
            devices: device_list(data, byte(DATA_REVISION)),
            class: u32::from(word(DATA_CLASS)) | u32::from(byte(DATA_CLASS + 2)) << 16,
            revision: word(DATA_CODE_REVISION),
            checksum: (code_type == CodeType::X86).then(|| checksum(bytes)),
            efi: if code_type == CodeType::Efi { efi(bytes) } else { None },
            last: byte(DATA_INDICATOR) & LAST_IMAGE != 0,
        })
    }

    /// Whether it is for this device.
    pub fn is_for(&self, vendor: u16, device: u16) -> bool {
        self.vendor == vendor && (self.device == device || self.devices.contains(&device))
    }
}

/// Writes `device` into the data structure of `image`, and makes the sum of an x86 image right.
pub(super) fn rename(rom: &mut [u8], image: &Image, device: u16) {
    let at = image.data + DATA_DEVICE;
    if let Some(place) = rom.get_mut(at..at + 2) {
        place.copy_from_slice(&device.to_le_bytes());
    }
    let Some(bytes) = rom.get_mut(image.start..) else { return };
    let sum = counted(bytes).map(sum);
    if let (CodeType::X86, Some(sum), Some(byte)) = (image.code_type, sum, bytes.get_mut(CHECKSUM)) {
        *byte = byte.wrapping_sub(sum);
    }
}

/// Whether the bytes that the header counts sum up to zero; those that are missing do not.
fn checksum(bytes: &[u8]) -> bool {
    counted(bytes).is_some_and(|counted| sum(counted) == 0)
}

/// The bytes that the header counts, when they are all there.
fn counted(bytes: &[u8]) -> Option<&[u8]> {
    let units = bytes.get(HEADER_LENGTH).copied().map_or(0, usize::from);
    bytes.get(..units * UNIT).filter(|counted| !counted.is_empty())
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

fn device_list(data: &[u8], revision: u8) -> Vec<u16> {
    let start = u16_at(data, DATA_DEVICE_LIST).map(usize::from);
    let Some(start) = start.filter(|start| *start != 0 && revision >= DEVICE_LIST_REVISION) else {
        return Vec::new();
    };
    let ids = (0..MOST_DEVICES).map_while(|index| u16_at(data, start + 2 * index));
    ids.take_while(|id| *id != 0).collect()
}

fn efi(bytes: &[u8]) -> Option<EfiHeader> {
    let word = |at| u16_at(bytes, at);
    let signature = u32::from(word(EFI_SIGNATURE_AT)?) | u32::from(word(EFI_SIGNATURE_AT + 2)?) << 16;
    if signature != EFI_SIGNATURE {
        return None;
    }
    Some(EfiHeader {
        machine: word(EFI_MACHINE)?,
        subsystem: word(EFI_SUBSYSTEM)?,
        compressed: word(EFI_COMPRESSION)? != 0,
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let field = bytes.get(at..)?.first_chunk::<2>()?;
    Some(u16::from_le_bytes(*field))
}
