//! `allod lab pull`: takes a card out while the host runs.

use super::HostName;
use lab::Failure;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    name: HostName,
    /// The card, as `allod lab profiles` names it; everything in its slot goes with it.
    card: String,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let hardware = lab::standing::attach_hardware(&arguments.name.host)?;
    hardware.pull(&arguments.card)?;
    Ok(ExitCode::SUCCESS)
}
