//! Config space shown in a memory BAR.

use std::ops::Range;

use pci::BarIndex;

use super::{Access, Door, Read, Write};

/// Config space at a place of a BAR.
pub(super) struct Mirror {
    pub(super) bar: BarIndex,
    /// Bytes of the BAR.
    pub(super) bytes: Range<u64>,
    /// Registers of config space whose writes the hardware must see, although config space ignores them.
    pub(super) acknowledged_by: Range<u16>,
}

impl Mirror {
    fn register(&self, access: Access) -> Option<u16> {
        u16::try_from(access.within(self.bar, &self.bytes)?).ok()
    }
}

impl Door for Mirror {
    fn trapped(&self) -> Option<(BarIndex, Range<u64>)> {
        Some((self.bar, self.bytes.clone()))
    }

    fn read(&mut self, access: Access) -> Read {
        self.register(access).map_or(Read::Hardware, Read::ConfigBeside)
    }

    fn write(&mut self, access: Access, _data: &[u8]) -> Write {
        match self.register(access) {
            None => Write::Hardware,
            Some(at) if access.len > 0 => {
                let end = usize::from(at) + access.len;
                let seen = at >= self.acknowledged_by.start && end <= usize::from(self.acknowledged_by.end);
                if seen { Write::ConfigAndHardware(at) } else { Write::Config(at) }
            }
            Some(at) => Write::Config(at),
        }
    }
}
