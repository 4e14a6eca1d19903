//! Base address registers: what a function declares, what its registers let software write, and the range they ask for.
//!
//! Whether a range is mapped in the end is for `mapping` to say: that also takes bridges, apertures and neighbours.

use std::fmt;
use std::ops::Range;

use crate::register::{self, Register, command};
use crate::{ConfigSpace, Space};

/// Which range of a function: its BARs 0 to 5, its ROM, or the legacy VGA ranges.
///
/// The numbers up to the ROM's are those of VFIO's regions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BarIndex(u8);

impl BarIndex {
    /// The expansion ROM.
    pub const ROM: Self = Self(6);
    /// Legacy VGA memory, 0xA0000-0xBFFFF.
    pub const VGA_MEMORY: Self = Self(8);
    /// Legacy VGA ports 0x3B0-0x3BB.
    pub const VGA_PORTS_MONO: Self = Self(9);
    /// Legacy VGA ports 0x3C0-0x3DF.
    pub const VGA_PORTS_COLOR: Self = Self(10);

    /// BAR 0 to 5; `None` above.
    pub const fn bar(index: u8) -> Option<Self> {
        if index < 6 { Some(Self(index)) } else { None }
    }

    /// The number.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl fmt::Display for BarIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ROM => f.write_str("ROM"),
            Self::VGA_MEMORY => f.write_str("VGA memory"),
            Self::VGA_PORTS_MONO | Self::VGA_PORTS_COLOR => f.write_str("VGA ports"),
            Self(index) => write!(f, "BAR {index}"),
        }
    }
}

/// What kind of range it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarKind {
    /// Memory below 4 GiB.
    Memory32,
    /// Memory anywhere; takes two registers.
    Memory64,
    /// Ports, with the upper half of the register hardwired to zero.
    Io16,
    /// Ports, with 32 address bits.
    Io32,
    /// The expansion ROM: memory below 4 GiB with an enable bit of its own.
    Rom,
    /// The legacy VGA memory, at a fixed address.
    VgaMemory,
    /// Legacy VGA ports, at fixed addresses.
    VgaPorts,
}

impl BarKind {
    /// The address space it lies in.
    pub const fn space(self) -> Space {
        match self {
            Self::Memory32 | Self::Memory64 | Self::Rom | Self::VgaMemory => Space::Memory,
            Self::Io16 | Self::Io32 | Self::VgaPorts => Space::Io,
        }
    }

    /// True for the legacy VGA ranges, which no register moves.
    pub const fn is_vga(self) -> bool {
        matches!(self, Self::VgaMemory | Self::VgaPorts)
    }

    const fn sizes(self) -> Range<u32> {
        match self {
            // Powers of two: PCI Local Bus 3.0, section 6.2.5 (16 bytes at least) and 6.2.5.2 (ROM: 2 KiB to 16 MiB).
            Self::Memory32 => 4..32,
            Self::Memory64 => 4..64,
            Self::Io16 => 2..16,
            Self::Io32 => 2..32,
            Self::Rom => 11..25,
            Self::VgaMemory | Self::VgaPorts => 0..0,
        }
    }
}

/// A BAR as a function declares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// Its register.
    pub index: BarIndex,
    /// Its kind.
    pub kind: BarKind,
    /// Bytes; a power of two.
    pub size: u64,
    /// Reads have no side effects. Memory only.
    pub prefetchable: bool,
}

/// A declared BAR that no register can describe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BarError {
    /// The size is not a power of two, or too small or large for the kind.
    #[error("{index} of {size:#x} bytes cannot be described as {kind:?}")]
    Size {
        /// Which.
        index: BarIndex,
        /// Declared as.
        kind: BarKind,
        /// Bytes.
        size: u64,
    },
    /// The header has no such register, or it belongs to another BAR.
    #[error("{index} has no register of its own in this header")]
    Taken {
        /// Which.
        index: BarIndex,
    },
}

/// A range that a function now asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarRange {
    /// Which.
    pub index: BarIndex,
    /// Its kind.
    pub kind: BarKind,
    /// The first byte or port, as software wrote it.
    pub address: u64,
    /// Bytes.
    pub size: u64,
    /// The command register, and for a ROM its enable bit, let it answer.
    pub decode: bool,
}

