//! `allod lab screenshot`: what a monitor on a card of the host would show.

use super::HostName;
use lab::Failure;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    name: HostName,
    /// Which output of the card.
    #[arg(long, value_name = "N", default_value_t = 0)]
    head: u32,
    /// The graphics card, as `allod lab profiles` names it.
    card: String,
    /// Where to write the picture.
    file: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let hardware = lab::standing::attach_hardware(&arguments.name.host)?;
    hardware.screenshot(&arguments.card, arguments.head, &arguments.file)?;
    Ok(ExitCode::SUCCESS)
}
