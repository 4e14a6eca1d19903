//! Numbers that people know in hexadecimal: PCI ids, class codes, physical addresses. Text in every document.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is wrong with a text that should be a hexadecimal number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {what}; write up to {digits} hexadecimal digits")]
pub struct ParseHexError {
    text: String,
    what: &'static str,
    digits: usize,
}

/// A PCI vendor, device or subsystem id. Text form: `10de`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
pub struct PciId(pub u16);

/// A PCI class code: base class, subclass, programming interface. Text form: `030000`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
pub struct ClassCode(pub u32);

/// A host physical (or bus) address. Text form: `0xfee00000`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
pub struct PhysicalAddress(pub u64);

impl ClassCode {
    /// The base class, for example 0x03 for display controllers (PCI Code and ID Assignment, section 1).
    pub const fn base(self) -> u8 {
        (self.0 >> 16) as u8
    }

    /// Base class and subclass, for example 0x0c03 for USB controllers.
    pub const fn base_and_sub(self) -> u16 {
        (self.0 >> 8) as u16
    }

    /// Whether this is a display controller (0x03xx) or a pre-standard VGA device (0x0001xx).
    pub const fn is_display(self) -> bool {
        self.base() == 0x03 || self.base_and_sub() == 0x0001
    }

    /// Whether this is a VGA (0x0300), the one kind of display that a BIOS knows.
    pub const fn is_vga(self) -> bool {
        self.base_and_sub() == 0x0300
    }

    /// Whether this is a sound function: audio (0x0401) or HD audio (0x0403).
    pub const fn is_audio(self) -> bool {
        matches!(self.base_and_sub(), 0x0401 | 0x0403)
    }

    /// Whether this is a USB host controller (0x0c03 with UHCI, OHCI, EHCI, xHCI or USB4 interface).
    pub const fn is_usb_controller(self) -> bool {
        self.base_and_sub() == 0x0c03 && self.0 & 0xff != 0xfe
    }

    /// Whether this is a bridge (0x06xx): host bridges, ISA bridges, PCI bridges.
    pub const fn is_bridge(self) -> bool {
        self.base() == 0x06
    }

    /// Whether this is a network controller (0x02xx).
    pub const fn is_network(self) -> bool {
        self.base() == 0x02
    }

    /// Whether this is a mass storage controller (0x01xx).
    pub const fn is_storage(self) -> bool {
        self.base() == 0x01
    }
}

/// Gives a hexadecimal number its text form, both ways.
macro_rules! hex_text {
    ($type:ident, $number:ty, $digits:literal, $format:literal, $what:literal) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $format, self.0)
            }
        }

        impl FromStr for $type {
            type Err = ParseHexError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                parse(text, $digits)
                    .and_then(|number| <$number>::try_from(number).ok())
                    .map(Self)
                    .ok_or_else(|| ParseHexError { text: text.to_owned(), what: $what, digits: $digits })
            }
        }

        impl TryFrom<String> for $type {
            type Error = ParseHexError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(number: $type) -> Self {
                number.to_string()
            }
        }
    };
}

hex_text!(PciId, u16, 4, "{:04x}", "a PCI id");
hex_text!(ClassCode, u32, 6, "{:06x}", "a PCI class code");
hex_text!(PhysicalAddress, u64, 16, "{:#x}", "an address");

/// Reads 1 to `digits` hexadecimal digits with or without `0x`; `from_str_radix` alone would take a sign.
fn parse(text: &str, digits: usize) -> Option<u64> {
    let text = text.trim();
    let text = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    if text.is_empty() || text.len() > digits || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::{ClassCode, PciId, PhysicalAddress};

    #[test]
    fn hexadecimal_numbers_read_with_and_without_prefix() {
        for (text, id) in
            [("10de", Some(0x10de)), ("0x10DE\n", Some(0x10de)), ("10dee", None), ("+1", None), ("", None)]
        {
            assert_eq!(text.parse::<PciId>().ok(), id.map(PciId), "{text:?}");
        }
        assert_eq!("0x030000".parse(), Ok(ClassCode(0x03_0000)));
        assert_eq!("0xffffffffffffffff".parse(), Ok(PhysicalAddress(u64::MAX)));
    }

    #[test]
    fn class_codes_tell_the_kind_of_device() {
        assert!(ClassCode(0x03_0000).is_display() && ClassCode(0x03_8000).is_display());
        assert!(ClassCode(0x04_0300).is_audio() && !ClassCode(0x04_8000).is_audio());
        assert!(ClassCode(0x0c_0330).is_usb_controller() && !ClassCode(0x0c_03fe).is_usb_controller());
        assert_eq!(ClassCode(0x01_0802).to_string(), "010802");
    }
}
