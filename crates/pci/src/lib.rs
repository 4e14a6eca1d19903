//! The PCI model.
#![forbid(unsafe_code)]

/// What a config access asks of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {}
