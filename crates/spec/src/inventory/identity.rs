//! What stays the same about a device when its address does not: ids, serial number, and where it is plugged in.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::number::PciId;

/// How many bridges deep a slot path may be; real machines stay below 10, the kernel's bus numbers end at 256.
const MAX_STEPS: usize = 64;

/// What a device is known by. Two records are the same device only if all known parts agree.
///
/// A bus number is no part of it: bus numbers change when a card is added, the slot path does not.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct DeviceIdentity {
    /// The vendor id.
    pub vendor: PciId,
    /// The device id.
    pub device: PciId,
    /// The subsystem vendor id; unknown or absent on bridges.
    #[serde(default)]
    pub subsystem_vendor: Option<PciId>,
    /// The subsystem (board) id.
    #[serde(default)]
    pub subsystem_device: Option<PciId>,
    /// The PCIe Device Serial Number, sixteen hexadecimal digits in pairs: `00-0c-29-ff-ff-aa-bb-cc`.
    #[serde(default)]
    pub serial: Option<String>,
    /// Where it is plugged in.
    pub path: SlotPath,
}

impl DeviceIdentity {
    /// Whether `other` can be the same device: nothing known on both sides differs.
    pub fn agrees_with(&self, other: &Self) -> bool {
        fn agree<T: PartialEq>(a: &Option<T>, b: &Option<T>) -> bool {
            a.is_none() || b.is_none() || a == b
        }
        self.vendor == other.vendor
            && self.device == other.device
            && self.path == other.path
            && agree(&self.subsystem_vendor, &other.subsystem_vendor)
            && agree(&self.subsystem_device, &other.subsystem_device)
            && agree(&self.serial, &other.serial)
    }
}

/// The way from a root bus to a function: the device and function number of every bridge and of itself.
///
/// Text form: `0000:00/01.1/00.0`: domain and number of the root bus, then `device.function` for each bridge down
/// to the function (hexadecimal, as in addresses). Virtual functions are named below their physical function:
/// `0000:00/01.1/00.0/vf3`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct SlotPath {
    domain: u16,
    root_bus: u8,
    steps: Vec<SlotStep>,
    virtual_function: Option<u16>,
}

/// One function on a [`SlotPath`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotStep {
    /// The device number, 0..=31.
    pub device: u8,
    /// The function number, 0..=7.
    pub function: u8,
}

/// What is wrong with a text that should be a slot path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a slot path; write the root bus, then device.function of each bridge and of the device: 0000:00/01.1/00.0"
)]
pub struct ParseSlotPathError {
    text: String,
}

impl SlotPath {
    /// Makes a path from a root bus and the functions down to the device, the device last.
    ///
    /// `None` when there is no step, there are more than 64, or a device or function number is out of range.
    pub fn new(domain: u16, root_bus: u8, steps: Vec<SlotStep>) -> Option<Self> {
        let good = steps.iter().all(|step| step.device < 32 && step.function < 8);
        let length = !steps.is_empty() && steps.len() <= MAX_STEPS;
        (good && length).then_some(Self { domain, root_bus, steps, virtual_function: None })
    }

    /// The path of virtual function `index` of the physical function at `self`.
    pub fn virtual_function(&self, index: u16) -> Self {
        Self { virtual_function: Some(index), ..self.clone() }
    }

    /// The root bus as domain and bus number.
    pub const fn root_bus(&self) -> (u16, u8) {
        (self.domain, self.root_bus)
    }

    /// The functions from the root bus down, the device itself last.
    pub fn steps(&self) -> &[SlotStep] {
        &self.steps
    }

    /// Whether `self` is the slot of `other` or above it: all functions of a card, all that is behind a bridge.
    ///
    /// `0000:00/01.1` is above `0000:00/01.1/00.0`.
    pub fn is_above(&self, other: &Self) -> bool {
        self.root_bus() == other.root_bus()
            && self.virtual_function.is_none()
            && other.steps.starts_with(&self.steps)
            && (other.steps.len() > self.steps.len() || other.virtual_function.is_some())
    }
}

impl fmt::Display for SlotPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}", self.domain, self.root_bus)?;
        for step in &self.steps {
            write!(f, "/{:02x}.{:x}", step.device, step.function)?;
        }
        match self.virtual_function {
            Some(index) => write!(f, "/vf{index}"),
            None => Ok(()),
        }
    }
}

impl FromStr for SlotPath {
    type Err = ParseSlotPathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| ParseSlotPathError { text: text.to_owned() })
    }
}

impl TryFrom<String> for SlotPath {
    type Error = ParseSlotPathError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<SlotPath> for String {
    fn from(path: SlotPath) -> Self {
        path.to_string()
    }
}

fn parse(text: &str) -> Option<SlotPath> {
    let mut parts = text.split('/');
    let (domain, bus) = parts.next()?.split_once(':')?;
    let (domain, bus) = (hex(domain, 4)?, u8::try_from(hex(bus, 2)?).ok()?);
    let mut steps = Vec::new();
    let mut virtual_function = None;
    for part in parts {
        if virtual_function.is_some() {
            return None;
        }
        match part.strip_prefix("vf") {
            Some(index) => {
                let plain = !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit());
                virtual_function = Some(plain.then(|| index.parse::<u16>().ok())??);
            }
            None => {
                let (device, function) = part.split_once('.')?;
                let device = u8::try_from(hex(device, 2)?).ok()?;
                steps.push(SlotStep { device, function: u8::try_from(hex(function, 1)?).ok()? });
            }
        }
    }
    let path = SlotPath::new(domain, bus, steps)?;
    Some(SlotPath { virtual_function, ..path })
}

/// Reads 1 to `digits` hexadecimal digits; `from_str_radix` alone would also take a sign.
fn hex(text: &str, digits: usize) -> Option<u16> {
    if text.is_empty() || text.len() > digits || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u16::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::SlotPath;

    fn path(text: &str) -> SlotPath {
        text.parse().unwrap()
    }

    #[test]
    fn slot_paths_read_and_write_the_same() {
        for text in
            ["0000:00/1f.3", "0000:00/01.1/00.0", "0001:40/03.2/00.0/08.0/00.1", "0000:00/01.0/00.0/vf3"]
        {
            assert_eq!(path(text).to_string(), text);
        }
        for text in [
            "",
            "0000:00",
            "0000:00/",
            "0000:00/20.0",
            "0000:00/00.8",
            "00/01.0",
            "0000:00/vf1",
            "0000:00/1.0/vf+1",
        ] {
            assert!(text.parse::<SlotPath>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_bridge_is_above_what_is_plugged_in_behind_it() {
        for (upper, lower, above) in [
            ("0000:00/01.1", "0000:00/01.1/00.0", true),
            ("0000:00/01.1", "0000:00/01.1", false),
            ("0000:00/01.1", "0000:00/01.2/00.0", false),
            ("0000:00/01.1/00.0", "0000:00/01.1/00.0/vf0", true),
            ("0000:00/01.1", "0000:40/01.1/00.0", false),
        ] {
            assert_eq!(path(upper).is_above(&path(lower)), above, "{upper} above {lower}");
        }
    }
}
