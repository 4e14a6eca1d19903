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

/// Where the pointer was put last, and in a picture of which size.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pointer {
    pub(crate) at: (u16, u16),
    pub(crate) picture: (u32, u32),
}

/// Puts the pointer somewhere. A mouse knows motion only: it is moved from where the pointer was put before.
pub(crate) fn point(
    machine: &Machine,
    pointer: &mut Pointer,
    to: (u16, u16),
    wheel: i32,
    buttons: u8,
) -> ControlAnswer {
    let motion = Motion {
        x: (to.0, pointer.picture.0),
        y: (to.1, pointer.picture.1),
        dx: i32::from(to.0) - i32::from(pointer.at.0),
        dy: i32::from(to.1) - i32::from(pointer.at.1),
        wheel,
        buttons,
    };
    pointer.at = to;
    if machine.moved(motion) {
        ControlAnswer::Done
    } else {
        refuse("the machine has no mouse; start it with --display")
    }
}

fn refuse(message: &str) -> ControlAnswer {
    ControlAnswer::Error { message: message.to_owned() }
}
