//! `allod up`: claims and starts the seats of a file; all of them, or none.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use host::ledger::{Ledger, LedgerError};
use host::recovery;
use host::system::{RunningSystem, System};
use linux::event::Signals;
use linux::sysfs::DirectoryTree;
use seat::places::Places;
use seat::standing;
use seat::starting::{self, Next, Starting};
use spec::plan::{Plan, ReasonCode, Refusal};
use spec::seat_file::SeatFile;
use spec::{SeatEnding, SeatEvent, SeatOrder, SeatState};

use crate::answer::{self, Failed};
use crate::host_source;
use crate::progress::{Progress, ended};
use crate::seat_supervisor;

/// Claim and start the seats of FILE, or only those named; all of them, or none.
///
/// Ctrl-C, as long as it has not returned, undoes everything. The seats go on running when it has. The folders
/// /run/allod and /var/lib/allod can be others by ALLOD_RUN_DIR and ALLOD_STATE_DIR.
///
/// Exit status: 0 all seats run; 1 refused or failed, all is as it was; 2 the file or the command line makes no sense;
/// 4 the file has no such seat; 5 not permitted; 6 a seat or a device is in use already.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The seat file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Only these seats of it
    #[arg(value_name = "NAME")]
    seats: Vec<String>,
    /// What happens as JSON, one event a line
    #[arg(long)]
    json: bool,
}

/// Starts the seats.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    answer::exit(up(arguments))
}

fn up(arguments: &Arguments) -> Result<(), Failed> {
    answer::need_root("taking devices and starting seats")?;
    let file = chosen(&arguments.file, &arguments.seats)?;
    // From here on Ctrl-C is an event like any other.
    let signals = Signals::of_termination().map_err(Failed::new)?;
    let places = Places::of_environment();
    let progress = Progress { json: arguments.json };
    settle(&places, &progress)?;
    let plan = plan(&places, &file, &progress)?;
    for notice in &plan.notices {
        let seat = notice.seat.as_deref().unwrap_or("host");
        eprintln!("{seat:<12} note: {}: {}", notice.subject, notice.sentence);
    }
    let program = std::env::current_exe().map_err(Failed::new)?;
    let mut started: Vec<(String, Starting)> = Vec::new();
    for seat in &plan.seats {
        let order = SeatOrder {
            plan: plan.clone(),
            seat: seat.name.clone(),
            run: places.run.clone(),
            state: places.state.clone(),
        };
        let outcome = starting::start(&order, &program, seat_supervisor::VERB)
            .map_err(|error| Failed::io(&error.to_string(), &error.error))
            .and_then(|mut starting| {
                let outcome = until_it_runs(&seat.name, &mut starting, &signals, &progress);
                started.push((seat.name.clone(), starting));
                outcome
            });
        if let Err(failed) = outcome {
            give_up(started, &progress);
            return Err(failed);
        }
    }
    for (_, starting) in started {
        starting.stay();
    }
    Ok(())
}

/// The file with only the seats that are meant.
fn chosen(path: &Path, names: &[String]) -> Result<SeatFile, Failed> {
    let mut file = crate::plan::seats(path).map_err(|error| Failed::usage(format!("{error:#}")))?;
    if let Some(unknown) = names.iter().find(|name| !file.seats.iter().any(|seat| seat.name == **name)) {
        return Err(Failed::not_found(unknown));
    }
    if !names.is_empty() {
        file.seats.retain(|seat| names.contains(&seat.name));
    }
    Ok(file)
}

