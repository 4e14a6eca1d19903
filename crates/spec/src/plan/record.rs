//! What stands from before: which functions belong to whom, and what trials have shown.
//!
//! Not here: the ledger that keeps them (`host`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::inventory::DeviceIdentity;
use crate::{Bytes, CpuSet, PciAddress};

/// The host's record that functions belong to a seat (or to a person who claimed them by hand).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClaimRecord {
    /// The seat that owns them, or the name that a person gave the claim.
    pub seat: String,
    /// What it is for.
    #[serde(default)]
    pub kind: ClaimKind,
    /// How far the claim is.
    pub state: ClaimState,
    /// The functions.
    #[serde(default)]
    pub functions: Vec<ClaimedFunction>,
    /// The processors that the seat runs on.
    #[serde(default)]
    pub cpus: CpuSet,
}

/// What a claim is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClaimKind {
    /// A seat.
    #[default]
    Seat,
    /// What several seats of one file need: huge pages, virtual functions.
    Shared,
    /// A person's own use.
    Hand,
    /// A trial.
    Trial,
}

/// How far a claim is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClaimState {
    /// Being made.
    Taking,
    /// Made.
    Taken,
    /// Being given back.
    Releasing,
    /// Could not be given back whole; the next start of the host's recovery tries again.
    Debt,
}

/// One function of a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClaimedFunction {
    /// Where it was when it was claimed.
    pub address: PciAddress,
    /// Which device it is.
    pub identity: DeviceIdentity,
    /// Its IOMMU group.
    #[serde(default)]
    pub group: Option<u32>,
    /// The driver that gets it back.
    #[serde(default)]
    pub former_driver: Option<String>,
}

/// What a trial of a function has shown: taken, reset and given back for some rounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TrialRecord {
    /// Which device it was.
    pub identity: DeviceIdentity,
    /// What came out.
    pub verdict: TrialVerdict,
    /// How many rounds were gone through.
    pub rounds: u32,
    /// The kernel's release.
    #[serde(default)]
    pub kernel: Option<String>,
    /// The firmware's version.
    #[serde(default)]
    pub firmware: Option<String>,
    /// The function's resets in the last round.
    #[serde(default)]
    pub resets: Vec<TriedReset>,
    /// The size of its ROM, when that can be read.
    #[serde(default)]
    pub rom: Option<Bytes>,
}

/// One way of resetting a function, tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TriedReset {
    /// The function.
    pub function: PciAddress,
    /// The kernel's name of the way: `flr`, `pm`, `bus`.
    pub method: String,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// Why it failed, if it did.
    #[serde(default)]
    pub failed: Option<String>,
}

/// What came out of a trial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "verdict")]
pub enum TrialVerdict {
    /// Every round ended as it began.
    Passed,
    /// A round did not.
    Failed {
        /// What went wrong, one sentence.
        why: String,
    },
}
