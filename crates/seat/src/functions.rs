//! The functions that a machine is to have: found on the host, checked, placed and opened.
//!
//! Everything that stands in the way is told at once, each reason with its remedy, before anything is touched; nothing
//! on the host changes here. Binding drivers is the host side's. `launch` is the caller.

mod holders;
mod memory;
mod reason;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};

use linux::sysfs::Tree;
use linux::vfio::Group;
use rustix::io::Errno;
use spec::seat_file::{FirmwareKind, RomChoice};
use spec::{AssignedFunctionSpec, AssignedSpec, Bytes, InheritedFd, PciAddress, VfioFiles, VfioGroupFile};

use self::memory::Account;
pub use reason::{CannotAssign, Holder, NoLegacyVga, Reason};

use crate::rom_file;

/// Slots of one machine at most; each takes a root port.
const SLOT_LIMIT: usize = 15;
/// Functions of one slot at most.
const FUNCTION_LIMIT: usize = 8;

const CONTAINER: &str = "/dev/vfio/vfio";
const IOMMUFD: &str = "/dev/iommu";

/// A function that a machine is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its address on the host.
    pub address: PciAddress,
    /// The slot and the function number in which the guest sees it; none: where there is room.
    pub place: Option<(u8, u8)>,
    /// What the guest is to see in place of the card's own option ROM.
    pub rom: Option<RomChoice>,
    /// Whether it is the machine's first display, with the legacy VGA ranges; one function of a machine at most.
    pub primary: bool,
}

impl From<PciAddress> for Wanted {
    fn from(address: PciAddress) -> Self {
        Self { address, place: None, rom: None, primary: false }
    }
}

/// The functions as found, nothing opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    functions: Vec<FoundFunction>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct FoundFunction {
    address: PciAddress,
    group: u32,
    // Its own file, where the kernel has one.
    cdev: Option<String>,
    slot: u8,
    function: u8,
    rom: Option<RomChoice>,
    primary: bool,
}

/// The open files of the functions.
#[derive(Debug)]
pub(crate) struct OpenFunctions {
    pub(crate) files: OpenFiles,
    pub(crate) functions: Vec<AssignedFunctionSpec>,
    // For each function, the file of its option ROM.
    roms: Vec<Option<OwnedFd>>,
}

/// As [`spec::VfioFiles`], owned.
#[derive(Debug)]
pub(crate) enum OpenFiles {
    Groups { container: OwnedFd, groups: Vec<(u32, OwnedFd)> },
    // The control file, and one file for each function.
    Iommufd { control: OwnedFd, devices: Vec<OwnedFd> },
}

impl OpenFunctions {
    /// All files, to be inherited.
    pub(crate) fn files(&self) -> impl Iterator<Item = &OwnedFd> {
        let (first, rest): (_, Vec<_>) = match &self.files {
            OpenFiles::Groups { container, groups } => {
                (container, groups.iter().map(|(_, file)| file).collect())
            }
            OpenFiles::Iommufd { control, devices } => (control, devices.iter().collect()),
        };
        std::iter::once(first).chain(rest).chain(self.roms.iter().flatten())
    }

    /// The document that names the files by their numbers.
    pub(crate) fn spec(&self) -> AssignedSpec {
        let number = |file: &OwnedFd| InheritedFd(file.as_raw_fd());
        let mut functions = self.functions.clone();
        for (function, rom) in functions.iter_mut().zip(&self.roms) {
            function.rom = rom.as_ref().map(number);
        }
        let files = match &self.files {
            OpenFiles::Groups { container, groups } => VfioFiles::Groups {
                container: number(container),
                groups: groups
                    .iter()
                    .map(|(id, file)| VfioGroupFile { id: *id, file: number(file) })
                    .collect(),
            },
            OpenFiles::Iommufd { control, devices } => {
                for (function, file) in functions.iter_mut().zip(devices) {
                    function.file = Some(number(file));
                }
                VfioFiles::Iommufd { control: number(control) }
            }
        };
        AssignedSpec { files, functions }
    }
}

