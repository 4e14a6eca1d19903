//! Seats: what starts a machine's process, hands it what it may use, and waits for what becomes of it.
//!
//! Not here: claiming hardware (`host`), deciding who gets what (`plan`), and everything inside the machine.
#![forbid(unsafe_code)]

pub mod control;
pub mod firmware;
pub mod functions;
pub mod launch;
pub mod picture;
pub mod terminal;
