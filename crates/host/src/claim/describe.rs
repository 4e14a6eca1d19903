//! A change in words, for progress, errors and listings.

use spec::PciAddress;
use spec::ledger::{Attribute, BusDevice, Change, PortSettings};

use super::place;

/// What making a change does, as `unbind 0000:01:00.0 from nvme`.
pub fn making(change: &Change) -> String {
    match change {
        Change::LoadModule { module } => format!("load the module {module}"),
        Change::Unbind { device, driver, .. } => format!("unbind {} from {driver}", place::name(device)),
        Change::Override { function, to, .. } => format!("reserve {function} for {to}"),
        Change::Bind { function, driver } => format!("bind {function} to {driver}"),
        Change::Set { attribute, to, .. } => format!("set {} to {to}", named(attribute)),
        Change::ReserveHugepages { node, page_size, from, to } => {
            format!("raise the huge pages of {page_size}{} from {from} to {to}", on(*node))
        }
        Change::CreateVirtualFunctions { of, count } => format!("make {count} virtual functions of {of}"),
        Change::ConfigureVirtualFunction { of, index, to, .. } => {
            format!("give virtual function {index} of {of} {}", port(to))
        }
    }
}

/// What undoing a change does, as `bind 0000:01:00.0 to nvme again`.
pub fn undoing(change: &Change) -> String {
    match change {
        Change::LoadModule { module } => format!("leave the module {module} loaded"),
        Change::Unbind { device, driver, .. } => format!("bind {} to {driver} again", place::name(device)),
        Change::Override { function, from, to } => match from {
            Some(from) => format!("reserve {function} for {from} again"),
            None => format!("reserve {function} for {to} no longer"),
        },
        Change::Bind { function, driver } => format!("reset {function} and unbind it from {driver}"),
        Change::Set { attribute, from, .. } => format!("set {} back to {from}", named(attribute)),
        Change::ReserveHugepages { node, page_size, from, to } => {
            format!("give {} huge pages of {page_size}{} back", to - from.min(to), on(*node))
        }
        Change::CreateVirtualFunctions { of, .. } => format!("remove the virtual functions of {of}"),
        Change::ConfigureVirtualFunction { of, index, from, .. } => {
            format!("give virtual function {index} of {of} {} again", port(from))
        }
    }
}

/// The function a change is about, if it is about one.
pub(super) fn function(change: &Change) -> Option<PciAddress> {
    match change {
        Change::Unbind { device: BusDevice::Pci { address }, .. } => Some(*address),
        Change::Override { function, .. } | Change::Bind { function, .. } => Some(*function),
        Change::CreateVirtualFunctions { of, .. } | Change::ConfigureVirtualFunction { of, .. } => Some(*of),
        Change::Set { attribute, .. } => match attribute {
            Attribute::PowerControl { function }
            | Attribute::D3coldAllowed { function }
            | Attribute::ResetMethod { function }
            | Attribute::DriversAutoprobe { function } => Some(*function),
            Attribute::ConsoleBound { .. } => None,
        },
        Change::LoadModule { .. } | Change::Unbind { .. } | Change::ReserveHugepages { .. } => None,
    }
}

fn named(attribute: &Attribute) -> String {
    match attribute {
        Attribute::PowerControl { function } => format!("power/control of {function}"),
        Attribute::D3coldAllowed { function } => format!("d3cold_allowed of {function}"),
        Attribute::ResetMethod { function } => format!("reset_method of {function}"),
        Attribute::DriversAutoprobe { function } => format!("sriov_drivers_autoprobe of {function}"),
        Attribute::ConsoleBound { name } => format!("the console `{name}`"),
    }
}

fn port(settings: &PortSettings) -> String {
    let vlan = match settings.vlan {
        None => String::new(),
        Some(0) => " without a VLAN".to_owned(),
        Some(vlan) => format!(" in VLAN {vlan}"),
    };
    settings.mac.map_or_else(|| format!("no address{vlan}"), |mac| format!("the address {mac}{vlan}"))
}

fn on(node: Option<u32>) -> String {
    node.map_or(String::new(), |node| format!(" on node {node}"))
}
