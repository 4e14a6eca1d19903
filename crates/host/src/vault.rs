//! Clean option ROMs, kept for the cards they are for.
//!
//! The host's firmware runs the ROM of its boot display and leaves the copy changed, and that copy is all that the kernel
//! shows from then on: a guest needs a clean one. Kept are whole ROMs without a fault, a file for each kind of card, named
//! by the card's ids. Not here: reading a card (`rom`), and who gets one (the planner).

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use pci::rom::{Rom, judge, repair};
use spec::inventory::{DeviceIdentity, HostInventory, KeptRom, PciId};
use spec::{CardIds, KeptRomReport};

use crate::rom::{self, ROM_LIMIT};

/// ROMs that are listed at most.
const MOST_FILES: usize = 1024;
const SUFFIX: &str = ".rom";

/// The folder of kept ROMs.
#[derive(Clone, Debug)]
pub struct Vault {
    folder: PathBuf,
}

/// A ROM is not kept.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// It would not serve.
    #[error("this ROM is not kept, because a guest could not use it:\n{}", .0.iter().map(|fault| format!("  - {fault}")).collect::<Vec<_>>().join("\n"))]
    Unfit(Vec<String>),
    /// A file cannot be had.
    #[error("{what} {}: {error}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        error: std::io::Error,
    },
}

impl Vault {
    /// The vault below the state directory.
    pub fn of(state: &Path) -> Self {
        Self { folder: state.join("roms") }
    }

    /// Keeps the ROM `bytes` for the card `of`, with its device id mended; what is behind the images is left out.
    ///
    /// # Errors
    /// All that is wrong with it, or what the kernel says.
    pub fn keep(&self, of: &DeviceIdentity, bytes: &[u8]) -> Result<PathBuf, VaultError> {
        let bytes = fit(of, bytes).map_err(VaultError::Unfit)?;
        let failed = |what, path: &Path| {
            let path = path.to_owned();
            move |error| VaultError::File { what, path, error }
        };
        fs::create_dir_all(&self.folder).map_err(failed("make the folder", &self.folder))?;
        let path = self.path(of);
        let beside = path.with_extension("new");
        let mut file = File::create(&beside).map_err(failed("make", &beside))?;
        file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(failed("write", &beside))?;
        fs::rename(&beside, &path).map_err(failed("move into place", &path))?;
        // Over a power cut the old name is as good as the new one.
        let _ = File::open(&self.folder).and_then(|folder| folder.sync_all());
        Ok(path)
    }

    /// The ROM that is kept for a card.
    pub fn find(&self, of: &DeviceIdentity) -> Option<(PathBuf, Vec<u8>)> {
        let path = self.path(of);
        let bytes = read(&path).ok()?;
        Some((path, bytes))
    }

    /// Tells each function of `inventory` of the ROM that is kept for it.
    pub fn describe(&self, inventory: &mut HostInventory) {
        for function in &mut inventory.functions {
            function.kept_rom = self.find(&function.identity).map(|(file, bytes)| {
                let rom = Rom::parse(&bytes);
                KeptRom { file, x86: rom.has_x86(), efi: rom.has_efi() }
            });
        }
    }

    /// All that are kept, by name; each with the cards of `inventory` that it is for.
    ///
    /// # Errors
    /// The folder or a file in it cannot be read.
    pub fn list(&self, inventory: &HostInventory) -> Result<Vec<KeptRomReport>, VaultError> {
        let failed = |what, path: &Path, error| VaultError::File { what, path: path.to_owned(), error };
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed("read the folder", &self.folder, error)),
        };
        let mut kept = Vec::new();
        for entry in entries.take(MOST_FILES) {
            let path = entry.map_err(|error| failed("read the folder", &self.folder, error))?.path();
            let Some(card) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(SUFFIX)) else {
                continue;
            };
            let bytes = read(&path).map_err(|error| failed("read", &path, error))?;
            let functions = inventory.functions.iter();
            let addresses = functions.filter(|function| name(&function.identity) == card);
            kept.push(KeptRomReport {
                card: card.to_owned(),
                addresses: addresses.map(|function| function.address).collect(),
                rom: rom::report(&path.display().to_string(), &bytes, None),
            });
        }
        kept.sort_by(|a, b| a.card.cmp(&b.card));
        Ok(kept)
    }

    fn path(&self, of: &DeviceIdentity) -> PathBuf {
        self.folder.join(name(of) + SUFFIX)
    }
}

