//! What the planner stands on: its inputs, with the questions that every part of it asks of them.
//!
//! Not here: any decision. Made once per plan by the crate root.

use std::collections::BTreeMap;

use spec::PciAddress;
use spec::inventory::{Function, FunctionKind, HostInventory};
use spec::plan::{Candidate, ClaimKind, ClaimRecord, ClaimState, TrialRecord};
use spec::seat_file::SeatFile;

/// The driver that lets a function be given to a machine.
pub(crate) const ASSIGNMENT_DRIVER: &str = "vfio-pci";

/// The most bridges above a function: each needs a bus number of its own, and a domain has 256.
const MAX_DEPTH: usize = 256;

/// The inputs of one plan.
pub(crate) struct Ground<'a> {
    pub(crate) inventory: &'a HostInventory,
    pub(crate) file: &'a SeatFile,
    pub(crate) claims: &'a [ClaimRecord],
    pub(crate) trials: &'a [TrialRecord],
    by_address: BTreeMap<PciAddress, &'a Function>,
}

impl<'a> Ground<'a> {
    /// Lays the inputs ready.
    pub(crate) fn new(
        inventory: &'a HostInventory,
        file: &'a SeatFile,
        claims: &'a [ClaimRecord],
        trials: &'a [TrialRecord],
    ) -> Self {
        let by_address =
            inventory.functions.iter().rev().map(|function| (function.address, function)).collect();
        Self { inventory, file, claims, trials, by_address }
    }

    /// The function at `address`; of two in a document that contradicts itself, the first.
    pub(crate) fn function(&self, address: PciAddress) -> Option<&'a Function> {
        self.by_address.get(&address).copied()
    }

    /// All functions once, in rising order of address.
    pub(crate) fn functions(&self) -> impl Iterator<Item = &'a Function> + '_ {
        self.by_address.values().copied()
    }

    /// The functions behind `bridge` that are no bridges: what a reset of its secondary bus reaches.
    pub(crate) fn behind(&self, bridge: PciAddress) -> Vec<&'a Function> {
        let below = |function: &&Function| {
            let mut above = function.parent;
            // A document from outside may name a loop of parents.
            for _ in 0..MAX_DEPTH {
                match above {
                    Some(address) if address == bridge => return true,
                    Some(address) => above = self.function(address).and_then(|function| function.parent),
                    None => return false,
                }
            }
            false
        };
        self.functions().filter(|function| is_device(function)).filter(below).collect()
    }

    /// The functions of IOMMU group `number`, by the group's list and by what the functions say.
    pub(crate) fn group_members(&self, number: u32) -> Vec<&'a Function> {
        let listed = self.inventory.groups.iter().filter(|group| group.number == number);
        let listed: Vec<PciAddress> = listed.flat_map(|group| group.functions.iter().copied()).collect();
        let belongs =
            |function: &&Function| function.group == Some(number) || listed.contains(&function.address);
        self.functions().filter(belongs).collect()
    }

    /// The seat, not of this file, whose standing claim has `address`.
    pub(crate) fn claimed_by(&self, address: PciAddress) -> Option<&'a ClaimRecord> {
        let has = |claim: &&ClaimRecord| claim.functions.iter().any(|claimed| claimed.address == address);
        self.claims.iter().find(has)
    }
}

/// How a claim is ended.
pub(crate) fn end_of(claim: &ClaimRecord) -> String {
    match claim.kind {
        ClaimKind::Seat if claim.state != ClaimState::Debt => format!("allod down {}", claim.seat),
        _ => format!("allod release {}", claim.seat),
    }
}

/// Whether a function is a device, and no part of the way to devices.
pub(crate) fn is_device(function: &Function) -> bool {
    let way = matches!(function.kind, FunctionKind::HostBridge | FunctionKind::IsaBridge);
    !(way || function.kind.forwards() || function.class.is_bridge())
}

/// Whether two functions are in the same slot: functions of one card.
pub(crate) fn same_slot(one: PciAddress, other: PciAddress) -> bool {
    slot(one) == slot(other)
}

/// The slot of an address.
pub(crate) fn slot(address: PciAddress) -> (u16, u8, u8) {
    (address.domain(), address.bus(), address.device())
}

/// What a function is called: its vendor and device names, or its ids.
pub(crate) fn name(function: &Function) -> String {
    let names = &function.names;
    let identity = &function.identity;
    match (&names.vendor, &names.device) {
        (Some(vendor), Some(device)) => format!("{} {device}", short(vendor)),
        (Some(vendor), None) => format!("{} device {}", short(vendor), identity.device),
        _ => format!("device {}:{}", identity.vendor, identity.device),
    }
}

/// A vendor's name without its legal form.
fn short(vendor: &str) -> &str {
    if let Some((_, rest)) = vendor.split_once('[')
        && let Some((short, _)) = rest.split_once(']')
    {
        return short;
    }
    let end = [" Corporation", " Corp", " Co.", " Electronics", " Technology", ", Inc", " Inc", " Ltd"]
        .iter()
        .filter_map(|form| vendor.find(form))
        .min();
    end.and_then(|end| vendor.get(..end)).unwrap_or(vendor)
}

/// `function` as something that a reason names besides its own subject.
pub(crate) fn candidate(function: &Function, remark: Option<String>) -> Candidate {
    let mut called = name(function);
    if let Some(remark) = remark {
        called = format!("{called}: {remark}");
    }
    Candidate { address: function.address, path: function.identity.path.clone(), name: called }
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn vendors_are_called_as_people_do() {
        for (name, called) in [
            ("NVIDIA Corporation", "NVIDIA"),
            ("Advanced Micro Devices, Inc. [AMD/ATI]", "AMD/ATI"),
            ("Samsung Electronics Co Ltd", "Samsung"),
            ("Realtek Semiconductor Co., Ltd.", "Realtek Semiconductor"),
            ("Red Hat", "Red Hat"),
            ("[", "["),
        ] {
            assert_eq!(short(name), called);
        }
    }
}
