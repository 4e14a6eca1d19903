//! The few configuration registers that have to be touched before and after a guest: command and power.
//!
//! Not the guest's view of the configuration space, which is the machine's. Works on any [`Device`].

use std::fmt;

use super::{Cause, Device, DeviceError, Operation, RegionIndex};

/// Size of a PCIe configuration space in bytes.
pub const CONFIG_SIZE: u64 = 4096;
/// Size of its conventional part, which every function has.
pub const CONVENTIONAL_SIZE: usize = 256;
/// Most capabilities that fit between 0x40 and 0xff, four bytes each.
const MAX_CAPABILITIES: usize = 48;
/// Most extended capabilities that fit between 0x100 and 0xfff, eight bytes each.
const MAX_EXTENDED_CAPABILITIES: usize = 480;

// Registers of the PCI header (PCI 3.0, 6.1) and of capabilities (PCIe 6.0, 7.5).
const COMMAND: u64 = 0x04;
const STATUS: u64 = 0x06;
const CLASS_AND_REVISION: u64 = 0x08;
const CAPABILITIES: u64 = 0x34;
const STATUS_CAPABILITIES: u16 = 1 << 4;
const CAPABILITY_POWER: u8 = 0x01;
const CAPABILITY_EXPRESS: u8 = 0x10;
const CAPABILITY_ADVANCED: u8 = 0x13;
const POWER_CONTROL: u64 = 4;
const POWER_STATE: u16 = 0b11;
const POWER_NO_SOFT_RESET: u16 = 1 << 3;
const EXPRESS_DEVICE: u64 = 4;
const EXPRESS_FLR: u32 = 1 << 28;
const ADVANCED_CAPABILITIES: u64 = 3;
const ADVANCED_FLR: u8 = 0b11;

/// Bits of the command register.
pub mod command {
    /// The function answers in its I/O ranges.
    pub const IO: u16 = 1 << 0;
    /// The function answers in its memory ranges.
    pub const MEMORY: u16 = 1 << 1;
    /// The function may master the bus: DMA and message signalled interrupts.
    pub const BUS_MASTER: u16 = 1 << 2;
    /// The function's pin is off.
    pub const INTX_DISABLE: u16 = 1 << 10;
}

/// A device power state (PCI Power Management 1.2, 3.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the states have no other names")]
pub enum PowerState {
    D0,
    D1,
    D2,
    D3hot,
}

/// The ways in which a function says it can be reset alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResetWays {
    /// Function-level reset, of PCIe or of the conventional advanced features.
    pub function_level: bool,
    /// It loses its state on the way from D3hot to D0.
    pub power: bool,
}

/// The configuration space of a device.
#[derive(Clone, Copy)]
pub struct Config<'a>(pub &'a dyn Device);

/// Lists the capabilities in the conventional part of a configuration space: id and offset, as far as the chain is whole.
pub fn capabilities(conventional: &[u8; CONVENTIONAL_SIZE]) -> impl Iterator<Item = (u8, usize)> {
    let byte = |offset: usize| conventional.get(offset).copied().unwrap_or(0);
    let has_any = u16::from(byte(STATUS as usize)) & STATUS_CAPABILITIES != 0;
    let mut next = if has_any { byte(CAPABILITIES as usize) } else { 0 };
    std::iter::from_fn(move || {
        let offset = usize::from(next & !0b11);
        // 0 ends the chain; what points into the header is no capability.
        let found = (offset >= 0x40).then(|| (byte(offset), offset))?;
        next = byte(offset + 1);
        Some(found)
    })
    .take(MAX_CAPABILITIES)
}

impl ResetWays {
    /// Reads them from the conventional part of a configuration space.
    pub fn stated(conventional: &[u8; CONVENTIONAL_SIZE]) -> Self {
        let byte = |offset: usize| conventional.get(offset).copied().unwrap_or(0);
        let word = |offset: usize| u16::from_le_bytes([byte(offset), byte(offset + 1)]);
        let mut ways = Self::default();
        for (id, offset) in capabilities(conventional) {
            match id {
                CAPABILITY_EXPRESS => {
                    // The bit lies in the upper half of its register.
                    let upper = word(offset + EXPRESS_DEVICE as usize + 2);
                    ways.function_level |= u32::from(upper) << 16 & EXPRESS_FLR != 0;
                }
                CAPABILITY_ADVANCED => {
                    let bits = byte(offset + ADVANCED_CAPABILITIES as usize);
                    ways.function_level |= bits & ADVANCED_FLR == ADVANCED_FLR;
                }
                CAPABILITY_POWER => {
                    ways.power |= word(offset + POWER_CONTROL as usize) & POWER_NO_SOFT_RESET == 0;
                }
                _ => {}
            }
        }
        ways
    }
}

impl PowerState {
    const fn bits(self) -> u16 {
        match self {
            Self::D0 => 0,
            Self::D1 => 1,
            Self::D2 => 2,
            Self::D3hot => 3,
        }
    }

    const fn from_bits(bits: u16) -> Self {
        match bits & POWER_STATE {
            0 => Self::D0,
            1 => Self::D1,
            2 => Self::D2,
            _ => Self::D3hot,
        }
    }
}

