//! `allod trial`: prove by doing that a device survives being taken, reset and given back.

use std::process::ExitCode;

use anyhow::anyhow;
use host::claim::{StepReport, TakeRequest, Watcher};
use host::inventory;
use host::system::System;
use host::trial::{self, Round, TrialWatcher};
use spec::CpuSet;
use spec::ledger::Keeper;
use spec::plan::{ClaimKind, ClaimRecord, TrialRecord, TrialVerdict};
use spec::seat_file::{ConsoleHandover, DeviceRequest};

use crate::claim::{Device, refused};
use crate::print;
use crate::state::{self, Ended, Open, Progress, State};

/// Take a device, reset it in every way it has, read its ROM, give it back, for some rounds.
///
/// The verdict is kept with the versions of kernel and firmware, and `allod plan` warns about devices without a passed
/// trial. Nothing is written to the device; whoever uses it on the host loses it for the time of the trial.
///
/// Exit status: 0 passed; 1 failed or refused; 2 the command line makes no sense; 4 no such device; 5 not for this user;
/// 6 it belongs to a claim, or another allod is changing the host.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Devices by address (01:00.0) or slot path; a display card's sound comes with it
    #[arg(value_name = "DEVICE", required = true)]
    devices: Vec<Device>,
    /// How many rounds
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Let the host go without a picture meanwhile, when its only display is among the devices
    #[arg(long)]
    give_console: bool,
    /// The verdicts as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: State,
}

/// Tries the devices.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    state::end(try_all(arguments))
}

fn try_all(arguments: &Arguments) -> Result<(), Ended> {
    let mut open = arguments.state.open("trial")?;
    let requests: Vec<DeviceRequest> = arguments.devices.iter().map(|device| device.0.clone()).collect();
    let host = inventory::read(open.system.tree());
    let request = request(arguments, &open, &host, &requests)?;
    let rounds = trial::run(&open.system, &mut open.ledger, &request, arguments.rounds, &mut Rounds);
    let (kernel, firmware) = (host.host.kernel.release.as_deref(), host.host.firmware.version.as_deref());
    let records = trial::verdicts(&request, &rounds, kernel, firmware);
    trial::store(&arguments.state.directory(), &open.ledger, &records)?;
    let text = match arguments.json {
        true => serde_json::to_string_pretty(&records)? + "\n",
        false => records.iter().map(|record| text(&request, record)).collect(),
    };
    print::out(&text)?;
    match records.iter().find_map(|record| match &record.verdict {
        TrialVerdict::Failed { why } => Some(why),
        TrialVerdict::Passed => None,
    }) {
        Some(why) => Err(Ended::with(1, anyhow!("the trial failed {why}"))),
        None => Ok(()),
    }
}

fn request(
    arguments: &Arguments,
    open: &Open,
    host: &spec::inventory::HostInventory,
    requests: &[DeviceRequest],
) -> Result<TakeRequest, Ended> {
    let console = if arguments.give_console { ConsoleHandover::Give } else { ConsoleHandover::Keep };
    let claims: Vec<ClaimRecord> = open.ledger.book().claims().map(|entry| entry.record.clone()).collect();
    // An earlier trial that failed is no reason against another.
    let planned = plan::by_hand(host, "trial", requests, console, (&claims, &[]));
    let planned = planned.map_err(|refusal| refused(&refusal))?;
    Ok(TakeRequest {
        name: "trial".to_owned(),
        kind: ClaimKind::Trial,
        keeper: Keeper::Process(open.system.process()),
        functions: planned.functions,
        cpus: CpuSet::default(),
        steps: planned.steps,
        rests_on: None,
    })
}

fn text(request: &TakeRequest, record: &TrialRecord) -> String {
    let function = request.functions.iter().find(|function| function.identity == record.identity);
    let address = function.map_or(String::new(), |function| function.address.to_string());
    let verdict = match &record.verdict {
        TrialVerdict::Passed => "passed".to_owned(),
        TrialVerdict::Failed { why } => format!("FAILED {why}"),
    };
    let mut ways: Vec<String> = record
        .resets
        .iter()
        .map(|tried| match &tried.failed {
            None => format!("{} {} ms", tried.method, tried.took_ms),
            Some(why) => format!("{} failed ({why})", tried.method),
        })
        .collect();
    if ways.is_empty() {
        ways.push("none".to_owned());
    }
    let rom = record.rom.map_or("no ROM".to_owned(), |size| format!("ROM {size}"));
    format!("{address} {verdict}: {} rounds; resets: {}; {rom}\n", record.rounds, ways.join(", "))
}

/// Tells each round on standard error.
struct Rounds;

impl Watcher for Rounds {
    fn step(&mut self, report: &StepReport) {
        Progress.step(report);
    }
}

impl TrialWatcher for Rounds {
    fn round(&mut self, round: &Round) {
        let time = state::time(round.took);
        match &round.failed {
            None => eprintln!("{time}  round {}: {} resets, as before", round.number, round.resets.len()),
            Some(why) => eprintln!("{time}  round {}: FAILED: {why}", round.number),
        }
    }
}
