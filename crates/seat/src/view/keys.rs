//! X keysyms (as RFB sends keys) and scan codes (as QEMU's extension does) into Linux event codes.
//!
//! A keysym is what a key means, an event code where it is: this table is that of an American keyboard. Viewers that send
//! scan codes are right with any keyboard.

/// Printable characters by event code: what the keys from there on mean, without and with shift.
const ROWS: [(u16, &[u8], &[u8]); 5] = [
    (2, b"1234567890-=", b"!@#$%^&*()_+"),
    (16, b"qwertyuiop[]", b"QWERTYUIOP{}"),
    (30, b"asdfghjkl;'`", b"ASDFGHJKL:\"~"),
    (43, b"\\zxcvbnm,./", b"|ZXCVBNM<>?"),
    (57, b" ", b" "),
];

/// Keys without a character (X11 keysymdef.h).
const NAMED: [(u32, u16); 52] = [
    (0xff08, 14),  // backspace
    (0xff09, 15),  // tab
    (0xfe20, 15),  // tab with shift
    (0xff0d, 28),  // return
    (0xff1b, 1),   // escape
    (0xff13, 119), // pause
    (0xff14, 70),  // scroll lock
    (0xff61, 99),  // print
    (0xff15, 99),  // system request
    (0xff50, 102), // home
    (0xff51, 105), // left
    (0xff52, 103), // up
    (0xff53, 106), // right
    (0xff54, 108), // down
    (0xff55, 104), // page up
    (0xff56, 109), // page down
    (0xff57, 107), // end
    (0xff63, 110), // insert
    (0xffff, 111), // delete
    (0xff67, 127), // menu
    (0xff7f, 69),  // num lock
    (0xffe5, 58),  // caps lock
    (0xffe1, 42),  // shift
    (0xffe2, 54),  // right shift
    (0xffe3, 29),  // control
    (0xffe4, 97),  // right control
    (0xffe7, 56),  // meta
    (0xffe8, 100), // right meta
    (0xffe9, 56),  // alt
    (0xffea, 100), // right alt
    (0xfe03, 100), // alt gr
    (0xffeb, 125), // super
    (0xffec, 126), // right super
    (0xff8d, 96),  // keypad enter
    (0xffaa, 55),  // keypad multiply
    (0xffab, 78),  // keypad add
    (0xffad, 74),  // keypad subtract
    (0xffae, 83),  // keypad decimal
    (0xffaf, 98),  // keypad divide
    (0xffb0, 82),  // keypad 0
    (0xffb1, 79),
    (0xffb2, 80),
    (0xffb3, 81),
    (0xffb4, 75),
    (0xffb5, 76),
    (0xffb6, 77),
    (0xffb7, 71),
    (0xffb8, 72),
    (0xffb9, 73),
    (0xffc8, 87), // F11
    (0xffc9, 88), // F12
    (0xff9f, 83), // keypad delete
];

/// F1 to F10.
const FUNCTION_KEYS: std::ops::RangeInclusive<u32> = 0xffbe..=0xffc7;
const F1: u16 = 59;

/// Scan codes with the prefix (here: bit 7) and their event codes.
const EXTENDED: [(u8, u16); 19] = [
    (0x1c, 96),
    (0x1d, 97),
    (0x35, 98),
    (0x37, 99),
    (0x38, 100),
    (0x46, 119),
    (0x47, 102),
    (0x48, 103),
    (0x49, 104),
    (0x4b, 105),
    (0x4d, 106),
    (0x4f, 107),
    (0x50, 108),
    (0x51, 109),
    (0x52, 110),
    (0x53, 111),
    (0x5b, 125),
    (0x5c, 126),
    (0x5d, 127),
];

/// The event code of a keysym.
pub(super) fn of_keysym(keysym: u32) -> Option<u16> {
    if FUNCTION_KEYS.contains(&keysym) {
        return Some(F1 + (keysym - FUNCTION_KEYS.start()) as u16);
    }
    let named = NAMED.iter().find(|(other, _)| *other == keysym).map(|(_, key)| *key);
    named.or_else(|| {
        let character = u8::try_from(keysym).ok()?;
        ROWS.iter().find_map(|(first, plain, shifted)| {
            let place = |row: &[u8]| row.iter().position(|other| *other == character);
            Some(first + place(plain).or(place(shifted))? as u16)
        })
    })
}

/// The event code of a scan code of set 1, with bit 7 in place of the prefix.
pub(super) fn of_scancode(scancode: u32) -> Option<u16> {
    match scancode {
        1..=88 => Some(scancode as u16),
        0x81..=0xff => {
            EXTENDED.iter().find(|(code, _)| u32::from(*code | 0x80) == scancode).map(|(_, key)| *key)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{of_keysym, of_scancode};

    #[test]
    fn keys_have_their_event_codes() {
        for (keysym, key) in [
            (u32::from(b'a'), 30),
            (u32::from(b'A'), 30),
            (u32::from(b'z'), 44),
            (u32::from(b'/'), 53),
            (u32::from(b'?'), 53),
            (u32::from(b'`'), 41),
            (u32::from(b'='), 13),
            (u32::from(b']'), 27),
            (u32::from(b'\''), 40),
            (u32::from(b' '), 57),
            (0xff0d, 28),
            (0xffbe, 59),
            (0xffc7, 68),
            (0xffc9, 88),
        ] {
            assert_eq!(of_keysym(keysym), Some(key), "{keysym:#x}");
        }
        assert_eq!(of_keysym(0x0100_0041), None);
        for (scancode, key) in [(0x1e, Some(30)), (0xc8, Some(103)), (0, None), (0xff, None), (0x148, None)] {
            assert_eq!(of_scancode(scancode), key, "{scancode:#x}");
        }
    }
}
