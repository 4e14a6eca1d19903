//! A PS/2 mouse with a wheel and five buttons (IntelliMouse Explorer): motion into packets, and its commands.
//!
//! Facts: IBM PS/2 Hardware Interface Technical Reference, "Mouse"; Linux drivers/input/mouse/psmouse-base.c for the
//! sequences of sample rates by which a driver asks for wheel and side buttons.

use std::collections::VecDeque;

use super::Motion;

/// Bytes that wait for the host at most; motion that finds no room adds up until there is some.
const ROOM: usize = 64;
const LONGEST: usize = 4;

const ACK: u8 = 0xfa;
const NOT_ACK: u8 = 0xfc;
const SELF_TEST_PASSED: u8 = 0xaa;

/// What the mouse says it is.
const PLAIN: u8 = 0;
const WHEEL: u8 = 3;
const FIVE_BUTTONS: u8 = 4;

/// Sample rates that, one after another, ask for more than a plain mouse.
const ASK_FOR_WHEEL: [u8; 3] = [200, 100, 80];
const ASK_FOR_BUTTONS: [u8; 3] = [200, 200, 80];

/// Motion in one packet at most, and what adds up for more of them.
const STEP: i32 = 255;
const FARTHEST: i32 = 1 << 14;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Argument {
    Resolution,
    Rate,
}

/// The mouse.
#[derive(Clone, Debug)]
pub(crate) struct Mouse {
    waiting: VecDeque<u8>,
    reporting: bool,
    on_demand: bool,
    echoing: bool,
    scaling: bool,
    resolution: u8,
    rate: u8,
    rates: [u8; 3],
    id: u8,
    argument_of: Option<Argument>,
    motion: Motion,
    told_buttons: u8,
}

impl Default for Mouse {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            reporting: false,
            on_demand: false,
            echoing: false,
            scaling: false,
            resolution: 2,
            rate: 100,
            rates: [0; 3],
            id: PLAIN,
            argument_of: None,
            motion: Motion::default(),
            told_buttons: 0,
        }
    }
}

impl Mouse {
    /// The mouse is moved, its wheel turned, its buttons pressed or let go.
    pub(crate) fn moved(&mut self, motion: Motion) {
        let add = |have: i32, more: i32| have.saturating_add(more).clamp(-FARTHEST, FARTHEST);
        self.motion = Motion {
            dx: add(self.motion.dx, motion.dx),
            dy: add(self.motion.dy, motion.dy),
            wheel: add(self.motion.wheel, motion.wheel),
            ..motion
        };
        if !self.reporting {
            (self.motion.dx, self.motion.dy, self.motion.wheel) = (0, 0, 0);
        }
        self.report();
    }

    /// The next byte for the host.
    pub(crate) fn next_byte(&mut self) -> Option<u8> {
        if self.waiting.is_empty() {
            self.report();
        }
        self.waiting.pop_front()
    }

    /// Takes a byte from the host.
    pub(crate) fn command(&mut self, byte: u8) {
        if self.waiting.len() + LONGEST > ROOM {
            self.waiting.clear();
        }
        if self.echoing && byte != 0xec && byte != 0xff {
            return self.answer(&[byte]);
        }
        match self.argument_of.take() {
            Some(Argument::Resolution) => {
                self.resolution = byte;
                self.answer(&[ACK]);
            }
            Some(Argument::Rate) => self.set_rate(byte),
            None => self.begin(byte),
        }
    }

    fn begin(&mut self, command: u8) {
        match command {
            0xe6 | 0xe7 => self.set(|mouse| mouse.scaling = command == 0xe7),
            0xe8 => self.set(|mouse| mouse.argument_of = Some(Argument::Resolution)),
            0xe9 => {
                let (status, resolution, rate) = (self.status(), self.resolution, self.rate);
                self.answer(&[ACK, status, resolution, rate]);
            }
            0xea => self.set(|mouse| mouse.on_demand = false),
            0xeb => {
                self.answer(&[ACK]);
                self.put_packet();
            }
            0xec => self.set(|mouse| mouse.echoing = false),
            0xee => self.set(|mouse| mouse.echoing = true),
            0xf0 => self.set(|mouse| mouse.on_demand = true),
            0xf2 => self.answer(&[ACK, self.id]),
            0xf3 => self.set(|mouse| mouse.argument_of = Some(Argument::Rate)),
            0xf4 => self.set(|mouse| mouse.reporting = true),
            0xf5 => self.set(|mouse| mouse.reporting = false),
            0xf6 => {
                let id = self.id;
                *self = Self { id, ..Self::default() };
                self.answer(&[ACK]);
            }
            0xff => {
                *self = Self::default();
                self.answer(&[ACK, SELF_TEST_PASSED, PLAIN]);
            }
            _ => self.answer(&[NOT_ACK]),
        }
    }

    fn set(&mut self, change: impl FnOnce(&mut Self)) {
        change(self);
        self.answer(&[ACK]);
    }

    fn set_rate(&mut self, rate: u8) {
        let [_, second, third] = self.rates;
        self.rates = [second, third, rate];
        self.rate = rate;
        self.id = match self.rates {
            ASK_FOR_WHEEL if self.id == PLAIN => WHEEL,
            ASK_FOR_BUTTONS if self.id != PLAIN => FIVE_BUTTONS,
            _ => self.id,
        };
        self.answer(&[ACK]);
    }

