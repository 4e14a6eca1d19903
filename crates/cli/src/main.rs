//! The command `allod`: reads the command line and hands over to one file per verb. No logic of its own.
#![forbid(unsafe_code)]

mod answer;
mod bench;
mod claim;
mod claims;
mod console;
mod devices;
mod doctor;
mod down;
mod host_source;
mod kill;
mod lab;
mod logs;
mod plan;
mod print;
mod progress;
mod ps;
mod release;
mod rom;
mod run;
mod screenshot;
mod seat_supervisor;
mod show;
mod state;
mod trial;
mod up;
mod view;

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
    Bench(bench::Arguments),
    Console(console::Arguments),
    Claim(claim::Arguments),
    Claims(claims::Arguments),
    Devices(devices::Arguments),
    Doctor(doctor::Arguments),
    Down(down::Arguments),
    Kill(kill::Arguments),
    /// A virtual host with an IOMMU and emulated cards, to try and test without hardware.
    Lab(lab::Arguments),
    Logs(logs::Arguments),
    Plan(plan::Arguments),
    Ps(ps::Arguments),
    Rom(rom::Arguments),
    // Far larger than the others.
    Run(Box<run::Arguments>),
    Screenshot(screenshot::Arguments),
    #[command(hide = true)]
    SeatSupervisor(seat_supervisor::Arguments),
    Show(show::Arguments),
    Up(up::Arguments),
    Release(release::Arguments),
    Trial(trial::Arguments),
    View(view::Arguments),
}

fn main() -> ExitCode {
    match Arguments::parse().verb {
        Verb::Bench(arguments) => bench::run(&arguments),
        Verb::Console(arguments) => console::run(&arguments),
        Verb::Claim(arguments) => claim::run(&arguments),
        Verb::Claims(arguments) => claims::run(&arguments),
        Verb::Devices(arguments) => devices::run(&arguments),
        Verb::Doctor(arguments) => doctor::run(&arguments),
        Verb::Down(arguments) => down::run(&arguments),
        Verb::Kill(arguments) => kill::run(&arguments),
        Verb::Lab(arguments) => lab::run(&arguments),
        Verb::Logs(arguments) => logs::run(&arguments),
        Verb::Plan(arguments) => plan::run(&arguments),
        Verb::Ps(arguments) => ps::run(&arguments),
        Verb::Rom(arguments) => rom::run(&arguments),
        Verb::Run(arguments) => run::run(&arguments),
        Verb::Screenshot(arguments) => screenshot::run(&arguments),
        Verb::SeatSupervisor(arguments) => seat_supervisor::run(&arguments),
        Verb::Show(arguments) => show::run(&arguments),
        Verb::Up(arguments) => up::run(&arguments),
        Verb::Release(arguments) => release::run(&arguments),
        Verb::Trial(arguments) => trial::run(&arguments),
        Verb::View(arguments) => view::run(&arguments),
    }
}
