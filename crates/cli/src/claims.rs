//! `allod claims`: which devices belong to whom, and what is owed.

use std::process::ExitCode;

use host::claim::undoing;
use host::ledger::{self, ClaimEntry, StepState};
use host::system::{RunningSystem, System};
use spec::plan::{ClaimKind, ClaimRecord, ClaimState};

use crate::print::{self, Table};
use crate::state::{self, Ended, State};

/// List the claims that stand, with their devices and with what could not be given back. Changes nothing.
///
/// Exit status: 0 listed; 1 the ledger cannot be read; 2 the command line makes no sense; 5 not for this user.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The claims as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: State,
}

/// Prints the claims.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    state::end(list(arguments))
}

fn list(arguments: &Arguments) -> Result<(), Ended> {
    let boot = RunningSystem::open()?.boot();
    let book = ledger::read(&arguments.state.directory())?;
    // Those of another start of the host are over, though the ledger hears of it only at the next change.
    let standing: Vec<&ClaimEntry> = book.claims().filter(|entry| entry.boot == boot).collect();
    let text = match arguments.json {
        true => {
            let records: Vec<&ClaimRecord> = standing.iter().map(|entry| &entry.record).collect();
            serde_json::to_string_pretty(&records)? + "\n"
        }
        false if standing.is_empty() => "no claims\n".to_owned(),
        false => table(&standing),
    };
    print::out(&text)?;
    Ok(())
}

fn table(standing: &[&ClaimEntry]) -> String {
    let mut table = Table::new(&["NAME", "FOR", "STATE", "DEVICES"]);
    for entry in standing {
        let record = &entry.record;
        let devices: Vec<String> = record.functions.iter().map(device).collect();
        let owed = entry.steps.iter().filter_map(|step| match &step.state {
            StepState::Owed(reason) => Some(format!("owed: {}: {reason}", undoing(&step.change))),
            _ => None,
        });
        let mut lines = devices.into_iter();
        let first = lines.next().unwrap_or_default();
        let row =
            vec![record.seat.clone(), kind(record.kind).to_owned(), state_of(record.state).to_owned(), first];
        table.row(row, lines.chain(owed).collect());
    }
    table.text()
}

fn device(function: &spec::plan::ClaimedFunction) -> String {
    let from = function.former_driver.as_deref().map_or(String::new(), |driver| format!(" from {driver}"));
    format!("{} ({}:{}){from}", function.address, function.identity.vendor, function.identity.device)
}

const fn kind(kind: ClaimKind) -> &'static str {
    match kind {
        ClaimKind::Seat => "seat",
        ClaimKind::Shared => "several seats",
        ClaimKind::Hand => "by hand",
        ClaimKind::Trial => "trial",
    }
}

const fn state_of(state: ClaimState) -> &'static str {
    match state {
        ClaimState::Taking => "being taken",
        ClaimState::Taken => "taken",
        ClaimState::Releasing => "being released",
        ClaimState::Debt => "in debt",
    }
}
