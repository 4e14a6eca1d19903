//! A whole run: native, then the seats' devices are claimed, one seat and all seats under each engine, then given back.

use crate::devices::Devices;
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
    /// Who runs the machines, one after the other.
    pub engines: Vec<Engine>,
    /// The RAM disk of a guest that does what its console is told.
    pub initrd: PathBuf,
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
        #[source]
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
    let measure = Measure {
        workloads: &options.workloads,
        rounds: options.rounds.max(1),
        seconds: options.seconds.max(1),
    };

    let mut result = BenchResult::default();
    result.series.extend(rounds::native(&measure, first, progress)?);

    let names: Vec<&str> = seats.iter().map(|(seat, _)| seat.name.as_str()).collect();
    progress(&format!("claiming the devices of {}", names.join(", ")));
    take(system, plan, &names, options)?;
    let measured = (|| {
        for engine in &options.engines {
            for (condition, count) in [(Condition::OneSeat, 1), (Condition::AllSeats, seats.len())] {
                if condition == Condition::AllSeats && count < 2 {
                    continue;
                }
                let mut places = Vec::new();
                for ((seat, devices), kernel) in seats.iter().zip(&kernels).take(count) {
                    progress(&format!("{} starts {}", engine.name(), seat.name));
                    let boot = Boot { kernel, initrd: &options.initrd, allod: &options.allod };
                    let words = engine::command(*engine, seat, devices, &boot);
                    places.push(start(seat, devices, &words)?);
                }
                let series = rounds::in_seats(&measure, condition, *engine, &mut places, progress)?;
                result.series.extend(series);
                for place in places {
                    let Place { seat, guest, .. } = place;
                    guest.power_off().map_err(|error| BenchError::Guest { seat, error })?;
                }
            }
        }
        Ok(())
    })();
    progress("giving the devices back");
    let given_back = give_back(system, &names, options);
    measured.and(given_back)?;
    Ok(result)
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
