//! The virtual machine: board, firmware tables, vCPUs and their life cycle.
//!
//! Not here: opening anything under /dev or /sys, and seats. The VMM process is the caller.
#![forbid(unsafe_code)]

mod ahci;
pub mod assigned;
pub mod board;
pub mod boot;
pub mod bus;
mod chipset;
mod config_ports;
pub mod cpu;
mod display;
mod endpoints;
mod events;
pub mod firmware;
mod flash;
mod followers;
mod fw_cfg;
mod input;
pub mod interrupt;
mod late_ticks;
pub mod layout;
mod life;
mod machine;
mod messages;
mod nvme;
mod parts;
mod pci_host;
mod shadow;
mod storage;
mod time;
mod tpm;
mod vcpus;
mod virtio;
mod worker;

pub use chipset::ChipsetError;
pub use cpu::hyperv::HyperV;
pub use display::{DisplayConfig, Picture};
pub use endpoints::{CDROM_LIMIT, DISK_LIMIT, Disk, EndpointError, NETWORK_LIMIT, Network};
pub use events::{Event, Events};
pub use flash::{Firmware, FlashError, FlashSlotsError};
pub use followers::FollowError;
pub use input::Motion;
pub use life::LifeError;
pub use machine::{BuildError, Config, Machine, Start};
pub use messages::MessageError;
pub use shadow::ShadowError;
pub use storage::Image;
pub use storage::qcow2::{OpenImageError, Qcow2};
pub use tpm::TpmError;
pub use virtio::FunctionError;
