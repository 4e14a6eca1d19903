//! The keyboard controller: an i8042 at ports 0x60 and 0x64 (IBM PS/2
//! Hardware Interface Technical Reference, "Keyboard and Auxiliary Device Controller"; Linux
//! `drivers/input/serio/i8042.c` for what is asked of it).
//!
//! Not here: keyboard and mouse (`input`). Both are there or neither is.
//!
//! An empty connector answers at once, by the controller's own time-out byte, or a driver would wait for it: the
//! keyboard's with a resend request marked as a time-out, the mouse's by failing the two tests that drivers
//! begin with, so that they look no further. The A20 gate is a bit and no more: address line 20 is always on.

use super::{read_bytes, write_bytes};
use crate::bus::{Device, Effect, ResetPath};
use crate::input::{Keyboard, Motion, Mouse, to_set_1};
use crate::interrupt::InterruptLine;

/// The first port.
pub const BASE: u64 = 0x60;
/// The number of ports from [`BASE`]; only the first and the last are the controller's, port 0x61 is the PIT's.
pub const PORTS: u64 = 5;

const DATA: u64 = 0;
const COMMAND: u64 = 4;

const STATUS_OUTPUT_FULL: u8 = 1 << 0;
const STATUS_SELF_TESTED: u8 = 1 << 2;
const STATUS_LAST_WAS_COMMAND: u8 = 1 << 3;
const STATUS_UNLOCKED: u8 = 1 << 4;
const STATUS_FROM_MOUSE: u8 = 1 << 5;
const STATUS_TIMEOUT: u8 = 1 << 6;

/// Byte 0 of the controller's RAM is its configuration.
const CONFIGURATION: usize = 0;
const KEYBOARD_INTERRUPT: u8 = 1 << 0;
const MOUSE_INTERRUPT: u8 = 1 << 1;
const SELF_TESTED: u8 = 1 << 2;
const KEYBOARD_DISABLED: u8 = 1 << 4;
const MOUSE_DISABLED: u8 = 1 << 5;
const TRANSLATE: u8 = 1 << 6;
/// As PC firmware leaves it, for guests that start without one.
const CONFIGURATION_DEFAULT: u8 = SELF_TESTED | KEYBOARD_DISABLED | MOUSE_DISABLED | TRANSLATE;

const RAM: usize = 32;
const RAM_INDEX: u8 = 0x1f;

/// Output port: the reset line, active low.
const OUTPUT_NOT_RESET: u8 = 1 << 0;
const OUTPUT_A20: u8 = 1 << 1;
const OUTPUT_KEYBOARD_FULL: u8 = 1 << 4;
const OUTPUT_MOUSE_FULL: u8 = 1 << 5;
/// The lines that idle high.
const OUTPUT_IDLE: u8 = 0xcc;

const SELF_TEST_PASSED: u8 = 0x55;
const CONNECTOR_GOOD: u8 = 0x00;
const CONNECTOR_CLOCK_LOW: u8 = 0x01;
const INPUT_PORT: u8 = 0x80;
const TEST_INPUTS_HIGH: u8 = 0x03;
const RESEND: u8 = 0xfe;

/// The keyboard controller.
pub struct I8042 {
    keyboard_line: Line,
    mouse_line: Line,
    ram: [u8; RAM],
    output_port: u8,
    self_tested: bool,
    last_was_command: bool,
    argument_of: Option<Argument>,
    output: Option<Output>,
    // The buffer keeps its byte when it has been read.
    last_output: u8,
    // A byte of a device that had to make room for an answer of the controller's own.
    set_aside: Option<Output>,
    devices: Option<Devices>,
}

/// What is plugged in.
#[derive(Default)]
struct Devices {
    keyboard: Keyboard,
    mouse: Mouse,
    // The keyboard's last byte said that the next one is of a key that comes up.
    comes_up: bool,
}

struct Line {
    line: Box<dyn InterruptLine>,
    high: bool,
}

/// The command that the next byte at the data port belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Argument {
    Ram(usize),
    OutputPort,
    AsFromKeyboard,
    AsFromMouse,
    ToMouse,
}

/// The byte in the output buffer and where it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Output {
    byte: u8,
    from_mouse: bool,
    timeout: bool,
    // The controller's own, in place of a device's.
    own: bool,
}

impl Output {
    fn reply(byte: u8) -> Self {
        Self { byte, from_mouse: false, timeout: false, own: true }
    }
}

