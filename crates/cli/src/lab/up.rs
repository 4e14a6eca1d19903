//! `allod lab up`: boots a host and leaves it running.

use super::start::{StartOptions, print_timeline};
use super::{HostName, progress};
use lab::Failure;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    start: StartOptions,
    #[command(flatten)]
    name: HostName,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let host = arguments.start.lab()?.stand(&arguments.name.host, &progress)?;
    if arguments.start.verbose {
        print_timeline(host.timeline());
    }
    progress(&format!("the host `{}` is up: {}", arguments.name.host, host.profile().description));
    for card in &host.profile().cards {
        progress(&format!("    {:12} {}", card.id, card.device));
    }
    progress(&format!("its console is written to {}", host.hardware().console_file().display()));
    progress("`allod lab shell` opens a shell in it, `allod lab down` ends it");
    Ok(ExitCode::SUCCESS)
}
