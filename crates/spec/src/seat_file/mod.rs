//! The seat file: one TOML document that says which seats a host has and what belongs to each.
//!
//! The types in [`document`] are the one declaration: the JSON schema is printed from them, the shape of a file is
//! checked against that schema, and the reference documentation comes from it. What no schema can say (keys that
//! exclude each other, names used twice) is in [`rules`].
//! Not here: reading the file from a disk, and whether a host can fulfil it (`plan`). Called by `cli` and `daemon`.

mod decode;
mod document;
mod format;
mod mac_address;
mod nearest;
mod problem;
mod rules;
mod schema;
mod shape;

pub use decode::MAX_SEAT_FILE_BYTES;
pub use document::{
    BootFirst, ClockTime, ConsoleHandover, CpuRequest, DeviceClass, DeviceRequest, DiskFormat, DiskKind,
    DiskMedia, DiskRequest, DisplayKind, FirmwareKind, FirmwareRequest, HostReserve, HypervisorFeatures,
    HypervisorRequest, KernelRequest, MAX_DEVICES_PER_SEAT, MAX_SEATS, MemoryRequest, NetworkRequest,
    PageSize, RomChoice, SeatFile, SeatRequest, VirtualFunctionRequest,
};
pub use mac_address::{MacAddress, ParseMacAddressError};
pub use problem::{MAX_PROBLEMS, Problem, SeatFileErrors};

#[cfg(test)]
mod tests;