    /// The first byte of the status report. Its buttons are in another order than a packet's.
    fn status(&self) -> u8 {
        let buttons = self.motion.buttons;
        (buttons >> 1 & 1)
            | (buttons >> 2 & 1) << 1
            | (buttons & 1) << 2
            | u8::from(self.scaling) << 4
            | u8::from(self.reporting) << 5
            | u8::from(self.on_demand) << 6
    }

    /// Puts what there is to tell into packets, as far as there is room.
    fn report(&mut self) {
        while self.reporting && !self.on_demand && !self.echoing && self.waiting.len() + LONGEST <= ROOM {
            let Motion { dx, dy, wheel, buttons, .. } = self.motion;
            if (dx, dy, wheel) == (0, 0, 0) && buttons == self.told_buttons {
                return;
            }
            self.put_packet();
        }
    }

    fn put_packet(&mut self) {
        let dx = self.motion.dx.clamp(-STEP, STEP);
        let dy = self.motion.dy.clamp(-STEP, STEP);
        let wheel = self.motion.wheel.clamp(-7, 7);
        self.motion.dx -= dx;
        self.motion.dy -= dy;
        self.motion.wheel -= wheel;
        let buttons = self.motion.buttons;
        self.told_buttons = buttons;
        // On the wire upward is positive.
        let up = -dy;
        let signs = u8::from(dx < 0) << 4 | u8::from(up < 0) << 5;
        self.answer(&[0x08 | buttons & 7 | signs, dx as u8, up as u8]);
        match self.id {
            WHEEL => self.answer(&[wheel as u8]),
            FIVE_BUTTONS => self.answer(&[wheel as u8 & 0x0f | (buttons & 0x18) << 1]),
            // A plain mouse has no wheel to tell of.
            _ => self.motion.wheel = 0,
        }
    }

    fn answer(&mut self, bytes: &[u8]) {
        self.waiting.extend(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::{Mouse, ROOM};
    use crate::input::Motion;

    fn all(mouse: &mut Mouse) -> Vec<u8> {
        std::iter::from_fn(|| mouse.next_byte()).take(1000).collect()
    }

    fn told(commands: &[u8]) -> (Mouse, Vec<u8>) {
        let mut mouse = Mouse::default();
        commands.iter().for_each(|command| mouse.command(*command));
        let answers = all(&mut mouse);
        (mouse, answers)
    }

    #[test]
    fn commands_are_answered_as_the_reference_says() {
        for (commands, answers) in [
            (&[0xff][..], &[0xfa, 0xaa, 0x00][..]),
            (&[0xf2], &[0xfa, 0x00]),
            (&[0xe9], &[0xfa, 0x00, 0x02, 100]),
            (&[0xe8, 3, 0xf4, 0xe9], &[0xfa, 0xfa, 0xfa, 0xfa, 0x20, 3, 100]),
            (&[0xf3, 200, 0xf3, 100, 0xf3, 80, 0xf2], &[0xfa, 0xfa, 0xfa, 0xfa, 0xfa, 0xfa, 0xfa, 3]),
            (&[0xee, 0x55, 0xec], &[0xfa, 0x55, 0xfa]),
            (&[0xeb], &[0xfa, 0x08, 0, 0]),
            (&[0x00], &[0xfc]),
        ] {
            assert_eq!(told(commands).1, answers, "{commands:x?}");
        }
        let five = [0xf3, 200, 0xf3, 100, 0xf3, 80, 0xf3, 200, 0xf3, 200, 0xf3, 80, 0xf2];
        assert_eq!(told(&five).1.last(), Some(&4));
    }

    #[test]
    fn motion_becomes_packets() {
        let wheel = [0xf3, 200, 0xf3, 100, 0xf3, 80, 0xf4];
        for (commands, motion, bytes) in [
            (&[0xf4][..], Motion { dx: 3, dy: 2, buttons: 1, ..Motion::default() }, vec![0x29, 3, 0xfe]),
            (&[0xf4], Motion { dx: -3, dy: -2, wheel: 1, ..Motion::default() }, vec![0x18, 0xfd, 2]),
            (&[0xf4], Motion { dx: 300, ..Motion::default() }, vec![0x08, 255, 0, 0x08, 45, 0]),
            (&wheel, Motion { wheel: -1, ..Motion::default() }, vec![0x08, 0, 0, 0xff]),
            (&[], Motion { dx: 3, ..Motion::default() }, vec![]),
        ] {
            let (mut mouse, _) = told(commands);
            mouse.moved(motion);
            assert_eq!(all(&mut mouse), bytes, "{motion:?}");
        }
    }

    #[test]
    fn motion_that_nobody_takes_adds_up_within_bounds() {
        let (mut mouse, _) = told(&[0xf4]);
        for _ in 0..10_000 {
            mouse.moved(Motion { dx: i32::MAX, dy: i32::MIN, wheel: 9, buttons: 0xff, ..Motion::default() });
            assert!(mouse.waiting.len() <= ROOM);
        }
        for byte in 0..=255 {
            mouse.command(byte);
            assert!(mouse.waiting.len() <= ROOM);
        }
        assert!(all(&mut mouse).len() < 1000, "it ends");
    }
}
