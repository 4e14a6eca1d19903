//! The PCI model: what config space says, where BARs are mapped, and which messages interrupts send.
//!
//! Pure: no I/O, no clock, no threads. A [`Function`] answers accesses with [`Change`]s; the [`Hierarchy`] finds the
//! function for a guest address, follows BARs and bridge windows, and hands [`Effect`]s to `machine`, which carries
//! them out. [`ConfigPorts`] and [`Ecam`] decode the two ways by which a guest names a register.
#![forbid(unsafe_code)]

mod bar;
mod bdf;
pub mod capability;
mod config_ports;
mod config_space;
mod ecam;
mod forwarding;
mod function;
mod hierarchy;
mod host_bridge;
mod lpc;
mod mapping;
mod msi;
mod msix;
mod piece;
pub mod register;
pub mod rom;
mod root_port;
#[cfg(test)]
mod test_function;

pub use bar::{Bar, BarError, BarIndex, BarKind, BarRange};
pub use bdf::{Bdf, DEVICES, FUNCTIONS, Pin};
pub use config_ports::{ADDRESS_PORT, ConfigAddress, ConfigPorts, DATA_PORT, PortAccess};
pub use config_space::{ConfigSize, ConfigSpace, Identity, NoRoom};
pub use ecam::{BYTES_PER_BUS, Ecam};
pub use forwarding::Forwarding;
pub use function::{Change, Function, SharedFunction};
pub use hierarchy::{Effect, FunctionId, Hierarchy, Occupied, Place};
pub use host_bridge::{EcamUnfit, HostBridge, HostBridgePreset, Shadow, ShadowSegment};
pub use lpc::{Lpc, LpcPreset, pirq};
pub use mapping::{Apertures, Mapping, Space};
pub use msi::{Message, Msi, MsiChange, MsiShape, MsiState};
pub use msix::{
    MSIX_CAPABILITY_BYTES, MSIX_ENTRY_BYTES, MSIX_VECTORS, Msix, MsixChange, MsixLayout, MsixPart,
    VectorChange,
};
pub use piece::{Piece, pieces};
pub use root_port::{Link, LinkSpeed, RootPort, RootPortOptions};