/// Pays what earlier starts left: clears seats whose supervisor was killed, and gives back what nobody keeps any more.
pub(crate) fn settle(places: &Places, progress: &Progress) -> Result<(), Failed> {
    let begin = Instant::now();
    let system = RunningSystem::open().map_err(Failed::new)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let standing = standing::list(places, system.tree())
        .map_err(|error| Failed::io("reading the seats that run", &error))?;
    for lost in standing.iter().filter(|seat| seat.lost) {
        lost.clear(places, now).map_err(Failed::new)?;
        progress.step(
            &format!("clear away seat {}, whose supervisor was killed", lost.status.name),
            begin.elapsed(),
        );
    }
    let mut ledger = Ledger::open(&places.state, "allod").map_err(|error| match error {
        LedgerError::Busy { .. } => Failed::conflict(error),
        error => Failed::new(error),
    })?;
    let recovered = recovery::recover(&system, &mut ledger, &mut Told(progress)).map_err(Failed::new)?;
    for name in &recovered.released {
        progress.step(&format!("give back what {name} had"), begin.elapsed());
    }
    for debt in &recovered.debts {
        eprintln!("allod: still owed: {}: {}", host::claim::undoing(&debt.change), debt.reason);
    }
    Ok(())
}

/// Prints the steps of recovery.
struct Told<'p>(&'p Progress);

impl host::claim::Watcher for Told<'_> {
    fn step(&mut self, report: &host::claim::StepReport) {
        self.0.step(&report.what, report.took);
    }
}

fn plan(places: &Places, file: &SeatFile, progress: &Progress) -> Result<Plan, Failed> {
    let begin = Instant::now();
    let tree = DirectoryTree::system().map_err(Failed::new)?;
    let inventory = host_source::this_host(&tree, &places.state);
    progress.step("read the host", begin.elapsed());
    let begin = Instant::now();
    let claims = host::ledger::claims(&places.state).map_err(Failed::new)?;
    let trials = host::trial::records(&places.state).map_err(Failed::new)?;
    let plan = plan::plan(&inventory, file, &claims, &trials);
    // Before anything is taken from the host for them.
    let plan = seat::files::weigh(plan, file).map_err(|refusal| refused(&refusal))?;
    progress.step("plan", begin.elapsed());
    Ok(plan)
}

fn refused(refusal: &Refusal) -> Failed {
    let taken =
        |code: ReasonCode| matches!(code, ReasonCode::SeatRuns | ReasonCode::Claimed | ReasonCode::FileInUse);
    let text = plan::refusal_text(refusal);
    match refusal.reasons.iter().any(|reason| taken(reason.code)) {
        true => Failed::conflict(text),
        false => Failed::new(text),
    }
}

/// Follows one seat until it runs.
fn until_it_runs(
    name: &str,
    starting: &mut Starting,
    signals: &Signals,
    progress: &Progress,
) -> Result<(), Failed> {
    loop {
        let event = match starting.next(Some(signals)) {
            Next::Event(event) => event,
            Next::Interrupted => return Err(Failed::new("interrupted; everything is undone")),
            Next::Gone => {
                return Err(Failed::new(format!(
                    "the supervisor of seat `{name}` ended without a word; its log is {}",
                    Places::of_environment().seat(name).supervisor_log().display()
                )));
            }
        };
        match &event {
            SeatEvent::State { state: SeatState::Running } => {
                progress.event(name, &event);
                return Ok(());
            }
            SeatEvent::Refused { message, runs: true } => return Err(Failed::conflict(message)),
            SeatEvent::Refused { message, runs: false } => return Err(Failed::new(message)),
            SeatEvent::Ended { report } => {
                return Err(match &report.ending {
                    SeatEnding::NotStarted { message } => Failed::new(format!("seat `{name}`: {message}")),
                    _ => Failed::new(format!("seat `{name}` {}", ended(report))),
                });
            }
            _ => progress.event(name, &event),
        }
    }
}

/// Ends what has been started, the last first, and follows it.
fn give_up(started: Vec<(String, Starting)>, progress: &Progress) {
    for (name, mut starting) in started.into_iter().rev() {
        starting.give_up();
        while let Next::Event(event) = starting.next(None) {
            progress.event(&name, &event);
        }
        starting.wait();
    }
}