/// Finds the functions and everything that stands in the way. `tree` is the root of the file system.
pub(crate) fn find(tree: &dyn Tree, wanted: &[Wanted]) -> Result<Found, CannotAssign> {
    let addresses: Vec<PciAddress> = wanted.iter().map(|wanted| wanted.address).collect();
    let mut reasons = Vec::new();
    let mut functions: Vec<FoundFunction> = Vec::new();
    let mut virtual_functions = Vec::new();
    for (index, address) in addresses.iter().enumerate() {
        if addresses.iter().take(index).any(|before| before == address) {
            reasons.push(Reason::Twice(*address));
            continue;
        }
        if wanted.iter().any(|wanted| wanted.address == *address && wanted.primary)
            && let Some(why) = lacks_vga(tree, *address)
        {
            reasons.push(Reason::NoLegacyVga { address: *address, why });
        }
        match find_one(tree, *address, &mut reasons) {
            Some(function) => {
                if tree.read_link(&format!("{}/physfn", device(*address))).is_ok() {
                    virtual_functions.push(*address);
                }
                functions.push(function);
            }
            None => continue,
        }
    }
    // A BIOS takes the first VGA that it finds.
    functions.sort_by_key(|function| {
        !wanted.iter().any(|wanted| wanted.address == function.address && wanted.primary)
    });
    let slots = place(&mut functions, &virtual_functions);
    if slots > SLOT_LIMIT {
        reasons.push(Reason::Slots { wanted: slots });
    }
    for function in &mut functions {
        let told = wanted.iter().find(|wanted| wanted.address == function.address);
        if let Some((slot, number)) = told.and_then(|wanted| wanted.place) {
            (function.slot, function.function) = (slot, number);
        }
        function.rom = told.and_then(|wanted| wanted.rom.clone());
        function.primary = told.is_some_and(|wanted| wanted.primary);
    }
    if reasons.is_empty() { Ok(Found { functions }) } else { Err(CannotAssign(reasons)) }
}

fn find_one(tree: &dyn Tree, address: PciAddress, reasons: &mut Vec<Reason>) -> Option<FoundFunction> {
    let device = device(address);
    if !tree.exists(&device) {
        reasons.push(Reason::Missing(address));
        return None;
    }
    if is_bridge(tree, address) {
        reasons.push(Reason::Bridge(address));
        return None;
    }
    let group = link_name(tree, &format!("{device}/iommu_group")).and_then(|name| name.parse().ok());
    let Some(group) = group else {
        reasons.push(Reason::NoGroup(address));
        return None;
    };
    let driver = driver(tree, address);
    if !driver.as_deref().is_some_and(is_vfio) {
        reasons.push(Reason::NotBound { address, driver });
        return None;
    }
    // Whether a bridge's driver stands in the way is for the kernel to say, when the group's file is open.
    let members = foreign_members(tree, group);
    if members.iter().any(|(member, _)| !is_bridge(tree, *member)) {
        reasons.push(Reason::NotViable { address, group, members });
        return None;
    }
    let shown = tree.list(&format!("{device}/vfio-dev")).unwrap_or_default();
    let cdev = shown.first().map(|name| format!("/dev/vfio/devices/{name}"));
    let cdev = cdev.filter(|path| tree.exists(path));
    Some(FoundFunction { address, group, cdev, slot: 0, function: 0, rom: None, primary: false })
}

/// Why the kernel will not give the function's legacy VGA ranges, as far as can be told before it is opened.
fn lacks_vga(tree: &dyn Tree, address: PciAddress) -> Option<NoLegacyVga> {
    let class = tree.text(&format!("{}/class", device(address))).ok()?;
    if !class.starts_with("0x0300") {
        return Some(NoLegacyVga::Class(class.trim().to_owned()));
    }
    // The parameter is there in kernels that can.
    let parameters = "/sys/module/vfio_pci/parameters";
    match tree.text(&format!("{parameters}/disable_vga")) {
        Ok(off) => (off.trim() == "Y").then_some(NoLegacyVga::SwitchedOff),
        Err(_) => tree.exists(parameters).then_some(NoLegacyVga::Kernel),
    }
}

