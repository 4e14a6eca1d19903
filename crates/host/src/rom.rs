//! The option ROM of a card of this host, or a file of one: read, taken apart, judged.
//!
//! Reading a card's ROM through sysfs switches its decoding on for a moment; nothing else of the host is changed. Not
//! here: what is wrong with which bytes (`pci::rom`).

use linux::sysfs::{Tree, TreeError};
use pci::rom::{Image, Rom, judge};
use spec::{CardIds, PciAddress, RomImage, RomReport};

/// The largest ROM that a card can have: 24 address bits (PCI Local Bus 3.0, section 6.2.5.2).
pub const ROM_LIMIT: usize = 16 << 20;

/// A card's ROM cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RomUnreadable {
    /// There is no such card.
    #[error("there is no device {0} on this host; `allod devices --all` lists them")]
    NoCard(PciAddress),
    /// The card has no ROM that the kernel shows.
    #[error(
        "the device {0} shows no option ROM: it has none, or the host's firmware gave it no place; a file of it from the vendor serves instead"
    )]
    NoRom(PciAddress),
    /// Only root may.
    #[error("the option ROM of {0} can be read by root only; use sudo")]
    Denied(PciAddress),
    /// The kernel does not give it.
    #[error(
        "read the option ROM of {address}: {errno}; the card may be asleep or hold its ROM back while a driver uses it"
    )]
    Failed {
        /// The card.
        address: PciAddress,
        /// What the kernel said.
        errno: String,
    },
}

/// Reads the ROM of the card at `address` and the ids that it must be for.
///
/// # Errors
/// Why there is nothing to be had.
pub fn read(tree: &dyn Tree, address: PciAddress) -> Result<(Vec<u8>, CardIds), RomUnreadable> {
    let folder = format!("/sys/bus/pci/devices/{address}");
    let id = |name: &str| {
        let text = tree.text(&format!("{folder}/{name}")).ok()?;
        u16::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok()
    };
    let (Some(vendor), Some(device)) = (id("vendor"), id("device")) else {
        return Err(RomUnreadable::NoCard(address));
    };
    let path = format!("{folder}/rom");
    if !tree.exists(&path) {
        return Err(RomUnreadable::NoRom(address));
    }
    let failed = |error: TreeError| match error.errno.0 {
        EACCES | EPERM => RomUnreadable::Denied(address),
        _ => RomUnreadable::Failed { address, errno: error.errno.to_string() },
    };
    tree.write(&path, b"1").map_err(failed)?;
    let bytes = tree.read(&path, ROM_LIMIT);
    // It was off before; that it stays on, if this fails, does no harm but to cards that share the decoder.
    let _ = tree.write(&path, b"0");
    Ok((bytes.map_err(failed)?, CardIds { vendor, device }))
}

const EPERM: i32 = 1;
const EACCES: i32 = 13;

/// Takes `bytes` apart; `source` is what they are called, `card` whom they were read from.
pub fn report(source: &str, bytes: &[u8], card: Option<CardIds>) -> RomReport {
    let rom = Rom::parse(bytes);
    let faults = judge(bytes, card.map(|card| (card.vendor, card.device)));
    RomReport {
        source: source.to_owned(),
        bytes: bytes.len() as u64,
        card,
        images: rom.images.iter().map(|image| described(image, bytes)).collect(),
        faults: faults.iter().map(ToString::to_string).collect(),
    }
}

fn described(image: &Image, rom: &[u8]) -> RomImage {
    let end = image.start.saturating_add(image.length.min(TEXT_AREA)).min(rom.len());
    RomImage {
        offset: image.start as u64,
        length: image.length as u64,
        code: image.code_type.to_string(),
        ids: CardIds { vendor: image.vendor, device: image.device },
        devices: image.devices.clone(),
        class: image.class,
        revision: image.revision,
        checksum: image.checksum,
        efi_machine: image.efi.map(|efi| efi.machine),
        // A compressed EFI driver has no text, only letters by chance.
        texts: if image.efi.is_some() {
            Vec::new()
        } else {
            texts(rom.get(image.start..end).unwrap_or_default())
        },
    }
}

/// Vendors write names and versions near the beginning.
const TEXT_AREA: usize = 4096;
/// Shorter ones are code that looks like letters.
const SHORTEST_TEXT: usize = 12;
const MOST_TEXTS: usize = 8;

fn texts(bytes: &[u8]) -> Vec<String> {
    let runs = bytes.split(|byte| !byte.is_ascii_graphic() && *byte != b' ');
    let texts = runs.map(|run| String::from_utf8_lossy(run).trim().to_owned());
    texts.filter(|text| text.len() >= SHORTEST_TEXT).take(MOST_TEXTS).collect()
}

#[cfg(test)]
mod tests {
    use super::{report, texts};

    #[test]
    fn names_and_versions_are_found_and_short_runs_are_not() {
        let bytes =
            b"\x55\xaa\x80short\0 761295520\0(C) 1988-2020, Maker Inc.\r\nVERSION 020.001.000\xff\xff";
        assert_eq!(texts(bytes), ["(C) 1988-2020, Maker Inc.", "VERSION 020.001.000"]);
    }

    #[test]
    fn what_is_no_rom_is_reported_with_its_fault() {
        let found = report("file", &[0xff; 1024], None);
        assert_eq!((found.bytes, found.images.len(), found.faults.len()), (1024, 0, 1));
        assert!(found.faults[0].contains("ones"), "{found:?}");
    }
}
