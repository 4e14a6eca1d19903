//! The steps of a plan: each changes one thing of the host and names what was there before, which is its undo.
//!
//! Not here: doing and undoing them (`host`); resets, which the kernel does when a function is opened and closed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::seat_file::MacAddress;
use crate::{Bytes, PciAddress};

/// One change of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlanStep {
    /// The seat it is for; none when it is for several.
    #[serde(default)]
    pub seat: Option<String>,
    /// What is changed.
    #[serde(flatten)]
    pub action: StepAction,
}

/// What a step changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "step")]
pub enum StepAction {
    /// Raises the number of reserved huge pages.
    ReserveHugepages {
        /// The node; none: the kernel chooses.
        #[serde(default)]
        node: Option<u32>,
        /// The size of a page.
        page_size: Bytes,
        /// How many are reserved before.
        from: u64,
        /// How many after.
        to: u64,
    },
    /// Makes virtual functions, without drivers bound to them.
    CreateVirtualFunctions {
        /// The physical function.
        of: PciAddress,
        /// How many; there are none before.
        count: u16,
    },
    /// Sets what a virtual function may do on the network.
    ConfigureVirtualFunction {
        /// The physical function.
        of: PciAddress,
        /// The index.
        index: u16,
        /// The MAC address.
        #[serde(default)]
        mac: Option<MacAddress>,
        /// The VLAN.
        #[serde(default)]
        vlan: Option<u16>,
    },
    /// Takes the text console and the firmware's framebuffer off a display card.
    HandOverConsole {
        /// The display card.
        function: PciAddress,
    },
    /// Keeps a function out of D3cold and runtime suspend.
    KeepPowered {
        /// The function.
        function: PciAddress,
        /// Whether D3cold is allowed before.
        #[serde(default)]
        d3cold_allowed: Option<bool>,
    },
    /// Unbinds the driver.
    Unbind {
        /// The function.
        function: PciAddress,
        /// The driver it has before.
        driver: String,
    },
    /// Lets only one driver have the function (`driver_override`).
    Override {
        /// The function.
        function: PciAddress,
        /// The driver.
        driver: String,
        /// The override before.
        #[serde(default)]
        from: Option<String>,
    },
    /// Binds the driver named by the override.
    Bind {
        /// The function.
        function: PciAddress,
        /// The driver.
        driver: String,
    },
    /// The same three steps for a virtual function, whose address is known only once it is made.
    BindVirtualFunction {
        /// The physical function.
        of: PciAddress,
        /// The index.
        index: u16,
        /// The driver.
        driver: String,
    },
    /// Starts the machine.
    StartMachine,
}
