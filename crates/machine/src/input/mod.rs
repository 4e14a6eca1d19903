//! Keyboard and pointer of a machine with an emulated display: PS/2 devices behind the board's i8042.
//!
//! A key is named by its Linux event code (include/uapi/linux/input-event-codes.h), which all views can give. Not here:
//! the controller (`board::i8042`), and where keys come from (the VMM's control socket).

mod keyboard;
mod mouse;
mod scancode;

pub(crate) use keyboard::Keyboard;
pub(crate) use mouse::Mouse;
pub(crate) use scancode::to_set_1;

/// What a person does with a pointer: where in the picture it is, by how much it moved, and which buttons are down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Motion {
    /// Pixels from the picture's left, and the picture's width.
    pub x: (u16, u32),
    /// Pixels from the picture's top, and the picture's height.
    pub y: (u16, u32),
    /// To the right, in pixels.
    pub dx: i32,
    /// Downward, in pixels.
    pub dy: i32,
    /// Clicks of the wheel toward the person.
    pub wheel: i32,
    /// Buttons that are down: bit 0 left, 1 right, 2 middle, 3 and 4 those at the side.
    pub buttons: u8,
}
