//! The PCI functions of the host, from `/sys/bus/pci/devices`: what they are, before who uses them is known.

use std::collections::BTreeMap;

use linux::sysfs::{DATABASE_LIMIT, Tree};
use spec::inventory::{
    Bar, BarKind, ClassCode, ConfigAccess, DeviceIdentity, DriverState, Function, FunctionKind, Link,
    LinkState, Names, PciId, PhysicalAddress, ResetMethod, Rom, SlotPath, SlotStep, SrIov,
};
use spec::{Bytes, PciAddress};

use super::aliases::Aliases;
use super::config::{self, ConfigFacts};
use super::names::{self, IdNames};
use super::reader::{PAGE, Reader, full_address, shorten};

/// Where the kernel lists the functions.
pub(super) const DEVICES: &str = "/sys/bus/pci/devices";

/// The most virtual functions that a physical one can have (PCIe 6.0, section 9.3.3.5: a 16-bit count).
const MOST_VIRTUAL: u32 = 65_535;

/// Where `pci.ids` is, by distribution.
const PCI_IDS: [&str; 3] =
    ["/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids", "/var/lib/pciutils/pci.ids"];

/// Reads all functions in rising order of address.
pub(super) fn read(reader: &Reader<'_>, kernel_release: Option<&str>) -> Vec<Function> {
    let modules = format!("/lib/modules/{}", kernel_release.unwrap_or("unknown"));
    let alias = first_text(reader, &[&format!("{modules}/modules.alias")]);
    let builtin = first_text(reader, &[&format!("{modules}/modules.builtin.modinfo")]);
    let aliases = Aliases::read(&alias, &builtin);
    let slots = slots(reader);

    let mut functions = Vec::new();
    for name in reader.list(DEVICES) {
        let Some(address) = full_address(&name) else {
            reader.note(
                &format!("{DEVICES}/{name}"),
                "its domain has more than 16 bits: not an ordinary PCI slot",
            );
            continue;
        };
        let place = Place { reader, directory: format!("{DEVICES}/{name}"), address };
        if let Some(mut function) = place.function(&slots) {
            if let Some(modalias) = place.text("modalias") {
                function.driver.candidates = aliases.candidates(&modalias);
            }
            functions.push(function);
        }
    }
    functions.sort_by_key(|function| function.address);
    number_virtual_functions(reader, &mut functions);
    name_functions(reader, &mut functions);
    functions
}

/// Gives every function its names.
fn name_functions(reader: &Reader<'_>, functions: &mut [Function]) {
    let text = first_text(reader, &PCI_IDS);
    let vendors = functions.iter().map(|function| function.identity.vendor).collect();
    let ids = IdNames::read(&text, &vendors);
    for function in functions {
        function.names = function_names(&ids, function);
    }
}

/// Reads the first of several files that is there, as text; empty when none is.
pub(super) fn first_text(reader: &Reader<'_>, paths: &[&str]) -> String {
    let found = paths.iter().find_map(|path| reader.bytes(path, DATABASE_LIMIT));
    found.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// The names beside the physical slots, by domain, bus and device.
fn slots(reader: &Reader<'_>) -> BTreeMap<(u16, u8, u8), String> {
    let directory = "/sys/bus/pci/slots";
    let mut slots = BTreeMap::new();
    for name in reader.list(directory) {
        // `0000:03:00`; without the device number it is a bus of a hotplug controller.
        let address = reader.text(&format!("{directory}/{name}/address"));
        let address = address.and_then(|text| full_address(&format!("{text}.0")));
        if let Some(address) = address {
            slots.insert((address.domain(), address.bus(), address.device()), name);
        }
    }
    slots
}

fn function_names(ids: &IdNames<'_>, function: &Function) -> Names {
    let identity = &function.identity;
    let board = identity.subsystem_vendor.zip(identity.subsystem_device);
    Names {
        vendor: ids.vendor(identity.vendor),
        device: ids.device(identity.vendor, identity.device),
        subsystem: board.and_then(|board| ids.subsystem((identity.vendor, identity.device), board)),
        class: ids.class(function.class).or_else(|| names::built_in_class(function.class).map(str::to_owned)),
    }
}

/// Gives virtual functions their index and their path below the physical function.
fn number_virtual_functions(reader: &Reader<'_>, functions: &mut [Function]) {
    let physical: BTreeMap<PciAddress, (SlotPath, Vec<PciAddress>)> = functions
        .iter()
        .filter_map(|function| match &function.sriov {
            Some(SrIov::Physical { functions, .. }) => {
                Some((function.address, (function.identity.path.clone(), functions.clone())))
            }
            _ => None,
        })
        .collect();
    for function in functions {
        let Some(SrIov::Virtual { parent, index }) = &mut function.sriov else { continue };
        let Some((path, children)) = physical.get(parent) else {
            reader.note(
                &format!("{DEVICES}/{}/physfn", function.address),
                "its physical function has no virtual ones",
            );
            continue;
        };
        let position = children.iter().position(|child| *child == function.address);
        *index = position.and_then(|position| u16::try_from(position).ok());
        if let Some(index) = *index {
            function.identity.path = path.virtual_function(index);
        }
    }
}

/// The sysfs directory of one function.
struct Place<'a> {
    reader: &'a Reader<'a>,
    directory: String,
    address: PciAddress,
}

