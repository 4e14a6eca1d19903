//! The ledger's lines: what is changed on the host for whom, each with what was there before, which is its undo.
//!
//! Not here: the file, its lock, what follows from its lines, and making or undoing a change (all `host`). A line is
//! one JSON object. Lines are only ever appended, and each change is on disk before it is made.

mod change;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use change::{Attribute, BusDevice, Change, PortSettings};

use crate::CpuSet;
use crate::plan::{ClaimKind, ClaimedFunction};

/// The version of the format of lines; raised when a field changes its meaning.
pub const LEDGER_SCHEMA_VERSION: u32 = 1;

/// One line of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LedgerLine {
    /// The format's version, [`LEDGER_SCHEMA_VERSION`].
    #[serde(rename = "v")]
    pub version: u32,
    /// The line's number, rising by one.
    pub number: u64,
    /// When, in seconds since 1970 by the host's clock; for people only.
    pub at: u64,
    /// The claim it belongs to.
    pub claim: String,
    /// What happens.
    #[serde(flatten)]
    pub event: LedgerEvent,
}

/// What happens to a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum LedgerEvent {
    /// A claim begins to be taken.
    Open {
        /// What it is for.
        kind: ClaimKind,
        /// The host's start in which it happens (`/proc/sys/kernel/random/boot_id`); after another, nothing of it is left.
        boot: String,
        /// The functions that are known by now.
        #[serde(default)]
        functions: Vec<ClaimedFunction>,
        /// The processors that are kept for it.
        #[serde(default)]
        cpus: CpuSet,
        /// Another claim that has to stand as long as this one does.
        #[serde(default)]
        rests_on: Option<String>,
    },
    /// The claim has a function that was made for it.
    Has {
        /// The function.
        function: ClaimedFunction,
    },
    /// A change is about to be made.
    Intend {
        /// Its number within the claim, from 0.
        step: u32,
        /// The change.
        change: Change,
    },
    /// All changes of the claim are made.
    Taken {
        /// Who has to be there for it to stand.
        keeper: Keeper,
    },
    /// The claim has another keeper from now on.
    Kept {
        /// The keeper.
        keeper: Keeper,
    },
    /// The claim begins to be given back.
    Release,
    /// A change is undone, or was found to be so.
    Undone {
        /// The change's number.
        step: u32,
        /// What was found, when it was not as expected.
        #[serde(default)]
        note: Option<String>,
    },
    /// A change could not be undone; the next start tries again.
    Owe {
        /// The change's number.
        step: u32,
        /// Why not.
        reason: String,
    },
    /// The claim is over.
    Close {
        /// How it ended.
        how: Ending,
    },
}

/// Who has to be there for a claim to stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "by")]
pub enum Keeper {
    /// Nobody: it stands until a person gives it back or the host restarts.
    Hand,
    /// A process: without it, the next start gives the claim back.
    Process(ProcessMark),
}

/// One process, told from a later one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProcessMark {
    /// Its number.
    pub pid: u32,
    /// When it started, in clock ticks since the host did (field 22 of `/proc/PID/stat`).
    pub start: u64,
}

/// How a claim ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// It was given back whole.
    Released,
    /// It could not be taken, and all that was changed is undone.
    NotTaken,
    /// The host was restarted, which undoes every change.
    HostRestarted,
}
