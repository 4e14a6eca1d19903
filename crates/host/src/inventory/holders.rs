//! The holds found so far, by function, and putting them where they belong.

use std::collections::BTreeMap;

use spec::PciAddress;
use spec::inventory::{Function, Hold, HoldKind, HoldStrength};

/// The most holds that are kept for one function; the strongest stay.
const MOST_HOLDS: usize = 64;

/// Holds by function.
#[derive(Default)]
pub(super) struct Holders {
    holds: BTreeMap<PciAddress, Vec<Hold>>,
}

impl Holders {
    /// Adds a hold on `function`, unless the same is there already.
    pub(super) fn add(&mut self, function: PciAddress, strength: HoldStrength, kind: HoldKind) {
        let holds = self.holds.entry(function).or_default();
        let hold = Hold { strength, kind };
        if !holds.contains(&hold) {
            holds.push(hold);
        }
    }

    /// The functions that have a hold of which `wanted` is true.
    pub(super) fn functions_with(&self, wanted: impl Fn(&HoldKind) -> bool) -> Vec<PciAddress> {
        let found = self.holds.iter().filter(|(_, holds)| holds.iter().any(|hold| wanted(&hold.kind)));
        found.map(|(function, _)| *function).collect()
    }

    /// Moves the holds into their functions, the strongest first.
    pub(super) fn settle(mut self, functions: &mut [Function]) {
        for function in functions {
            let mut holds = self.holds.remove(&function.address).unwrap_or_default();
            holds.sort_by_key(|hold| std::cmp::Reverse(hold.strength));
            holds.truncate(MOST_HOLDS);
            function.holds = holds;
        }
    }
}
