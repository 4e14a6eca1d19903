//! What the planner answers: a plan that leaves no choice to execution, or a refusal with every reason.
//!
//! Not here: how either is found (`plan`), and carrying one out (`host`, `seat`). Claim and trial records are here too,
//! because the planner weighs them.

mod record;
mod refusal;
mod seat;
mod step;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use record::{
    ClaimKind, ClaimRecord, ClaimState, ClaimedFunction, TrialRecord, TrialVerdict, TriedReset,
};
pub use refusal::{Candidate, Notice, NoticeCode, Reason, ReasonCode, Refusal};
pub use seat::{
    Aperture, PlannedCpus, PlannedFunction, PlannedMemory, PlannedNetwork, PlannedReset, PlannedSlot,
    SeatPlan, SeatStart, Source, USUAL_POWER_OFF,
};
pub use step::{PlanStep, StepAction};

use crate::{Bytes, CpuSet};

/// The version of the formats of this module; raised when a field changes its meaning.
pub const PLAN_SCHEMA_VERSION: u32 = 1;

/// Everything that will be done so that the seats of one file run. Made from one inventory, valid for it only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// The format's version, [`PLAN_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// What stays with the host.
    pub kept: Kept,
    /// The seats in the order of the seat file.
    pub seats: Vec<SeatPlan>,
    /// What is done, in this order; a seat's own steps follow each other.
    pub steps: Vec<PlanStep>,
    /// What a person should know before.
    #[serde(default)]
    pub notices: Vec<Notice>,
}

/// What stays with the host while all seats run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Kept {
    /// The processors on which no seat runs.
    pub cpus: CpuSet,
    /// The memory that stays free, when the inventory tells how much there is.
    #[serde(default)]
    pub memory: Option<Bytes>,
}