/// The ROM as it is kept, or all that is wrong with it.
fn fit(of: &DeviceIdentity, bytes: &[u8]) -> Result<Vec<u8>, Vec<String>> {
    let faults = |bytes: &[u8], card| -> Result<(), Vec<String>> {
        let faults: Vec<String> = judge(bytes, card).iter().map(ToString::to_string).collect();
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    };
    // Before it is mended, which makes every sum right.
    faults(bytes, None)?;
    let mut mended = bytes.to_vec();
    repair(&mut mended, of.vendor.0, of.device.0);
    faults(&mended, Some((of.vendor.0, of.device.0)))?;
    mended.truncate(Rom::parse(&mended).used);
    Ok(mended)
}

/// What cards of one kind are called: cards of the same board and chip have the same ROM.
fn name(of: &DeviceIdentity) -> String {
    let id = |id: Option<PciId>| id.map_or("none".to_owned(), |id| format!("{:04x}", id.0));
    format!("{:04x}-{:04x}-{}-{}", of.vendor.0, of.device.0, id(of.subsystem_vendor), id(of.subsystem_device))
}

/// The ids of a card.
pub fn ids(of: &DeviceIdentity) -> CardIds {
    CardIds { vendor: of.vendor.0, device: of.device.0 }
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(ROM_LIMIT as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use spec::inventory::DeviceIdentity;

    use super::{Vault, VaultError};
    use crate::{fixtures, inventory};

    /// An x86 image of 1 KiB for a device, whose bytes sum up to zero.
    fn image(vendor: u16, device: u16) -> Vec<u8> {
        let mut bytes = vec![0; 1024];
        bytes[..3].copy_from_slice(&[0x55, 0xaa, 2]);
        bytes[0x18] = 0x40;
        bytes[0x40..0x44].copy_from_slice(b"PCIR");
        bytes[0x44..0x46].copy_from_slice(&vendor.to_le_bytes());
        bytes[0x46..0x48].copy_from_slice(&device.to_le_bytes());
        bytes[0x50] = 2;
        bytes[0x55] = 0x80;
        let sum = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        bytes[6] = 0_u8.wrapping_sub(sum);
        bytes
    }

    fn card() -> (spec::inventory::HostInventory, DeviceIdentity) {
        let inventory = inventory::read(&fixtures::desktop_with_two_gpus());
        let card = inventory.functions.iter().find(|function| function.class.is_vga()).unwrap();
        let identity = card.identity.clone();
        (inventory, identity)
    }

    #[test]
    fn what_is_kept_is_found_by_cards_of_the_same_kind_only() {
        let folder = tempfile::tempdir().unwrap();
        let vault = Vault::of(folder.path());
        let (mut inventory, of) = card();
        assert!(vault.list(&inventory).unwrap().is_empty() && vault.find(&of).is_none());
        let clean = image(of.vendor.0, of.device.0);
        // What is behind the last image is not the ROM's.
        let path = vault.keep(&of, &[clean.clone(), vec![0xff; 64]].concat()).unwrap();
        assert_eq!(vault.find(&of), Some((path.clone(), clean)));
        vault.describe(&mut inventory);
        let kept: Vec<_> =
            inventory.functions.iter().filter(|function| function.kept_rom.is_some()).collect();
        assert!(kept.iter().all(|function| function.identity.device == of.device) && !kept.is_empty());
        let rom = kept[0].kept_rom.clone().unwrap();
        assert_eq!((rom.file, rom.x86, rom.efi), (path, true, false));
        let listed = vault.list(&inventory).unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].addresses, kept.iter().map(|function| function.address).collect::<Vec<_>>());
    }

    #[test]
    fn the_rom_of_a_sister_is_mended_and_what_a_guest_could_not_use_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let vault = Vault::of(folder.path());
        let (_, of) = card();
        let clean = image(of.vendor.0, of.device.0);
        vault.keep(&of, &image(of.vendor.0, !of.device.0)).unwrap();
        assert_eq!(vault.find(&of).map(|(_, bytes)| bytes), Some(clean.clone()));
        let ran = {
            let mut ran = clean.clone();
            ran[0x300] ^= 1;
            ran
        };
        // Mending it would make its sum right.
        let sister_ran = {
            let mut ran = image(of.vendor.0, !of.device.0);
            ran[0x300] ^= 1;
            ran
        };
        for (bytes, words) in [
            (sister_ran, "has run and has changed itself"),
            (vec![], "no byte"),
            (vec![0xff; 1024], "reads as ones"),
            (ran, "has run and has changed itself"),
            (clean[..1000].to_vec(), "cut short"),
            (image(0x1234, 1), "another card"),
        ] {
            let refused = vault.keep(&of, &bytes).unwrap_err();
            assert!(
                matches!(&refused, VaultError::Unfit(faults) if faults.iter().any(|fault| fault.contains(words))),
                "{words}: {refused}"
            );
        }
        // What was there is still there.
        assert_eq!(vault.find(&of).map(|(_, bytes)| bytes), Some(clean));
    }
}
