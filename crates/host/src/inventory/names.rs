//! Names of PCI and USB ids from the system's `pci.ids` and `usb.ids`.
//!
//! Format: a vendor line `vvvv  Name`, below it device lines with one tab, below those subsystem lines
//! `ssss dddd  Name` with two; class lines start with `C `. Comment lines start with `#`. Called once per inventory.

use std::collections::{BTreeSet, HashMap};

use spec::inventory::{ClassCode, PciId};

/// The names of ids; borrowed from the text of the file.
#[derive(Default)]
pub(super) struct IdNames<'a> {
    vendors: HashMap<u16, &'a str>,
    devices: HashMap<(u16, u16), &'a str>,
    subsystems: HashMap<(u16, u16, u16, u16), &'a str>,
    classes: HashMap<u16, &'a str>,
}

impl<'a> IdNames<'a> {
    /// Reads from the file's text what is said about `vendors`, and the classes. Lines that make no sense are passed
    /// over.
    pub(super) fn read(text: &'a str, vendors: &BTreeSet<PciId>) -> Self {
        let mut names = Self::default();
        let mut block = Block::None;
        for line in text.split('\n') {
            let inner = line.starts_with('\t');
            // Most of the file is about vendors that this host has nothing of.
            if line.is_empty() || line.starts_with('#') || inner && matches!(block, Block::None) {
                continue;
            }
            let rest = line.trim_start_matches('\t');
            block = names.add(block, line.len() - rest.len(), rest);
            if matches!(block, Block::Vendor(vendor, _) if !vendors.contains(&PciId(vendor))) {
                block = Block::None;
            }
        }
        names
    }

    fn add(&mut self, block: Block, tabs: usize, rest: &'a str) -> Block {
        match (tabs, block) {
            (0, _) => {
                if let Some(class) = rest.strip_prefix("C ") {
                    return named(class, 2).map_or(Block::None, |(base, name)| {
                        self.classes.insert(base << 8 | 0xff, name);
                        Block::Class(base)
                    });
                }
                named(rest, 4).map_or(Block::None, |(vendor, name)| {
                    self.vendors.insert(vendor, name);
                    Block::Vendor(vendor, None)
                })
            }
            (1, Block::Vendor(vendor, _)) => {
                let device = named(rest, 4);
                if let Some((device, name)) = device {
                    self.devices.insert((vendor, device), name);
                }
                Block::Vendor(vendor, device.map(|(device, _)| device))
            }
            (2, Block::Vendor(vendor, Some(device))) => {
                let subsystem =
                    rest.split_once(' ').and_then(|(sub, rest)| Some((hex(sub, 4)?, named(rest, 4)?)));
                if let Some((sub_vendor, (sub_device, name))) = subsystem {
                    self.subsystems.insert((vendor, device, sub_vendor, sub_device), name);
                }
                block
            }
            (1, Block::Class(base)) => {
                if let Some((sub, name)) = named(rest, 2) {
                    self.classes.insert(base << 8 | sub, name);
                }
                block
            }
            _ => block,
        }
    }

    /// The vendor's name.
    pub(super) fn vendor(&self, vendor: PciId) -> Option<String> {
        self.vendors.get(&vendor.0).map(|name| (*name).to_owned())
    }

    /// The device's name.
    pub(super) fn device(&self, vendor: PciId, device: PciId) -> Option<String> {
        self.devices.get(&(vendor.0, device.0)).map(|name| (*name).to_owned())
    }

    /// The board's name.
    pub(super) fn subsystem(&self, device: (PciId, PciId), board: (PciId, PciId)) -> Option<String> {
        let key = (device.0.0, device.1.0, board.0.0, board.1.0);
        self.subsystems.get(&key).map(|name| (*name).to_owned())
    }

    /// The name of a class, else of its base class.
    pub(super) fn class(&self, class: ClassCode) -> Option<String> {
        let sub = self.classes.get(&class.base_and_sub());
        let base = || self.classes.get(&(u16::from(class.base()) << 8 | 0xff));
        sub.or_else(base).map(|name| (*name).to_owned())
    }
}

/// Where in the file a line stands. Other tables (USB languages, HID) are passed over.
#[derive(Clone, Copy)]
enum Block {
    None,
    Vendor(u16, Option<u16>),
    Class(u16),
}

/// Splits `vvvv  Name`.
fn named(line: &str, digits: usize) -> Option<(u16, &str)> {
    let (id, name) = line.split_once("  ")?;
    Some((hex(id, digits)?, name.trim()))
}

fn hex(text: &str, digits: usize) -> Option<u16> {
    let plain = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| u16::from_str_radix(text, 16).ok())?
}

/// The class names that are shown when the system has no `pci.ids`.
pub(super) fn built_in_class(class: ClassCode) -> Option<&'static str> {
    Some(match class.base_and_sub() {
        0x0106 => "SATA controller",
        0x0108 => "Non-Volatile memory controller",
        0x0200 => "Ethernet controller",
        0x0280 => "Network controller",
        0x0300 => "VGA compatible controller",
        0x0302 => "3D controller",
        0x0380 => "Display controller",
        0x0401 => "Multimedia audio controller",
        0x0403 => "Audio device",
        0x0600 => "Host bridge",
        0x0601 => "ISA bridge",
        0x0604 => "PCI bridge",
        0x0c03 => "USB controller",
        0x0c05 => "SMBus",
        _ => match class.base() {
            0x01 => "Mass storage controller",
            0x02 => "Network controller",
            0x03 => "Display controller",
            0x04 => "Multimedia controller",
            0x06 => "Bridge",
            0x08 => "System peripheral",
            _ => return None,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# comment\n\
        10de  NVIDIA Corporation\n\
        \t2684  AD102 [GeForce RTX 4090]\n\
        \t\t1043 889a  TUF Gaming\n\
        \tbad line\n\
        \t\t1043 0001  belongs to nobody\n\
        8086  Intel Corporation\n\
        \t1533  I210\n\
        C 03  Display controller\n\
        \t00  VGA compatible controller\n\
        \t\t00  VGA controller\n";

    #[test]
    fn ids_find_their_names_and_nothing_else() {
        let names = IdNames::read(TEXT, &BTreeSet::from([PciId(0x10de)]));
        let (nvidia, card) = (PciId(0x10de), PciId(0x2684));
        assert_eq!(names.vendor(nvidia).as_deref(), Some("NVIDIA Corporation"));
        assert_eq!(names.device(nvidia, card).as_deref(), Some("AD102 [GeForce RTX 4090]"));
        let board = |device| names.subsystem((nvidia, card), (PciId(0x1043), PciId(device)));
        assert_eq!(board(0x889a).as_deref(), Some("TUF Gaming"));
        assert_eq!(board(0x0001), None);
        assert_eq!(names.device(PciId(0x8086), card), None);
        assert_eq!(names.device(PciId(0x8086), PciId(0x1533)), None, "nobody asked for this vendor");
        assert_eq!(names.class(ClassCode(0x03_0000)).as_deref(), Some("VGA compatible controller"));
        assert_eq!(names.class(ClassCode(0x03_9900)).as_deref(), Some("Display controller"));
        assert_eq!(names.class(ClassCode(0x05_0000)), None);
    }
}
