//! The lab: a virtual host with an IOMMU and emulated cards, to try assigned hardware on any machine.
//!
//! Two machines in one: QEMU in software emulation plays the PC; inside it a stock Debian kernel with real KVM
//! and real VFIO is the host under test. This crate builds the host's image, describes its hardware in data
//! files (profiles), boots it, runs commands in it and acts on the emulated cards from outside. `allod lab` and
//! the scenario tests are its callers. It knows nothing of seats or of our own virtual machine.
#![forbid(unsafe_code)]

pub mod bench_guest;
pub mod cache;
pub mod console;
pub mod emulator;
pub mod failure;
pub mod greeting;
pub mod host;
pub mod image;
pub mod line;
pub mod lying_rom;
pub mod machine;
pub mod outside;
mod process;
pub mod profile;
pub mod qmp;
pub mod requirements;
pub mod scenario;
pub mod standing;
pub mod start;
pub mod tool;
pub mod wire;

pub use failure::Failure;
pub use host::{Host, Output, Piece};
pub use machine::Clock;
pub use outside::Hardware;
pub use profile::Profile;
pub use start::Lab;
