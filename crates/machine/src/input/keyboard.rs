//! A PS/2 keyboard: keys into scan codes, and the commands that a host sends it.

use std::collections::VecDeque;

use super::scancode::{self, Scancode};

/// Bytes that wait for the host at most; keys that find no room are lost, as a person's on a machine that hangs.
const ROOM: usize = 256;
/// What a key and an answer take at most.
const LONGEST: usize = 8;

const ACK: u8 = 0xfa;
const RESEND: u8 = 0xfe;
const ECHO: u8 = 0xee;
const SELF_TEST_PASSED: u8 = 0xaa;
const ID: [u8; 2] = [0xab, 0x83];
const BREAK: u8 = 0xf0;
const PREFIX: u8 = 0xe0;

/// The command that the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Argument {
    Lights,
    Set,
    Rate,
}

/// The keyboard.
#[derive(Clone, Debug)]
pub(crate) struct Keyboard {
    waiting: VecDeque<u8>,
    scanning: bool,
    set: u8,
    argument_of: Option<Argument>,
    last: u8,
}

impl Default for Keyboard {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), scanning: true, set: 2, argument_of: None, last: 0 }
    }
}

impl Keyboard {
    /// A key goes down or comes up; `key` is its Linux event code. False when there is no such key.
    pub(crate) fn press(&mut self, key: u16, down: bool) -> bool {
        let Some(code) = scancode::of_key(key) else { return false };
        if self.scanning && self.waiting.len() + LONGEST <= ROOM {
            self.put_key(code, down);
        }
        true
    }

    /// The next byte for the host.
    pub(crate) fn next_byte(&mut self) -> Option<u8> {
        let byte = self.waiting.pop_front()?;
        self.last = byte;
        Some(byte)
    }

    /// Takes a byte from the host.
    pub(crate) fn command(&mut self, byte: u8) {
        // An answer must find room; the host has not listened for long if it does not.
        if self.waiting.len() + LONGEST > ROOM {
            self.waiting.clear();
        }
        match (self.argument_of.take(), byte) {
            (Some(Argument::Lights | Argument::Rate), 0..=0xdf) => self.answer(&[ACK]),
            (Some(Argument::Set), 0) => self.answer(&[ACK, self.set]),
            (Some(Argument::Set), 1 | 2) => {
                self.set = byte;
                self.answer(&[ACK]);
            }
            // There is no third set here: what is there stays.
            (Some(Argument::Set), 3) => self.answer(&[ACK]),
            _ => self.begin(byte),
        }
    }

    fn begin(&mut self, command: u8) {
        match command {
            0xed => self.expect(Argument::Lights),
            0xee => self.answer(&[ECHO]),
            0xf0 => self.expect(Argument::Set),
            0xf2 => {
                let [first, second] = ID;
                self.answer(&[ACK, first, second]);
            }
            0xf3 => self.expect(Argument::Rate),
            0xf4 => {
                self.scanning = true;
                self.answer(&[ACK]);
            }
            0xf5 | 0xf6 => {
                self.waiting.clear();
                (self.scanning, self.set) = (command == 0xf6, 2);
                self.answer(&[ACK]);
            }
            0xf7..=0xfd => self.answer(&[ACK]),
            0xfe => self.answer(&[self.last]),
            0xff => {
                *self = Self::default();
                self.answer(&[ACK, SELF_TEST_PASSED]);
            }
            _ => self.answer(&[RESEND]),
        }
    }

    fn expect(&mut self, argument: Argument) {
        self.argument_of = Some(argument);
        self.answer(&[ACK]);
    }

    fn answer(&mut self, bytes: &[u8]) {
        self.waiting.extend(bytes);
    }

    fn put_key(&mut self, Scancode { extended, code }: Scancode, down: bool) {
        if extended {
            self.waiting.push_back(PREFIX);
        }
        if self.set == 1 {
            self.waiting.push_back(if down { code } else { code | 0x80 });
            return;
        }
        if !down {
            self.waiting.push_back(BREAK);
        }
        self.waiting.push_back(scancode::to_set_2(code));
    }
}

#[cfg(test)]
mod tests {
    use super::{Keyboard, ROOM};

    fn all(keyboard: &mut Keyboard) -> Vec<u8> {
        std::iter::from_fn(|| keyboard.next_byte()).collect()
    }

    #[test]
    fn commands_are_answered_as_the_reference_says() {
        for (commands, answers) in [
            (&[0xff][..], &[0xfa, 0xaa][..]),
            (&[0xf2], &[0xfa, 0xab, 0x83]),
            (&[0xed, 0x07], &[0xfa, 0xfa]),
            (&[0xee], &[0xee]),
            (&[0xf0, 0x01, 0xf0, 0x00], &[0xfa, 0xfa, 0xfa, 0xfa, 0x01]),
            (&[0xf3, 0x20, 0xf5, 0xf4, 0xf6], &[0xfa]),
            (&[0x12], &[0xfe]),
            // A command in place of an argument is a command.
            (&[0xed, 0xf2], &[0xfa, 0xfa, 0xab, 0x83]),
        ] {
            let mut keyboard = Keyboard::default();
            commands.iter().for_each(|command| keyboard.command(*command));
            assert_eq!(all(&mut keyboard), answers, "{commands:x?}");
        }
    }

    #[test]
    fn keys_go_down_and_come_up_in_both_sets() {
        for (set, key, bytes) in [
            (2, 30, &[0x1c, 0xf0, 0x1c][..]),
            (2, 103, &[0xe0, 0x75, 0xe0, 0xf0, 0x75]),
            (1, 30, &[0x1e, 0x9e]),
            (1, 103, &[0xe0, 0x48, 0xe0, 0xc8]),
        ] {
            let mut keyboard = Keyboard::default();
            keyboard.command(0xf0);
            keyboard.command(set);
            all(&mut keyboard);
            assert!(keyboard.press(key, true) && keyboard.press(key, false));
            assert_eq!(all(&mut keyboard), bytes, "set {set} key {key}");
        }
        assert!(!Keyboard::default().press(0, true));
    }

    #[test]
    fn a_host_that_does_not_listen_loses_keys_and_not_answers() {
        let mut keyboard = Keyboard::default();
        for _ in 0..1000 {
            keyboard.press(103, true);
        }
        assert!(keyboard.waiting.len() <= ROOM);
        for byte in 0..=255 {
            keyboard.command(byte);
            keyboard.command(0xf2);
            assert!(keyboard.waiting.len() <= ROOM);
        }
        keyboard.command(0xff);
        let answers = all(&mut keyboard);
        assert_eq!(answers[answers.len() - 2..], [0xfa, 0xaa]);
        keyboard.command(0xf5);
        keyboard.press(30, true);
        assert_eq!(all(&mut keyboard), [0xfa], "it was told not to scan");
    }
}
