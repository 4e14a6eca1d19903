//! What the doctor says about a host: findings with reason, consequence and remedy.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::PciAddress;

/// The result of `allod doctor`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DoctorReport {
    /// The format's version, that of the inventory.
    pub schema_version: u32,
    /// Ready or blocked.
    pub verdict: Verdict,
    /// All findings, the gravest first.
    pub findings: Vec<Finding>,
}

/// Whether seats can be started on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// They can.
    Ready,
    /// They cannot before every blocking finding is remedied.
    Blocked,
}

/// How grave a finding is; the order is of rising gravity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// As it should be.
    Good,
    /// Worth knowing.
    Note,
    /// Something will not work, or not well.
    Warning,
    /// Nothing will work.
    Blocker,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// A stable name for programs, for example `iommu-off`.
    pub code: String,
    /// How grave it is.
    pub severity: Severity,
    /// The function it is about, if it is about one.
    #[serde(default)]
    pub function: Option<PciAddress>,
    /// What is the case.
    pub finding: String,
    /// How that was seen and why it is so.
    pub reason: String,
    /// What follows from it.
    pub consequence: String,
    /// What to do, in order; empty when there is nothing to do.
    #[serde(default)]
    pub remedies: Vec<Remedy>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "do")]
pub enum Remedy {
    /// A command to run as root.
    Command {
        /// The command line.
        command: String,
        /// What it does.
        purpose: String,
    },
    /// A setting in the firmware's menu.
    FirmwareSetting {
        /// What to switch, with the names makers give it.
        setting: String,
    },
    /// Something to do with hands or by choice.
    Step {
        /// What to do.
        step: String,
    },
    /// A newer document's remedy.
    #[serde(other)]
    Unknown,
}
