//! One change of the host, small enough to be either made or not, with what was there before.
//!
//! Not here: making and undoing it (`host`). A plan's step becomes one or several of these when it is carried out.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::seat_file::MacAddress;
use crate::{Bytes, PciAddress};

/// One change of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "change")]
pub enum Change {
    /// Loads a kernel module. It stays loaded: others may use it by then.
    LoadModule {
        /// The module.
        module: String,
    },
    /// Takes a device from its driver. Undone by binding it again.
    Unbind {
        /// The device.
        device: BusDevice,
        /// The driver it had.
        driver: String,
        /// The module of that driver, in case it is unloaded meanwhile.
        #[serde(default)]
        module: Option<String>,
    },
    /// Lets only one driver have a function (`driver_override`).
    Override {
        /// The function.
        function: PciAddress,
        /// What was written there before; none: nothing.
        #[serde(default)]
        from: Option<String>,
        /// The driver.
        to: String,
    },
    /// Binds a function to a driver. Undone by resetting the function, then unbinding it.
    Bind {
        /// The function.
        function: PciAddress,
        /// The driver.
        driver: String,
    },
    /// Sets an attribute that takes any of its values at any time.
    Set {
        /// The attribute.
        attribute: Attribute,
        /// Its value before.
        from: String,
        /// Its value after.
        to: String,
    },
    /// Raises the number of reserved huge pages. Undone by taking the difference away, since others may change it too.
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
    /// Makes virtual functions where there are none. Undone by removing all of them.
    CreateVirtualFunctions {
        /// The physical function.
        of: PciAddress,
        /// How many.
        count: u16,
    },
    /// Sets what a virtual function may do on the network.
    ConfigureVirtualFunction {
        /// The physical function.
        of: PciAddress,
        /// The index.
        index: u16,
        /// The settings before, as far as they are changed.
        from: PortSettings,
        /// The settings after.
        to: PortSettings,
    },
}

/// What a virtual function may do on the network; what is not said is not changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PortSettings {
    /// The MAC address. Before a change, none means that there was none.
    #[serde(default)]
    pub mac: Option<MacAddress>,
    /// The VLAN; 0 for none.
    #[serde(default)]
    pub vlan: Option<u16>,
}

/// A device that a driver can be bound to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "bus")]
pub enum BusDevice {
    /// A PCI function.
    Pci {
        /// Its address.
        address: PciAddress,
    },
    /// A platform device: the framebuffer that firmware left.
    Platform {
        /// Its name, for example `simple-framebuffer.0`.
        name: String,
    },
}

/// An attribute that [`Change::Set`] changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "attribute")]
pub enum Attribute {
    /// `power/control`: `on` keeps the function from being suspended.
    PowerControl {
        /// The function.
        function: PciAddress,
    },
    /// `d3cold_allowed`.
    D3coldAllowed {
        /// The function.
        function: PciAddress,
    },
    /// `reset_method`.
    ResetMethod {
        /// The function.
        function: PciAddress,
    },
    /// `sriov_drivers_autoprobe`.
    DriversAutoprobe {
        /// The physical function.
        function: PciAddress,
    },
    /// `bind` of a console driver of the virtual terminals, which is known by its name: numbers change.
    ConsoleBound {
        /// The name, for example `(M) frame buffer device`.
        name: String,
    },
}
