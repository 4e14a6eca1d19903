//! An amount of memory, as people write it: `512M`, `4GiB`.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A number of bytes. Text form: digits and an optional binary unit `K`, `M`, `G`, `T` (`KiB` and so on too).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct Bytes(pub u64);

/// What is wrong with a text that should be an amount of memory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an amount of memory; write digits and a unit, for example 512M or 4G")]
pub struct ParseBytesError {
    text: String,
}

impl Bytes {
    /// `count` mebibytes.
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// `count` gibibytes.
    pub const fn gib(count: u64) -> Self {
        Self(count << 30)
    }
}

/// The units, largest first, so that writing finds the largest that divides.
const UNITS: [(char, u32); 4] = [('T', 40), ('G', 30), ('M', 20), ('K', 10)];

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.iter().find(|(_, shift)| self.0 != 0 && self.0.trailing_zeros() >= *shift);
        match unit {
            Some((letter, shift)) => write!(f, "{}{letter}iB", self.0 >> shift),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl FromStr for Bytes {
    type Err = ParseBytesError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| ParseBytesError { text: text.to_owned() })
    }
}

fn parse(text: &str) -> Option<Bytes> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let count = digits.parse::<u64>().ok()?;
    let unit = unit.trim().to_ascii_uppercase();
    let shift = match unit.as_str() {
        "" | "B" => 0,
        _ => {
            let letter = unit.chars().next()?;
            let (_, shift) = UNITS.iter().find(|(known, _)| *known == letter)?;
            matches!(&unit[1..], "" | "IB" | "B").then_some(*shift)?
        }
    };
    count.checked_mul(1 << shift).map(Bytes)
}

#[cfg(test)]
mod tests {
    use super::Bytes;

    #[test]
    fn amounts_read_with_binary_units() {
        for (text, bytes) in [
            ("4096", Some(4096)),
            ("512M", Some(512 << 20)),
            ("4GiB", Some(4 << 30)),
            ("1 tib", Some(1 << 40)),
            ("64k", Some(64 << 10)),
            ("17000000T", None),
            ("-1", None),
            ("1.5G", None),
            ("12Q", None),
            ("Mi", None),
            ("1é", None),
            ("", None),
        ] {
            assert_eq!(text.parse::<Bytes>().ok(), bytes.map(Bytes), "{text:?}");
        }
    }

    #[test]
    fn amounts_are_written_in_the_largest_whole_unit() {
        for (bytes, text) in
            [(0, "0B"), (1536, "1536B"), (2048, "2KiB"), (512 << 20, "512MiB"), (3 << 40, "3TiB")]
        {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }
}