/// The functions of a group that a host driver holds.
fn foreign_members(tree: &dyn Tree, group: u32) -> Vec<(PciAddress, String)> {
    let members = tree.list(&format!("/sys/kernel/iommu_groups/{group}/devices")).unwrap_or_default();
    let held = members.iter().filter_map(|name| {
        let address: PciAddress = name.parse().ok()?;
        driver(tree, address).map(|driver| (address, driver))
    });
    // These do no DMA on their own: the kernel lets them stay (drivers with `driver_managed_dma`).
    held.filter(|(_, driver)| !is_vfio(driver) && !matches!(driver.as_str(), "pcieport" | "pci-stub"))
        .collect()
}

/// Gives every card a slot, in the order in which they were named; tells how many slots that takes.
///
/// Functions of one card stay together and keep their numbers, if number 0 is among them: a guest looks for the others
/// only then. A virtual function is a card of its own, whatever its number.
fn place(functions: &mut [FoundFunction], virtual_functions: &[PciAddress]) -> usize {
    let card = |address: PciAddress| {
        let own = virtual_functions.contains(&address).then_some(address.function());
        (address.domain(), address.bus(), address.device(), own)
    };
    let mut slots: BTreeMap<_, (u8, Vec<u8>)> = BTreeMap::new();
    for function in functions.iter() {
        let next = u8::try_from(slots.len()).unwrap_or(u8::MAX);
        slots.entry(card(function.address)).or_insert((next, Vec::new())).1.push(function.address.function());
    }
    for function in functions.iter_mut() {
        let Some((slot, numbers)) = slots.get(&card(function.address)) else { continue };
        let own = function.address.function();
        let below = numbers.iter().filter(|number| **number < own).count().min(FUNCTION_LIMIT - 1) as u8;
        function.slot = *slot;
        function.function = if numbers.contains(&0) { own } else { below };
    }
    slots.len()
}

impl Found {
    /// Opens the files: those of the functions themselves where the kernel has them for all, else their groups'.
    /// `firmware` tells whether it starts the machine.
    pub(crate) fn open(
        &self,
        tree: &dyn Tree,
        memory: Bytes,
        firmware: bool,
    ) -> Result<OpenFunctions, CannotAssign> {
        let mut reasons = Vec::new();
        let cdevs: Option<Vec<&str>> =
            self.functions.iter().map(|function| function.cdev.as_deref()).collect();
        let cdevs = cdevs.filter(|_| tree.accessible(IOMMUFD));
        let account = if cdevs.is_some() { Account::User } else { Account::Process };
        reasons.extend(memory::check(tree, memory, account).err());
        let opened = match cdevs {
            Some(paths) => open_cdevs(tree, &paths, &mut reasons),
            None => open_groups(tree, &self.functions, &mut reasons),
        };
        let roms = self.functions.iter().map(|function| open_rom(function, firmware, &mut reasons));
        let roms = roms.collect();
        match opened {
            Some(files) if reasons.is_empty() => Ok(OpenFunctions { files, functions: self.specs(), roms }),
            _ => Err(CannotAssign(reasons)),
        }
    }

    fn specs(&self) -> Vec<AssignedFunctionSpec> {
        let spec = |found: &FoundFunction| AssignedFunctionSpec {
            address: found.address,
            group: found.group,
            file: None,
            slot: found.slot,
            function: found.function,
            rom: None,
            no_rom: found.rom == Some(RomChoice::None),
            legacy_vga: found.primary,
        };
        self.functions.iter().map(spec).collect()
    }
}

fn open_cdevs(tree: &dyn Tree, paths: &[&str], reasons: &mut Vec<Reason>) -> Option<OpenFiles> {
    // Such a file can be opened by many and used by the first; the others hear of it only when they use it.
    for (path, holder) in holders::of(tree, paths) {
        reasons.push(Reason::Busy { path: path.to_owned(), holder: Some(holder) });
    }
    let control = open(tree, IOMMUFD, reasons);
    let devices: Vec<_> = paths.iter().filter_map(|path| open(tree, path, reasons)).collect();
    Some(OpenFiles::Iommufd { control: control?, devices })
}