impl Devices {
    /// The next byte of a device whose connector is enabled.
    fn next(&mut self, configuration: u8) -> Option<Output> {
        if configuration & KEYBOARD_DISABLED == 0
            && let Some(byte) = self.next_of_keyboard(configuration & TRANSLATE != 0)
        {
            return Some(Output { byte, from_mouse: false, timeout: false, own: false });
        }
        if configuration & MOUSE_DISABLED != 0 {
            return None;
        }
        let byte = self.mouse.next_byte()?;
        Some(Output { byte, from_mouse: true, timeout: false, own: false })
    }

    /// The keyboard's next byte, translated to set 1 if that is on: there a key that comes up is one byte, not two.
    fn next_of_keyboard(&mut self, translate: bool) -> Option<u8> {
        let byte = self.keyboard.next_byte()?;
        if !translate {
            return Some(byte);
        }
        if byte == COMES_UP {
            self.comes_up = true;
            return self.next_of_keyboard(translate);
        }
        let up = if std::mem::take(&mut self.comes_up) { 0x80 } else { 0 };
        Some(to_set_1(byte) | up)
    }
}

/// Set 2: the next byte is of a key that comes up.
const COMES_UP: u8 = 0xf0;

impl I8042 {
    /// Makes a controller that interrupts by `keyboard_line` (IRQ 1) and `mouse_line` (IRQ 12).
    pub fn new(keyboard_line: Box<dyn InterruptLine>, mouse_line: Box<dyn InterruptLine>) -> Self {
        let mut ram = [0; RAM];
        ram[CONFIGURATION] = CONFIGURATION_DEFAULT;
        Self {
            keyboard_line: Line { line: keyboard_line, high: false },
            mouse_line: Line { line: mouse_line, high: false },
            ram,
            output_port: OUTPUT_IDLE | OUTPUT_NOT_RESET | OUTPUT_A20,
            self_tested: true,
            last_was_command: false,
            argument_of: None,
            output: None,
            last_output: 0,
            set_aside: None,
            devices: None,
        }
    }

    /// Plugs a keyboard and a mouse in.
    #[must_use]
    pub fn with_devices(self) -> Self {
        Self { devices: Some(Devices::default()), ..self }
    }

    /// A key goes down or comes up; `key` is its Linux event code. False when no keyboard has such a key.
    pub fn press(&mut self, key: u16, down: bool) -> bool {
        let pressed = self.devices.as_mut().is_some_and(|devices| devices.keyboard.press(key, down));
        self.fill();
        pressed
    }

    /// The mouse is moved; false without one.
    pub fn moved(&mut self, motion: Motion) -> bool {
        let there = self.devices.as_mut().map(|devices| devices.mouse.moved(motion)).is_some();
        self.fill();
        there
    }

    fn status(&self) -> u8 {
        let output = self.output.map_or(0, |output| {
            let mouse = if output.from_mouse { STATUS_FROM_MOUSE } else { 0 };
            let timeout = if output.timeout { STATUS_TIMEOUT } else { 0 };
            STATUS_OUTPUT_FULL | mouse | timeout
        });
        // The input buffer is never full: a byte written has been dealt with before the guest runs on.
        let tested = if self.self_tested { STATUS_SELF_TESTED } else { 0 };
        let command = if self.last_was_command { STATUS_LAST_WAS_COMMAND } else { 0 };
        STATUS_UNLOCKED | tested | command | output
    }

    fn take_output(&mut self) -> u8 {
        if let Some(output) = self.output.take() {
            self.last_output = output.byte;
            // Low first: the next byte's interrupt is an edge.
            self.drive_lines();
            self.fill();
        }
        self.last_output
    }

    fn command(&mut self, command: u8) -> Option<Effect> {
        self.last_was_command = true;
        // A command takes the place of one that still waits for its argument.
        self.argument_of = None;
        match command {
            0x20..=0x3f => self.put(Output::reply(self.ram[ram_index(command)])),
            0x60..=0x7f => self.argument_of = Some(Argument::Ram(ram_index(command))),
            0xa7 => self.configure(|configuration| configuration | MOUSE_DISABLED),
            0xa8 => self.configure(|configuration| configuration & !MOUSE_DISABLED),
            // A mouse connector that fails its test is one that drivers leave alone.
            0xa9 if self.devices.is_none() => self.put(Output::reply(CONNECTOR_CLOCK_LOW)),
            0xa9 => self.put(Output::reply(CONNECTOR_GOOD)),
            0xaa => {
                self.self_tested = true;
                self.put(Output::reply(SELF_TEST_PASSED));
            }
            0xab => self.put(Output::reply(CONNECTOR_GOOD)),
            0xad => self.configure(|configuration| configuration | KEYBOARD_DISABLED),
            0xae => self.configure(|configuration| configuration & !KEYBOARD_DISABLED),
            0xc0 => self.put(Output::reply(INPUT_PORT)),
            0xd0 => self.put(Output::reply(self.output_port())),
            0xd1 => self.argument_of = Some(Argument::OutputPort),
            0xd2 => self.argument_of = Some(Argument::AsFromKeyboard),
            0xd3 => self.argument_of = Some(Argument::AsFromMouse),
            0xd4 => self.argument_of = Some(Argument::ToMouse),
            0xdd => self.output_port &= !OUTPUT_A20,
            0xdf => self.output_port |= OUTPUT_A20,
            0xe0 => self.put(Output::reply(TEST_INPUTS_HIGH)),
            // Pulses low the output lines whose bits are zero; of the four only reset is connected.
            0xf0..=0xff if command & OUTPUT_NOT_RESET == 0 => return Some(RESET),
            _ => {}
        }
        None
    }