impl BarRange {
    /// The legacy VGA ranges, decoded as the command register says.
    pub const fn legacy_vga(command: u16) -> [Self; 3] {
        let memory = command & command::MEMORY != 0;
        let ports = command & command::IO != 0;
        [
            Self {
                index: BarIndex::VGA_MEMORY,
                kind: BarKind::VgaMemory,
                address: 0xa_0000,
                size: 0x2_0000,
                decode: memory,
            },
            Self {
                index: BarIndex::VGA_PORTS_MONO,
                kind: BarKind::VgaPorts,
                address: 0x3b0,
                size: 0xc,
                decode: ports,
            },
            Self {
                index: BarIndex::VGA_PORTS_COLOR,
                kind: BarKind::VgaPorts,
                address: 0x3c0,
                size: 0x20,
                decode: ports,
            },
        ]
    }

    /// The range it answers; `None` when decode is off, or at address 0, at all-ones, or past the end of the space.
    pub fn placed(&self) -> Option<Range<u64>> {
        let end = self.address.checked_add(self.size)?;
        // While software sizes a BAR it holds all ones, and its last byte is the last of the space.
        let all_ones = match self.kind {
            BarKind::Io16 => end > 0xffff,
            BarKind::Memory32 | BarKind::Memory64 | BarKind::Rom | BarKind::Io32 => end == 1 << 32,
            BarKind::VgaMemory | BarKind::VgaPorts => false,
        };
        (self.decode && self.address != 0 && self.size != 0 && !all_ones).then_some(self.address..end)
    }
}

impl Bar {
    /// Writes the registers that describe the BAR: the bits below its size are hardwired, which is what sizing reads.
    pub(crate) fn define(&self, config: &mut ConfigSpace) -> Result<(), BarError> {
        let Self { index, kind, size, .. } = *self;
        if !size.is_power_of_two() || !kind.sizes().contains(&size.trailing_zeros()) {
            return Err(BarError::Size { index, kind, size });
        }
        let offset = self.offset(config.is_bridge()).ok_or(BarError::Taken { index })?;
        let [low, high] = halves(!(size - 1));
        let prefetchable = if self.prefetchable { 1 << 3 } else { 0 };
        let register = match kind {
            BarKind::Memory32 => Register::dword(prefetchable).writable(low),
            BarKind::Memory64 => {
                config.define(offset + 4, Register::dword(0).writable(high));
                Register::dword(0b100 | prefetchable).writable(low)
            }
            BarKind::Io16 => Register::dword(1).writable(low & 0xffff),
            BarKind::Io32 => Register::dword(1).writable(low),
            BarKind::Rom => Register::dword(0).writable(low | 1),
            BarKind::VgaMemory | BarKind::VgaPorts => return Err(BarError::Taken { index }),
        };
        config.define(offset, register);
        Ok(())
    }

    /// The registers it takes, as indexes.
    pub(crate) fn registers(&self) -> Range<u8> {
        let count = if self.kind == BarKind::Memory64 { 2 } else { 1 };
        self.index.get()..self.index.get() + count
    }

    /// The range its registers now ask for.
    pub(crate) fn range(&self, config: &ConfigSpace) -> BarRange {
        let offset = self.offset(config.is_bridge()).unwrap_or(register::BAR0);
        let low = config.u32(offset);
        let mask = !(self.size - 1);
        let address = match self.kind {
            BarKind::Memory64 => u64::from(config.u32(offset + 4)) << 32 | u64::from(low),
            _ => u64::from(low),
        } & mask;
        let enable = match self.kind.space() {
            Space::Memory => command::MEMORY,
            Space::Io => command::IO,
        };
        let decode =
            config.u16(register::COMMAND) & enable != 0 && (self.kind != BarKind::Rom || low & 1 != 0);
        BarRange { index: self.index, kind: self.kind, address, size: self.size, decode }
    }

    fn offset(&self, bridge: bool) -> Option<u16> {
        if (self.kind == BarKind::Rom) != (self.index == BarIndex::ROM) {
            return None;
        }
        let bars = if bridge { 2 } else { 6 };
        match (self.index, bridge) {
            (BarIndex::ROM, false) => Some(register::ROM_TYPE0),
            (BarIndex::ROM, true) => Some(register::ROM_TYPE1),
            (BarIndex(index), _) => {
                (self.registers().end <= bars).then(|| register::BAR0 + 4 * u16::from(index))
            }
        }
    }
}

fn halves(value: u64) -> [u32; 2] {
    [(value & 0xffff_ffff) as u32, (value >> 32) as u32]
}
