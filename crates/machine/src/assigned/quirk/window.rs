//! A pair of registers in a port BAR: one takes an address in the card, the other shows what is there. Config space is
//! among what can be reached.

use std::ops::Range;

use pci::BarIndex;

use super::{Access, Door, Read, Write, value};

/// Such a pair.
pub(super) struct Window {
    bar: BarIndex,
    address: u64,
    data: u64,
    /// Registers whose lowest bit must be set before the pair works, and whether it is.
    gates: Vec<(u64, bool)>,
    /// Where in the card config space is.
    mirrors: Vec<Range<u32>>,
    // The register of config space that is chosen.
    chosen: Option<u16>,
}

/// Bytes of each of the two registers.
const REGISTER: u64 = 4;

impl Window {
    /// A pair of registers of `bar` by which the `mirrors` of config space can be reached.
    pub(super) fn new(bar: BarIndex, address: u64, data: u64, mirrors: Vec<Range<u32>>) -> Self {
        Self { bar, address, data, gates: Vec::new(), mirrors, chosen: None }
    }

    /// The same, once the lowest bit is set in each of `registers`.
    pub(super) fn behind(mut self, registers: &[u64]) -> Self {
        self.gates = registers.iter().map(|register| (*register, false)).collect();
        self
    }

    fn is_open(&self) -> bool {
        self.gates.iter().all(|(_, open)| *open)
    }

    /// The register of config space that an access reaches through the window.
    fn register(&self, access: Access) -> Option<u16> {
        let chosen = self.chosen.filter(|_| self.is_open())?;
        let into = access.within(self.bar, &(self.data..self.data + REGISTER))?;
        chosen.checked_add(u16::try_from(into).ok()?)
    }

    fn choose(&mut self, address: Option<u32>) {
        let within = |address: u32| {
            let mirror = self.mirrors.iter().find(|mirror| mirror.contains(&address))?;
            u16::try_from(address - mirror.start).ok()
        };
        self.chosen = address.and_then(within);
    }
}

impl Door for Window {
    fn read(&mut self, access: Access) -> Read {
        self.register(access).map_or(Read::Hardware, Read::Config)
    }

    fn write(&mut self, access: Access, data: &[u8]) -> Write {
        if let Some(at) = self.register(access) {
            return Write::Config(at);
        }
        if access.bar == self.bar {
            for (register, open) in &mut self.gates {
                if *register == access.offset {
                    *open = data.first().is_some_and(|byte| byte & 1 != 0);
                }
            }
            if access.offset == self.address && self.is_open() {
                // Part of an address is none: what it makes of the rest, the hardware alone knows.
                self.choose(value(data).filter(|_| data.len() == REGISTER as usize));
            }
        }
        Write::Hardware
    }
}
