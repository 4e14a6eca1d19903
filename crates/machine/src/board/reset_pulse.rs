//! Ports 0x60 and 0x64 of a board without a keyboard controller, on which a guest may still reset itself.
//!
//! They read as empty, by which firmware sees that there is neither keyboard nor mouse and does not wait for them
//! (OVMF's Ps2KeyboardDxe would, for a minute). Not here: the controller itself (`i8042`).

use crate::bus::{Device, Effect, ResetPath};

/// The command port, counted from the data port.
const COMMAND: u64 = 4;
/// Commands that pulse output lines: those whose bits are zero. The lowest is the reset line.
const PULSE: u8 = 0xf0;
const NOT_RESET: u8 = 1;

/// The ports.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResetPulse;

impl Device for ResetPulse {
    fn name(&self) -> &str {
        "reset-pulse"
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Vec<Effect> {
        match data {
            [command, ..] if offset == COMMAND && command & PULSE == PULSE && command & NOT_RESET == 0 => {
                vec![Effect::Reset(ResetPath::KeyboardController)]
            }
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ResetPulse;
    use crate::bus::Device;

    #[test]
    fn only_the_pulse_of_the_reset_line_does_anything() {
        for (offset, byte, resets) in
            [(4, 0xfe, true), (4, 0xf0, true), (4, 0xff, false), (4, 0xee, false), (0, 0xfe, false)]
        {
            let effects = ResetPulse.write(offset, &[byte]);
            assert_eq!(effects.len(), usize::from(resets), "{offset} {byte:#x}");
        }
        let mut data = [0];
        ResetPulse.read(4, &mut data);
        assert_eq!(data, [0xff]);
    }
}
