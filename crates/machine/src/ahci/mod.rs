//! Optical drives behind a SATA controller with AHCI (AHCI 1.3.1), for firmware and systems that are to be installed from
//! a disc: they all know these without a driver of their own.
//!
//! Small on purpose: discs are read only, commands are carried out one after another, there are no queued commands, no port
//! multipliers and no hot plugging. Not here: whether a file is a disc (the VMM looks), and PCI's rules (`pci`).

mod controller;
mod drive;
mod fis;
mod function;
mod pages;
mod registers;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use linux::EventFd;
use linux::memory::GuestMemory;

pub(crate) use controller::Controller;
pub(crate) use function::AhciFunction;
pub(crate) use registers::PORT_LIMIT;

use crate::interrupt::InterruptLine;
use crate::storage::Storage;

/// A controller with a drive for each of `discs`.
pub(crate) fn controller(
    discs: Vec<Box<dyn Storage>>,
    memory: Arc<GuestMemory>,
    line: Box<dyn InterruptLine>,
    doorbell: Arc<EventFd>,
) -> Arc<Controller> {
    let drives = discs.into_iter().map(drive::Drive::new).collect();
    Arc::new(Controller::new(drives, memory, line, doorbell))
}
