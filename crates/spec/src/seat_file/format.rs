//! The text forms that values of a seat file have: one row per `format` of the schema.
//!
//! Not here: the types with their own parser (`PciAddress`, `Bytes`, `MacAddress`), which are only called.

use super::MacAddress;
use crate::inventory::SlotPath;
use crate::{Bytes, PciAddress};

/// A text form: its name in the schema and its check, which answers what would be right.
type Format = (&'static str, fn(&str) -> Result<(), String>);

/// All text forms.
const FORMATS: [Format; 9] = [
    ("absolute-path", absolute_path),
    ("bytes", bytes_text),
    ("guest-memory", guest_memory),
    ("interface-name", interface_name),
    ("mac-address", mac_address),
    ("pci-address", pci_address),
    ("rom-choice", rom_choice),
    ("seat-name", seat_name),
    ("slot-path", slot_path),
];

/// The longest name of a seat: it becomes part of file names, cgroup names and the guest's SMBIOS.
const MAX_SEAT_NAME: usize = 32;

/// The longest name of a network interface (`IFNAMSIZ` less the final zero, `include/uapi/linux/if.h`).
const MAX_INTERFACE_NAME: usize = 15;

/// The longest path (`PATH_MAX`, `include/uapi/linux/limits.h`).
const MAX_PATH: usize = 4096;

/// The least memory that a machine with firmware starts in.
const MIN_GUEST_MEMORY: Bytes = Bytes::mib(32);

/// More memory than any host of today has; it keeps sums far from overflow.
const MAX_GUEST_MEMORY: Bytes = Bytes::gib(64 << 10);

/// Checks `text` against the form called `name`; a form that nobody knows admits everything.
pub(super) fn check(name: &str, text: &str) -> Result<(), String> {
    FORMATS.iter().find(|(known, _)| *known == name).map_or(Ok(()), |(_, check)| check(text))
}

fn absolute_path(text: &str) -> Result<(), String> {
    if !text.starts_with('/') {
        return Err("must be the whole path, beginning with `/`".to_owned());
    }
    if text.len() > MAX_PATH || text.contains('\0') {
        return Err(format!("must be at most {MAX_PATH} bytes without a zero byte"));
    }
    Ok(())
}

fn rom_choice(text: &str) -> Result<(), String> {
    if text == "none" {
        return Ok(());
    }
    absolute_path(text).map_err(|why| format!("{why}, or `none` for no ROM"))
}

fn bytes_text(text: &str) -> Result<(), String> {
    text.parse::<Bytes>().map(|_| ()).map_err(|error| error.to_string())
}

fn guest_memory(text: &str) -> Result<(), String> {
    let size = text.parse::<Bytes>().map_err(|error| error.to_string())?;
    if !(MIN_GUEST_MEMORY..=MAX_GUEST_MEMORY).contains(&size) {
        return Err(format!("must be between {MIN_GUEST_MEMORY} and {MAX_GUEST_MEMORY}"));
    }
    if !size.0.is_multiple_of(Bytes::mib(1).0) {
        return Err("must be whole MiB".to_owned());
    }
    Ok(())
}

fn interface_name(text: &str) -> Result<(), String> {
    // What `dev_valid_name` of the kernel (net/core/dev.c) admits.
    let forbidden = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    if text.is_empty() || text.len() > MAX_INTERFACE_NAME || text == "." || text == ".." {
        return Err(format!("must have 1 to {MAX_INTERFACE_NAME} bytes"));
    }
    if text.contains(forbidden) {
        return Err("must have no space, `/` or `:`".to_owned());
    }
    Ok(())
}

fn mac_address(text: &str) -> Result<(), String> {
    text.parse::<MacAddress>().map(|_| ()).map_err(|error| error.to_string())
}

fn pci_address(text: &str) -> Result<(), String> {
    text.parse::<PciAddress>().map(|_| ()).map_err(|error| error.to_string())
}

fn seat_name(text: &str) -> Result<(), String> {
    let letters = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
    if !letters || !begins || text.len() > MAX_SEAT_NAME {
        return Err(format!(
            "must be letters, digits, `-` and `_`, beginning with a letter, at most {MAX_SEAT_NAME}"
        ));
    }
    Ok(())
}

fn slot_path(text: &str) -> Result<(), String> {
    text.parse::<SlotPath>().map(|_| ()).map_err(|error| error.to_string())
}

/// Reads and writes an amount of memory as text.
pub(super) mod bytes {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::Bytes;

    pub(in crate::seat_file) fn serialize<S: Serializer>(
        size: &Bytes,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(size)
    }

    pub(in crate::seat_file) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Bytes, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Reads and writes an amount of memory that may be left out.
pub(super) mod optional_bytes {
    use serde::{Deserializer, Serializer};

    use crate::Bytes;

    pub(in crate::seat_file) fn serialize<S: Serializer>(
        size: &Option<Bytes>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match size {
            Some(size) => serializer.collect_str(size),
            None => serializer.serialize_none(),
        }
    }

    pub(in crate::seat_file) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Bytes>, D::Error> {
        super::bytes::deserialize(deserializer).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn each_form_admits_the_right_and_refuses_the_wrong() {
        for (form, right, wrong) in [
            ("absolute-path", "/a b", "a"),
            ("absolute-path", "/", "/\0"),
            ("rom-choice", "none", "None"),
            ("rom-choice", "/a.rom", "a.rom"),
            ("bytes", "1G", "1 elephant"),
            ("guest-memory", "32M", "31M"),
            ("guest-memory", "64T", "65T"),
            ("guest-memory", "8192M", "8388609K"),
            ("interface-name", "enp5s0f0", "eth 0"),
            ("interface-name", "abcdefghijklmno", "abcdefghijklmnop"),
            ("interface-name", "br0", "a/b"),
            ("interface-name", "br-lan", ".."),
            ("mac-address", "52:54:00:12:34:56", "53:54:00:12:34:56"),
            ("pci-address", "03:00.0", "03:00.9"),
            ("seat-name", "anna-2", "2anna"),
            ("seat-name", "x", ""),
            ("seat-name", "a_b", "a/../b"),
            ("slot-path", "0000:00/01.1", "00/01.1"),
        ] {
            assert_eq!(check(form, right), Ok(()), "{form} {right:?}");
            assert!(check(form, wrong).is_err(), "{form} {wrong:?}");
        }
    }
}