impl fmt::Display for PowerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Config<'_> {
    /// Reads one byte.
    pub fn read_u8(self, offset: u64) -> Result<u8, DeviceError> {
        self.read(offset).map(u8::from_le_bytes)
    }

    /// Reads two bytes.
    pub fn read_u16(self, offset: u64) -> Result<u16, DeviceError> {
        self.read(offset).map(u16::from_le_bytes)
    }

    /// Reads four bytes.
    pub fn read_u32(self, offset: u64) -> Result<u32, DeviceError> {
        self.read(offset).map(u32::from_le_bytes)
    }

    /// Writes two bytes.
    pub fn write_u16(self, offset: u64, value: u16) -> Result<(), DeviceError> {
        self.0.write(RegionIndex::CONFIG, offset, &value.to_le_bytes())
    }

    /// Writes four bytes.
    pub fn write_u32(self, offset: u64, value: u32) -> Result<(), DeviceError> {
        self.0.write(RegionIndex::CONFIG, offset, &value.to_le_bytes())
    }

    /// Clears, then sets bits of the command register ([`command`]); gives the value before.
    pub fn change_command(self, clear: u16, set: u16) -> Result<u16, DeviceError> {
        let before = self.read_u16(COMMAND)?;
        let after = (before & !clear) | set;
        if after != before {
            self.write_u16(COMMAND, after)?;
        }
        Ok(before)
    }

    /// Whether the function still answers.
    ///
    /// The ids are no test: the kernel answers them from its own copy (`vfio_pci_config.c`,
    /// `init_pci_cap_basic_perm`). Class and revision come from the function, and no function has all-ones there.
    pub fn is_present(self) -> bool {
        self.read_u32(CLASS_AND_REVISION).is_ok_and(|value| value != u32::MAX)
    }

    /// Finds a capability; a chain that loops or leaves its place is an error.
    pub fn capability(self, id: u8) -> Result<Option<u64>, DeviceError> {
        if self.read_u16(STATUS)? & STATUS_CAPABILITIES == 0 {
            return Ok(None);
        }
        let mut offset = u64::from(self.read_u8(CAPABILITIES)?) & !0b11;
        for _ in 0..MAX_CAPABILITIES {
            if offset < 0x40 {
                // 0 ends the chain; what points into the header is no capability.
                return if offset == 0 {
                    Ok(None)
                } else {
                    Err(malformed("a capability lies in the header"))
                };
            }
            let [found, next] = self.read_u16(offset)?.to_le_bytes();
            if found == id {
                return Ok(Some(offset));
            }
            offset = u64::from(next) & !0b11;
        }
        Err(malformed("the capability chain has no end"))
    }

    /// Finds an extended capability; a function without extended space has none.
    pub fn extended_capability(self, id: u16) -> Result<Option<u64>, DeviceError> {
        if self.0.region(RegionIndex::CONFIG)?.size < CONFIG_SIZE {
            return Ok(None);
        }
        let mut offset = 0x100;
        for _ in 0..MAX_EXTENDED_CAPABILITIES {
            let header = self.read_u32(offset)?;
            // All-ones is a function that is gone, 0 one without extended capabilities.
            if header == 0 || header == u32::MAX {
                return Ok(None);
            }
            if header & 0xffff == u32::from(id) {
                return Ok(Some(offset));
            }
            offset = u64::from(header >> 20) & !0b11;
            if offset < 0x100 {
                return if offset == 0 {
                    Ok(None)
                } else {
                    Err(malformed("an extended capability lies too low"))
                };
            }
        }
        Err(malformed("the extended capability chain has no end"))
    }

    /// The power state; a function without power management is always in D0.
    pub fn power_state(self) -> Result<PowerState, DeviceError> {
        let Some(power) = self.capability(CAPABILITY_POWER)? else { return Ok(PowerState::D0) };
        self.read_u16(power + POWER_CONTROL).map(PowerState::from_bits)
    }

    /// Changes the power state and checks that the function followed. The kernel waits the time that the
    /// specification gives the function for it (`vfio_pci_config.c`, `vfio_lock_and_set_power_state`).
    pub fn set_power_state(self, state: PowerState) -> Result<(), DeviceError> {
        let Some(power) = self.capability(CAPABILITY_POWER)? else {
            return if state == PowerState::D0 { Ok(()) } else { Err(stuck(state, PowerState::D0)) };
        };
        let before = self.read_u16(power + POWER_CONTROL)?;
        if PowerState::from_bits(before) == state {
            return Ok(());
        }
        self.write_u16(power + POWER_CONTROL, (before & !POWER_STATE) | state.bits())?;
        match PowerState::from_bits(self.read_u16(power + POWER_CONTROL)?) {
            reached if reached == state => Ok(()),
            other => Err(stuck(state, other)),
        }
    }

    /// The ways in which the function says it can be reset.
    pub fn reset_ways(self) -> Result<ResetWays, DeviceError> {
        self.read(0).map(|conventional| ResetWays::stated(&conventional))
    }

    fn read<const N: usize>(self, offset: u64) -> Result<[u8; N], DeviceError> {
        let mut bytes = [0; N];
        self.0.read(RegionIndex::CONFIG, offset, &mut bytes)?;
        Ok(bytes)
    }
}

fn malformed(what: &'static str) -> DeviceError {
    DeviceError::new(Operation::WalkCapabilities, Cause::Malformed(what))
}

fn stuck(wanted: PowerState, reached: PowerState) -> DeviceError {
    DeviceError::new(Operation::SetPower { state: wanted }, Cause::Stuck(reached))
}
