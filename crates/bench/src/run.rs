//! A whole run: native, then the seats' devices are claimed, one seat and all seats under each engine, then given back.

use crate::devices::{Devices, Peer};
use crate::engine::{self, Boot};
use crate::guest::{Guest, GuestError};
use crate::result::{Condition, Engine, Result as BenchResult};
use crate::rounds::{self, Measure, Place};
use crate::workload::Workload;
use host::claim::{self, ReleaseError, TakeError, TakeRequest, Watcher};
use host::ledger::{Ledger, LedgerError};
use host::recovery::recover;
use host::system::System;
use spec::inventory::HostInventory;
use spec::ledger::Keeper;
use spec::plan::{Plan, SeatPlan, SeatStart};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a guest may take to boot; in the lab two boot on one emulated processor.
const BOOT_LIMIT: Duration = Duration::from_secs(180);
/// What the ledger tells others that come meanwhile.
const AS_WHO: &str = "allod bench";

/// What is measured, and with what.
#[derive(Clone, Debug)]
pub struct Options {
    /// The workloads.
    pub workloads: Vec<&'static Workload>,
    /// Rounds of each.
    pub rounds: u32,
    /// Seconds a round takes.
    pub seconds: u32,
    /// In how many laps the rounds are run. Each lap is native and all engines, whose order turns round from lap to lap: a
    /// host that gets slower in the meantime does so for all.
    pub laps: u32,
    /// Who runs the machines.
    pub engines: Vec<Engine>,
    /// Whom network cards talk to; without it the network is not measured.
    pub peer: Option<Peer>,
    /// The RAM disk of a guest that does what its console is told.
    pub initrd: PathBuf,
    /// A disk that each guest may read.
    pub disk: Option<PathBuf>,
    /// The program `allod`.
    pub allod: PathBuf,
    /// Where the ledger is.
    pub state: PathBuf,
}

/// Why there are no figures. Whatever was claimed has been given back, or is in the ledger for the next start.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A seat boots by firmware; the bench needs a kernel that it can start with its own RAM disk.
    #[error("seat `{seat}` has no `kernel`: a bench starts the seat's kernel with a RAM disk of its own")]
    NoKernel {
        /// The seat.
        seat: String,
    },
    /// No seat has anything.
    #[error("the seat file has no seat with a device: there is nothing to compare with the host")]
    NoSeat,
    /// A workload said no figure.
    #[error("`{workload}` gave no figure ({place}); it said:\n{said}")]
    NoFigure {
        /// The workload.
        workload: &'static str,
        /// Where.
        place: String,
        /// All that was said.
        said: String,
    },
    /// The host's shell cannot be started.
    #[error("cannot run a shell: {0}")]
    Shell(#[source] std::io::Error),
    /// A guest did not do its part.
    #[error("seat `{seat}`: {error}")]
    Guest {
        /// The seat.
        seat: String,
        /// What happened.
        error: GuestError,
    },
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

/// Measures. What it is at is told to `progress`.
///
/// # Errors
/// Why there are no figures; devices are given back all the same.
pub fn run(
    system: &dyn System,
    inventory: &HostInventory,
    plan: &Plan,
    options: &Options,
    progress: &mut dyn FnMut(&str),
) -> Result<BenchResult, BenchError> {
    let seats: Vec<(&SeatPlan, Devices)> = plan
        .seats
        .iter()
        .map(|seat| (seat, Devices::of(seat, inventory)))
        .filter(|(_, devices)| !devices.slots.is_empty())
        .collect();
    let Some((_, first)) = seats.first() else { return Err(BenchError::NoSeat) };
    let kernels = seats.iter().map(|(seat, _)| kernel(seat)).collect::<Result<Vec<&Path>, _>>()?;
    let names: Vec<&str> = seats.iter().map(|(seat, _)| seat.name.as_str()).collect();
    let mut result = BenchResult::default();
    for (lap, rounds) in laps(options.rounds.max(1), options.laps.max(1)).into_iter().enumerate() {
        let measure = Measure {
            workloads: &options.workloads,
            rounds,
            seconds: options.seconds.max(1),
            peer: options.peer,
        };
        result.add(rounds::native(&measure, first, progress)?);
        progress(&format!("claiming the devices of {}", names.join(", ")));
        take(system, plan, &names, options)?;
        let mut engines = options.engines.clone();
        if lap % 2 == 1 {
            engines.reverse();
        }
        let measured = engines.iter().try_for_each(|engine| {
            let run = Run { engine: *engine, measure, seats: &seats, kernels: &kernels, options };
            [1, seats.len()][..seats.len().min(2)]
                .iter()
                .try_for_each(|count| run.seats_at_once(*count, &mut result, progress))
        });
        progress("giving the devices back");
        let given_back = give_back(system, &names, options);
        measured.and(given_back)?;
    }
    Ok(result)
}

/// Splits rounds into laps, the first of them longer by one where it does not come out even.
fn laps(rounds: u32, laps: u32) -> Vec<u32> {
    let length = |lap| rounds / laps + u32::from(lap < rounds % laps);
    (0..laps).map(length).filter(|rounds| *rounds > 0).collect()
}

/// One engine's part of a lap.
struct Run<'a> {
    engine: Engine,
    measure: Measure<'a>,
    seats: &'a [(&'a SeatPlan, Devices)],
    kernels: &'a [&'a Path],
    options: &'a Options,
}

impl Run<'_> {
    /// Starts the first `count` seats, measures in all of them at once, and powers them off.
    fn seats_at_once(
        &self,
        count: usize,
        result: &mut BenchResult,
        progress: &mut dyn FnMut(&str),
    ) -> Result<(), BenchError> {
        let condition = if count == 1 { Condition::OneSeat } else { Condition::AllSeats };
        let mut places = Vec::new();
        for ((seat, devices), kernel) in self.seats.iter().zip(self.kernels).take(count) {
            progress(&format!("{} starts {}", self.engine.name(), seat.name));
            let disk = self.options.disk.as_deref();
            let boot = Boot { kernel, initrd: &self.options.initrd, disk, allod: &self.options.allod };
            places.push(start(seat, devices, &engine::command(self.engine, seat, devices, &boot))?);
        }
        result.add(rounds::in_seats(&self.measure, condition, self.engine, &mut places, progress)?);
        for place in places {
            let Place { seat, guest, .. } = place;
            guest.power_off().map_err(|error| BenchError::Guest { seat, error })?;
        }
        Ok(())
    }
}

fn kernel(seat: &SeatPlan) -> Result<&Path, BenchError> {
    match &seat.start {
        SeatStart::Kernel(kernel) => Ok(&kernel.image),
        SeatStart::Firmware(_) => Err(BenchError::NoKernel { seat: seat.name.clone() }),
    }
}

fn start(seat: &SeatPlan, devices: &Devices, words: &[std::ffi::OsString]) -> Result<Place, BenchError> {
    let failed = |error| BenchError::Guest { seat: seat.name.clone(), error };
    let mut guest = Guest::start(words).map_err(failed)?;
    guest.await_ready(BOOT_LIMIT).map_err(failed)?;
    Ok(Place { seat: seat.name.clone(), devices: devices.clone(), guest })
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
