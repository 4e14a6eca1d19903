//! A file that takes the place of a card's option ROM: opened, and judged before a guest's firmware believes it.
//!
//! Not here: what is in a ROM (`pci::rom`), and whom it is for: an id that differs is mended when the guest is shown it.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

use linux::vfio::MAX_ROM_BYTES;
use pci::rom::{Rom, RomFault, judge};
use rustix::io::Errno;
use spec::seat_file::FirmwareKind;

/// An open file.
#[derive(Debug)]
pub(crate) struct RomFile {
    /// The file, at its beginning.
    pub(crate) file: File,
    x86: bool,
    efi: bool,
}

/// A file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RomFileUnfit {
    /// It cannot be opened or read.
    #[error("open the option ROM {}: {errno}; name a file that is there, or leave `rom` out", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        errno: Errno,
    },
    /// Firmware that believes it runs what is not there, or walks in a circle.
    #[error("the option ROM {} is not what it says: {fault}; use another file (`allod rom show {}` tells what is in one), or `rom = \"none\"`", path.display(), path.display())]
    Lies {
        /// Which.
        path: PathBuf,
        /// What it says that is not so.
        fault: RomFault,
    },
    /// It holds no image at all: whoever names such a file has taken another for it, or has read a card that shows none.
    #[error("{} is no option ROM: {}; use another file (`allod rom check {}` judges one), or `rom = \"none\"`", path.display(), contents(*fault), path.display())]
    NoRom {
        /// Which.
        path: PathBuf,
        /// What is there instead.
        fault: RomFault,
    },
}

fn contents(fault: RomFault) -> String {
    match fault {
        RomFault::AllOnes => "all of it is ones, as what is read of a card that shows none".to_owned(),
        RomFault::AllZeros => "all of it is zeros".to_owned(),
        other => other.to_string(),
    }
}

/// Opens the file at `path`; one that `firmware` is going to look at must be a ROM and not lie.
pub(crate) fn open(path: &Path, firmware: bool) -> Result<RomFile, RomFileUnfit> {
    let read = || {
        let mut file = File::open(path)?;
        let mut bytes = Vec::new();
        (&mut file).take(MAX_ROM_BYTES).read_to_end(&mut bytes)?;
        // The machine reads it again, from where this leaves it.
        file.rewind()?;
        Ok::<_, std::io::Error>((file, bytes))
    };
    let (file, bytes) = read().map_err(|error| RomFileUnfit::Open {
        path: path.to_owned(),
        errno: error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error),
    })?;
    let rom = Rom::parse(&bytes);
    let faults = judge(&bytes, None);
    match (faults.iter().find(|fault| fault.is_lie()), faults.first()) {
        (Some(&fault), _) if firmware => Err(RomFileUnfit::Lies { path: path.to_owned(), fault }),
        (None, Some(&fault)) if firmware && rom.images.is_empty() => {
            Err(RomFileUnfit::NoRom { path: path.to_owned(), fault })
        }
        _ => Ok(RomFile { file, x86: rom.has_x86(), efi: rom.has_efi() }),
    }
}

impl RomFile {
    /// Whether there is something in it that firmware of this kind runs.
    pub(crate) fn has(&self, kind: FirmwareKind) -> bool {
        match kind {
            FirmwareKind::Bios => self.x86,
            FirmwareKind::Uefi => self.efi,
        }
    }
}

/// Says what firmware of a `kind` misses in the file, if it is one that can be used at all.
pub fn lacks(path: &Path, kind: FirmwareKind) -> Option<String> {
    open(path, true).ok().filter(|rom| !rom.has(kind))?;
    let name = match kind {
        FirmwareKind::Bios => "a BIOS",
        FirmwareKind::Uefi => "UEFI",
    };
    Some(format!("the option ROM {} has no image for {name}", path.display()))
}

#[cfg(test)]
mod tests {
    use spec::seat_file::FirmwareKind;

    use super::{lacks, open};

    /// A ROM of one image of 512 bytes and this code type (PCI Firmware 3.0, section 5.1); an EFI one is for x86-64.
    fn rom(code_type: u8) -> Vec<u8> {
        let mut bytes = vec![0; 512];
        bytes[..3].copy_from_slice(&[0x55, 0xaa, 1]);
        bytes[0x18] = 0x1c;
        bytes[0x1c..0x24].copy_from_slice(b"PCIR\x13\x10\xb8\x00");
        (bytes[0x26], bytes[0x2c], bytes[0x30], bytes[0x31]) = (0x18, 1, code_type, 0x80);
        if code_type == 3 {
            // 0EF1h, a boot service driver for machine 8664h (UEFI 2.10, section 14.4.2).
            bytes[4..8].copy_from_slice(&0x0ef1_u32.to_le_bytes());
            bytes[8..10].copy_from_slice(&11_u16.to_le_bytes());
            bytes[10..12].copy_from_slice(&0x8664_u16.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn a_file_that_lies_or_is_no_rom_is_refused_to_firmware_and_what_it_lacks_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("card.rom");
        let with = |at: usize, byte: u8| {
            let mut bytes = rom(0);
            bytes[at] = byte;
            bytes
        };
        let (bios, uefi) = (FirmwareKind::Bios, FirmwareKind::Uefi);
        for (bytes, lie, kind, lack) in [
            (rom(0), None, bios, None),
            (rom(0), None, uefi, Some("no image for UEFI")),
            (rom(3), None, uefi, None),
            (rom(3), None, bios, Some("no image for a BIOS")),
            // What is no ROM.
            (b"a card's ROM".to_vec(), Some("is no option ROM: it does not begin with 55 AA"), uefi, None),
            (vec![0xff; 1 << 16], Some("is no option ROM: all of it is ones"), bios, None),
            (vec![0; 1 << 16], Some("is no option ROM: all of it is zeros"), uefi, None),
            (Vec::new(), Some("is no option ROM: it has no byte"), bios, None),
            // What SeaBIOS would walk over for ever, and what ends before it says that it does.
            (with(0x2c, 0), Some("says that it has no bytes"), bios, None),
            (with(0x2c, 2), Some("lacks its last 512 bytes"), bios, None),
            (with(0x31, 0).repeat(40), Some("more images than any ROM has"), bios, None),
        ] {
            std::fs::write(&path, &bytes).unwrap();
            assert!(open(&path, false).is_ok(), "a kernel does not care");
            let refused = open(&path, true).err().map(|error| error.to_string());
            match (refused, lie) {
                (None, None) => {}
                (Some(told), Some(lie)) => {
                    assert!(told.contains(lie) && told.contains("`allod rom "), "{told}")
                }
                (told, lie) => panic!("{told:?}, not {lie:?}"),
            }
            let told = lacks(&path, kind);
            assert_eq!(told.is_some(), lack.is_some(), "{told:?}");
            assert!(told.unwrap_or_default().contains(lack.unwrap_or_default()));
        }
    }
}
