//! What can be said to a running machine over its control socket: one JSON object a line, one answer each.

use serde::{Deserialize, Serialize};

/// A request to a running machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "command")]
pub enum ControlRequest {
    /// Tell how it is.
    Status,
    /// Press the power button: the guest decides what to do.
    PowerButton,
    /// Reset the machine, as the button on the case does.
    Reset,
    /// Make the vCPUs stand still.
    Pause,
    /// Let the vCPUs go on.
    Resume,
    /// Draw what the emulated graphics card shows into the memory file (memfd) that comes with the request.
    Picture,
    /// Press a key of the emulated keyboard, or let it go.
    Key {
        /// The key, as Linux' event code (include/uapi/linux/input-event-codes.h).
        code: u16,
        /// Whether it goes down.
        down: bool,
    },
    /// Put the emulated pointer somewhere, with buttons and wheel.
    Pointer {
        /// Pixels from the picture's left.
        x: u16,
        /// Pixels from the picture's top.
        y: u16,
        /// Buttons that are down: bit 0 left, 1 right, 2 middle, 3 and 4 those at the side.
        #[serde(default)]
        buttons: u8,
        /// Clicks of the wheel toward the person.
        #[serde(default)]
        wheel: i8,
    },
    /// End the machine at once, as pulling the plug does.
    Quit,
}

/// The answer to a [`ControlRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "answer")]
pub enum ControlAnswer {
    /// Done.
    Done,
    /// How the machine is.
    Status(MachineStatus),
    /// The file holds the picture: rows from the top, four bytes a pixel (blue, green, red, and one without meaning).
    Picture {
        /// Pixels in a row.
        width: u32,
        /// Rows.
        height: u32,
    },
    /// The power button was pressed, but the guest has not enabled it and will not notice.
    NotNoticed,
    /// The request was not understood or failed.
    Error {
        /// What was wrong.
        message: String,
    },
}

/// How a machine is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineStatus {
    /// Its name.
    pub name: String,
    /// Whether it runs.
    pub state: MachineState,
    /// How often it was reset.
    pub resets: u32,
    /// Exits to user space so far.
    pub exits: u64,
    /// Console bytes that were lost because nobody took them.
    pub console_lost: u64,
    /// Wall time from the start of the process, in milliseconds.
    pub wall_ms: u64,
}

/// What a machine is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MachineState {
    /// The vCPUs run.
    Running,
    /// The vCPUs stand still and can go on.
    Paused,
}
