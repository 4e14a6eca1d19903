//! The option ROM of a card of this host, or a file of one: read, taken apart, judged.
//!
//! Reading a card's ROM through sysfs switches its decoding on for a moment; nothing else of the host is changed. Not
//! here: what is wrong with which bytes (`pci::rom`).

use linux::sysfs::{Tree, TreeError};
use linux::vfio::{Access, RomContent, read_rom};
use pci::rom::{Image, Rom, judge};
use spec::inventory::{self, HostInventory, RomImages};
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

/// The ROM of a card as the kernel shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardRom {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The ids that it must be for.
    pub card: CardIds,
    /// Whether it is the copy at 0xC0000 that the host's firmware has run.
    pub shadowed: bool,
}

/// Reads the ROM of the card at `address`: from VFIO while it is bound there, as a card in low power does not answer
/// sysfs, else from sysfs.
///
/// # Errors
/// Why there is nothing to be had.
pub fn read(tree: &dyn Tree, address: PciAddress) -> Result<CardRom, RomUnreadable> {
    let folder = format!("/sys/bus/pci/devices/{address}");
    let id = |name: &str| {
        let text = tree.text(&format!("{folder}/{name}")).ok()?;
        u16::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok()
    };
    let (Some(vendor), Some(device)) = (id("vendor"), id("device")) else {
        return Err(RomUnreadable::NoCard(address));
    };
    let card = CardIds { vendor, device };
    let path = format!("{folder}/rom");
    let shadowed = is_shadowed(tree, &folder);
    let driver = tree.read_link(&format!("{folder}/driver")).unwrap_or_default();
    if driver.ends_with("vfio-pci")
        && let Some(bytes) = read_by_vfio(tree, address)
    {
        return Ok(CardRom { bytes, card, shadowed });
    }
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
    Ok(CardRom { bytes: bytes.map_err(failed)?, card, shadowed })
}

/// Tells each display card of `inventory` whose own ROM can be read in passing whom that is for.
///
/// Read are those that no driver has: a card may answer for its ROM by what it decodes its BARs with (PCI Local Bus 3.0,
/// section 6.2.5.2), and opening one at vfio-pci would take it from a seat that starts. Without the right to read, nothing
/// is told.
pub fn describe(tree: &dyn Tree, inventory: &mut HostInventory) {
    let cards = inventory.functions.iter_mut().filter(|function| {
        let readable = matches!(function.rom, inventory::Rom::Present { .. });
        readable && function.class.is_vga() && function.driver.bound.is_none()
    });
    for card in cards {
        let Ok(CardRom { bytes, shadowed: false, .. }) = read(tree, card.address) else { continue };
        let rom = Rom::parse(&bytes);
        let images = RomImages { x86: rom.has_x86(), efi: rom.has_efi() };
        card.own_rom = (!rom.images.is_empty()).then_some(images);
    }
}

/// Whether what the kernel shows is the boot display's copy: the line of the ROM in `resource` is marked so
/// (`arch/x86/pci/fixup.c`, pci_fixup_video).
fn is_shadowed(tree: &dyn Tree, folder: &str) -> bool {
    let resources = tree.text(&format!("{folder}/resource")).unwrap_or_default();
    let flags = resources.lines().nth(ROM_LINE).and_then(|line| line.split_whitespace().nth(2));
    let flags = flags.and_then(|flags| u64::from_str_radix(flags.trim_start_matches("0x"), 16).ok());
    flags.is_some_and(|flags| flags & ROM_SHADOW != 0)
}

/// The ROM's line, behind those of the six BARs.
const ROM_LINE: usize = 6;
/// `IORESOURCE_ROM_SHADOW` (include/linux/ioport.h).
const ROM_SHADOW: u64 = 1 << 1;

/// Reads it through VFIO; `None` when another process has the function, or it shows none.
fn read_by_vfio(tree: &dyn Tree, address: PciAddress) -> Option<Vec<u8>> {
    let access = Access::open(tree, &[address]).ok()?;
    let device = access.open_device(address).ok()?;
    match read_rom(&device).ok()?.content {
        RomContent::Bytes(bytes) => Some(bytes),
        RomContent::Unreadable => None,
    }
}

