//! A whole run: native, then the seats' devices are claimed, one seat and all seats under each engine, then given back.

use crate::devices::{Devices, Peer};
use crate::journal::{Journal, JournalError, Recipe, Step};
use crate::leg;
use crate::native::Native;
use crate::ready;
use crate::result::{Condition, Engine, Result as BenchResult};
use crate::seats::{Seat, Seats};
use crate::workload::{Measure, WORKLOADS, Workload};
use host::claim::{self, ReleaseError, TakeError, TakeRequest, Watcher};
use host::ledger::{Ledger, LedgerError};
use host::recovery::recover;
use host::system::System;
use spec::inventory::HostInventory;
use spec::ledger::Keeper;
use spec::plan::{Plan, SeatPlan, SeatStart};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the ledger tells others that come meanwhile.
const AS_WHO: &str = "allod bench";

/// What is measured, and with what.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    /// The workloads.
    pub workloads: Vec<&'static Workload>,
    /// Rounds of each.
    pub rounds: u32,
    /// How long a round takes.
    pub round: Duration,
    /// In how many laps the rounds are run. Each lap is native and all engines, whose order turns round from lap to lap: a
    /// host that gets slower in the meantime does so for all.
    pub laps: u32,
    /// Who runs the machines.
    pub engines: Vec<Engine>,
    /// Whom network cards talk to; without it the network is not measured.
    pub peer: Option<Peer>,
    /// The guest's kernel; without it, each seat's own.
    pub kernel: Option<PathBuf>,
    /// The RAM disk of a guest that does what its console is told.
    pub initrd: PathBuf,
    /// A disk that each guest may read.
    pub disk: Option<PathBuf>,
    /// The program `allod`.
    pub allod: PathBuf,
    /// Where the ledger is.
    pub state: PathBuf,
    /// Where each round is written down as it ends; those that are there already are not made again.
    pub journal: Option<PathBuf>,
    /// Readable as soon as the run is to break off, and from then on.
    pub interrupt: Option<BorrowedFd<'a>>,
}

impl Options<'_> {
    pub(crate) fn measure(&self) -> Measure {
        Measure { round: self.round, peer: self.peer }
    }
}

/// Why there are no figures. Whatever was claimed has been given back, or is in the ledger for the next start.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A seat boots by firmware; the bench needs a kernel that it can start with its own RAM disk.
    #[error(
        "seat `{seat}` has no `kernel` to start with a RAM disk; a guest that `allod lab guest` has made brings one of its own"
    )]
    NoKernel {
        /// The seat.
        seat: String,
    },
    /// No seat has anything.
    #[error("the seat file has no seat with a device: there is nothing to compare with the host")]
    NoSeat,
    /// Something the run would need is not there.
    #[error("the host is not ready for this run:\n- {}", .lacking.join("\n- "))]
    NotReady {
        /// All that is missing, a line each.
        lacking: Vec<String>,
    },
    /// Machines do not start.
    #[error("machines failed to start {tries} times in a row, last because {last}")]
    NotStarted {
        /// How often.
        tries: u32,
        /// Why.
        last: String,
    },
    /// It was asked for.
    #[error("interrupted")]
    Interrupted,
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A claim could not be taken.
    #[error(transparent)]
    Take(#[from] TakeError),
    /// A claim could not be given back.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// The ledger cannot be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Returns the workloads of a run that asks for none: all, but three dimensions only where the first seat's card has them.
pub fn usual_workloads(inventory: &HostInventory, plan: &Plan) -> Vec<&'static Workload> {
    let mut devices = plan.seats.iter().map(|seat| Devices::of(seat, inventory));
    let first = devices.find(|devices| !devices.slots.is_empty());
    let three = first.is_some_and(|devices| devices.draws_in_three_dimensions());
    WORKLOADS.iter().filter(|workload| three || !workload.three_dimensions).collect()
}

