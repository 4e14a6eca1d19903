//! Reading the host: every fact of the [`HostInventory`], from a tree of files.
//!
//! Nothing is opened but text and configuration space, nothing is changed, and nothing that cannot be read or
//! believed ends the reading: it becomes an unknown fact with a note. Called by `allod devices`, `doctor`, `plan`
//! and by whoever is about to take a device. Not here: any judgement on the facts.

mod aliases;
mod config;
mod display;
mod edid;
mod holders;
mod iommu;
mod machine;
mod memory;
mod mounts;
mod names;
mod network;
mod open_nodes;
mod pci;
mod processors;
mod reader;
mod routes;
mod shared_folders;
mod sound;
mod storage;
mod usb;

use linux::sysfs::Tree;
use spec::inventory::{Function, HoldKind, HoldStrength, HostInventory, INVENTORY_SCHEMA_VERSION, SrIov};

pub(crate) use display::framebuffer_lies_in;
pub(crate) use open_nodes::process_with;
pub(crate) use pci::slot_path;

use holders::Holders;
use network::Network;
use reader::Reader;
use storage::Storage;

/// Reads everything about the host that `tree` shows.
pub fn read(tree: &dyn Tree) -> HostInventory {
    let reader = Reader::new(tree);
    let host = machine::read(&reader);
    let mut functions = pci::read(&reader, host.kernel.release.as_deref());
    attach(&reader, &mut functions);
    let groups = iommu::groups(&reader);
    for function in &mut functions {
        function.group = function.group.filter(|number| groups.iter().any(|group| group.number == *number));
    }
    HostInventory {
        schema_version: INVENTORY_SCHEMA_VERSION,
        cpus: processors::read(&reader),
        memory: memory::read(&reader),
        iommu: iommu::read(&reader, &functions),
        groups,
        host,
        functions,
        unread: reader.into_unread(),
    }
}

/// Finds what is plugged into the functions and who uses them.
fn attach(reader: &Reader<'_>, functions: &mut [Function]) {
    let mut holders = Holders::default();
    let mut storage = Storage::read(reader);
    storage.name_disks(functions);
    let remotes = storage.hold(&mut holders);
    let network = Network::read(reader);
    network.name_interfaces(functions);
    network.hold(&mut holders, &remotes);
    display::name_connectors(reader, functions);
    display::hold(reader, functions, &mut holders);
    sound::hold(reader, &mut holders);
    usb::read(reader, functions, &mut holders);
    open_nodes::hold(reader, &mut holders);
    for function in &*functions {
        if let Some(SrIov::Physical { functions: made, .. }) = &function.sriov
            && !made.is_empty()
        {
            let count = u16::try_from(made.len()).unwrap_or(u16::MAX);
            holders.add(function.address, HoldStrength::InUse, HoldKind::VirtualFunctions { count });
        }
    }
    holders.settle(functions);
}
