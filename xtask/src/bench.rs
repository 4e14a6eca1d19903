//! `cargo xtask bench`: figures of our own beside those of others, measured in the lab.
//!
//! Never part of `test`: a figure is no test. One benchmark per file below; `main` calls this.

mod assigned;
mod boot;
mod driver;
mod figures;
mod firmware;
mod programs;
mod session;
mod table;

use crate::report::Report;
use crate::workspace::Workspace;
use anyhow::Result;
use clap::{Args, Subcommand};

/// Which benchmark.
#[derive(Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Subcommand)]
enum Benchmark {
    /// Start a machine without devices: time, exits, memory and system calls, beside QEMU's in the same run.
    Boot(driver::Options),
    /// Start a machine with a function of the host assigned: time, resets, exits, system calls, beside QEMU's.
    Assigned(driver::Options),
    /// Start a machine by SeaBIOS and by OVMF to the first line of what its disk holds, beside QEMU's with the same firmware.
    Firmware(driver::Options),
}

/// Runs a benchmark as phases of `report`.
pub(crate) fn run(options: &Options, workspace: &Workspace, report: &mut Report) -> Result<()> {
    match &options.benchmark {
        Benchmark::Boot(options) => boot::PLAN.run(options, workspace, report),
        Benchmark::Assigned(options) => assigned::PLAN.run(options, workspace, report),
        Benchmark::Firmware(options) => firmware::PLAN.run(options, workspace, report),
    }
}
