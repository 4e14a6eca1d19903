//! The command `allod`: reads the command line and hands over to one file per verb. No logic of its own.
#![forbid(unsafe_code)]

mod devices;
mod doctor;
mod host_source;
mod lab;
mod plan;
mod print;
mod run;
mod screenshot;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Desktops on assigned PCI hardware.
#[derive(Debug, Parser)]
#[command(name = "allod", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Devices(devices::Arguments),
    Doctor(doctor::Arguments),
    /// A virtual host with an IOMMU and emulated cards, to try and test without hardware.
    Lab(lab::Arguments),
    Plan(plan::Arguments),
    Run(run::Arguments),
    Screenshot(screenshot::Arguments),
}

fn main() -> ExitCode {
    match Arguments::parse().verb {
        Verb::Devices(arguments) => devices::run(&arguments),
        Verb::Doctor(arguments) => doctor::run(&arguments),
        Verb::Lab(arguments) => lab::run(&arguments),
        Verb::Plan(arguments) => plan::run(&arguments),
        Verb::Run(arguments) => run::run(&arguments),
        Verb::Screenshot(arguments) => screenshot::run(&arguments),
    }
}
