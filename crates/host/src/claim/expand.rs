//! What a step of a plan changes on this host as it stands now: the changes in their order, each with what was before.
//!
//! Reading only. What is the case already is left out, so it is not undone later either. Not here: making them.

use linux::sysfs::{Tree, TreeError};
use spec::PciAddress;
use spec::ledger::{Attribute, BusDevice, Change, PortSettings};
use spec::plan::StepAction;

use super::place::{self, ASSIGNMENT_DRIVER};
use super::port;
use crate::system::System;

/// The drivers that firmware's framebuffer can be at (`drivers/video/fbdev`, `drivers/gpu/drm/sysfb`).
const GENERIC_FRAMEBUFFERS: [&str; 4] =
    ["simple-framebuffer", "efi-framebuffer", "vesa-framebuffer", "vga-framebuffer"];

/// Lists the changes that `action` takes.
///
/// # Errors
///
/// Why the host is not as the plan has it, in words.
pub(super) fn expand(system: &dyn System, action: &StepAction) -> Result<Vec<Change>, String> {
    let tree = system.tree();
    match action {
        StepAction::ReserveHugepages { node, page_size, from, to } => {
            let (node, page_size, from, to) = (*node, *page_size, *from, *to);
            Ok(vec![Change::ReserveHugepages { node, page_size, from, to }])
        }
        StepAction::CreateVirtualFunctions { of, count } => create(tree, *of, *count),
        StepAction::ConfigureVirtualFunction { of, index, mac, vlan } => {
            port::changes(system, (*of, *index), PortSettings { mac: *mac, vlan: *vlan })
        }
        StepAction::HandOverConsole { function } => Ok(console(tree, *function)),
        StepAction::KeepPowered { function, .. } => powered(tree, *function),
        StepAction::Unbind { function, driver } => unbind(tree, *function, Some(driver)),
        StepAction::Override { function, driver, .. } => override_driver(tree, *function, driver),
        StepAction::Bind { function, driver } => bind(tree, *function, driver),
        StepAction::BindVirtualFunction { of, index, driver } => {
            let function = place::virtual_function(tree, *of, *index)
                .ok_or_else(|| format!("{of} has no virtual function {index}"))?;
            let mut changes = powered(tree, function)?;
            changes.extend(unbind(tree, function, None)?);
            changes.extend(override_driver(tree, function, driver)?);
            changes.extend(bind(tree, function, driver)?);
            Ok(changes)
        }
        StepAction::StartMachine => Ok(Vec::new()),
    }
}

/// Whether a step needs the driver for assignment and its module is not loaded.
pub(super) fn lacks_assignment_driver(tree: &dyn Tree, steps: &[StepAction]) -> bool {
    let needs = steps.iter().any(|step| match step {
        StepAction::Bind { driver, .. } | StepAction::BindVirtualFunction { driver, .. } => {
            driver == ASSIGNMENT_DRIVER
        }
        _ => false,
    });
    needs && !tree.exists(&format!("/sys/bus/pci/drivers/{ASSIGNMENT_DRIVER}"))
}

/// Only functions that must not get the host's drivers are made, and the switch for that belongs to the card.
fn create(tree: &dyn Tree, of: PciAddress, count: u16) -> Result<Vec<Change>, String> {
    let there = place::number(tree, &format!("{}/sriov_numvfs", place::function(of)))?;
    if there != 0 {
        return Err(format!("{of} has {there} virtual functions by now; plan again"));
    }
    let mut changes = set(tree, Attribute::DriversAutoprobe { function: of }, "0")?;
    changes.push(Change::CreateVirtualFunctions { of, count });
    Ok(changes)
}

/// Lists what `action` takes besides, once its changes are made.
///
/// At its start vfio-pci lets an idle function be suspended, and at its end forbids it again, whatever was set before
/// (`vfio_pci_core_register_device`, drivers/vfio/pci/vfio_pci_core.c).
pub(super) fn afterwards(tree: &dyn Tree, action: &StepAction) -> Result<Vec<Change>, String> {
    let function = match action {
        StepAction::Bind { function, .. } => Some(*function),
        StepAction::BindVirtualFunction { of, index, .. } => place::virtual_function(tree, *of, *index),
        _ => None,
    };
    match function {
        Some(function) => set(tree, Attribute::PowerControl { function }, "on"),
        None => Ok(Vec::new()),
    }
}

fn powered(tree: &dyn Tree, function: PciAddress) -> Result<Vec<Change>, String> {
    // First out of runtime suspend, in which some functions answer nothing.
    let mut changes = set(tree, Attribute::PowerControl { function }, "on")?;
    changes.extend(set(tree, Attribute::D3coldAllowed { function }, "0")?);
    Ok(changes)
}

