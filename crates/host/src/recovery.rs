//! What is done at the next start about claims whose process died, and about what is owed.
//!
//! Called with the ledger's lock by everything that is about to take or release, before it does. Not here: undoing.

use spec::ledger::{Ending, Keeper, LedgerEvent};
use spec::plan::ClaimState;

use crate::claim::{self, Watcher};
use crate::ledger::{ClaimEntry, Debt, Ledger, LedgerError};
use crate::system::System;

/// What recovery found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The claims that it gave back.
    pub released: Vec<String>,
    /// The claims of an earlier start of the host, of which nothing was left.
    pub forgotten: Vec<String>,
    /// What still could not be undone.
    pub debts: Vec<Debt>,
}

/// Gives back whatever nobody keeps any more, and tries again what is owed.
///
/// # Errors
///
/// The ledger cannot be written.
pub fn recover(
    system: &dyn System,
    ledger: &mut Ledger,
    watcher: &mut dyn Watcher,
) -> Result<Recovered, LedgerError> {
    let boot = system.boot();
    let mut recovered = Recovered::default();
    for entry in in_order(ledger) {
        let name = entry.record.seat.clone();
        if ledger.book().claim(&name).is_none() {
            // It went with the last claim that needed it.
            recovered.released.push(name);
            continue;
        }
        if entry.boot != boot {
            // The kernel that was changed is gone, and with it every change.
            ledger.append(system.now(), &name, LedgerEvent::Close { how: Ending::HostRestarted })?;
            recovered.forgotten.push(name);
            continue;
        }
        if stands(system, ledger, &entry) {
            continue;
        }
        // Who holds the lock knows that nobody else is at it: what is half done stays so unless it is ended here.
        let ending = match entry.record.state {
            ClaimState::Taking => Ending::NotTaken,
            _ => Ending::Released,
        };
        let debts = claim::unwind(system, ledger, &name, watcher, ending)?;
        if debts.is_empty() {
            recovered.released.push(name);
            if let Some(ground) = &entry.rests_on {
                recovered.debts.extend(claim::release_ground(system, ledger, ground, watcher)?);
            }
        }
        recovered.debts.extend(debts);
    }
    Ok(recovered)
}

/// The claims that need others come before those.
fn in_order(ledger: &Ledger) -> Vec<ClaimEntry> {
    let mut entries: Vec<ClaimEntry> = ledger.book().claims().cloned().collect();
    entries.sort_by_key(|entry| entry.rests_on.is_none());
    entries
}

fn stands(system: &dyn System, ledger: &Ledger, entry: &ClaimEntry) -> bool {
    let needed = ledger.book().resting_on(&entry.record.seat).next().is_some();
    let kept = match &entry.keeper {
        Some(Keeper::Hand) => true,
        Some(Keeper::Process(process)) => system.is_alive(*process),
        None => false,
    };
    needed || entry.record.state == ClaimState::Taken && kept
}
