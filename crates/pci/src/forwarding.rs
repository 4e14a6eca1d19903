//! What a bridge passes from its primary to its secondary bus, read from its type 1 header.
//!
//! PCI-to-PCI Bridge 1.2, chapters 3 and 4. Used by root ports and by the hierarchy.

use std::ops::Range;

use crate::register::{self, bridge_control, command};
use crate::{BarKind, BarRange, ConfigSpace, Space};

/// A bridge's bus numbers and windows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forwarding {
    /// The bus right below.
    pub secondary: u8,
    /// The last bus below.
    pub subordinate: u8,
    /// The memory window, if open and decoded.
    pub memory: Option<Range<u64>>,
    /// The prefetchable window, if open and decoded.
    pub prefetchable: Option<Range<u64>>,
    /// The I/O window, if open and decoded.
    pub io: Option<Range<u64>>,
    /// Only the first 256 ports of each KiB pass.
    pub isa: bool,
    /// Legacy VGA memory passes.
    pub vga_memory: bool,
    /// Legacy VGA ports pass.
    pub vga_ports: bool,
}

impl Forwarding {
    /// Reads a type 1 header.
    pub fn of(config: &ConfigSpace) -> Self {
        let command = config.command();
        let control = config.u16(register::BRIDGE_CONTROL);
        let memory_on = command & command::MEMORY != 0;
        let io_on = command & command::IO != 0;
        let megabytes = |offset| u64::from(config.u16(offset) & 0xfff0) << 16;
        let upper = |offset| u64::from(config.u32(offset)) << 32;
        let ports = |offset| u64::from(config.u8(offset) & 0xf0) << 8;
        Self {
            secondary: config.u8(register::SECONDARY_BUS),
            subordinate: config.u8(register::SUBORDINATE_BUS),
            memory: window(
                memory_on,
                megabytes(register::MEMORY_BASE),
                megabytes(register::MEMORY_LIMIT),
                1 << 20,
            ),
            prefetchable: window(
                memory_on,
                upper(register::PREFETCHABLE_BASE_UPPER) | megabytes(register::PREFETCHABLE_BASE),
                upper(register::PREFETCHABLE_LIMIT_UPPER) | megabytes(register::PREFETCHABLE_LIMIT),
                1 << 20,
            ),
            io: window(io_on, ports(register::IO_BASE), ports(register::IO_LIMIT), 1 << 12),
            isa: control & bridge_control::ISA != 0,
            vga_memory: memory_on && control & bridge_control::VGA != 0,
            vga_ports: io_on && control & bridge_control::VGA != 0,
        }
    }

    /// True when config accesses to `bus` go below this bridge.
    pub fn holds_bus(&self, bus: u8) -> bool {
        self.secondary != 0 && (self.secondary..=self.subordinate).contains(&bus)
    }

    /// True when every byte of `bar`, placed at `range`, passes.
    pub fn passes(&self, bar: &BarRange, range: &Range<u64>) -> bool {
        let within = |window: &Option<Range<u64>>| {
            window.as_ref().is_some_and(|window| window.start <= range.start && range.end <= window.end)
        };
        match bar.kind {
            BarKind::VgaMemory => self.vga_memory,
            BarKind::VgaPorts => self.vga_ports,
            kind if kind.space() == Space::Io => within(&self.io) && (!self.isa || isa_open(range)),
            _ => within(&self.memory) || within(&self.prefetchable),
        }
    }
}

fn window(on: bool, base: u64, limit: u64, granule: u64) -> Option<Range<u64>> {
    let end = limit.checked_add(granule)?;
    (on && base <= limit).then_some(base..end)
}

fn isa_open(range: &Range<u64>) -> bool {
    range.start & 0x300 == 0 && (range.start & 0xff) + (range.end - range.start) <= 0x100
}
