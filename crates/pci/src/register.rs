//! The registers of the standard headers by name, as byte offsets (PCI Local Bus 3.0, section 6.1; PCI-to-PCI Bridge
//! 1.2, section 3.2), and what a register's bits let software do.

/// Vendor id, 16 bits.
pub const VENDOR_ID: u16 = 0x00;
/// Device id, 16 bits.
pub const DEVICE_ID: u16 = 0x02;
/// Command, 16 bits.
pub const COMMAND: u16 = 0x04;
/// Status, 16 bits.
pub const STATUS: u16 = 0x06;
/// Revision, 8 bits; the class code's 24 bits follow.
pub const REVISION: u16 = 0x08;
/// Cache line size, 8 bits.
pub const CACHE_LINE_SIZE: u16 = 0x0c;
/// Header type, 8 bits.
pub const HEADER_TYPE: u16 = 0x0e;
/// The first BAR, 32 bits.
pub const BAR0: u16 = 0x10;
/// Type 1: primary bus number, 8 bits.
pub const PRIMARY_BUS: u16 = 0x18;
/// Type 1: secondary bus number, 8 bits.
pub const SECONDARY_BUS: u16 = 0x19;
/// Type 1: subordinate bus number, 8 bits.
pub const SUBORDINATE_BUS: u16 = 0x1a;
/// Type 1: I/O base, 8 bits, address 15:12 in 7:4.
pub const IO_BASE: u16 = 0x1c;
/// Type 1: I/O limit, 8 bits, address 15:12 in 7:4.
pub const IO_LIMIT: u16 = 0x1d;
/// Type 1: secondary status, 16 bits.
pub const SECONDARY_STATUS: u16 = 0x1e;
/// Type 1: memory base, 16 bits, address 31:20 in 15:4.
pub const MEMORY_BASE: u16 = 0x20;
/// Type 1: memory limit, 16 bits, address 31:20 in 15:4.
pub const MEMORY_LIMIT: u16 = 0x22;
/// Type 1: prefetchable memory base, 16 bits, address 31:20 in 15:4.
pub const PREFETCHABLE_BASE: u16 = 0x24;
/// Type 1: prefetchable memory limit, 16 bits, address 31:20 in 15:4.
pub const PREFETCHABLE_LIMIT: u16 = 0x26;
/// Type 1: prefetchable memory base, address 63:32.
pub const PREFETCHABLE_BASE_UPPER: u16 = 0x28;
/// Type 1: prefetchable memory limit, address 63:32.
pub const PREFETCHABLE_LIMIT_UPPER: u16 = 0x2c;
/// Type 0: subsystem vendor id, 16 bits.
pub const SUBSYSTEM_VENDOR_ID: u16 = 0x2c;
/// Type 0: subsystem id, 16 bits.
pub const SUBSYSTEM_ID: u16 = 0x2e;
/// Type 0: expansion ROM BAR, 32 bits.
pub const ROM_TYPE0: u16 = 0x30;
/// Capability pointer, 8 bits.
pub const CAPABILITIES: u16 = 0x34;
/// Type 1: expansion ROM BAR, 32 bits.
pub const ROM_TYPE1: u16 = 0x38;
/// Interrupt line, 8 bits.
pub const INTERRUPT_LINE: u16 = 0x3c;
/// Interrupt pin, 8 bits.
pub const INTERRUPT_PIN: u16 = 0x3d;
/// Type 1: bridge control, 16 bits.
pub const BRIDGE_CONTROL: u16 = 0x3e;
/// The first extended capability.
pub const EXTENDED_CAPABILITIES: u16 = 0x100;

/// Bits of the command register.
pub mod command {
    /// I/O decode.
    pub const IO: u16 = 1 << 0;
    /// Memory decode.
    pub const MEMORY: u16 = 1 << 1;
    /// The function may read and write memory, and send messages.
    pub const BUS_MASTER: u16 = 1 << 2;
    /// Parity error response.
    pub const PARITY: u16 = 1 << 6;
    /// System error enable.
    pub const SYSTEM_ERROR: u16 = 1 << 8;
    /// INTx is held back.
    pub const INTX_DISABLE: u16 = 1 << 10;
    /// What software may change in an express function.
    pub const WRITABLE: u16 = IO | MEMORY | BUS_MASTER | PARITY | SYSTEM_ERROR | INTX_DISABLE;
}

/// Bits of the status register.
pub mod status {
    /// INTx is asserted.
    pub const INTX: u16 = 1 << 3;
    /// There is a capability list.
    pub const CAPABILITIES: u16 = 1 << 4;
    /// The error bits: cleared by writing ones.
    pub const ERRORS: u16 = 0xf900;
}

/// Bits of the header type register.
pub mod header_type {
    /// A PCI-to-PCI bridge.
    pub const BRIDGE: u8 = 0x01;
    /// The layout, without the multifunction bit.
    pub const LAYOUT: u8 = 0x7f;
    /// The device has more functions than number 0.
    pub const MULTIFUNCTION: u8 = 0x80;
}

/// Bits of the bridge control register.
pub mod bridge_control {
    /// Parity error response.
    pub const PARITY: u16 = 1 << 0;
    /// System error forwarding.
    pub const SYSTEM_ERROR: u16 = 1 << 1;
    /// Only the first 256 bytes of each KiB of the first 64 KiB of I/O pass.
    pub const ISA: u16 = 1 << 2;
    /// The legacy VGA ranges pass, whatever the windows say.
    pub const VGA: u16 = 1 << 3;
    /// VGA ports are decoded in full, not by their low 10 bits.
    pub const VGA_16BIT: u16 = 1 << 4;
    /// The secondary bus is held in reset.
    pub const SECONDARY_BUS_RESET: u16 = 1 << 6;
    /// What software may change in a root port.
    pub const WRITABLE: u16 = PARITY | SYSTEM_ERROR | ISA | VGA | VGA_16BIT | SECONDARY_BUS_RESET;
}

/// A register's width, its value at power-on, and what a write does to each bit. Bits in neither mask are read-only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register {
    pub(crate) bytes: usize,
    pub(crate) value: u32,
    pub(crate) writable: u32,
    pub(crate) clears: u32,
}

impl Register {
    /// A read-only register of 8 bits.
    pub const fn byte(value: u8) -> Self {
        Self { bytes: 1, value: value as u32, writable: 0, clears: 0 }
    }

    /// A read-only register of 16 bits.
    pub const fn word(value: u16) -> Self {
        Self { bytes: 2, value: value as u32, writable: 0, clears: 0 }
    }

    /// A read-only register of 32 bits.
    pub const fn dword(value: u32) -> Self {
        Self { bytes: 4, value, writable: 0, clears: 0 }
    }

    /// Lets software write the bits of `mask`.
    #[must_use]
    pub const fn writable(self, mask: u32) -> Self {
        Self { writable: mask, ..self }
    }

    /// Lets software clear the bits of `mask` by writing ones to them.
    #[must_use]
    pub const fn clears(self, mask: u32) -> Self {
        Self { clears: mask, ..self }
    }
}