    fn data(&mut self, byte: u8) -> Option<Effect> {
        self.last_was_command = false;
        match self.argument_of.take() {
            None => self.send_to_keyboard(byte),
            Some(Argument::Ram(index)) => {
                self.ram[index] = byte;
                self.self_tested = self.ram[CONFIGURATION] & SELF_TESTED != 0;
                self.drive_lines();
            }
            Some(Argument::OutputPort) => {
                self.output_port = byte | OUTPUT_NOT_RESET;
                return (byte & OUTPUT_NOT_RESET == 0).then_some(RESET);
            }
            Some(Argument::AsFromKeyboard) => self.put(Output::reply(byte)),
            Some(Argument::AsFromMouse) if self.devices.is_some() => {
                self.put(Output { byte, from_mouse: true, timeout: false, own: true });
            }
            // Not marked as the mouse's: this is how drivers tell a controller without one (`i8042_check_aux`).
            Some(Argument::AsFromMouse) => self.put(Output::reply(byte)),
            Some(Argument::ToMouse) => match &mut self.devices {
                Some(devices) => devices.mouse.command(byte),
                None => self.put(Output { byte: RESEND, from_mouse: true, timeout: true, own: true }),
            },
        }
        self.fill();
        None
    }

    /// Sends a byte to the keyboard, which also enables its connector.
    fn send_to_keyboard(&mut self, byte: u8) {
        self.ram[CONFIGURATION] &= !KEYBOARD_DISABLED;
        match &mut self.devices {
            Some(devices) => devices.keyboard.command(byte),
            None => self.put(Output { byte: RESEND, from_mouse: false, timeout: true, own: true }),
        }
    }

    /// Puts an answer of the controller's own where the guest reads it: there is one buffer. A device's byte that was there
    /// comes after it; an answer that was not read is gone.
    fn put(&mut self, output: Output) {
        if let Some(waiting) = self.output.replace(Output { own: true, ..output })
            && !waiting.own
        {
            self.set_aside.get_or_insert(waiting);
        }
        self.drive_lines();
    }

    /// Puts the next byte of a device whose connector is enabled where the guest reads it, if nothing is there.
    fn fill(&mut self) {
        if self.output.is_some() {
            return;
        }
        let configuration = self.ram[CONFIGURATION];
        self.output = self.set_aside.take().or_else(|| self.devices.as_mut()?.next(configuration));
        self.drive_lines();
    }

    fn configure(&mut self, change: impl FnOnce(u8) -> u8) {
        self.ram[CONFIGURATION] = change(self.ram[CONFIGURATION]);
        self.fill();
        self.drive_lines();
    }

    /// The output port with the two lines that follow the output buffer.
    fn output_port(&self) -> u8 {
        let full = match self.output {
            None => 0,
            Some(output) if output.from_mouse => OUTPUT_MOUSE_FULL,
            Some(_) => OUTPUT_KEYBOARD_FULL,
        };
        self.output_port & !(OUTPUT_KEYBOARD_FULL | OUTPUT_MOUSE_FULL) | full
    }

    fn drive_lines(&mut self) {
        let configuration = self.ram[CONFIGURATION];
        let from_mouse = self.output.map(|output| output.from_mouse);
        // No interrupt for a disabled keyboard: drivers disable it while they poll for replies to commands.
        let keyboard = configuration & (KEYBOARD_INTERRUPT | KEYBOARD_DISABLED) == KEYBOARD_INTERRUPT;
        self.keyboard_line.drive(keyboard && from_mouse == Some(false));
        self.mouse_line.drive(configuration & MOUSE_INTERRUPT != 0 && from_mouse == Some(true));
    }
}

const RESET: Effect = Effect::Reset(ResetPath::KeyboardController);

