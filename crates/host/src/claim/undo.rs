//! Undoes one change of the host: looks how it stands, and does only what is still to be done.
//!
//! So undoing twice, or what was never made, is harmless, and what others have changed since is theirs. Not here: the
//! order of undoing, and writing down that it is done.

use std::time::Duration;

use linux::sysfs::Tree;
use spec::PciAddress;
use spec::ledger::{Attribute, BusDevice, Change};

use super::{place, port};
use crate::system::System;

/// How long a process that is ending may take to let a device go.
const LET_GO: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Undoes `change`. `reset`: the function may have been used, so it is reset before its old driver gets it.
///
/// The answer is a note when something was found that is not as it was left.
///
/// # Errors
///
/// Why it could not be undone, for the ledger.
pub(super) fn undo(system: &dyn System, change: &Change, reset: bool) -> Result<Option<String>, String> {
    let tree = system.tree();
    if let Some(gone) = gone(tree, change) {
        return Ok(Some(gone));
    }
    match change {
        Change::LoadModule { .. } => Ok(None),
        Change::Unbind { device, driver, module } => bind_again(system, device, driver, module.as_deref()),
        Change::Override { function, from, to } => {
            if place::driver_override(tree, *function).map_err(text)?.as_deref() != Some(to) {
                return Ok(None);
            }
            let path = format!("{}/driver_override", place::function(*function));
            // An empty line takes the override away.
            let before = from.as_deref().unwrap_or("\n");
            tree.write(&path, before.as_bytes()).map(|()| None).map_err(text)
        }
        Change::Bind { function, driver } => unbind(system, *function, driver, reset),
        Change::Set { attribute, from, to } => set_back(tree, attribute, from, to),
        Change::ReserveHugepages { node, page_size, from, to } => {
            let path = place::hugepages(*node, *page_size);
            let now = place::number(tree, &path)?;
            let less = now.saturating_sub(to.saturating_sub(*from));
            tree.write(&path, less.to_string().as_bytes()).map(|()| None).map_err(text)
        }
        Change::CreateVirtualFunctions { of, count } => {
            let path = format!("{}/sriov_numvfs", place::function(*of));
            match place::number(tree, &path)? {
                0 => Ok(None),
                now if now == u64::from(*count) => tree.write(&path, b"0").map(|()| None).map_err(text),
                now => {
                    Ok(Some(format!("{now} virtual functions are there and not {count}: left as they are")))
                }
            }
        }
        Change::ConfigureVirtualFunction { of, index, from, to } => {
            port::set_back(system, (*of, *index), from, to)
        }
    }
}

fn text(error: linux::sysfs::TreeError) -> String {
    error.to_string()
}

/// A device that is not there any more has nothing that could be undone.
fn gone(tree: &dyn Tree, change: &Change) -> Option<String> {
    let device = match change {
        Change::Unbind { device, .. } => device.clone(),
        _ => BusDevice::Pci { address: super::describe::function(change)? },
    };
    (!tree.exists(&place::device(&device))).then(|| format!("{} is not there any more", place::name(&device)))
}

fn bind_again(
    system: &dyn System,
    device: &BusDevice,
    driver: &str,
    module: Option<&str>,
) -> Result<Option<String>, String> {
    let tree = system.tree();
    match place::bound(tree, device).map_err(text)? {
        Some(bound) if bound == driver => return Ok(None),
        Some(bound) => return Ok(Some(format!("{} is at the driver {bound} already", place::name(device)))),
        None => {}
    }
    let directory = place::driver(device, driver);
    if !tree.exists(&directory)
        && let Some(module) = module
    {
        system.load_module(module)?;
    }
    let written = tree.write(&format!("{directory}/bind"), place::name(device).as_bytes());
    match place::bound(tree, device).map_err(text)? {
        Some(bound) if bound == driver => Ok(None),
        // Loading the module may have let another driver have it.
        Some(bound) => Ok(Some(format!("{} is at the driver {bound} now", place::name(device)))),
        None => Err(match written {
            Err(error) => error.to_string(),
            Ok(()) => format!("the driver {driver} did not take it; `dmesg` may say why"),
        }),
    }
}

fn unbind(
    system: &dyn System,
    function: PciAddress,
    driver: &str,
    reset: bool,
) -> Result<Option<String>, String> {
    let tree = system.tree();
    let device = BusDevice::Pci { address: function };
    if place::bound(tree, &device).map_err(text)?.as_deref() != Some(driver) {
        return Ok(None);
    }
    // The kernel waits for the user of an open function without an end (vfio_unregister_group_dev,
    // drivers/vfio/vfio_main.c), and a process that waits there cannot even be killed.
    wait_until_free(system, function)?;
    let reset_file = format!("{}/reset", place::function(function));
    if reset && tree.exists(&reset_file) {
        tree.write(&reset_file, b"1").map_err(text)?;
    }
    let path = format!("{}/unbind", place::driver(&device, driver));
    let written = tree.write(&path, function.to_string().as_bytes());
    match place::bound(tree, &device).map_err(text)? {
        Some(bound) if bound == driver => Err(written.map_or_else(text, |()| {
            format!("the kernel reports success, but {function} is still at the driver {driver}")
        })),
        _ => Ok(None),
    }
}

fn wait_until_free(system: &dyn System, function: PciAddress) -> Result<(), String> {
    let mut waited = Duration::ZERO;
    while let Some(process) = place::user(system.tree(), function) {
        if waited >= LET_GO {
            return Err(format!("{process} has it open"));
        }
        system.pause(LOOK_EVERY);
        waited += LOOK_EVERY;
    }
    Ok(())
}

fn set_back(tree: &dyn Tree, attribute: &Attribute, from: &str, to: &str) -> Result<Option<String>, String> {
    let Some(path) = place::attribute(tree, attribute) else {
        // A console driver goes with its last framebuffer; with the next one it comes back bound.
        return Ok(Some("it is not there any more".to_owned()));
    };
    let now = tree.text(&path).map_err(text)?;
    if now != to {
        return Ok((now != from).then(|| format!("it is {now} by now, and stays so")));
    }
    tree.write(&path, from.as_bytes()).map(|()| None).map_err(text)
}
