//! What is to be taken: made from a plan, one request for each seat and one for what several seats share.
//!
//! Not here: taking.

use linux::sysfs::Tree;
use spec::CpuSet;
use spec::inventory::{DeviceIdentity, PciId, SlotPath};
use spec::ledger::Keeper;
use spec::plan::{ClaimKind, ClaimedFunction, Plan, SeatPlan, Source, StepAction};

use super::place;

/// What is to be taken, for whom.
#[derive(Clone, Debug)]
pub struct TakeRequest {
    /// The claim's name: that of the seat, or one that a person gave.
    pub name: String,
    /// What it is for.
    pub kind: ClaimKind,
    /// Who keeps it once it is taken.
    pub keeper: Keeper,
    /// The functions; virtual ones that are still to be made are added when they are there.
    pub functions: Vec<ClaimedFunction>,
    /// The processors that are kept for it.
    pub cpus: CpuSet,
    /// The steps, in their order.
    pub steps: Vec<StepAction>,
    /// The claim that has to stand as long as this one does.
    pub rests_on: Option<String>,
}

impl TakeRequest {
    /// What several seats of `plan` need, under a name made from theirs; `None` when they share nothing.
    ///
    /// It is taken before the seats and goes with the last of them.
    pub fn shared(plan: &Plan, keeper: Keeper) -> Option<Self> {
        let shared = plan.steps.iter().filter(|step| step.seat.is_none());
        let steps: Vec<StepAction> = shared.map(|step| step.action.clone()).collect();
        (!steps.is_empty()).then(|| Self {
            name: shared_name(plan),
            kind: ClaimKind::Shared,
            keeper,
            functions: Vec::new(),
            cpus: CpuSet::default(),
            steps,
            rests_on: None,
        })
    }

    /// What the seat `name` of `plan` takes for itself; `None` when the plan has no such seat.
    pub fn seat(plan: &Plan, name: &str, keeper: Keeper) -> Option<Self> {
        let seat = plan.seats.iter().find(|seat| seat.name == name)?;
        let own = plan.steps.iter().filter(|step| step.seat.as_deref() == Some(name));
        let shares = plan.steps.iter().any(|step| step.seat.is_none());
        Some(Self {
            name: name.to_owned(),
            kind: ClaimKind::Seat,
            keeper,
            functions: functions(seat),
            cpus: seat.cpus.kept.clone(),
            steps: own.map(|step| step.action.clone()).collect(),
            rests_on: shares.then(|| shared_name(plan)),
        })
    }
}

/// The shared claim is told by the seats it is for; names of seats have no `+`.
fn shared_name(plan: &Plan) -> String {
    let names: Vec<&str> = plan.seats.iter().map(|seat| seat.name.as_str()).collect();
    format!("+{}", names.join("+"))
}

/// The functions of a seat that exist already.
fn functions(seat: &SeatPlan) -> Vec<ClaimedFunction> {
    let all = seat.slots.iter().flat_map(|slot| &slot.functions);
    let taken = all.filter_map(|function| match &function.source {
        Source::Taken { address, identity, group, driver, .. } => Some(ClaimedFunction {
            address: *address,
            identity: identity.clone(),
            group: Some(*group),
            former_driver: driver.clone(),
        }),
        Source::Virtual { .. } => None,
    });
    taken.collect()
}

/// The virtual function that an action has bound, as it is now.
pub(super) fn made_by(tree: &dyn Tree, action: &StepAction) -> Option<ClaimedFunction> {
    let StepAction::BindVirtualFunction { of, index, .. } = action else { return None };
    let address = place::virtual_function(tree, *of, *index)?;
    let directory = place::function(address);
    let id = |name: &str| tree.text(&format!("{directory}/{name}")).ok()?.parse::<PciId>().ok();
    Some(ClaimedFunction {
        address,
        identity: DeviceIdentity {
            vendor: id("vendor")?,
            device: id("device")?,
            subsystem_vendor: id("subsystem_vendor"),
            subsystem_device: id("subsystem_device"),
            serial: None,
            path: path(tree, *of)?.virtual_function(*index),
        },
        group: place::group(tree, address),
        former_driver: None,
    })
}

/// The slot path of a function.
fn path(tree: &dyn Tree, address: spec::PciAddress) -> Option<SlotPath> {
    crate::inventory::slot_path(tree, address)
}

/// A step of a plan in words.
pub(super) fn words(action: &StepAction) -> String {
    match action {
        StepAction::ReserveHugepages { page_size, to, .. } => format!("{to} huge pages of {page_size}"),
        StepAction::CreateVirtualFunctions { of, count } => format!("{count} virtual functions of {of}"),
        StepAction::ConfigureVirtualFunction { of, index, .. }
        | StepAction::BindVirtualFunction { of, index, .. } => format!("virtual function {index} of {of}"),
        StepAction::HandOverConsole { function } => format!("the console on {function}"),
        StepAction::KeepPowered { function, .. }
        | StepAction::Unbind { function, .. }
        | StepAction::Override { function, .. }
        | StepAction::Bind { function, .. } => function.to_string(),
        StepAction::StartMachine => "the machine".to_owned(),
    }
}