fn ram_index(command: u8) -> usize {
    usize::from(command & RAM_INDEX)
}

impl Line {
    fn drive(&mut self, high: bool) {
        if high != self.high {
            self.high = high;
            self.line.set(high);
        }
    }
}

impl Device for I8042 {
    fn name(&self) -> &str {
        "i8042"
    }

    fn read(&mut self, offset: u64, data: &mut [u8]) -> Vec<Effect> {
        read_bytes(offset, data, |port| match port {
            DATA => self.take_output(),
            COMMAND => self.status(),
            _ => 0xff,
        });
        Vec::new()
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Vec<Effect> {
        let mut effects = Vec::new();
        write_bytes(offset, data, |port, value| {
            effects.extend(match port {
                DATA => self.data(value),
                COMMAND => self.command(value),
                _ => None,
            });
        });
        effects
    }
}

#[cfg(test)]
mod tests {
    use super::{I8042, RESET};
    use crate::board::testing::RecordedLine;
    use crate::bus::Device;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Command(u8),
        Data(u8),
        Status(u8),
        Read(u8),
        /// A command or byte that resets the machine.
        Resets(u64, u8),
        KeyboardLine(bool),
        MouseLine(bool),
    }
    use Step::*;

    fn check(steps: &[Step]) {
        let (keyboard, mouse) = (RecordedLine::default(), RecordedLine::default());
        let mut controller = I8042::new(keyboard.line(), mouse.line());
        for (index, step) in steps.iter().enumerate() {
            let at = format!("step {index}, {step:?} of {steps:x?}");
            let mut read = |port| {
                let mut data = [0];
                controller.read(port, &mut data);
                data[0]
            };
            match *step {
                Command(value) => assert_eq!(controller.write(4, &[value]), [], "{at}"),
                Data(value) => assert_eq!(controller.write(0, &[value]), [], "{at}"),
                Resets(port, value) => assert_eq!(controller.write(port, &[value]), [RESET], "{at}"),
                Status(value) => assert_eq!(read(4), value, "{at}"),
                Read(value) => assert_eq!(read(0), value, "{at}"),
                KeyboardLine(high) => assert_eq!(keyboard.high(), high, "{at}"),
                MouseLine(high) => assert_eq!(mouse.high(), high, "{at}"),
            }
        }
    }

    #[test]
    fn commands_answer_as_the_controller_does() {
        for steps in [
            &[Status(0x14), Read(0x00), Status(0x14)][..],
            &[Command(0xaa), Status(0x1d), Read(0x55), Status(0x1c)],
            &[Command(0x20), Read(0x74)],
            &[Command(0x60), Data(0x43), Status(0x10), Command(0x20), Read(0x43)],
            &[Command(0x7f), Data(0x99), Command(0x3f), Read(0x99), Command(0x20), Read(0x74)],
            &[Command(0xae), Command(0xa8), Command(0x20), Read(0x44)],
            &[Command(0xad), Command(0xa7), Command(0x20), Read(0x74)],
            &[Command(0xab), Read(0x00)],
            &[Command(0xc0), Read(0x80)],
            &[Command(0xe0), Read(0x03)],
            &[Command(0xd0), Read(0xcf)],
            &[Command(0xdd), Command(0xd0), Read(0xcd), Command(0xdf), Command(0xd0), Read(0xcf)],
            &[Command(0xd1), Data(0xdf), Command(0xd0), Read(0xcf)],
            &[Command(0xd2), Data(0x1e), Status(0x15), Command(0xd0), Read(0xdf)],
            // Unknown commands and pulses of unconnected lines do nothing.
            &[Command(0x00), Command(0xa1), Command(0xff), Command(0xf1), Status(0x1c)],
            // A command cancels the argument of the one before it.
            &[Command(0x60), Command(0xc0), Read(0x80), Data(0x00), Command(0x20), Read(0x64)],
        ] {
            check(steps);
        }
    }

    #[test]
    fn every_way_to_pulse_the_reset_line_resets() {
        for steps in [
            &[Resets(4, 0xfe)][..],
            &[Resets(4, 0xf0)],
            &[Command(0xd1), Resets(0, 0xfe)],
            &[Command(0xd1), Resets(0, 0x00)],
        ] {
            check(steps);
        }
    }

    /// A controller with devices, after these commands and bytes; lines are not looked at.
    fn with_devices(steps: &[(u64, u8)]) -> I8042 {
        let line = || RecordedLine::default().line();
        let mut controller = I8042::new(line(), line()).with_devices();
        for (port, value) in steps {
            controller.write(*port, &[*value]);
        }
        controller
    }

