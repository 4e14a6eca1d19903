//! What a seat that lives shows of itself, what can be said to it, and what it leaves.
//!
//! Written by a seat's supervisor, read by `allod up|down|ps|show`. Not here: the machine's own documents
//! ([`crate::MachineSpec`], [`crate::ExitReport`]), and which state follows which (`seat`).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::ledger::ProcessMark;
use crate::plan::{Plan, SeatPlan};
use crate::{ExitReport, PciAddress};

/// The version of the formats of this module; raised when a field changes its meaning.
pub const SEAT_LIFE_SCHEMA_VERSION: u32 = 1;

/// What a supervisor is started with, as one line of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeatOrder {
    /// The plan of the whole file.
    pub plan: Plan,
    /// The seat of it that is meant.
    pub seat: String,
    /// The folder of what lives as long as the host runs.
    pub run: PathBuf,
    /// The folder of what stays.
    pub state: PathBuf,
}

/// How far a seat is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SeatState {
    /// Its devices are being taken.
    Claiming,
    /// Its machine has been started and does not answer yet.
    Starting,
    /// Its machine runs.
    Running,
    /// Its power button has been pressed.
    PoweringOff,
    /// Its machine has been told to end.
    Ending,
    /// Its machine is being killed.
    Killing,
    /// Its devices are being given back.
    Releasing,
    /// It is over.
    Ended,
}

impl SeatState {
    /// The word for tables; the same as in documents.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Claiming => "claiming",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::PoweringOff => "powering-off",
            Self::Ending => "ending",
            Self::Killing => "killing",
            Self::Releasing => "releasing",
            Self::Ended => "ended",
        }
    }
}

/// A seat that lives, as its supervisor keeps it on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeatStatus {
    /// The format's version, [`SEAT_LIFE_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Its name.
    pub name: String,
    /// How far it is.
    pub state: SeatState,
    /// The process that looks after it and keeps its claim.
    pub supervisor: ProcessMark,
    /// The process of its machine.
    #[serde(default)]
    pub machine: Option<ProcessMark>,
    /// The user that the machine runs as.
    #[serde(default)]
    pub user: Option<u32>,
    /// The control group of the machine.
    #[serde(default)]
    pub cgroup: Option<PathBuf>,
    /// When it began, in seconds since 1970.
    pub since: u64,
    /// What it was planned to be.
    pub plan: SeatPlan,
    /// Its functions of the host, and where its guest sees them.
    #[serde(default)]
    pub functions: Vec<SeatFunction>,
    /// What has been done so far.
    #[serde(default)]
    pub steps: Vec<SeatStep>,
}

/// A function of the host in a seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeatFunction {
    /// Its address on the host.
    pub address: PciAddress,
    /// The slot in which the guest sees it.
    pub slot: u8,
    /// Its function number there.
    pub function: u8,
}

/// Something that was done, and how long it took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeatStep {
    /// What, for people.
    pub what: String,
    /// In milliseconds.
    pub ms: u64,
}

/// What can be said to a supervisor over its socket: one JSON object a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "request")]
pub enum SeatRequest {
    /// End the seat: power button first, then by force.
    Down {
        /// How long the guest has, in seconds; none: as planned.
        #[serde(default)]
        seconds: Option<u32>,
    },
    /// End the seat at once.
    Kill,
}

/// What a supervisor tells those who listen: one JSON object a line, until it has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum SeatEvent {
    /// Something was done.
    Step(SeatStep),
    /// It is in another state now.
    State {
        /// Which.
        state: SeatState,
    },
    /// Something that people should know.
    Note {
        /// One sentence.
        text: String,
    },
    /// The supervisor cannot begin, and nothing was changed.
    Refused {
        /// Why.
        message: String,
        /// Whether that is because the seat runs already.
        runs: bool,
    },
    /// The seat is over.
    Ended {
        /// How.
        report: Box<SeatReport>,
    },
}

/// What a seat leaves behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeatReport {
    /// The format's version, [`SEAT_LIFE_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The seat's name.
    pub seat: String,
    /// Why it ended.
    #[serde(flatten)]
    pub ending: SeatEnding,
    /// When it began, in seconds since 1970.
    pub began: u64,
    /// When it ended.
    pub ended: u64,
    /// What its machine said, if it could.
    #[serde(default)]
    pub machine: Option<ExitReport>,
    /// What could not be given back; the next start tries again.
    #[serde(default)]
    pub debts: Vec<String>,
    /// All that was done, in order.
    #[serde(default)]
    pub steps: Vec<SeatStep>,
}

/// Why a seat ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "ending")]
pub enum SeatEnding {
    /// Its guest powered itself off, on its own or after the power button.
    PoweredOff,
    /// Its guest did not answer the power button in time and was ended.
    Forced,
    /// It was told to end at once.
    Killed,
    /// What started it went away or was interrupted before all seats ran.
    Abandoned,
    /// Its devices could not be taken, or its machine not be started.
    NotStarted {
        /// All reasons.
        message: String,
    },
    /// The machine could not go on.
    Fault {
        /// What was tried and what came back.
        message: String,
    },
    /// The machine's process was killed by something else.
    Died {
        /// The signal, where it was one.
        #[serde(default)]
        signal: Option<i32>,
        /// What that means.
        message: String,
    },
    /// The supervisor itself went away, and the machine with it.
    Lost,
}

impl SeatEnding {
    /// Whether a person would call it an end as it should be.
    pub const fn is_good(&self) -> bool {
        matches!(self, Self::PoweredOff | Self::Forced | Self::Killed)
    }
}

impl std::fmt::Display for SeatEnding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::PoweredOff => write!(f, "the guest powered off"),
            Self::Forced => write!(f, "the guest did not answer the power button in time and was ended"),
            Self::Killed => write!(f, "it was killed on request"),
            Self::Abandoned => write!(f, "the start was given up"),
            Self::NotStarted { message } | Self::Fault { message } | Self::Died { message, .. } => {
                f.write_str(message)
            }
            Self::Lost => write!(f, "its supervisor was killed, and the machine with it"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{SeatEnding, SeatEvent, SeatReport, SeatRequest, SeatState, SeatStep};

    #[test]
    fn lines_are_read_as_they_are_written() {
        for (request, text) in [
            (SeatRequest::Down { seconds: Some(5) }, r#"{"request":"down","seconds":5}"#),
            (SeatRequest::Kill, r#"{"request":"kill"}"#),
        ] {
            assert_eq!(serde_json::to_string(&request).unwrap(), text);
            assert_eq!(serde_json::from_str::<SeatRequest>(text).unwrap(), request);
        }
        let report = SeatReport {
            schema_version: 1,
            seat: "anna".into(),
            ending: SeatEnding::Died { signal: Some(9), message: "why".into() },
            began: 1,
            ended: 2,
            machine: None,
            debts: vec![],
            steps: vec![],
        };
        for event in [
            SeatEvent::Step(SeatStep { what: "x".into(), ms: 1 }),
            SeatEvent::State { state: SeatState::PoweringOff },
            SeatEvent::Ended { report: Box::new(report) },
        ] {
            let text = serde_json::to_string(&event).unwrap();
            assert_eq!(serde_json::from_str::<SeatEvent>(&text).unwrap(), event, "{text}");
        }
    }

    #[test]
    fn states_are_written_in_documents_as_they_are_shown() {
        for state in [SeatState::Claiming, SeatState::PoweringOff, SeatState::Ended] {
            assert_eq!(serde_json::to_value(state).unwrap(), state.word());
        }
    }
}
