//! The last of what each function's messages have become, however late a change of them arrives.
//!
//! Two vCPUs may change one function at once, one of them its mask and one its table. The function numbers the changes
//! under its lock, but they are carried out after that is gone (effects), and there one may overtake the other. So each
//! is carried out as it now stands: what a later one has said of the same vector is not taken back. Here are no vectors'
//! wires, those are `Messages`' and the assigned functions'. The chipset is the caller.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pci::{Change, FunctionId, Message, MsiChange, MsiState, MsixChange};

/// What is known of all functions.
#[derive(Default)]
pub(crate) struct Latest(Mutex<BTreeMap<FunctionId, Arc<Mutex<Known>>>>);

/// What is known of one function, each with the number of the change that said so.
#[derive(Default)]
struct Known {
    msi: Option<(u64, MsiState)>,
    msix: Option<(u64, bool)>,
    vectors: BTreeMap<u16, Option<(u64, Option<Message>)>>,
}

impl Latest {
    /// Calls `follow` with what `change` comes to after those that were followed before, and with one change of the
    /// function at a time.
    pub(crate) fn follow<T>(
        &self,
        id: FunctionId,
        mut change: Change,
        follow: impl FnOnce(&Change) -> T,
    ) -> T {
        let known = Arc::clone(lock(&self.0).entry(id).or_default());
        // Held while KVM and VFIO are told, as those who tell them hold their own anyway: only changes of this function
        // wait, and in no other order would the last one win.
        let mut known = lock(&known);
        match &mut change {
            Change::Msi(change) => known.put_right_msi(change),
            Change::Msix(change) => known.put_right_msix(change),
            _ => {}
        }
        follow(&change)
    }
}

impl Known {
    fn put_right_msi(&mut self, change: &mut MsiChange) {
        change.state = latest(&mut self.msi, change.number, change.state);
    }

    fn put_right_msix(&mut self, change: &mut MsixChange) {
        change.enabled = latest(&mut self.msix, change.number, change.enabled);
        for vector in &mut change.vectors {
            let known = self.vectors.entry(vector.vector).or_default();
            vector.message = latest(known, change.number, vector.message);
        }
    }
}

/// Keeps the later one of what is known and what is told, and gives it.
fn latest<T: Copy>(known: &mut Option<(u64, T)>, number: u64, told: T) -> T {
    match known {
        Some((at, known)) if *at > number => *known,
        _ => known.insert((number, told)).1,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
