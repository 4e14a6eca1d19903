//! The order of doing: what several seats need first, then seat after seat.
//!
//! Not here: doing it.

use std::collections::BTreeSet;

use spec::inventory::Function;
use spec::plan::{PlanStep, StepAction};

use crate::ground::{ASSIGNMENT_DRIVER, Ground};
use crate::last;
use crate::wish::{Piece, What, Wishes};

/// The drivers under which a function may share a group with assigned ones (`driver_managed_dma` in the kernel).
const LEAVES_DMA_ALONE: [&str; 3] = ["pcieport", "pci-stub", ASSIGNMENT_DRIVER];

/// Lists all steps; `hugepages` are those that reserve memory.
pub(crate) fn list(ground: &Ground<'_>, wishes: &Wishes<'_>, hugepages: Vec<StepAction>) -> Vec<PlanStep> {
    // Memory first: it is what fails most easily, and its undo costs least. Virtual functions next: a card makes all
    // of them at once, for whichever seat.
    let mut steps: Vec<PlanStep> =
        hugepages.into_iter().map(|action| PlanStep { seat: None, action }).collect();
    for (physical, count) in &wishes.made {
        let action = StepAction::CreateVirtualFunctions { of: physical.address, count: *count };
        steps.push(PlanStep { seat: None, action });
    }
    for (index, seat) in ground.file.seats.iter().enumerate() {
        let mut actions = bridges(ground, wishes, index);
        for piece in wishes.of_seat(index) {
            take(piece, &mut actions);
        }
        actions.push(StepAction::StartMachine);
        steps.extend(actions.into_iter().map(|action| PlanStep { seat: Some(seat.name.clone()), action }));
    }
    steps
}

/// Frees the bridges inside the groups of a seat from drivers that use DMA for the host (shpchp): with one of those
/// the kernel gives the group to nobody.
fn bridges(ground: &Ground<'_>, wishes: &Wishes<'_>, seat: usize) -> Vec<StepAction> {
    let taken = wishes.of_seat(seat).filter_map(|piece| piece.function()?.group);
    let groups: BTreeSet<u32> = taken.collect();
    let members = groups.into_iter().flat_map(|group| ground.group_members(group));
    let in_the_way = |bridge: &&Function| {
        let bound = bridge.driver.bound.as_deref();
        bridge.kind.forwards() && bound.is_some_and(|driver| !LEAVES_DMA_ALONE.contains(&driver))
    };
    let unbind = |bridge: &Function| {
        Some(StepAction::Unbind { function: bridge.address, driver: bridge.driver.bound.clone()? })
    };
    members.filter(in_the_way).filter_map(unbind).collect()
}

/// The steps that take one function.
fn take(piece: &Piece<'_>, actions: &mut Vec<StepAction>) {
    let driver = ASSIGNMENT_DRIVER.to_owned();
    match &piece.what {
        What::Virtual(made_of) => {
            let (of, index) = (made_of.physical.address, made_of.index);
            // Before the seat's driver can see it: the physical function applies both at the next reset.
            if made_of.mac.is_some() || made_of.vlan.is_some() {
                let (mac, vlan) = (made_of.mac, made_of.vlan);
                actions.push(StepAction::ConfigureVirtualFunction { of, index, mac, vlan });
            }
            actions.push(StepAction::BindVirtualFunction { of, index, driver });
        }
        What::Function(function) => {
            let address = function.address;
            if last::shows_console(function) {
                actions.push(StepAction::HandOverConsole { function: address });
            }
            // Before the driver goes: without one the kernel may let a card sink into D3cold, and some never return.
            let d3cold_allowed = function.d3cold_allowed;
            actions.push(StepAction::KeepPowered { function: address, d3cold_allowed });
            let bound = function.driver.bound.as_deref();
            let overridden = function.driver.driver_override.as_deref();
            // Unbind, override, bind: undone in reverse, the old driver is bound only after the override is gone.
            if let Some(old) = bound.filter(|bound| *bound != ASSIGNMENT_DRIVER) {
                actions.push(StepAction::Unbind { function: address, driver: old.to_owned() });
            }
            if overridden != Some(ASSIGNMENT_DRIVER) {
                let from = overridden.map(str::to_owned);
                actions.push(StepAction::Override { function: address, driver: driver.clone(), from });
            }
            if bound != Some(ASSIGNMENT_DRIVER) {
                actions.push(StepAction::Bind { function: address, driver });
            }
        }
    }
}
