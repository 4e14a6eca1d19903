//! `allod devices`: the functions of a host, who holds them, what can be taken and what never.

mod detail;
mod hold;
mod listing;

use std::process::ExitCode;

use anyhow::{Context, bail};
use spec::PciAddress;
use spec::inventory::json_schema;

use crate::host_source::HostSource;
use crate::print;

/// List the host's devices, their groups, who holds them, and what can be taken.
///
/// The column TAKE says: free; hand over (the host's own screen is on it and goes away meanwhile); in use (its user
/// has to let go first); never (the host or your login lives on it, or on a device of the same group); stays
/// (a part of the host, or without an IOMMU group).
///
/// Exit status: 0 printed; 2 the inventory or the command line makes no sense.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Show everything about this one device, for example 01:00.0
    #[arg(value_name = "ADDRESS")]
    address: Option<PciAddress>,
    /// Bridges and other parts of the host too
    #[arg(long)]
    all: bool,
    /// The whole inventory as JSON; can be fed back with --inventory
    #[arg(long)]
    json: bool,
    /// The JSON schema of the inventory
    #[arg(long, exclusive = true)]
    schema: bool,
    #[command(flatten)]
    source: HostSource,
}

/// Prints what was asked for.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    match text(arguments).and_then(|text| print::out(&text).context("cannot write to standard output")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("allod: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn text(arguments: &Arguments) -> anyhow::Result<String> {
    if arguments.schema {
        return Ok(serde_json::to_string_pretty(&json_schema())? + "\n");
    }
    let inventory = arguments.source.read()?;
    let one = match arguments.address {
        Some(address) => match inventory.function(address) {
            Some(function) => Some(function),
            None => bail!("there is no device {address} on this host; `allod devices --all` lists them"),
        },
        None => None,
    };
    match (one, arguments.json) {
        (Some(function), true) => Ok(serde_json::to_string_pretty(function)? + "\n"),
        (Some(function), false) => Ok(detail::text(&inventory, function)),
        (None, true) => Ok(serde_json::to_string_pretty(&inventory)? + "\n"),
        (None, false) => Ok(listing::text(&inventory, arguments.all)),
    }
}
