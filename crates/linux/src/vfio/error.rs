//! What went wrong with a device: the operation with its parameters, and the cause.
//!
//! Every implementation of [`super::Device`] answers with this one type.

use std::fmt;
use std::time::Duration;

use rustix::io::Errno;

use super::config::PowerState;
use super::info::{Area, RegionIndex};
use super::irq::IrqIndex;

/// An operation on a device that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{operation}")]
pub struct DeviceError {
    /// What was tried.
    pub operation: Operation,
    /// Why it failed.
    #[source]
    pub cause: Cause,
}

/// Why an operation on a device failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// The kernel's error number.
    #[error(transparent)]
    Errno(Errno),
    /// Fewer bytes moved than asked for.
    #[error("{done} of {wanted} bytes moved")]
    Short {
        /// Bytes that moved.
        done: usize,
        /// Bytes asked for.
        wanted: usize,
    },
    /// The access leaves the region.
    #[error("the region has {size:#x} bytes")]
    Outside {
        /// Size of the region in bytes.
        size: u64,
    },
    /// No part that may be mapped holds the area.
    #[error("the kernel does not allow this area to be mapped")]
    NotMappable,
    /// The kernel can give fewer vectors than asked for, and has given none.
    #[error("the device can have {available} vectors")]
    FewerVectors {
        /// Vectors that can be had.
        available: u32,
    },
    /// The answer contradicts the kernel's own rules.
    #[error("the answer is malformed: {0}")]
    Malformed(&'static str),
    /// The device did not reach the power state.
    #[error("the device stays in {0}")]
    Stuck(PowerState),
    /// No answer came in time.
    #[error("no answer within {0:?}")]
    Deadline(Duration),
    /// Functions that are not ours would be reset too.
    #[error("{0} of the functions concerned are not owned")]
    NotOwned(usize),
    /// Functions in other slots of the same machine would be reset too.
    #[error(
        "{0} of the functions concerned are in other slots of the machine, whose drivers know nothing of it"
    )]
    OtherSlots(usize),
}

/// An operation on a device, with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the parameters of the operation, named as there")]
pub enum Operation {
    /// Opening it.
    Open { name: String },
    /// Binding it to an iommufd.
    Bind { name: String },
    /// Attaching it to an I/O address space.
    Attach { space: u32 },
    /// Asking what it is.
    Info,
    /// Asking for a region.
    RegionInfo { region: RegionIndex },
    /// Reading from a region.
    Read { region: RegionIndex, offset: u64, len: usize },
    /// Writing to a region.
    Write { region: RegionIndex, offset: u64, len: usize },
    /// Having a dword written by the kernel whenever an eventfd is signalled, or no longer.
    WriteOnEvent { region: RegionIndex, offset: u64, value: u32 },
    /// Mapping part of a region.
    Map { region: RegionIndex, area: Area },
    /// Asking for an interrupt index.
    IrqInfo { irq: IrqIndex },
    /// Changing interrupts.
    SetIrqs { irq: IrqIndex, action: &'static str, start: u32, count: u32 },
    /// Resetting the function.
    Reset,
    /// Asking which functions a hot reset concerns.
    HotResetInfo,
    /// Resetting the bus or slot.
    HotReset,
    /// Changing the power state.
    SetPower { state: PowerState },
    /// Walking the capabilities.
    WalkCapabilities,
}

impl DeviceError {
    /// Makes the error of `operation` from `cause`.
    pub fn new(operation: Operation, cause: impl Into<Cause>) -> Self {
        Self { operation, cause: cause.into() }
    }

    /// The kernel's error number, when it gave one.
    pub fn errno(&self) -> Option<Errno> {
        match self.cause {
            Cause::Errno(errno) => Some(errno),
            _ => None,
        }
    }
}

impl From<Errno> for Cause {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { name } => write!(f, "open device {name}"),
            Self::Bind { name } => write!(f, "bind device {name} to the iommufd"),
            Self::Attach { space } => write!(f, "attach the device to I/O address space {space}"),
            Self::Info => f.write_str("ask what the device is"),
            Self::RegionInfo { region } => write!(f, "ask for region {region}"),
            Self::Read { region, offset, len } => {
                write!(f, "read {len} bytes at {offset:#x} of region {region}")
            }
            Self::Write { region, offset, len } => {
                write!(f, "write {len} bytes at {offset:#x} of region {region}")
            }
            Self::WriteOnEvent { region, offset, value } => {
                write!(f, "let the kernel write {value:#x} at {offset:#x} of region {region}")
            }
            Self::Map { region, area } => write!(f, "map {area} of region {region}"),
            Self::IrqInfo { irq } => write!(f, "ask for interrupt index {irq}"),
            Self::SetIrqs { irq, action, start, count } => {
                write!(f, "{action} {irq} vectors {start}+{count}")
            }
            Self::Reset => f.write_str("reset the function"),
            Self::HotResetInfo => f.write_str("ask what a hot reset concerns"),
            Self::HotReset => f.write_str("reset the slot or bus"),
            Self::SetPower { state } => write!(f, "put the function into {state}"),
            Self::WalkCapabilities => f.write_str("walk the capabilities"),
        }
    }
}
