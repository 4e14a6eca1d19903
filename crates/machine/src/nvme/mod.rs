//! Disks as NVMe controllers (NVM Express 1.4), each with one namespace: all systems and firmware of today know them
//! without a driver of their own.
//!
//! The part of the standard that drivers need: an admin queue, a few pairs of others, memory described by page lists, a
//! cache that is flushed. Not here: files (`linux::disk`), image formats (`storage`), and PCI's rules (`pci`).

mod command;
mod controller;
mod function;
mod identify;
mod state;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use linux::EventFd;
use linux::memory::GuestMemory;

pub(crate) use controller::Controller;
pub(crate) use function::NvmeFunction;

use crate::messages::Triggers;
use crate::storage::Storage;

/// A disk to be shown.
pub(crate) struct NvmeDisk {
    /// Its name in messages, and its serial number.
    pub(crate) name: String,
    /// Its number among the machine's disks.
    pub(crate) number: u8,
    pub(crate) storage: Box<dyn Storage>,
    pub(crate) read_only: bool,
}

/// A controller with `disk` behind it.
pub(crate) fn controller(
    disk: NvmeDisk,
    memory: Arc<GuestMemory>,
    triggers: Triggers,
    doorbell: Arc<EventFd>,
) -> Arc<Controller> {
    let NvmeDisk { name, number, storage, read_only } = disk;
    let blocks = storage.len() >> identify::BLOCK_BITS;
    let facts = identify::Facts { name, number, blocks, read_only };
    Arc::new(Controller::new(storage, facts, memory, triggers, doorbell))
}
