//! `allod release`: give claimed devices back to the host.

use std::process::ExitCode;
use std::time::Instant;

use host::claim;

use crate::print;
use crate::state::{self, Ended, Open, Progress, State};

/// Give claimed devices back: each is reset and gets its old driver.
///
/// What cannot be undone is kept as a debt, and tried again by the next allod that takes or releases.
///
/// Exit status: 0 given back whole; 1 something is owed; 2 the command line makes no sense; 4 no such claim; 5 not for
/// this user; 6 another claim needs it, or another allod is changing the host.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The names of the claims, as `allod claims` shows them
    #[arg(value_name = "NAME", required_unless_present = "all")]
    names: Vec<String>,
    /// Every claim, also those of seats
    #[arg(long, conflicts_with = "names")]
    all: bool,
    /// The names of the claims that were given back, as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: State,
}

/// Gives them back.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    state::end(release(arguments))
}

fn release(arguments: &Arguments) -> Result<(), Ended> {
    let owed_before = owing(arguments)?;
    let mut open = arguments.state.open("release")?;
    let names = match arguments.all {
        true => all(&open),
        false => arguments.names.clone(),
    };
    let mut released = Vec::new();
    let mut first = None;
    for name in names {
        let begin = Instant::now();
        // What was owed has been tried again by now, and is gone if that went well.
        if owed_before.contains(&name) && open.ledger.book().claim(&name).is_none() {
            released.push(name);
            continue;
        }
        match claim::release(&open.system, &mut open.ledger, &name, &mut Progress) {
            Ok(()) => {
                if !arguments.json {
                    print::out(&format!("{name} given back in {}\n", state::time(begin.elapsed()).trim()))?;
                }
                released.push(name);
            }
            Err(error) => {
                let ended = Ended::from(error);
                match first {
                    None => first = Some(ended),
                    Some(_) => eprintln!("allod: {name}: {:#}", ended.error),
                }
            }
        }
    }
    if arguments.json {
        print::out(&(serde_json::to_string_pretty(&released)? + "\n"))?;
    }
    first.map_or(Ok(()), Err)
}

/// The claims that owe something, before anything is tried again.
fn owing(arguments: &Arguments) -> Result<Vec<String>, Ended> {
    let book = host::ledger::read(&arguments.state.directory())?;
    Ok(book.debts().into_iter().map(|debt| debt.claim).collect())
}

/// Every claim, those that need others first.
fn all(open: &Open) -> Vec<String> {
    let book = open.ledger.book();
    let needs = |entry: &&host::ledger::ClaimEntry| book.resting_on(&entry.record.seat).next().is_none();
    book.claims().filter(needs).map(|entry| entry.record.seat.clone()).collect()
}
