//! The order of doing: what several seats need first, then seat after seat.
//!
//! Not here: doing it.

use spec::plan::{PlanStep, StepAction};

use crate::ground::{ASSIGNMENT_DRIVER, Ground};
use crate::last;
use crate::wish::{Piece, What, Wishes};

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
        let mut actions = Vec::new();
        for piece in wishes.of_seat(index) {
            take(piece, &mut actions);
        }
        actions.push(StepAction::StartMachine);
        steps.extend(actions.into_iter().map(|action| PlanStep { seat: Some(seat.name.clone()), action }));
    }
    steps
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
