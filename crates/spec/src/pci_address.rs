//! The address of a PCI function, `dddd:bb:dd.f`, parsed once at the edge.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The address of one PCI function: domain, bus, device (0..=31), function (0..=7).
///
/// Written as Linux writes it: `0000:03:00.1`. The domain may be left out when reading (`03:00.1`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct PciAddress {
    domain: u16,
    bus: u8,
    device: u8,
    function: u8,
}

/// What is wrong with a text that should be a PCI address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a PCI address; write it as in `lspci -D`: 0000:03:00.0")]
pub struct ParsePciAddressError {
    text: String,
}

impl PciAddress {
    /// Makes an address; `None` when `device` is above 31 or `function` above 7.
    pub const fn new(domain: u16, bus: u8, device: u8, function: u8) -> Option<Self> {
        if device > 31 || function > 7 {
            return None;
        }
        Some(Self { domain, bus, device, function })
    }

    /// The PCI domain (segment).
    pub const fn domain(self) -> u16 {
        self.domain
    }

    /// The bus number.
    pub const fn bus(self) -> u8 {
        self.bus
    }

    /// The device (slot) number, 0..=31.
    pub const fn device(self) -> u8 {
        self.device
    }

    /// The function number, 0..=7.
    pub const fn function(self) -> u8 {
        self.function
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{}", self.domain, self.bus, self.device, self.function)
    }
}

impl FromStr for PciAddress {
    type Err = ParsePciAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| ParsePciAddressError { text: text.to_owned() })
    }
}

impl TryFrom<String> for PciAddress {
    type Error = ParsePciAddressError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PciAddress> for String {
    fn from(address: PciAddress) -> Self {
        address.to_string()
    }
}

fn parse(text: &str) -> Option<PciAddress> {
    let (rest, function) = text.rsplit_once('.')?;
    let mut fields = rest.rsplit(':');
    let device = hex(fields.next()?, 2)?;
    let bus = hex(fields.next()?, 2)?;
    let domain = fields.next().map_or(Some(0), |domain| hex(domain, 4))?;
    if fields.next().is_some() {
        return None;
    }
    let function = hex(function, 1)?;
    PciAddress::new(domain, bus.try_into().ok()?, device.try_into().ok()?, function.try_into().ok()?)
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
    use super::PciAddress;

    #[test]
    fn addresses_read_as_linux_writes_them() {
        for (text, address) in [
            ("0000:03:00.1", Some((0, 3, 0, 1))),
            ("03:00.1", Some((0, 3, 0, 1))),
            ("abcd:ff:1f.7", Some((0xabcd, 0xff, 0x1f, 7))),
            ("0000:03:20.0", None),
            ("0000:03:00.8", None),
            ("0000:100:00.0", None),
            ("0:0000:03:00.0", None),
            ("0000:+3:00.0", None),
            ("0000:03:00", None),
            ("", None),
        ] {
            let parsed = text.parse::<PciAddress>().ok();
            let expected = address
                .and_then(|(domain, bus, device, function)| PciAddress::new(domain, bus, device, function));
            assert_eq!(parsed, expected, "{text:?}");
        }
    }

    #[test]
    fn an_address_is_written_in_full() {
        assert_eq!(PciAddress::new(0, 3, 0x1f, 1).unwrap().to_string(), "0000:03:1f.1");
    }
}
