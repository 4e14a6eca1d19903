//! The documents of Allod: everything that crosses a process boundary or reaches a disk, as plain data.
//!
//! Not here: reading or writing any of them, and every decision about them. All other crates call this one.

#![forbid(unsafe_code)]

mod assigned;
mod control;
mod cpu_set;
mod guest_addresses;
pub mod inventory;
pub mod ledger;
mod machine;
mod pci_address;
pub mod plan;
mod rom;
pub mod seat_file;
mod seat_life;
mod size;

pub use assigned::{AssignedFunctionSpec, AssignedReport, AssignedSpec, ResetWay, VfioFiles, VfioGroupFile};
pub use control::{ControlAnswer, ControlRequest, MachineState, MachineStatus};
pub use cpu_set::{CpuSet, MAX_CPU, ParseCpuSetError};
pub use guest_addresses::guest_address_bits;
pub use machine::{
    ConsoleSpec, DiskSpec, DisplaySpec, EXIT_USAGE, ExitCause, ExitReport, FirmwareSpec, HypervSpec,
    InheritedFd, KernelSpec, LinkKind, MachineSpec, MemoryBacking, MemorySpec, NetworkSpec,
};
pub use pci_address::{ParsePciAddressError, PciAddress};
pub use rom::{CardIds, KeptRomReport, RomImage, RomReport};
pub use seat_life::{
    SEAT_LIFE_SCHEMA_VERSION, SeatEnding, SeatEvent, SeatFunction, SeatOrder, SeatReport, SeatRequest,
    SeatState, SeatStatus, SeatStep,
};
pub use size::{Bytes, ParseBytesError};
