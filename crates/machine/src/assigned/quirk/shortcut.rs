//! Writes that a guest repeats at a trapped register, carried to the hardware by the kernel from then on.
//!
//! NVIDIA's drivers acknowledge each MSI by such a write (QEMU commit 2b1dbd0d7250: 90 to 95 % of the speed without a trap).
//! The bell rings in KVM, and VFIO writes: no exit to user space is left.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use linux::EventFd;
use linux::event::{fd_of, new_event};
use linux::vfio::RegionIndex;
use pci::{BarIndex, Mapping};

use super::super::hardware::Hardware;
use crate::pci_host::BarFollower;

/// A write repeated this often in a row is worth a shortcut.
const REPEATED: u32 = 10;
/// Shortcuts of one function at most: each is a place that KVM looks at for every trapped write.
const LIMIT: usize = 10;

/// Rings an event when the guest writes a dword to an address, until dropped; `None` when KVM has no room.
pub(crate) type Bell = Box<dyn Fn(u64, u32, Arc<EventFd>) -> Option<Box<dyn Send>> + Send + Sync>;

/// The shortcuts of one function in one life.
pub(crate) struct Shortcuts {
    hardware: Arc<Hardware>,
    bell: Bell,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: Option<DwordWrite>,
    repeats: u32,
    made: Vec<Shortcut>,
    placed: BTreeMap<BarIndex, u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct DwordWrite {
    bar: BarIndex,
    offset: u64,
    value: u32,
}

struct Shortcut {
    write: DwordWrite,
    event: Arc<EventFd>,
    // While the BAR is somewhere.
    bell: Option<Box<dyn Send>>,
}

impl Shortcuts {
    /// None yet.
    pub(crate) fn new(hardware: Arc<Hardware>, bell: Bell) -> Self {
        Self { hardware, bell, state: Mutex::default() }
    }

    /// Notes a dword that the guest has written to a trapped register, whose effect on the hardware is all it has.
    pub(crate) fn note(&self, bar: BarIndex, offset: u64, value: u32) {
        let mut state = self.lock();
        let write = DwordWrite { bar, offset, value };
        if state.last != Some(write) {
            (state.last, state.repeats) = (Some(write), 1);
            return;
        }
        state.repeats = state.repeats.saturating_add(1);
        // Asked for once: what did not work then is trapped, which works too.
        if state.repeats == REPEATED && state.made.len() < LIMIT {
            self.make(&mut state, write);
        }
    }

    fn make(&self, state: &mut State, write: DwordWrite) {
        let Ok(event) = new_event().map(Arc::new) else { return };
        let region = RegionIndex(write.bar.get().into());
        let device = self.hardware.device.as_ref();
        if device.write_on_event(region, write.offset, write.value, Some(fd_of(&event))).is_err() {
            return;
        }
        let place = state.placed.get(&write.bar).copied();
        let bell = place.and_then(|place| self.ring(place, write, &event));
        state.made.push(Shortcut { write, event, bell });
    }

    fn ring(&self, place: u64, write: DwordWrite, event: &Arc<EventFd>) -> Option<Box<dyn Send>> {
        (self.bell)(place.checked_add(write.offset)?, write.value, Arc::clone(event))
    }

    /// Forgets all, as a reset of the function does.
    pub(crate) fn forget(&self) {
        let mut state = self.lock();
        state.last = None;
        for Shortcut { write, .. } in std::mem::take(&mut state.made) {
            let region = RegionIndex(write.bar.get().into());
            // A function that is gone has forgotten it too.
            let _ = self.hardware.device.write_on_event(region, write.offset, write.value, None);
        }
    }

    fn place(&self, bar: BarIndex, place: Option<u64>) {
        let mut state = self.lock();
        match place {
            Some(place) => state.placed.insert(bar, place),
            None => state.placed.remove(&bar),
        };
        for shortcut in state.made.iter_mut().filter(|shortcut| shortcut.write.bar == bar) {
            shortcut.bell = place.and_then(|place| self.ring(place, shortcut.write, &shortcut.event));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BarFollower for Arc<Shortcuts> {
    fn map(&mut self, mapping: &Mapping) {
        self.place(mapping.bar, Some(mapping.range.start));
    }

    fn unmap(&mut self, mapping: &Mapping) {
        self.place(mapping.bar, None);
    }
}
