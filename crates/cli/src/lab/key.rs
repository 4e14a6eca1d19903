//! `allod lab key`: fingers on a keyboard of the host.

use super::HostName;
use lab::Failure;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    name: HostName,
    /// The keyboard, the controller it is plugged into, or the screen it belongs to.
    card: String,
    /// Keys one after the other; held together with dashes: `l s enter ctrl-alt-f2`.
    #[arg(required = true)]
    keys: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let hardware = lab::standing::attach_hardware(&arguments.name.host)?;
    hardware.key(&arguments.card, &arguments.keys.join(" "))?;
    Ok(ExitCode::SUCCESS)
}
