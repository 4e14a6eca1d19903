//! Keys and the pointer of whoever looks at the emulated display, handed to the machine's devices.

use machine::{Machine, Motion};
use spec::ControlAnswer;

/// Presses a key or lets it go.
pub(crate) fn key(machine: &Machine, code: u16, down: bool) -> ControlAnswer {
    if machine.press(code, down) {
        ControlAnswer::Done
    } else {
        refuse(
            "the machine has no keyboard with such a key; --display gives it one, and keys are Linux event codes",
        )
    }
}

/// Puts the pointer somewhere. The mouse knows motion only: it is moved from where the pointer was put before.
pub(crate) fn point(
    machine: &Machine,
    before: &mut (u16, u16),
    to: (u16, u16),
    wheel: i32,
    buttons: u8,
) -> ControlAnswer {
    let motion = Motion {
        dx: i32::from(to.0) - i32::from(before.0),
        dy: i32::from(to.1) - i32::from(before.1),
        wheel,
        buttons,
    };
    *before = to;
    if machine.moved(motion) {
        ControlAnswer::Done
    } else {
        refuse("the machine has no mouse; start it with --display")
    }
}

fn refuse(message: &str) -> ControlAnswer {
    ControlAnswer::Error { message: message.to_owned() }
}
