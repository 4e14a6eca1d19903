//! `allod rom dump` and `list`: clean ROMs are kept for the seats.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use host::rom;
use host::vault::Vault;
use linux::sysfs::DirectoryTree;
use spec::PciAddress;

use super::{file, identity};
use crate::print;
use crate::state::{self, Ended, NOT_FOUND, State};

#[derive(Debug, clap::Args)]
pub(super) struct Dump {
    /// The card, for example 01:00.0
    #[arg(value_name = "ADDRESS")]
    card: PciAddress,
    /// Take this file as the card's ROM instead of reading the card
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Write what was read to FILE as it is, whatever is wrong with it, and keep nothing
    #[arg(long, short, value_name = "FILE", conflicts_with = "from")]
    output: Option<PathBuf>,
    #[command(flatten)]
    state: State,
}

#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: State,
}

/// Reads a ROM and keeps it, or writes it out.
pub(super) fn dump(arguments: &Dump) -> ExitCode {
    state::end(keep(arguments))
}

fn keep(arguments: &Dump) -> Result<(), Ended> {
    let address = arguments.card;
    let tree = DirectoryTree::system()?;
    let of = identity(&tree, address)
        .ok_or_else(|| Ended::with(NOT_FOUND, rom::RomUnreadable::NoCard(address)))?;
    if let Some(path) = &arguments.output {
        let read = rom::read(&tree, address)?;
        std::fs::write(path, &read.bytes).with_context(|| format!("cannot write {}", path.display()))?;
        for fault in rom::report_of_card(&address.to_string(), &read, None).faults {
            eprint!("{}", print::wrap(&fault, "allod: ", 7, print::WIDTH));
        }
        print::out(&format!("{}: {} bytes of {address}\n", path.display(), read.bytes.len()))?;
        return Ok(());
    }
    let bytes = match &arguments.from {
        Some(path) => file(path)?,
        None => of_card(&tree, address)?,
    };
    let kept = Vault::of(&arguments.state.directory()).keep(&of, &bytes)?;
    print::out(&format!("{}: kept for {address} and cards like it\n", kept.display()))?;
    Ok(())
}

/// The card's own ROM, unless it has run.
fn of_card(tree: &DirectoryTree, address: PciAddress) -> anyhow::Result<Vec<u8>> {
    let read = rom::read(tree, address)?;
    if read.shadowed {
        let faults = rom::report_of_card(&address.to_string(), &read, None).faults;
        bail!("this ROM is not kept: {}", faults.first().map_or("it has run", String::as_str));
    }
    Ok(read.bytes)
}

/// Shows what is kept.
pub(super) fn list(arguments: &List) -> ExitCode {
    state::end(show(arguments))
}

fn show(arguments: &List) -> Result<(), Ended> {
    let inventory = host::inventory::read(&DirectoryTree::system()?);
    let kept = Vault::of(&arguments.state.directory()).list(&inventory)?;
    if arguments.json {
        print::out(&(serde_json::to_string_pretty(&kept)? + "\n"))?;
        return Ok(());
    }
    if kept.is_empty() {
        print::out("no ROM is kept; `allod rom dump ADDRESS` keeps that of a card\n")?;
        return Ok(());
    }
    let mut table = print::Table::new(&["CARD", "HERE", "BYTES", "IMAGES", "FILE"]);
    for rom in kept {
        let here: Vec<_> = rom.addresses.iter().map(ToString::to_string).collect();
        let images: Vec<_> = rom.rom.images.iter().map(|image| image.code.clone()).collect();
        let cells = vec![
            rom.card,
            if here.is_empty() { "-".to_owned() } else { here.join(" ") },
            rom.rom.bytes.to_string(),
            images.join(", "),
            rom.rom.source,
        ];
        table.row(cells, rom.rom.faults);
    }
    print::out(&table.text())?;
    Ok(())
}