/// Measures. What it is at is told to `progress`. A run that breaks off after it has begun has a result too, of what was
/// made until then, and the reason beside it.
///
/// # Errors
/// Why nothing was measured; devices are given back all the same.
pub fn run(
    system: &dyn System,
    inventory: &HostInventory,
    plan: &Plan,
    options: &Options,
    progress: &mut dyn FnMut(&str),
) -> Result<(BenchResult, Option<BenchError>), BenchError> {
    let mut seats = Vec::new();
    for seat in &plan.seats {
        let devices = Devices::of(seat, inventory);
        if !devices.slots.is_empty() {
            seats.push(Seat { plan: seat, devices, kernel: kernel(seat, options)? });
        }
    }
    let run = Run { system, plan, seats: &seats, options };
    let laps = run.laps()?;
    for seat in &seats {
        seat.devices.left_out.iter().for_each(|name| {
            progress(&format!(
                "seat `{}` goes without {name}, which is yet to be made; a virtual function that is there can be given to \
                 it by its address",
                seat.plan.name
            ));
        });
    }
    let lacking = ready::lacking(&seats, options);
    if !lacking.is_empty() {
        return Err(BenchError::NotReady { lacking });
    }
    let recipe = run.recipe();
    let mut journal = match &options.journal {
        Some(path) => Journal::open(path, &recipe)?,
        None => Journal::in_memory(),
    };
    let legs = || laps.iter().flatten();
    let kept = journal.made().len();
    if kept > 0 {
        progress(&format!("{kept} rounds of workloads were made before, and are not made again"));
    }
    let ended = laps.iter().try_for_each(|legs| run.lap(legs, &mut journal, progress));
    let steps = legs().map(|leg| leg.steps.len()).sum();
    Ok((BenchResult::of(journal.made(), steps), ended.err()))
}

/// Splits rounds into laps, the first of them longer by one where it does not come out even.
fn laps(rounds: u32, laps: u32) -> Vec<u32> {
    let length = |lap| rounds / laps + u32::from(lap < rounds % laps);
    (0..laps).map(length).filter(|rounds| *rounds > 0).collect()
}

/// Rounds at one place, or at all at once.
struct Leg {
    engine: Engine,
    /// How many seats; none is the host.
    seats: usize,
    steps: Vec<(Step, &'static Workload)>,
}

impl Leg {
    fn is_made(&self, journal: &Journal) -> bool {
        self.steps.iter().all(|(step, _)| journal.has(step))
    }
}

struct Run<'a> {
    system: &'a dyn System,
    plan: &'a Plan,
    seats: &'a [Seat<'a>],
    options: &'a Options<'a>,
}

impl Run<'_> {
    /// Returns the legs of each lap, native first.
    fn laps(&self) -> Result<Vec<Vec<Leg>>, BenchError> {
        let Some(first) = self.seats.first() else { return Err(BenchError::NoSeat) };
        let lengths = laps(self.options.rounds.max(1), self.options.laps.max(1));
        let mut all = Vec::new();
        for (lap, rounds) in lengths.into_iter().enumerate() {
            let mut engines = self.options.engines.clone();
            if lap % 2 == 1 {
                engines.reverse();
            }
            let counts = &[1, self.seats.len()][..self.seats.len().min(2)];
            let of_engine = |engine: Engine| counts.iter().map(move |count| (engine, *count));
            let places = [(Engine::Host, 0)].into_iter().chain(engines.into_iter().flat_map(of_engine));
            let legs = places.map(|(engine, seats)| {
                let places = if seats == 0 { std::slice::from_ref(first) } else { &self.seats[..seats] };
                Leg { engine, seats, steps: self.steps(lap, rounds, (engine, seats), places) }
            });
            all.push(legs.collect());
        }
        Ok(all)
    }

    /// Returns each round of each workload that makes sense at one of the places at least.
    fn steps(
        &self,
        lap: usize,
        rounds: u32,
        (engine, seats): (Engine, usize),
        places: &[Seat],
    ) -> Vec<(Step, &'static Workload)> {
        let condition = match seats {
            0 => Condition::Native,
            1 => Condition::OneSeat,
            _ => Condition::AllSeats,
        };
        let peer = self.options.peer.is_some();
        let suits =
            |workload: &&&'static Workload| places.iter().any(|place| place.devices.suit(workload, peer));
        let suited: Vec<&'static Workload> = self.options.workloads.iter().filter(suits).copied().collect();
        let step = |round, workload: &'static Workload| {
            let name = workload.name.to_owned();
            (Step { lap: lap as u32 + 1, round, condition, engine, workload: name }, workload)
        };
        (1..=rounds)
            .flat_map(|round| suited.iter().map(move |workload| (round, *workload)))
            .map(|(round, workload)| step(round, workload))
            .collect()
    }

    fn recipe(&self) -> Recipe {
        let Options { workloads, rounds, round, laps, engines, .. } = self.options;
        let devices = |seat: &Seat| {
            let all = seat.devices.slots.iter().flatten().map(|(address, _)| address.to_string()).collect();
            (seat.plan.name.clone(), all)
        };
        Recipe {
            workloads: workloads.iter().map(|workload| workload.name.to_owned()).collect(),
            rounds: *rounds,
            milliseconds: round.as_millis() as u64,
            laps: *laps,
            engines: engines.clone(),
            seats: self.seats.iter().map(devices).collect(),
        }
    }

    /// Makes what a lap lacks.
    fn lap(
        &self,
        legs: &[Leg],
        journal: &mut Journal,
        progress: &mut dyn FnMut(&str),
    ) -> Result<(), BenchError> {
        let missing: Vec<&Leg> = legs.iter().filter(|leg| !leg.is_made(journal)).collect();
        let (native, in_seats): (Vec<&Leg>, Vec<&Leg>) = missing.into_iter().partition(|leg| leg.seats == 0);
        for leg in native {
            let seat = &self.seats[0];
            let Options { allod, interrupt, .. } = self.options;
            let mut ground = Native { measure: self.options.measure(), seat, allod, interrupt: *interrupt };
            leg::run(&mut ground, &leg.steps, journal, progress)?;
        }
        if in_seats.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = self.seats.iter().map(|seat| seat.plan.name.as_str()).collect();
        progress(&format!("claiming the devices of {}", names.join(", ")));
        take(self.system, self.plan, &names, self.options)?;
        let made = in_seats.into_iter().try_for_each(|leg| {
            let mut ground = Seats::new(leg.engine, &self.seats[..leg.seats], self.options);
            leg::run(&mut ground, &leg.steps, journal, progress)?;
            // Every figure of the leg is there by now: one that would not go is ended, and its devices are reset.
            ground.end().iter().for_each(|trouble| progress(trouble));
            Ok(())
        });
        progress("giving the devices back");
        let given_back = give_back(self.system, &names, self.options);
        if let (Err(_), Err(error)) = (&made, &given_back) {
            // The run ends with the first; what is still owed is to be known all the same.
            progress(&format!("not all given back: {error}"));
        }
        made.and(given_back)
    }
}