impl Place<'_> {
    fn path(&self, attribute: &str) -> String {
        format!("{}/{attribute}", self.directory)
    }

    fn text(&self, attribute: &str) -> Option<String> {
        self.reader.text(&self.path(attribute))
    }

    /// Reads everything about the function itself; `None` when not even its ids or place can be read.
    fn function(&self, slots: &BTreeMap<(u16, u8, u8), String>) -> Option<Function> {
        let class = self.id::<ClassCode>("class")?;
        let chain = self.chain()?;
        let config = self.config(class);
        let slot = slots.get(&(self.address.domain(), self.address.bus(), self.address.device()));
        Some(Function {
            address: self.address,
            identity: self.identity(&chain, &config)?,
            class,
            revision: self.id::<PciId>("revision").and_then(|id| u8::try_from(id.0).ok()),
            names: Names::default(),
            label: self.text("label"),
            slot: slot.cloned(),
            kind: config.kind,
            parent: chain.above.last().copied(),
            root_port: chain.above.first().copied(),
            driver: self.driver(),
            group: self.reader.link_name(&self.path("iommu_group")).and_then(|name| name.parse().ok()),
            // -1: firmware did not say.
            numa_node: self
                .reader
                .parsed::<i64>(&self.path("numa_node"))
                .and_then(|node| u32::try_from(node).ok()),
            local_cpus: self.reader.parsed(&self.path("local_cpulist")),
            link: self.link(),
            reset_methods: self.reset_methods(),
            d3cold_allowed: self.reader.flag(&self.path("d3cold_allowed")),
            power_state: self.text("power_state").filter(|state| state != "unknown"),
            bars: self.bars(&config),
            rom: self.rom(),
            // Reading it switches its decoding on: `rom::describe` does, where that disturbs nobody.
            own_rom: None,
            // Not a fact of the hardware: the vault tells.
            kept_rom: None,
            sriov: self.sriov(&config),
            acs: config.acs,
            msix_vectors: config.msix_vectors,
            interrupt_pin: config.interrupt_pin,
            boot_vga: self.reader.flag(&self.path("boot_vga")),
            config: config.access,
            holds: Vec::new(),
            connectors: Vec::new(),
            usb_devices: Vec::new(),
            interfaces: Vec::new(),
            disks: Vec::new(),
        })
    }

    fn id<T: std::str::FromStr>(&self, attribute: &str) -> Option<T> {
        self.reader.parsed(&self.path(attribute))
    }

    fn identity(&self, chain: &Chain, config: &ConfigFacts) -> Option<DeviceIdentity> {
        Some(DeviceIdentity {
            vendor: self.id("vendor")?,
            device: self.id("device")?,
            subsystem_vendor: self.id::<PciId>("subsystem_vendor").filter(|id| id.0 != 0),
            subsystem_device: self.id("subsystem_device"),
            serial: config.serial.clone(),
            path: chain.path.clone(),
        })
    }

    /// The way from the root bus, from the function's canonical place in sysfs.
    fn chain(&self) -> Option<Chain> {
        let canonical = self.reader.known(self.reader.tree().canonical(&self.directory))?;
        let chain = Chain::read(&canonical, self.address);
        if chain.is_none() {
            self.reader.note(&self.directory, format!("its place `{}` makes no sense", shorten(&canonical)));
        }
        chain
    }

    fn config(&self, class: ClassCode) -> ConfigFacts {
        let path = self.path("config");
        let bytes = self.reader.bytes(&path, PAGE).unwrap_or_default();
        let facts = config::read(&bytes, class.0);
        match facts.access {
            ConfigAccess::AllOnes => self.reader.note(&path, "all ones: the device is gone, asleep or hung"),
            ConfigAccess::Unknown => self.reader.note(&path, "its configuration space cannot be read"),
            _ => {}
        }
        facts.doubts.iter().for_each(|doubt| self.reader.note(&path, *doubt));
        // Classes are known from sysfs even when the space itself is silent.
        let kind = match (facts.kind, class.base_and_sub()) {
            (FunctionKind::Unknown, 0x0600) => FunctionKind::HostBridge,
            (FunctionKind::Unknown, 0x0601) => FunctionKind::IsaBridge,
            (kind, _) => kind,
        };
        ConfigFacts { kind, ..facts }
    }

    fn driver(&self) -> DriverState {
        // The kernel writes an override that is not set as `(null)`.
        let driver_override = self.text("driver_override").filter(|text| text != "(null)");
        DriverState {
            bound: self.reader.link_name(&self.path("driver")),
            driver_override,
            candidates: Vec::new(),
        }
    }

    fn link(&self) -> Option<Link> {
        let state = |end: &str| {
            let speed = self.text(&format!("{end}_link_speed"))?;
            let width = self.text(&format!("{end}_link_width"))?.parse().ok()?;
            // 255 and 0 are how the kernel writes "unknown" and "no link".
            let known = !matches!(width, 0 | 255);
            known.then(|| Some(LinkState { speed_mts: transfers(&speed)?, width }))?
        };
        let link = Link { current: state("current"), maximum: state("max") };
        (link.current.is_some() || link.maximum.is_some()).then_some(link)
    }

    fn reset_methods(&self) -> Option<Vec<ResetMethod>> {
        let path = self.path("reset_method");
        match self.reader.tree().text(&path) {
            Ok(text) => Some(text.split_whitespace().map(reset_method).collect()),
            // Kernels before 5.15 only say that there is some way.
            Err(error) if error.errno.is_absent() => {
                let some_way = self.reader.tree().exists(&self.path("reset"));
                Some(if some_way { vec![ResetMethod::Unknown] } else { Vec::new() })
            }
            Err(error) => self.reader.known::<Vec<_>>(Err(error)),
        }
    }

    /// The lines of `resource`: six BARs, the ROM, then SR-IOV's BARs or bridge windows.
    fn resources(&self) -> Vec<Resource> {
        let Some(text) = self.text("resource") else { return Vec::new() };
        text.lines().take(RESOURCE_LINES).map(|line| Resource::read(line).unwrap_or_default()).collect()
    }

    fn bars(&self, config: &ConfigFacts) -> Vec<Bar> {
        let resources = self.resources().into_iter().take(6).enumerate();
        let bars = resources.filter_map(|(index, resource)| {
            let index = u8::try_from(index).ok()?;
            let resizable = config.resizable.iter().find(|(bar, _)| *bar == index);
            Some(Bar {
                index,
                kind: resource.kind()?,
                prefetchable: resource.flags & RESOURCE_PREFETCH != 0,
                start: (resource.start != 0).then_some(PhysicalAddress(resource.start)),
                size: resource.size()?,
                resizable: resizable.map(|(_, sizes)| sizes.clone()).unwrap_or_default(),
            })
        });
        bars.collect()
    }

    fn rom(&self) -> Rom {
        let resources = self.resources();
        let Some(resource) = resources.get(6) else { return Rom::Unknown };
        match resource.size() {
            _ if resource.flags & RESOURCE_ROM_SHADOW != 0 => Rom::Shadowed,
            Some(size) => Rom::Present { size },
            // Kernels before 4.6 kept the shadow copy out of this table.
            None if self.reader.tree().exists(&self.path("rom")) => Rom::Shadowed,
            None => Rom::Absent,
        }
    }

    fn sriov(&self, config: &ConfigFacts) -> Option<SrIov> {
        if let Some(parent) = self.reader.link_name(&self.path("physfn")) {
            return full_address(&parent).map(|parent| SrIov::Virtual { parent, index: None });
        }
        // The driver may allow fewer than the device.
        let total = self.reader.parsed(&self.path("sriov_totalvfs")).or(config.sriov_total)?;
        let made = self.reader.parsed::<u32>(&self.path("sriov_numvfs")).unwrap_or(0).min(MOST_VIRTUAL);
        let functions = (0..made).map_while(|index| {
            let name = self.reader.link_name(&self.path(&format!("virtfn{index}")))?;
            full_address(&name)
        });
        let functions = functions.collect();
        let drivers_autoprobe = self.reader.flag(&self.path("sriov_drivers_autoprobe"));
        Some(SrIov::Physical { total, functions, drivers_autoprobe })
    }
}

