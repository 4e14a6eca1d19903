//! The host side: what the host is made of, what stands in the way of giving parts of it to seats, and the taking and
//! giving back.
//!
//! Everything is read and changed through `linux::sysfs::Tree`, so it works on the running host, on a recorded one and
//! on a made-up one. Not here: KVM, virtual machines, and who gets what (the planner).

#![forbid(unsafe_code)]

pub mod claim;
pub mod doctor;
pub mod fixtures;
pub mod inventory;
pub mod ledger;
pub mod recovery;
pub mod rom;
pub mod standing;
pub mod system;
pub mod trial;
pub mod vault;
