//! The reset control register RST_CNT at port 0xCF9 (ICH9 data sheet, section 13.7.5).
//!
//! Not a [`crate::bus::Device`]: the port lies inside 0xCF8-0xCFF, where a dword at 0xCF8 is the PCI config
//! address. Whoever answers those eight ports holds this register and hands it the byte accesses at 0xCF9.

use crate::bus::{Effect, ResetPath};

/// The register's port, which the FADT names too.
pub const PORT: u16 = crate::firmware::acpi::board::RESET_PORT;

const SYSTEM_RESET: u8 = 1 << 1;
const PERFORM: u8 = 1 << 2;
const FULL_RESET: u8 = 1 << 3;

/// The register's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResetControl {
    kind: u8,
}

impl ResetControl {
    /// Reads the kind of reset that was chosen; the bit that performs it never stays set.
    pub fn read(self) -> u8 {
        self.kind
    }

    /// Takes a write; setting the perform bit resets the machine.
    ///
    /// A soft reset (kind bit clear) would only restart the CPUs, but firmware and kernels that ask for one
    /// expect a machine that starts again: both are a full reset here.
    pub fn write(&mut self, value: u8) -> Option<Effect> {
        self.kind = value & (SYSTEM_RESET | FULL_RESET);
        // The rising edge performs it, and as the bit is not kept every write of a one is that edge.
        (value & PERFORM != 0).then_some(Effect::Reset(ResetPath::ResetControl))
    }
}

#[cfg(test)]
mod tests {
    use super::ResetControl;
    use crate::bus::{Effect, ResetPath};
    use crate::firmware::acpi::board::RESET_VALUE;

    #[test]
    fn only_the_perform_bit_resets() {
        for (value, resets, reads) in [
            (0x00, false, 0x00),
            (0x02, false, 0x02),
            (0x0a, false, 0x0a),
            (0x04, true, 0x00),
            (0x06, true, 0x02),
            (0xff, true, 0x0a),
            (RESET_VALUE, true, 0x02),
        ] {
            let mut register = ResetControl::default();
            let effect = resets.then_some(Effect::Reset(ResetPath::ResetControl));
            assert_eq!(register.write(value), effect, "{value:#x}");
            assert_eq!(register.read(), reads, "{value:#x}");
            assert!(register.write(0x06).is_some(), "again after {value:#x}");
        }
    }
}