/// Where a function is plugged in; `None` when it is not there.
pub(crate) fn slot_path(tree: &dyn Tree, address: PciAddress) -> Option<SlotPath> {
    Some(Chain::read(&tree.canonical(&format!("{DEVICES}/{address}")).ok()?, address)?.path)
}

/// A function's way from its root bus.
#[derive(Debug, PartialEq, Eq)]
struct Chain {
    path: SlotPath,
    /// The bridges above, the root port first.
    above: Vec<PciAddress>,
}

impl Chain {
    /// Reads `/sys/devices/pci0000:00/0000:00:01.1/0000:01:00.0`.
    fn read(canonical: &str, address: PciAddress) -> Option<Self> {
        let names: Vec<&str> = canonical.split('/').collect();
        let root = names.iter().rposition(|name| name.starts_with("pci") && name.contains(':'))?;
        let (domain, bus) = names.get(root)?.strip_prefix("pci")?.split_once(':')?;
        let domain = u16::from_str_radix(domain, 16).ok()?;
        let bus = u8::from_str_radix(bus, 16).ok()?;
        let mut above: Vec<PciAddress> =
            names.get(root + 1..)?.iter().filter_map(|name| full_address(name)).collect();
        let steps =
            above.iter().map(|at| SlotStep { device: at.device(), function: at.function() }).collect();
        let last = above.pop()?;
        (last == address).then_some(())?;
        Some(Self { path: SlotPath::new(domain, bus, steps)?, above })
    }
}

