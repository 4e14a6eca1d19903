//! Makes one change of the host.
//!
//! Not here: writing it down before (the parent), and undoing it.

use linux::sysfs::Tree;
use spec::ledger::{BusDevice, Change};

use super::{place, port};
use crate::system::System;

/// Why a change was not made, or not wholly.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotMade {
    /// Nothing was changed, or it was put back already.
    Surely(String),
    /// It has to be undone, which looks at what is the case.
    Perhaps(String),
}

/// Makes `change`.
pub(super) fn make(system: &dyn System, change: &Change) -> Result<(), NotMade> {
    let tree = system.tree();
    match change {
        Change::LoadModule { module } => system.load_module(module).map_err(NotMade::Surely),
        Change::Unbind { device, driver, .. } => {
            let path = format!("{}/unbind", place::driver(device, driver));
            write(tree, &path, &place::name(device))?;
            expect(tree, device, None)
        }
        Change::Override { function, to, .. } => {
            write(tree, &format!("{}/driver_override", place::function(*function)), to)
        }
        Change::Bind { function, driver } => {
            let device = BusDevice::Pci { address: *function };
            let path = format!("{}/bind", place::driver(&device, driver));
            write(tree, &path, &function.to_string())?;
            expect(tree, &device, Some(driver))
        }
        Change::Set { attribute, to, .. } => match place::attribute(tree, attribute) {
            Some(path) => write(tree, &path, to),
            None => Err(NotMade::Surely("it is not there any more".to_owned())),
        },
        Change::ReserveHugepages { node, page_size, from, to } => {
            hugepages(tree, &place::hugepages(*node, *page_size), *from, *to)
        }
        Change::CreateVirtualFunctions { of, count } => {
            write(tree, &format!("{}/sriov_numvfs", place::function(*of)), &count.to_string())
        }
        Change::ConfigureVirtualFunction { of, index, to, .. } => {
            port::set(system, (*of, *index), to).map_err(NotMade::Perhaps)
        }
    }
}

fn write(tree: &dyn Tree, path: &str, text: &str) -> Result<(), NotMade> {
    tree.write(path, text.as_bytes()).map_err(|error| NotMade::Perhaps(error.to_string()))
}

/// Checks that a device is bound as it should be: a driver's own failure to start does not always come back as an
/// error of the write.
fn expect(tree: &dyn Tree, device: &BusDevice, driver: Option<&str>) -> Result<(), NotMade> {
    let bound = place::bound(tree, device).map_err(|error| NotMade::Perhaps(error.to_string()))?;
    if bound.as_deref() == driver {
        return Ok(());
    }
    let at = bound.map_or("at no driver".to_owned(), |bound| format!("at the driver {bound}"));
    Err(NotMade::Perhaps(format!("the kernel reports success, but {} is {at}", place::name(device))))
}

/// The kernel gives as many pages as it finds and reports success all the same.
fn hugepages(tree: &dyn Tree, path: &str, from: u64, to: u64) -> Result<(), NotMade> {
    let surely = NotMade::Surely;
    let now = place::number(tree, path).map_err(surely)?;
    if now != from {
        return Err(NotMade::Surely(format!("{now} are reserved now and not {from}; plan again")));
    }
    let write = |count: u64| tree.write(path, count.to_string().as_bytes());
    if let Err(error) = write(to) {
        return Err(NotMade::Surely(error.to_string()));
    }
    let got = place::number(tree, path).map_err(NotMade::Perhaps)?;
    if got >= to {
        return Ok(());
    }
    let found = format!("the kernel found only {} of {} in a row", got.saturating_sub(from), to - from);
    match write(from) {
        Ok(()) => Err(NotMade::Surely(found)),
        Err(error) => Err(NotMade::Perhaps(format!("{found}; {error}"))),
    }
}
