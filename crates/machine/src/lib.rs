//! The virtual machine: board, firmware tables, vCPUs and their life cycle.
//!
//! Not here: opening anything under /dev or /sys, and seats. The VMM process is the caller.
#![forbid(unsafe_code)]

pub mod board;
pub mod boot;
pub mod bus;
mod config_ports;
pub mod cpu;
pub mod firmware;
pub mod interrupt;
pub mod layout;
pub mod pci_host;
