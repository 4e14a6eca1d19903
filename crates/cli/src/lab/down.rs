//! `allod lab down`: ends the host that is up.

use super::{HostName, progress};
use lab::Failure;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    name: HostName,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    lab::standing::end(&arguments.name.host)?;
    progress("the host is down");
    Ok(ExitCode::SUCCESS)
}