fn open_groups(tree: &dyn Tree, functions: &[FoundFunction], reasons: &mut Vec<Reason>) -> Option<OpenFiles> {
    let container = open(tree, CONTAINER, reasons);
    let mut groups: Vec<(u32, OwnedFd)> = Vec::new();
    for found in functions {
        let group = found.group;
        if groups.iter().any(|(id, _)| *id == group) {
            continue;
        }
        let Some(file) = open(tree, &format!("/dev/vfio/{group}"), reasons) else { continue };
        if !is_viable(group, &file) {
            let members = foreign_members(tree, group);
            reasons.push(Reason::NotViable { address: found.address, group, members });
        }
        groups.push((group, file));
    }
    Some(OpenFiles::Groups { container: container?, groups })
}

/// Whether the kernel lets the group be used. One that does not tell is tried: using it will tell.
fn is_viable(id: u32, file: &OwnedFd) -> bool {
    let status = file.try_clone().ok().and_then(|file| Group::from_fd(id, file).ok()?.status().ok());
    status.is_none_or(|status| status.viable)
}

/// Opens the file of an option ROM; that of a first display must have something for a BIOS to run.
fn open_rom(function: &FoundFunction, firmware: bool, reasons: &mut Vec<Reason>) -> Option<OwnedFd> {
    let Some(RomChoice::File(path)) = &function.rom else { return None };
    match rom_file::open(path, firmware) {
        Ok(rom) if function.primary && !rom.has(FirmwareKind::Bios) => {
            reasons.push(Reason::RomWithoutBios { path: path.clone() });
            None
        }
        Ok(rom) => Some(rom.file.into()),
        Err(error) => {
            reasons.push(error.into());
            None
        }
    }
}

fn open(tree: &dyn Tree, path: &str, reasons: &mut Vec<Reason>) -> Option<OwnedFd> {
    match File::options().read(true).write(true).open(path) {
        Ok(file) => Some(file.into()),
        Err(error) => {
            let errno = error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error);
            let holder = holders::of(tree, &[path]).pop().map(|(_, holder)| holder);
            let path = path.to_owned();
            reasons.push(match errno {
                Errno::BUSY => Reason::Busy { path, holder },
                Errno::ACCESS | Errno::PERM => Reason::Denied { path },
                errno => Reason::Open { path, errno },
            });
            None
        }
    }
}

fn device(address: PciAddress) -> String {
    format!("/sys/bus/pci/devices/{address}")
}

fn driver(tree: &dyn Tree, address: PciAddress) -> Option<String> {
    link_name(tree, &format!("{}/driver", device(address)))
}

/// `vfio-pci`, or the variant of it that a vendor has for a device (`mlx5_vfio_pci`).
fn is_vfio(driver: &str) -> bool {
    driver == "vfio-pci" || driver.ends_with("vfio_pci")
}

fn is_bridge(tree: &dyn Tree, address: PciAddress) -> bool {
    tree.text(&format!("{}/class", device(address))).is_ok_and(|class| class.starts_with("0x06"))
}

