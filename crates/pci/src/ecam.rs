//! The memory-mapped config window (PCI Express Base, section 7.2.2): an offset names a function and a register.
//!
//! A decoder only: `machine` puts it on the memory bus where the host bridge's PCIEXBAR says, and asks the hierarchy.

use std::ops::Range;

use crate::{Bdf, ConfigAddress};

/// Bytes of the window for one bus: 32 devices, 8 functions, 4 KiB each.
pub const BYTES_PER_BUS: u64 = 1 << 20;

/// A config window in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ecam {
    /// Where it starts in guest memory.
    pub base: u64,
    /// How many buses it shows, from bus 0: 1 to 256.
    pub buses: u16,
}

impl Ecam {
    /// The memory it takes.
    pub fn range(&self) -> Range<u64> {
        self.base..self.base.saturating_add(u64::from(self.buses) * BYTES_PER_BUS)
    }

    /// Names what an access of `len` bytes at `offset` from the base reaches; `None` outside of the window.
    ///
    /// `ConfigAddress::len` is cut where the access would run out of the function's 4 KiB.
    pub fn decode(&self, offset: u64, len: usize) -> Option<ConfigAddress> {
        if offset >= u64::from(self.buses) * BYTES_PER_BUS {
            return None;
        }
        let requester_id = u16::try_from(offset >> 12).ok()?;
        let register = u16::try_from(offset & 0xfff).ok()?;
        let room = usize::from(0x1000 - register);
        Some(ConfigAddress {
            bdf: Bdf::from_requester_id(requester_id),
            offset: register,
            len: len.min(room),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Ecam;

    #[test]
    fn an_offset_names_function_and_register() {
        for (buses, offset, len, expected) in [
            (256, 0, 4, Some(("00:00.0", 0, 4))),
            (256, 0xf_8060, 4, Some(("00:1f.0", 0x60, 4))),
            (256, 0x10_1ffc, 4, Some(("01:00.1", 0xffc, 4))),
            (256, 0x10_1ffe, 4, Some(("01:00.1", 0xffe, 2))),
            (256, 0xfff_ffff, 1, Some(("ff:1f.7", 0xfff, 1))),
            (256, 0x1000_0000, 1, None),
            (1, 0x10_0000, 1, None),
            (0, 0, 1, None),
            (256, u64::MAX, 1, None),
        ] {
            let found = Ecam { base: 0xe000_0000, buses }
                .decode(offset, len)
                .map(|address| (address.bdf.to_string(), address.offset, address.len));
            assert_eq!(
                found,
                expected.map(|(bdf, offset, len)| (bdf.to_string(), offset, len)),
                "{offset:#x}"
            );
        }
    }

    #[test]
    fn a_window_at_the_end_of_memory_does_not_wrap() {
        assert_eq!(Ecam { base: u64::MAX - 5, buses: 256 }.range(), u64::MAX - 5..u64::MAX);
    }
}
