//! The BARs of an assigned function where the guest has put them: the parts that need no trap, shown as memory.
//!
//! The PCI host says where a BAR lies, and keeps a trap below every one of them; what cannot be shown as memory is
//! answered there, slower and right. Not here: which parts can be shown (`bars`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use linux::vfio::PAGE_SIZE;
use pci::{BarIndex, Mapping};

use super::hardware::Hardware;
use crate::followers::MemoryFollower;
use crate::pci_host::BarFollower;

/// Where the BARs of one function lie, in one life of the machine.
pub(crate) struct BarPlaces {
    hardware: Arc<Hardware>,
    // The processors first, then devices: peers reach the BAR too, where the IOMMU can map it.
    followers: Vec<Box<dyn MemoryFollower>>,
    placed: Mutex<BTreeMap<BarIndex, Placed>>,
}

struct Placed {
    start: u64,
    // Whether the pages it lies in are its own: a BAR below a page is shown with the whole of its page.
    alone: bool,
    // What each follower shows: its number, guest address and length.
    shown: Vec<(usize, u64, u64)>,
}

/// The PCI host's end of [`BarPlaces`]; the other end is the function's.
pub(crate) struct Placement(pub(crate) Arc<BarPlaces>);

impl BarPlaces {
    pub(crate) fn new(hardware: Arc<Hardware>, followers: Vec<Box<dyn MemoryFollower>>) -> Self {
        Self { hardware, followers, placed: Mutex::default() }
    }

    /// Shows what can be shown of `bar` at `start`.
    fn place(&self, bar: BarIndex, start: u64) {
        // Whether a small one is alone is told right after.
        let mut placed = Placed { start, alone: !self.is_small(bar), shown: Vec::new() };
        let mut all = self.lock();
        if let Some(mut before) = all.remove(&bar) {
            self.hide_one(&mut before);
        }
        self.show_one(bar, &mut placed);
        all.insert(bar, placed);
    }

    /// Shows `bar` no longer.
    fn displace(&self, bar: BarIndex) {
        if let Some(mut placed) = self.lock().remove(&bar) {
            self.hide_one(&mut placed);
        }
    }

    /// Shows a BAR below a page while no other is in its page of the guest.
    fn share(&self, bar: BarIndex, shares: bool) {
        let mut all = self.lock();
        let Some(placed) = all.get_mut(&bar) else { return };
        placed.alone = !shares;
        match placed.alone {
            true if placed.shown.is_empty() => self.show_one(bar, placed),
            true => {}
            false => self.hide_one(placed),
        }
    }

    fn is_small(&self, bar: BarIndex) -> bool {
        self.hardware.mappable(bar).iter().any(|area| area.size < PAGE_SIZE)
    }

    /// Takes all of it away from the guest, until [`show`](Self::show) or until it is placed anew.
    pub(crate) fn hide(&self) {
        for placed in self.lock().values_mut() {
            self.hide_one(placed);
        }
    }

    /// Shows again what was hidden.
    pub(crate) fn show(&self) {
        for (bar, placed) in self.lock().iter_mut().filter(|(_, placed)| placed.shown.is_empty()) {
            self.show_one(*bar, placed);
        }
    }

    fn show_one(&self, bar: BarIndex, placed: &mut Placed) {
        if !placed.alone || !placed.start.is_multiple_of(PAGE_SIZE) {
            return;
        }
        for area in self.hardware.mappable(bar) {
            let Ok(memory) = self.hardware.map(bar, *area) else { continue };
            let Some(guest) = placed.start.checked_add(area.offset) else { continue };
            for (number, follower) in self.followers.iter().enumerate() {
                // A follower that cannot take it leaves the processors to the trap below, and peers without it.
                if follower.show(guest, &memory).is_ok() {
                    placed.shown.push((number, guest, memory.len() as u64));
                }
            }
        }
    }

    fn hide_one(&self, placed: &mut Placed) {
        // Devices first, as nothing tells when they are done; then the processors.
        while let Some((number, guest, len)) = placed.shown.pop() {
            let Some(follower) = self.followers.get(number) else { continue };
            if let Err(error) = follower.hide(guest, len) {
                self.hardware.health.end_machine(&format!("a BAR cannot be taken from the guest: {error}"));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<BarIndex, Placed>> {
        self.placed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BarFollower for Placement {
    fn map(&mut self, mapping: &Mapping) {
        self.0.place(mapping.bar, mapping.range.start);
    }

    fn unmap(&mut self, mapping: &Mapping) {
        self.0.displace(mapping.bar);
    }

    fn share_page(&mut self, mapping: &Mapping, shares: bool) {
        self.0.share(mapping.bar, shares);
    }
}
