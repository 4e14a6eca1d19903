//! Where things are in sysfs, and how they stand now: drivers, overrides, attributes, who has a group open.
//!
//! Reading only. Called by everything in `claim`.

use linux::sysfs::{Tree, TreeError};
use spec::ledger::{Attribute, BusDevice};
use spec::{Bytes, PciAddress};

/// The driver that lets a function be given to a machine.
pub(crate) const ASSIGNMENT_DRIVER: &str = "vfio-pci";

/// The consoles of the virtual terminals.
const CONSOLES: &str = "/sys/class/vtconsole";

/// The directory of a function.
pub(crate) fn function(address: PciAddress) -> String {
    format!("/sys/bus/pci/devices/{address}")
}

/// The directory of a device.
pub(crate) fn device(device: &BusDevice) -> String {
    match device {
        BusDevice::Pci { address } => function(*address),
        BusDevice::Platform { name } => format!("/sys/bus/platform/devices/{name}"),
    }
}

/// The name of a device on its bus, which is what `bind` and `unbind` want.
pub(crate) fn name(device: &BusDevice) -> String {
    match device {
        BusDevice::Pci { address } => address.to_string(),
        BusDevice::Platform { name } => name.clone(),
    }
}

/// The directory of a driver on the bus of a device.
pub(crate) fn driver(device: &BusDevice, driver: &str) -> String {
    let bus = match device {
        BusDevice::Pci { .. } => "pci",
        BusDevice::Platform { .. } => "platform",
    };
    format!("/sys/bus/{bus}/drivers/{driver}")
}

/// The driver that a device is bound to now.
///
/// # Errors
///
/// What the kernel says, unless it is that there is none.
pub(crate) fn bound(tree: &dyn Tree, which: &BusDevice) -> Result<Option<String>, TreeError> {
    match tree.read_link(&format!("{}/driver", device(which))) {
        Ok(target) => Ok(target.rsplit('/').next().map(str::to_owned)),
        Err(error) if error.errno.is_absent() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The module of a driver; none when it is built in.
pub(crate) fn module_of(tree: &dyn Tree, which: &BusDevice, name: &str) -> Option<String> {
    let link = tree.read_link(&format!("{}/module", driver(which, name))).ok()?;
    link.rsplit('/').next().map(str::to_owned)
}

/// What `driver_override` holds; the kernel writes an unset one as `(null)`.
///
/// # Errors
///
/// What the kernel says.
pub(crate) fn driver_override(tree: &dyn Tree, address: PciAddress) -> Result<Option<String>, TreeError> {
    let text = tree.text(&format!("{}/driver_override", function(address)))?;
    Ok(Some(text).filter(|text| !text.is_empty() && text != "(null)"))
}

/// The file of an attribute; `None` when the console it belongs to is not there.
pub(crate) fn attribute(tree: &dyn Tree, which: &Attribute) -> Option<String> {
    let of = |address: &PciAddress, name: &str| Some(format!("{}/{name}", function(*address)));
    match which {
        Attribute::PowerControl { function } => of(function, "power/control"),
        Attribute::D3coldAllowed { function } => of(function, "d3cold_allowed"),
        Attribute::ResetMethod { function } => of(function, "reset_method"),
        Attribute::DriversAutoprobe { function } => of(function, "sriov_drivers_autoprobe"),
        Attribute::ConsoleBound { name } => {
            consoles(tree).into_iter().find(|(found, _)| found == name).map(|(_, file)| file)
        }
    }
}

/// The console drivers of the virtual terminals: the name and the file that binds each.
pub(crate) fn consoles(tree: &dyn Tree) -> Vec<(String, String)> {
    let numbers = tree.list(CONSOLES).unwrap_or_default();
    let console = |number: String| {
        let name = tree.text(&format!("{CONSOLES}/{number}/name")).ok()?;
        Some((name, format!("{CONSOLES}/{number}/bind")))
    };
    numbers.into_iter().filter(|number| number.starts_with("vtcon")).filter_map(console).collect()
}

/// The file that holds the number of reserved huge pages.
pub(crate) fn hugepages(node: Option<u32>, page_size: Bytes) -> String {
    let pool = format!("hugepages/hugepages-{}kB/nr_hugepages", page_size.0 / 1024);
    match node {
        Some(node) => format!("/sys/devices/system/node/node{node}/{pool}"),
        None => format!("/sys/kernel/mm/{pool}"),
    }
}

/// Reads a number.
///
/// # Errors
///
/// What is wrong, for a message.
pub(crate) fn number(tree: &dyn Tree, path: &str) -> Result<u64, String> {
    let text = tree.text(path).map_err(|error| error.to_string())?;
    text.parse().map_err(|_| format!("{path} holds `{text}`, which is no number"))
}

/// The virtual function with this index; `None` when it is not there.
pub(crate) fn virtual_function(tree: &dyn Tree, of: PciAddress, index: u16) -> Option<PciAddress> {
    let link = tree.read_link(&format!("{}/virtfn{index}", function(of))).ok()?;
    link.rsplit('/').next()?.parse().ok()
}

/// The physical function of a virtual one.
pub(crate) fn physical_function(tree: &dyn Tree, address: PciAddress) -> Option<PciAddress> {
    let link = tree.read_link(&format!("{}/physfn", function(address))).ok()?;
    link.rsplit('/').next()?.parse().ok()
}

/// The IOMMU group of a function.
pub(crate) fn group(tree: &dyn Tree, address: PciAddress) -> Option<u32> {
    let link = tree.read_link(&format!("{}/iommu_group", function(address))).ok()?;
    link.rsplit('/').next()?.parse().ok()
}

/// A process that has the VFIO files of a function open, as `name (pid)`.
pub(crate) fn user(tree: &dyn Tree, address: PciAddress) -> Option<String> {
    let group = group(tree, address).map(|group| format!("/dev/vfio/{group}"));
    let own = tree.list(&format!("{}/vfio-dev", function(address))).unwrap_or_default();
    let nodes: Vec<String> =
        own.into_iter().map(|name| format!("/dev/vfio/devices/{name}")).chain(group).collect();
    crate::inventory::process_with(tree, &nodes)
}
