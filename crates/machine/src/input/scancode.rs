//! Scan codes: what a key is in the three languages it speaks on its way (Linux event code, set 2, set 1).
//!
//! Facts: IBM PS/2 Hardware Interface Technical Reference, "Keyboards"; Linux drivers/input/keyboard/atkbd.c.

/// A key: its code, and whether the prefix 0xE0 comes before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scancode {
    pub(super) extended: bool,
    /// In set 1, below 0x80.
    pub(super) code: u8,
}

/// Keys whose event code is not their scan code of set 1 (all of those have the prefix).
const EXTENDED: [(u16, u8); 41] = [
    (96, 0x1c),  // keypad enter
    (97, 0x1d),  // right control
    (98, 0x35),  // keypad slash
    (99, 0x37),  // print screen
    (100, 0x38), // right alt
    (102, 0x47), // home
    (103, 0x48), // up
    (104, 0x49), // page up
    (105, 0x4b), // left
    (106, 0x4d), // right
    (107, 0x4f), // end
    (108, 0x50), // down
    (109, 0x51), // page down
    (110, 0x52), // insert
    (111, 0x53), // delete
    (113, 0x20), // mute
    (114, 0x2e), // volume down
    (115, 0x30), // volume up
    (116, 0x5e), // power
    (119, 0x46), // pause, as its break key
    (125, 0x5b), // left meta
    (126, 0x5c), // right meta
    (127, 0x5d), // menu
    (128, 0x68), // stop
    (140, 0x21), // calculator
    (142, 0x5f), // sleep
    (143, 0x63), // wake up
    (150, 0x02), // www
    (155, 0x6c), // mail
    (156, 0x66), // bookmarks
    (157, 0x6b), // computer
    (158, 0x6a), // back
    (159, 0x69), // forward
    (163, 0x19), // next song
    (164, 0x22), // play and pause
    (165, 0x10), // previous song
    (166, 0x24), // stop
    (172, 0x32), // home page
    (173, 0x67), // refresh
    (217, 0x65), // search
    (226, 0x6d), // media
];

/// Keys without the prefix whose codes differ: those of other countries' keyboards.
const PLAIN: [(u16, u8); 9] = [
    (89, 0x73),  // ro
    (91, 0x77),  // hiragana, as some keyboards have it
    (92, 0x79),  // henkan
    (93, 0x70),  // katakana and hiragana
    (94, 0x7b),  // muhenkan
    (95, 0x5c),  // keypad comma
    (117, 0x59), // keypad equals
    (121, 0x7e), // keypad comma of Brazil
    (124, 0x7d), // yen
];

/// For each code of set 1 the code of set 2: the table in the controller's ROM, read backward.
const SET_2: [u8; 128] = [
    0x00, 0x76, 0x16, 0x1e, 0x26, 0x25, 0x2e, 0x36, 0x3d, 0x3e, 0x46, 0x45, 0x4e, 0x55, 0x66, 0x0d, 0x15,
    0x1d, 0x24, 0x2d, 0x2c, 0x35, 0x3c, 0x43, 0x44, 0x4d, 0x54, 0x5b, 0x5a, 0x14, 0x1c, 0x1b, 0x23, 0x2b,
    0x34, 0x33, 0x3b, 0x42, 0x4b, 0x4c, 0x52, 0x0e, 0x12, 0x5d, 0x1a, 0x22, 0x21, 0x2a, 0x32, 0x31, 0x3a,
    0x41, 0x49, 0x4a, 0x59, 0x7c, 0x11, 0x29, 0x58, 0x05, 0x06, 0x04, 0x0c, 0x03, 0x0b, 0x83, 0x0a, 0x01,
    0x09, 0x77, 0x7e, 0x6c, 0x75, 0x7d, 0x7b, 0x6b, 0x73, 0x74, 0x79, 0x69, 0x72, 0x7a, 0x70, 0x71, 0x84,
    0x60, 0x61, 0x78, 0x07, 0x0f, 0x17, 0x1f, 0x27, 0x2f, 0x37, 0x3f, 0x47, 0x4f, 0x56, 0x5e, 0x08, 0x10,
    0x18, 0x20, 0x28, 0x30, 0x38, 0x40, 0x48, 0x50, 0x57, 0x6f, 0x13, 0x19, 0x39, 0x51, 0x53, 0x5c, 0x5f,
    0x62, 0x63, 0x64, 0x65, 0x67, 0x68, 0x6a, 0x6d, 0x6e,
];

/// The last event code that is its own scan code of set 1.
const LAST_PLAIN: u16 = 88;

/// The key with this event code; `None` for one that no keyboard of this kind has.
pub(super) fn of_key(key: u16) -> Option<Scancode> {
    let find = |table: &[(u16, u8)]| table.iter().find(|(other, _)| *other == key).map(|(_, code)| *code);
    match key {
        1..=LAST_PLAIN if key != 84 && key != 85 => Some(Scancode { extended: false, code: key as u8 }),
        _ => find(&EXTENDED)
            .map(|code| Scancode { extended: true, code })
            .or(find(&PLAIN).map(|code| Scancode { extended: false, code })),
    }
}

/// A code of set 1 in set 2.
pub(super) fn to_set_2(code: u8) -> u8 {
    SET_2.get(usize::from(code)).copied().unwrap_or(0)
}

/// A byte of set 2 as the controller's translation makes it; those that are no key's stay as they are.
pub(crate) fn to_set_1(byte: u8) -> u8 {
    let found = SET_2.iter().position(|set_2| *set_2 == byte);
    match (byte, found) {
        // The other byte that the controller takes for the same key.
        (0x02, _) => 0x41,
        (0x7f, _) => 0x54,
        (_, Some(code)) => code as u8,
        _ => byte,
    }
}

#[cfg(test)]
mod tests {
    use super::{Scancode, of_key, to_set_1, to_set_2};

    #[test]
    fn keys_have_the_codes_of_the_reference() {
        for (key, extended, set_1, set_2) in [
            (1, false, 0x01, 0x76),
            (30, false, 0x1e, 0x1c),
            (28, false, 0x1c, 0x5a),
            (59, false, 0x3b, 0x05),
            (65, false, 0x41, 0x83),
            (88, false, 0x58, 0x07),
            (86, false, 0x56, 0x61),
            (97, true, 0x1d, 0x14),
            (103, true, 0x48, 0x75),
            (125, true, 0x5b, 0x1f),
        ] {
            let code = of_key(key).unwrap();
            assert_eq!(code, Scancode { extended, code: set_1 }, "{key}");
            assert_eq!(to_set_2(code.code), set_2, "{key}");
        }
        for none in [0, 84, 85, 240, 0xffff] {
            assert_eq!(of_key(none), None, "{none}");
        }
    }

    #[test]
    fn translation_there_and_back_changes_no_key() {
        for key in 0..256 {
            if let Some(code) = of_key(key) {
                assert_eq!(to_set_1(to_set_2(code.code)), code.code, "{key}");
            }
        }
        for byte in [0xe0, 0xe1, 0xfa, 0xaa, 0xee, 0xfe] {
            assert_eq!(to_set_1(byte), byte);
        }
    }
}