/// Sets an attribute that may be absent in older kernels or in those built without it.
fn set(tree: &dyn Tree, attribute: Attribute, to: &str) -> Result<Vec<Change>, String> {
    let Some(path) = place::attribute(tree, &attribute) else { return Ok(Vec::new()) };
    match tree.text(&path) {
        Ok(from) if from == to => Ok(Vec::new()),
        Ok(from) => Ok(vec![Change::Set { attribute, from, to: to.to_owned() }]),
        Err(error) if error.errno.is_absent() => Ok(Vec::new()),
        Err(error) => Err(error.to_string()),
    }
}

/// `planned`: the driver that the plan saw; none: whichever it is.
fn unbind(tree: &dyn Tree, function: PciAddress, planned: Option<&str>) -> Result<Vec<Change>, String> {
    let device = BusDevice::Pci { address: function };
    let Some(driver) = place::bound(tree, &device).map_err(text)? else { return Ok(Vec::new()) };
    if driver == ASSIGNMENT_DRIVER {
        return Ok(Vec::new());
    }
    if let Some(planned) = planned.filter(|planned| *planned != driver) {
        return Err(format!("{function} is at the driver {driver} by now and not at {planned}; plan again"));
    }
    let module = place::module_of(tree, &device, &driver);
    Ok(vec![Change::Unbind { device, driver, module }])
}

fn override_driver(tree: &dyn Tree, function: PciAddress, to: &str) -> Result<Vec<Change>, String> {
    let from = place::driver_override(tree, function).map_err(text)?;
    match from.as_deref() == Some(to) {
        true => Ok(Vec::new()),
        false => Ok(vec![Change::Override { function, from, to: to.to_owned() }]),
    }
}

fn bind(tree: &dyn Tree, function: PciAddress, driver: &str) -> Result<Vec<Change>, String> {
    let device = BusDevice::Pci { address: function };
    match place::bound(tree, &device).map_err(text)?.as_deref() == Some(driver) {
        true => Ok(Vec::new()),
        false => Ok(vec![Change::Bind { function, driver: driver.to_owned() }]),
    }
}

/// The console is drawn by its framebuffer's driver, which holds the card's memory; firmware's framebuffer is a
/// platform device whose memory lies in the card's.
fn console(tree: &dyn Tree, function: PciAddress) -> Vec<Change> {
    let generic = generic_framebuffers(tree, function);
    let stays = framebuffers(tree).iter().any(|owner| match owner {
        Owner::Function(address) => *address != function,
        Owner::Platform(name) => !generic.iter().any(|(taken, _)| taken == name),
        Owner::Other => true,
    });
    let mut changes = Vec::new();
    if !stays {
        // With another framebuffer the console moves there by itself.
        let drawn = place::consoles(tree).into_iter().filter(|(name, _)| name.contains("frame buffer"));
        for (name, _) in drawn {
            changes.extend(set(tree, Attribute::ConsoleBound { name }, "0").unwrap_or_default());
        }
    }
    changes.extend(generic.into_iter().map(|(name, driver)| {
        let device = BusDevice::Platform { name };
        let module = place::module_of(tree, &device, &driver);
        Change::Unbind { device, driver, module }
    }));
    changes
}

/// Whose framebuffer it is.
enum Owner {
    Function(PciAddress),
    Platform(String),
    Other,
}

fn framebuffers(tree: &dyn Tree) -> Vec<Owner> {
    let graphics = "/sys/class/graphics";
    let names = tree.list(graphics).unwrap_or_default();
    let is_numbered =
        |name: &String| name.strip_prefix("fb").is_some_and(|number| number.parse::<u32>().is_ok());
    let owner = |name: String| {
        let Ok(path) = tree.canonical(&format!("{graphics}/{name}")) else { return Owner::Other };
        let above: Vec<&str> = path.split('/').collect();
        match above.iter().rev().find_map(|part| part.parse().ok()) {
            Some(address) => Owner::Function(address),
            // /sys/devices/platform/simple-framebuffer.0/graphics/fb0
            None => above
                .iter()
                .position(|part| *part == "platform")
                .and_then(|at| above.get(at + 1))
                .map_or(Owner::Other, |name| Owner::Platform((*name).to_owned())),
        }
    };
    names.into_iter().filter(is_numbered).map(owner).collect()
}

/// The platform devices of firmware's framebuffer with their drivers, when it lies in the memory of this function.
fn generic_framebuffers(tree: &dyn Tree, function: PciAddress) -> Vec<(String, String)> {
    if !crate::inventory::framebuffer_lies_in(tree, function) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for driver in GENERIC_FRAMEBUFFERS {
        let entries = tree.list(&format!("/sys/bus/platform/drivers/{driver}")).unwrap_or_default();
        let devices =
            entries.into_iter().filter(|name| tree.exists(&format!("/sys/bus/platform/devices/{name}")));
        found.extend(devices.map(|name| (name, driver.to_owned())));
    }
    found
}

fn text(error: TreeError) -> String {
    error.to_string()
}