    /// What the guest reads until the buffer is empty: status bits for full and mouse, and the byte.
    fn drain(controller: &mut I8042) -> Vec<(bool, u8)> {
        let mut read = Vec::new();
        let (mut status, mut byte) = ([0], [0]);
        while read.len() < 1000 {
            controller.read(4, &mut status);
            if status[0] & 1 == 0 {
                break;
            }
            controller.read(0, &mut byte);
            read.push((status[0] & 0x20 != 0, byte[0]));
        }
        read
    }

    #[test]
    fn keys_and_motion_come_as_the_configuration_says() {
        let key = |byte| (false, byte);
        for (configuration, expected) in [
            // Translated; not translated; keyboard disabled; all disabled.
            (0x47, vec![key(0x1e), key(0x9e), key(0xe0), key(0xc8), (true, 0x08), (true, 1), (true, 0)]),
            (
                0x07,
                vec![
                    key(0x1c),
                    key(0xf0),
                    key(0x1c),
                    key(0xe0),
                    key(0xf0),
                    key(0x75),
                    (true, 0x08),
                    (true, 1),
                    (true, 0),
                ],
            ),
            (0x57, vec![(true, 0x08), (true, 1), (true, 0)]),
            (0x77, vec![]),
        ] {
            let mut controller = with_devices(&[(4, 0xa8), (4, 0xd4), (0, 0xf4)]);
            assert_eq!(drain(&mut controller), [(true, 0xfa)], "the mouse acknowledges");
            controller.write(4, &[0x60]);
            controller.write(0, &[configuration]);
            assert!(
                controller.press(30, true) && controller.press(30, false) && controller.press(103, false)
            );
            assert!(controller.moved(crate::input::Motion { dx: 1, ..Default::default() }));
            assert_eq!(drain(&mut controller), expected, "{configuration:#x}");
        }
    }

    #[test]
    fn an_answer_of_the_controller_comes_before_a_key_that_waits() {
        let mut controller = with_devices(&[(4, 0x60), (0, 0x47)]);
        controller.press(30, true);
        controller.write(4, &[0xaa]);
        assert_eq!(drain(&mut controller), [(false, 0x55), (false, 0x1e)]);
        for (steps, expected) in [
            (&[(4, 0xd3), (0, 0x5a)][..], (true, 0x5a)),
            (&[(4, 0xa9)], (false, 0)),
            (&[(4, 0xa8), (4, 0xd4), (0, 0xe6)], (true, 0xfa)),
            (&[(0, 0xee)], (false, 0xee)),
        ] {
            assert_eq!(drain(&mut with_devices(steps)), [expected], "{steps:x?}");
        }
    }

    #[test]
    fn each_byte_is_an_edge() {
        let (keyboard, mouse) = (RecordedLine::default(), RecordedLine::default());
        let mut controller = I8042::new(keyboard.line(), mouse.line()).with_devices();
        controller.write(4, &[0x60]);
        controller.write(0, &[0x47]);
        controller.press(103, true);
        drain(&mut controller);
        assert_eq!((keyboard.edges(), keyboard.high()), (2, false));
        assert!(!with_devices(&[]).press(0, true));
        assert!(!I8042::new(keyboard.line(), mouse.line()).press(30, true));
    }

    #[test]
    fn empty_connectors_answer_at_once() {
        for steps in [
            // Linux's check for a mouse: loopback not marked as the mouse's, then a failed test.
            &[Command(0xd3), Data(0x5a), Status(0x15), Command(0xa9), Read(0x01)][..],
            // A keyboard command: a resend request, marked as a time-out.
            &[Command(0x60), Data(0x45), Data(0xf2), Status(0x55), KeyboardLine(true), Read(0xfe)],
            &[Command(0x60), Data(0x57), Data(0xff), Status(0x55), KeyboardLine(true), Read(0xfe)],
            &[Command(0xd4), Data(0xf2), Status(0x75), Read(0xfe), Status(0x14)],
        ] {
            check(steps);
        }
    }

    #[test]
    fn lines_follow_the_output_buffer_and_the_configuration() {
        check(&[
            Command(0x60),
            Data(0x47),
            Command(0xd2),
            Data(0x1e),
            KeyboardLine(true),
            MouseLine(false),
            Read(0x1e),
            KeyboardLine(false),
            Command(0xd4),
            Data(0xf4),
            KeyboardLine(false),
            MouseLine(true),
            Command(0x60),
            Data(0x45),
            MouseLine(false),
            Read(0xfe),
            // A reply while the keyboard is disabled is polled for.
            Command(0xad),
            Command(0xaa),
            KeyboardLine(false),
            Read(0x55),
        ]);
    }
}