fn kernel<'a>(seat: &'a SeatPlan, options: &'a Options) -> Result<&'a Path, BenchError> {
    match (&options.kernel, &seat.start) {
        (Some(kernel), _) => Ok(kernel),
        (None, SeatStart::Kernel(kernel)) => Ok(&kernel.image),
        (None, SeatStart::Firmware(_)) => Err(BenchError::NoKernel { seat: seat.name.clone() }),
    }
}

/// Claims what the seats need; if one cannot be had, those before it are given back.
fn take(system: &dyn System, plan: &Plan, names: &[&str], options: &Options) -> Result<(), BenchError> {
    let mut ledger = Ledger::open(&options.state, AS_WHO)?;
    recover(system, &mut ledger, &mut ())?;
    let keeper = || Keeper::Process(system.process());
    let own = names.iter().filter_map(|name| TakeRequest::seat(plan, name, keeper()));
    let requests: Vec<TakeRequest> = TakeRequest::shared(plan, keeper()).into_iter().chain(own).collect();
    for (number, request) in requests.iter().enumerate() {
        if let Err(error) = claim::take(system, &mut ledger, request, &mut ()) {
            for taken in requests[..number].iter().rev() {
                // What cannot be given back is in the ledger as a debt; the first error is the one to tell.
                let _ = claim::release(system, &mut ledger, &taken.name, &mut () as &mut dyn Watcher);
            }
            return Err(error.into());
        }
    }
    Ok(())
}

fn give_back(system: &dyn System, names: &[&str], options: &Options) -> Result<(), BenchError> {
    let mut ledger = Ledger::open(&options.state, AS_WHO)?;
    let mut first = Ok(());
    for name in names {
        let released = claim::release(system, &mut ledger, name, &mut ());
        if first.is_ok() {
            first = released.map_err(BenchError::from);
        }
    }
    first
}

#[cfg(test)]
mod tests {
    use super::laps;

    #[test]
    fn laps_hold_all_rounds_and_none_is_empty() {
        let rows: [(u32, u32, &[u32]); 4] = [(10, 2, &[5, 5]), (5, 2, &[3, 2]), (1, 2, &[1]), (3, 1, &[3])];
        for (rounds, count, expected) in rows {
            assert_eq!(laps(rounds, count), expected, "{rounds} in {count}");
        }
    }
}