/// Lines of `resource` that are looked at: BARs and ROM.
const RESOURCE_LINES: usize = 7;

// Flags of Linux `include/linux/ioport.h`.
const RESOURCE_IO: u64 = 0x100;
const RESOURCE_MEMORY: u64 = 0x200;
const RESOURCE_PREFETCH: u64 = 0x2000;
const RESOURCE_MEMORY_64: u64 = 0x10_0000;
const RESOURCE_ROM_SHADOW: u64 = 0x2;

/// One line of `resource`: first address, last address, flags.
#[derive(Clone, Copy, Default)]
struct Resource {
    start: u64,
    end: u64,
    flags: u64,
}

impl Resource {
    fn read(line: &str) -> Option<Self> {
        let mut numbers = line.split_whitespace().map(|word| word.parse::<PhysicalAddress>().ok());
        let mut next = || numbers.next().flatten().map(|number| number.0);
        Some(Self { start: next()?, end: next()?, flags: next()? })
    }

    fn kind(&self) -> Option<BarKind> {
        match self.flags {
            flags if flags & RESOURCE_IO != 0 => Some(BarKind::Io),
            flags if flags & RESOURCE_MEMORY == 0 => None,
            flags if flags & RESOURCE_MEMORY_64 != 0 => Some(BarKind::Memory64),
            _ => Some(BarKind::Memory32),
        }
    }

    fn size(&self) -> Option<Bytes> {
        self.kind()?;
        let size = self.end.checked_sub(self.start)?.checked_add(1)?;
        Some(Bytes(size))
    }
}

/// `16.0 GT/s PCIe` in mega-transfers per second.
fn transfers(text: &str) -> Option<u32> {
    let number = text.split_whitespace().next()?;
    let (whole, tenths) = number.split_once('.').unwrap_or((number, "0"));
    let whole = whole.parse::<u32>().ok()?.checked_mul(1000)?;
    whole.checked_add(tenths.parse::<u32>().ok().filter(|tenths| *tenths < 10)? * 100)
}

fn reset_method(name: &str) -> ResetMethod {
    match name {
        "device_specific" => ResetMethod::DeviceSpecific,
        "acpi" => ResetMethod::Acpi,
        "flr" => ResetMethod::Flr,
        "af_flr" => ResetMethod::AfFlr,
        "pm" => ResetMethod::Pm,
        "bus" => ResetMethod::Bus,
        "cxl_bus" => ResetMethod::CxlBus,
        _ => ResetMethod::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_from_the_root_is_read_from_the_canonical_place() {
        let address: PciAddress = "0000:03:00.1".parse().unwrap();
        let deep = "/sys/devices/pci0000:00/0000:00:01.1/0000:01:00.0/0000:02:08.0/0000:03:00.1";
        let chain = Chain::read(deep, address).unwrap();
        assert_eq!(chain.path.to_string(), "0000:00/01.1/00.0/08.0/00.1");
        assert_eq!(chain.above.len(), 3);
        // Behind Intel VMD the inner root counts, whose domain does not fit an address.
        let behind_vmd = "/sys/devices/pci0000:00/0000:00:0e.0/pci10000:e0/10000:e0:06.0/10000:e1:00.0";
        for place in ["/sys/devices/platform/x", "/sys/devices/pci0000:00/0000:00:01.1", behind_vmd] {
            assert_eq!(Chain::read(place, address), None, "{place}");
        }
    }

    #[test]
    fn link_speeds_are_numbers() {
        for (text, speed) in [
            ("2.5 GT/s PCIe", Some(2500)),
            ("16.0 GT/s PCIe", Some(16000)),
            ("32 GT/s", Some(32000)),
            ("Unknown", None),
            ("9999999999 GT/s", None),
            ("", None),
        ] {
            assert_eq!(transfers(text), speed, "{text:?}");
        }
    }
}
