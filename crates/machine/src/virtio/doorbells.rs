//! The doorbells of a function's queues as ioeventfds, wherever the guest puts the BAR they are in.

use std::sync::Arc;

use linux::EventFd;
use linux::kvm::{IoEvent, Vm};
use pci::Mapping;

use super::pci_layout::BAR;
use crate::pci_host::BarFollower;

/// The doorbells of one function.
pub(crate) struct Doorbells {
    vm: Vm,
    event: Arc<EventFd>,
    offsets: Vec<u64>,
    placed: Vec<IoEvent>,
}

impl Doorbells {
    /// Doorbells at these offsets in the BAR that all signal `event`.
    pub(crate) fn new(vm: &Vm, event: Arc<EventFd>, offsets: impl Iterator<Item = u64>) -> Self {
        Self { vm: vm.clone(), event, offsets: offsets.collect(), placed: Vec::new() }
    }
}

impl BarFollower for Doorbells {
    fn map(&mut self, mapping: &Mapping) {
        if mapping.bar != BAR {
            return;
        }
        // One that KVM has no room for is a trapped write, which the function takes.
        let place = |offset| self.vm.ioevent(mapping.range.start + offset, Arc::clone(&self.event)).ok();
        self.placed = self.offsets.iter().filter_map(place).collect();
    }

    fn unmap(&mut self, mapping: &Mapping) {
        if mapping.bar == BAR {
            self.placed.clear();
        }
    }
}
