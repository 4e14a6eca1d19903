//! The address of a network card.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A unicast MAC address. Text form: six pairs of hexadecimal digits with colons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress([u8; 6]);

/// What is wrong with a text that should be the MAC address of a card.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseMacAddressError {
    /// It is no MAC address at all.
    #[error("`{text}` is not a MAC address; write six pairs of hexadecimal digits: 52:54:00:12:34:56")]
    Form {
        /// The text.
        text: String,
    },
    /// It is the address of a group or of nobody.
    #[error(
        "`{text}` cannot be the address of one card; make the first pair even and one pair other than 00"
    )]
    NotUnicast {
        /// The text.
        text: String,
    },
}

impl MacAddress {
    /// Makes a locally administered unicast address from 46 of the bits of `seed`.
    pub const fn locally_administered(seed: u64) -> Self {
        let bytes = seed.to_be_bytes();
        // IEEE 802-2014 8.2.2: bit 1 of the first octet says "local", bit 0 says "group".
        Self([bytes[2] & 0xfc | 0x02, bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]])
    }

    /// Makes the address of one card from its octets; `None` for that of a group or of nobody.
    pub const fn unicast(octets: [u8; 6]) -> Option<Self> {
        match octets {
            [0, 0, 0, 0, 0, 0] => None,
            [first, ..] if first & 1 != 0 => None,
            octets => Some(Self(octets)),
        }
    }

    /// The six octets, in the order in which they are written.
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddress {
    type Err = ParseMacAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let octets = parse(text).ok_or_else(|| ParseMacAddressError::Form { text: text.to_owned() })?;
        Self::unicast(octets).ok_or_else(|| ParseMacAddressError::NotUnicast { text: text.to_owned() })
    }
}

impl TryFrom<String> for MacAddress {
    type Error = ParseMacAddressError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<MacAddress> for String {
    fn from(address: MacAddress) -> Self {
        address.to_string()
    }
}

fn parse(text: &str) -> Option<[u8; 6]> {
    let mut octets = [0; 6];
    let mut pairs = text.split(':');
    for octet in &mut octets {
        let pair = pairs.next()?;
        if pair.len() != 2 || !pair.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        *octet = u8::from_str_radix(pair, 16).ok()?;
    }
    pairs.next().is_none().then_some(octets)
}

#[cfg(test)]
mod tests {
    use super::MacAddress;

    #[test]
    fn addresses_of_one_card_are_read() {
        for (text, octets) in [
            ("52:54:00:12:34:56", Some([0x52, 0x54, 0, 0x12, 0x34, 0x56])),
            ("AA:bb:CC:dd:EE:ff", Some([0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff])),
            ("01:00:5e:00:00:01", None),
            ("00:00:00:00:00:00", None),
            ("52:54:00:12:34", None),
            ("52:54:00:12:34:56:78", None),
            ("52:54:00:12:34:+6", None),
            ("525400123456", None),
            ("", None),
        ] {
            assert_eq!(text.parse::<MacAddress>().ok().map(MacAddress::octets), octets, "{text:?}");
        }
    }

    #[test]
    fn made_addresses_are_local_and_of_one_card() {
        for seed in [0, 1, u64::MAX, 0x1234_5678_9abc_def0] {
            assert_eq!(MacAddress::locally_administered(seed).octets()[0] & 3, 2, "{seed:#x}");
        }
    }
}
