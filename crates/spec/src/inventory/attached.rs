//! What is plugged into a function: monitors, USB devices, disks, network interfaces.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Bytes;

/// One display output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Connector {
    /// The kernel's name without the card's, for example `DP-1` or `HDMI-A-1`.
    pub name: String,
    /// Whether a monitor is there.
    #[serde(default)]
    pub state: ConnectorState,
    /// Whether a picture is shown.
    #[serde(default)]
    pub enabled: Option<bool>,
    /// The monitor, as far as its EDID tells.
    #[serde(default)]
    pub monitor: Option<Monitor>,
}

/// Whether a monitor is plugged into a connector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ConnectorState {
    /// There is.
    Connected,
    /// There is not.
    Disconnected,
    /// The driver does not know.
    #[default]
    #[serde(other)]
    Unknown,
}

/// A monitor, from its EDID.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Monitor {
    /// The maker's three letters, for example `DEL`.
    #[serde(default)]
    pub manufacturer: Option<String>,
    /// The maker's product code.
    #[serde(default)]
    pub product: Option<u16>,
    /// The name, for example `DELL U2720Q`.
    #[serde(default)]
    pub name: Option<String>,
    /// The serial number: the text if there is one, else the number.
    #[serde(default)]
    pub serial: Option<String>,
    /// The preferred mode, for example `3840x2160`.
    #[serde(default)]
    pub preferred_mode: Option<String>,
}

/// One USB device behind a controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UsbDevice {
    /// The kernel's name: bus and port chain, for example `3-1.4`.
    pub port: String,
    /// The vendor id, four hexadecimal digits.
    #[serde(default)]
    pub vendor: Option<super::PciId>,
    /// The product id, four hexadecimal digits.
    #[serde(default)]
    pub product: Option<super::PciId>,
    /// The maker's name: what the device says, else from `usb.ids`.
    #[serde(default)]
    pub manufacturer: Option<String>,
    /// The product's name: what the device says, else from `usb.ids`.
    #[serde(default)]
    pub name: Option<String>,
    /// The serial number.
    #[serde(default)]
    pub serial: Option<String>,
    /// What its interfaces are: `keyboard`, `mouse`, `storage`, `audio`, `hub`, `video`, `printer`, `network`, ...
    #[serde(default)]
    pub functions: Vec<String>,
}

/// One network interface of a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NetInterface {
    /// The name, for example `enp3s0`.
    pub name: String,
    /// The hardware address.
    #[serde(default)]
    pub mac: Option<String>,
    /// Whether it is up and has a carrier.
    #[serde(default)]
    pub up: Option<bool>,
}

/// One disk behind a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BlockDevice {
    /// The kernel's name, for example `nvme0n1` or `sda`.
    pub name: String,
    /// Its size.
    #[serde(default)]
    pub size: Option<Bytes>,
    /// The model.
    #[serde(default)]
    pub model: Option<String>,
    /// The serial number.
    #[serde(default)]
    pub serial: Option<String>,
}