/// What is wrong with the ROM that `source` is called, as it was read from a card; `clean` is the one that is kept for it.
pub fn report_of_card(source: &str, rom: &CardRom, clean: Option<&[u8]>) -> RomReport {
    let mut report = report(source, &rom.bytes, Some(rom.card));
    if rom.shadowed {
        let differs =
            clean.map_or("no clean one is kept, so how it was changed is not known".to_owned(), |clean| {
                let bytes = clean.iter().zip(&rom.bytes).filter(|(clean, shown)| clean != shown).count();
                format!("it differs from the clean one that is kept in {bytes} bytes")
            });
        report.faults.insert(
            0,
            format!(
                "it is no ROM but the copy that this host's firmware has run, as the card is the boot display: its start returns early and shows nothing ({differs}); start the host with another boot display and read it then, or keep a file of it: allod rom dump {source} --from FILE"
            ),
        );
    }
    report
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
    use linux::sysfs::FakeTree;

    use spec::CardIds;
    use spec::inventory::{Function, Rom, RomImages};

    use super::{CardRom, describe, is_shadowed, report, report_of_card, texts};
    use crate::fixtures::{self, MadeUpSystem};

    #[test]
    fn names_and_versions_are_found_and_short_runs_are_not() {
        let bytes =
            b"\x55\xaa\x80short\0 761295520\0(C) 1988-2020, Maker Inc.\r\nVERSION 020.001.000\xff\xff";
        assert_eq!(texts(bytes), ["(C) 1988-2020, Maker Inc.", "VERSION 020.001.000"]);
    }

    #[test]
    fn the_copy_of_the_boot_display_is_told_from_a_rom() {
        let folder = "/sys/bus/pci/devices/0000:00:02.0";
        for (line, shadowed) in [
            ("0x00000000000c0000 0x00000000000dffff 0x0000000000000212", true),
            ("0x00000000febf0000 0x00000000febfffff 0x0000000000046200", false),
        ] {
            let tree = FakeTree::new();
            let bar = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n";
            tree.edit(|nodes| {
                nodes.put_file(&format!("{folder}/resource"), bar.repeat(6) + line + "\n" + bar);
            });
            let card = CardIds { vendor: 0x1013, device: 0xb8 };
            let rom = CardRom { bytes: b"no image".to_vec(), card, shadowed: is_shadowed(&tree, folder) };
            assert_eq!(rom.shadowed, shadowed, "{line}");
            let faults = report_of_card("00:02.0", &rom, Some(b"an image")).faults;
            assert_eq!(
                faults[0].contains("has run") && faults[0].contains("in 2 bytes"),
                shadowed,
                "{faults:?}"
            );
        }
    }

    #[test]
    fn a_display_card_that_no_driver_has_tells_whom_its_rom_is_for() {
        // One image of 512 bytes for a BIOS.
        let mut bios = vec![0; 512];
        bios[..3].copy_from_slice(&[0x55, 0xaa, 1]);
        bios[0x18] = 0x1c;
        bios[0x1c..0x24].copy_from_slice(b"PCIR\x13\x10\xb8\x00");
        (bios[0x26], bios[0x2c], bios[0x31]) = (0x18, 1, 0x80);
        let told = |rom: &[u8], is_free: bool| {
            let system = MadeUpSystem::new(fixtures::desktop_with_two_gpus());
            let read = crate::inventory::read(&system.tree);
            let readable = |card: &&Function| card.class.is_vga() && matches!(card.rom, Rom::Present { .. });
            let card = read.functions.iter().find(readable).unwrap().address;
            let folder = format!("/sys/bus/pci/devices/{card}");
            system.tree.edit(|nodes| {
                let real = nodes.canonical(&folder).unwrap();
                nodes.put_file(&format!("{real}/rom"), rom);
                if is_free {
                    nodes.remove(&format!("{real}/driver"));
                }
            });
            let mut inventory = crate::inventory::read(&system.tree);
            describe(&system.tree, &mut inventory);
            let told: Vec<_> =
                inventory.functions.iter().filter_map(|card| Some((card.address, card.own_rom?))).collect();
            assert!(told.iter().all(|(address, _)| *address == card), "{told:?}");
            told.first().map(|(_, images)| *images)
        };
        assert_eq!(told(&bios, true), Some(RomImages { x86: true, efi: false }));
        assert_eq!(told(&bios, false), None, "a driver has it");
        assert_eq!(told(&[0xff; 512], true), None);
    }

    #[test]
    fn what_is_no_rom_is_reported_with_its_fault() {
        let found = report("file", &[0xff; 1024], None);
        assert_eq!((found.bytes, found.images.len(), found.faults.len()), (1024, 0, 1));
        assert!(found.faults[0].contains("ones"), "{found:?}");
    }
}
