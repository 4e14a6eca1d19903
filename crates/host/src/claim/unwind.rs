//! Undoes the changes of a claim in reverse, and writes down how each went.
//!
//! A change that cannot be undone holds back those below it that touch the same function, and no others. Called by
//! taking that fails, by releasing, and by recovery.

use std::collections::BTreeSet;
use std::time::Instant;

use linux::sysfs::Tree;
use spec::PciAddress;
use spec::ledger::{Change, Ending, LedgerEvent};

use super::{StepReport, Watcher, describe, place, undo};
use crate::ledger::{Debt, Ledger, LedgerError, StepEntry};
use crate::system::System;

/// Undoes what stands of the claim `name`; closes it as `ending` when nothing is left. The answer is what is owed.
///
/// # Errors
///
/// The ledger cannot be written. All that can be undone has been undone, only the ledger does not know.
pub fn unwind(
    system: &dyn System,
    ledger: &mut Ledger,
    name: &str,
    watcher: &mut dyn Watcher,
    ending: Ending,
) -> Result<Vec<Debt>, LedgerError> {
    let Some(entry) = ledger.book().claim(name) else { return Ok(Vec::new()) };
    let standing: Vec<StepEntry> = entry.standing_steps().cloned().collect();
    // Nobody has used what was not wholly taken.
    let reset = ending == Ending::Released;
    let mut held_back: BTreeSet<PciAddress> = BTreeSet::new();
    let mut debts = Vec::new();
    let mut unwritten = None;
    for step in standing {
        let touched = touched(system.tree(), &step.change);
        if touched.iter().any(|function| held_back.contains(function)) {
            held_back.extend(touched);
            continue;
        }
        let begin = Instant::now();
        let undone = undo::undo(system, &step.change, reset);
        let what = describe::undoing(&step.change);
        let number = step.number;
        let event = match &undone {
            Ok(note) => LedgerEvent::Undone { step: number, note: note.clone() },
            Err(reason) => LedgerEvent::Owe { step: number, reason: reason.clone() },
        };
        if let Err(error) = ledger.append(system.now(), name, event) {
            unwritten = Some(error);
        }
        let failed = undone.err();
        watcher.step(&StepReport { what, undo: true, took: begin.elapsed(), failed: failed.clone() });
        if let Some(reason) = failed {
            held_back.extend(touched);
            debts.push(Debt { claim: name.to_owned(), change: step.change, reason });
        }
    }
    if let Some(error) = unwritten {
        return Err(error);
    }
    if debts.is_empty() {
        ledger.append(system.now(), name, LedgerEvent::Close { how: ending })?;
    }
    Ok(debts)
}

/// The functions that a change has to do with: a virtual one stands on its physical one.
fn touched(tree: &dyn Tree, change: &Change) -> Vec<PciAddress> {
    let Some(function) = describe::function(change) else { return Vec::new() };
    std::iter::once(function).chain(place::physical_function(tree, function)).collect()
}
