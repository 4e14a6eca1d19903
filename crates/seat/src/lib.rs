//! Seats: what starts a machine's process, hands it what it may use, and waits for what becomes of it.
//!
//! Not here: claiming hardware (`host`), deciding who gets what (`plan`), and everything inside the machine.
#![forbid(unsafe_code)]

pub mod asking;
pub mod attach;
pub mod cgroup;
mod companion;
pub mod confine;
pub mod control;
mod documents;
pub mod drives;
pub mod files;
pub mod firmware;
pub mod functions;
pub mod launch;
pub mod life;
mod lines;
pub mod machine;
pub mod network;
pub mod picture;
pub mod places;
mod programs;
pub mod rom_file;
pub mod standing;
pub mod starting;
pub mod supervisor;
pub mod terminal;
pub mod tpm;
pub mod view;
