//! `allod rom`: what a card's option ROM is, and whether firmware in a guest can run it.

mod dump;

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;
use host::rom;
use host::vault::Vault;
use linux::sysfs::DirectoryTree;
use seat::places::Places;
use spec::inventory::DeviceIdentity;
use spec::{PciAddress, RomImage, RomReport};

use crate::print;

/// Look at the option ROM of a card, or at a file of one: by it, a graphics card shows a picture before any driver runs.
///
/// A seat whose card has no ROM of its own to show, or only the copy that this host's firmware has run, gets the clean one
/// that was kept with `dump`.
///
/// Exit status: 0 done, and for `check` nothing is wrong; 1 `check` found something wrong, or it cannot be read or kept;
/// 2 the command line makes no sense; 4 there is no such card.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show the images in it, whom they are for, and what is wrong
    Show(Source),
    /// Say what is wrong with it
    Check(Source),
    /// Read a card's ROM and keep it for the seats that have such a card, if nothing is wrong with it
    Dump(dump::Dump),
    /// Show the ROMs that are kept
    List(dump::List),
}

#[derive(Debug, clap::Args)]
struct Source {
    /// The address of a card of this host, for example 01:00.0, or a file
    #[arg(value_name = "ADDRESS|FILE")]
    rom: String,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let (source, check) = match &arguments.verb {
        Verb::Show(source) => (source, false),
        Verb::Check(source) => (source, true),
        Verb::Dump(arguments) => return dump::dump(arguments),
        Verb::List(arguments) => return dump::list(arguments),
    };
    let report = match report(&source.rom) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("allod: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let text = match (source.json, check) {
        (true, _) => serde_json::to_string_pretty(&report).map(|text| text + "\n").unwrap_or_default(),
        (false, true) => verdict(&report),
        (false, false) => images(&report) + &verdict(&report),
    };
    if let Err(error) = print::out(&text) {
        eprintln!("allod: cannot write to standard output: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::from(u8::from(check && !report.faults.is_empty()))
}

fn report(source: &str) -> anyhow::Result<RomReport> {
    // A file that is called like an address is reached as ./01:00.0.
    if let Ok(address) = source.parse::<PciAddress>() {
        let tree = DirectoryTree::system()?;
        let rom = rom::read(&tree, address)?;
        let vault = Vault::of(&Places::of_environment().state);
        let clean = identity(&tree, address).and_then(|of| vault.find(&of));
        return Ok(rom::report_of_card(source, &rom, clean.as_ref().map(|(_, bytes)| bytes.as_slice())));
    }
    Ok(rom::report(source, &file(Path::new(source))?, None))
}

/// Reads a file of a ROM.
fn file(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(rom::ROM_LIMIT as u64).read_to_end(&mut bytes))
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(bytes)
}

/// Which card is there.
fn identity(tree: &DirectoryTree, address: PciAddress) -> Option<DeviceIdentity> {
    let inventory = host::inventory::read(tree);
    inventory.function(address).map(|function| function.identity.clone())
}

fn images(report: &RomReport) -> String {
    let mut table = print::Table::new(&["OFFSET", "BYTES", "CODE", "FOR", "CLASS", "SUM", "TEXT"]);
    for image in &report.images {
        let (first, rest) =
            image.texts.split_first().map_or((String::new(), &[][..]), |(first, rest)| (first.clone(), rest));
        let cells = vec![
            format!("{:#x}", image.offset),
            image.length.to_string(),
            code(image),
            format!("{:04x}:{:04x}", image.ids.vendor, image.ids.device),
            format!("{:06x}", image.class),
            sum(image.checksum).to_owned(),
            first,
        ];
        let devices =
            image.devices.iter().map(|device| format!("also for {:04x}:{device:04x}", image.ids.vendor));
        table.row(cells, rest.iter().cloned().chain(devices).collect());
    }
    table.text()
}

fn code(image: &RomImage) -> String {
    match image.efi_machine {
        Some(0x8664) => format!("{}, x86-64", image.code),
        Some(machine) => format!("{}, machine {machine:#x}", image.code),
        None => image.code.clone(),
    }
}

fn sum(checksum: Option<bool>) -> &'static str {
    match checksum {
        Some(true) => "right",
        Some(false) => "wrong",
        None => "-",
    }
}

fn verdict(report: &RomReport) -> String {
    if report.faults.is_empty() {
        return format!("{}: nothing is wrong with its {} images\n", report.source, report.images.len());
    }
    let faults = report.faults.iter().map(|fault| print::wrap(fault, "- ", 2, print::WIDTH));
    format!("{}:\n{}", report.source, faults.collect::<String>())
}

#[cfg(test)]
mod tests {
    use spec::RomReport;

    use super::verdict;

    #[test]
    fn a_verdict_lists_every_fault() {
        let mut report =
            RomReport { source: "card.rom".into(), bytes: 0, card: None, images: vec![], faults: vec![] };
        assert_eq!(verdict(&report), "card.rom: nothing is wrong with its 0 images\n");
        report.faults = vec!["one".into(), "two".into()];
        assert_eq!(verdict(&report), "card.rom:\n- one\n- two\n");
    }
}