fn link_name(tree: &dyn Tree, path: &str) -> Option<String> {
    tree.read_link(path).ok()?.rsplit('/').next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use linux::sysfs::FakeTree;
    use spec::PciAddress;
    use spec::seat_file::RomChoice;

    use super::{FoundFunction, NoLegacyVga, Reason, Wanted, find, open_rom};

    fn address(text: &str) -> PciAddress {
        text.parse().unwrap()
    }

    /// A host with these functions: address, class, group, driver; those with a `+` behind the driver are virtual.
    fn host(functions: &[(&str, &str, Option<&str>, Option<&str>)]) -> FakeTree {
        let tree = FakeTree::new();
        tree.edit(|nodes| {
            for (address, class, group, driver) in functions {
                let device = format!("/sys/bus/pci/devices/0000:{address}");
                nodes.put_file(&format!("{device}/class"), *class);
                if let Some(group) = group {
                    nodes.put_link(
                        &format!("{device}/iommu_group"),
                        &format!("../../kernel/iommu_groups/{group}"),
                    );
                    nodes.put_directory(&format!("/sys/kernel/iommu_groups/{group}/devices/0000:{address}"));
                }
                if let Some(driver) = driver {
                    let name = driver.trim_end_matches('+');
                    nodes.put_link(&format!("{device}/driver"), &format!("../../bus/pci/drivers/{name}"));
                    if driver.ends_with('+') {
                        nodes.put_link(&format!("{device}/physfn"), "../0000:01:00.0");
                    }
                }
            }
        });
        tree
    }

    fn refusal(tree: &FakeTree, wanted: &[&str]) -> Vec<Reason> {
        let wanted: Vec<_> = wanted.iter().map(|text| address(text).into()).collect();
        find(tree, &wanted).unwrap_err().0
    }

    #[test]
    fn every_reason_is_told_with_its_remedy() {
        let tree = host(&[
            ("00:01.0", "0x060400", Some("1"), Some("pcieport")),
            ("01:00.0", "0x010802", Some("2"), Some("nvme")),
            ("01:00.1", "0x010802", None, None),
            ("02:00.0", "0x030000", Some("3"), Some("vfio-pci")),
            ("02:00.1", "0x040300", Some("3"), Some("snd_hda_intel")),
            ("03:00.0", "0x020000", Some("4"), None),
        ]);
        let wanted = ["00:01.0", "01:00.0", "01:00.1", "02:00.0", "03:00.0", "07:00.0", "01:00.0"];
        let reasons = refusal(&tree, &wanted);
        let expected = [
            Reason::Bridge(address("00:01.0")),
            Reason::NotBound { address: address("01:00.0"), driver: Some("nvme".into()) },
            Reason::NoGroup(address("01:00.1")),
            Reason::NotViable {
                address: address("02:00.0"),
                group: 3,
                members: vec![(address("02:00.1"), "snd_hda_intel".into())],
            },
            Reason::NotBound { address: address("03:00.0"), driver: None },
            Reason::Missing(address("07:00.0")),
            Reason::Twice(address("01:00.0")),
        ];
        assert_eq!(reasons, expected);
        let said = |reason: &Reason, words: &[&str]| {
            let text = reason.to_string();
            assert!(words.iter().all(|word| text.contains(word)), "{text}");
        };
        said(&reasons[1], &["driver nvme", "`allod claim 0000:01:00.0`"]);
        said(&reasons[3], &["0000:02:00.1 (driver snd_hda_intel)"]);
        said(&reasons[4], &["at no driver", "`allod claim 0000:03:00.0`"]);
    }

    #[test]
    fn a_group_whose_others_are_ours_free_or_bridges_is_viable() {
        let tree = host(&[
            ("00:01.0", "0x060400", Some("3"), Some("pcieport")),
            ("02:00.0", "0x030000", Some("3"), Some("vfio-pci")),
            ("02:00.1", "0x040300", Some("3"), None),
            ("02:00.2", "0x0c0330", Some("3"), Some("mlx5_vfio_pci")),
        ]);
        find(&tree, &[address("02:00.0").into()]).unwrap();
    }

    #[test]
    fn functions_of_a_card_share_a_slot_and_virtual_ones_do_not() {
        let vfio = Some("vfio-pci");
        let tree = host(&[
            ("02:00.0", "0x030000", Some("1"), vfio),
            ("02:00.1", "0x040300", Some("2"), vfio),
            ("03:00.1", "0x0c0330", Some("3"), vfio),
            ("03:00.3", "0x0c0330", Some("4"), vfio),
            ("01:10.0", "0x020000", Some("5"), Some("vfio-pci+")),
            ("01:10.2", "0x020000", Some("6"), Some("vfio-pci+")),
        ]);
        let wanted = ["03:00.3", "02:00.1", "01:10.2", "02:00.0", "03:00.1", "01:10.0"]
            .map(|text| address(text).into());
        let found = find(&tree, &wanted).unwrap();
        let places: Vec<_> = found.functions.iter().map(|found| (found.slot, found.function)).collect();
        // A card without its function 0 is numbered anew; one with it keeps its numbers.
        assert_eq!(places, [(0, 1), (1, 1), (2, 0), (1, 0), (0, 0), (3, 0)]);
    }

    #[test]
    fn the_primary_display_comes_first_and_must_have_the_legacy_ranges() {
        let vfio = Some("vfio-pci");
        let functions = [("02:00.0", "0x030200", Some("1"), vfio), ("03:00.0", "0x030000", Some("2"), vfio)];
        let primary = |text: &str| Wanted { primary: true, ..address(text).into() };
        let found = find(&host(&functions), &[address("02:00.0").into(), primary("03:00.0")]).unwrap();
        let places: Vec<_> =
            found.functions.iter().map(|found| (found.address.bus(), found.slot, found.primary)).collect();
        assert_eq!(places, [(3, 0, true), (2, 1, false)]);

        let parameters = "/sys/module/vfio_pci/parameters";
        for (name, value, card, expected) in [
            ("disable_vga", "N\n", "03:00.0", None),
            ("disable_vga", "Y\n", "03:00.0", Some(NoLegacyVga::SwitchedOff)),
            ("ids", "\n", "03:00.0", Some(NoLegacyVga::Kernel)),
            ("disable_vga", "N\n", "02:00.0", Some(NoLegacyVga::Class("0x030200".into()))),
        ] {
            let tree = host(&functions);
            tree.edit(|nodes| nodes.put_file(&format!("{parameters}/{name}"), value));
            let reasons = find(&tree, &[primary(card)]).err().map_or(Vec::new(), |error| error.0);
            let expected = expected.map(|why| Reason::NoLegacyVga { address: address(card), why });
            assert_eq!(reasons, expected.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_rom_file_of_a_primary_display_has_an_image_for_a_bios() {
        // An image of EFI alone (PCI Firmware 3.3, section 5.1).
        let mut rom = vec![0; 512];
        rom[..3].copy_from_slice(&[0x55, 0xaa, 1]);
        rom[0x18..0x20].copy_from_slice(b"\x1c\0\0\0PCIR");
        (rom[0x26], rom[0x2c], rom[0x30], rom[0x31]) = (0x18, 1, 3, 0x80);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), rom).unwrap();
        for (primary, refused) in [(true, true), (false, false)] {
            let function = FoundFunction {
                address: address("03:00.0"),
                group: 1,
                cdev: None,
                slot: 0,
                function: 0,
                rom: Some(RomChoice::File(file.path().to_owned())),
                primary,
            };
            let mut reasons = Vec::new();
            assert_eq!(open_rom(&function, true, &mut reasons).is_none(), refused);
            assert_eq!(reasons.len(), usize::from(refused), "{reasons:?}");
        }
    }

    #[test]
    fn a_rom_that_the_guest_is_not_to_see_is_told_and_no_file() {
        let tree = host(&[("03:00.0", "0x030000", Some("1"), Some("vfio-pci"))]);
        for (rom, hidden) in
            [(None, false), (Some(RomChoice::File("/a.rom".into())), false), (Some(RomChoice::None), true)]
        {
            let wanted = Wanted { rom, ..address("03:00.0").into() };
            let found = find(&tree, std::slice::from_ref(&wanted)).unwrap();
            assert_eq!(found.specs()[0].no_rom, hidden, "{wanted:?}");
        }
    }

    #[test]
    fn more_cards_than_slots_are_refused() {
        let addresses: Vec<_> = (1..=16).map(|bus| format!("{bus:02x}:00.0")).collect();
        let functions: Vec<_> = addresses
            .iter()
            .map(|address| (address.as_str(), "0x020000", Some("1"), Some("vfio-pci")))
            .collect();
        let tree = host(&functions);
        let wanted: Vec<_> = addresses.iter().map(String::as_str).collect();
        assert_eq!(refusal(&tree, &wanted), [Reason::Slots { wanted: 16 }]);
        find(&tree, &wanted[1..].iter().map(|text| address(text).into()).collect::<Vec<_>>()).unwrap();
    }
}
