//! System control port A, port 0x92 (ICH9 data sheet section 13.7.3): the fast way to a reset, and the A20 gate.
//!
//! Address line 20 is always on, as on every PC since firmware does not need it off; the bit says so.

use super::{read_bytes, write_bytes};
use crate::bus::{Device, Effect, ResetPath};

/// The port.
pub const PORT: u64 = 0x92;

const FAST_RESET: u8 = 1 << 0;
const A20: u8 = 1 << 1;

/// System control port A.
#[derive(Clone, Copy, Debug, Default)]
pub struct Port92;

impl Device for Port92 {
    fn name(&self) -> &str {
        "system-control-port-a"
    }

    fn read(&mut self, offset: u64, data: &mut [u8]) -> Vec<Effect> {
        read_bytes(offset, data, |port| if port == 0 { A20 } else { 0xff });
        Vec::new()
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Vec<Effect> {
        let mut effects = Vec::new();
        write_bytes(offset, data, |port, value| {
            // It acts on the rising edge; the bit is not kept, so that every one written is an edge.
            if port == 0 && value & FAST_RESET != 0 {
                effects.push(Effect::Reset(ResetPath::SystemControlPort));
            }
        });
        effects
    }
}

#[cfg(test)]
mod tests {
    use super::Port92;
    use crate::bus::{Device, Effect, ResetPath};

    #[test]
    fn only_bit_0_resets_and_a20_stays_on() {
        for (offset, data, resets) in [
            (0, &[0x00][..], false),
            (0, &[0x02], false),
            (0, &[0xfe], false),
            (0, &[0x01], true),
            (0, &[0x03, 0x01], true),
            (1, &[0x01], false),
        ] {
            let mut port = Port92;
            let effects = if resets { vec![Effect::Reset(ResetPath::SystemControlPort)] } else { vec![] };
            assert_eq!(port.write(offset, data), effects, "{offset} {data:x?}");
            let mut read = [0];
            port.read(0, &mut read);
            assert_eq!(read, [0x02]);
        }
    }
}
