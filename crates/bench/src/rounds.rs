//! Rounds of all workloads at one place or at several at once, in step.

use crate::devices::{Devices, Peer};
use crate::guest::{Guest, GuestError};
use crate::native;
use crate::result::{Condition, Engine, Series};
use crate::run::BenchError;
use crate::workload::{Workload, reading};
use std::time::Duration;

/// How long a round may take beyond what it is asked for: several guests may share one processor.
const ROUND_GRACE: Duration = Duration::from_secs(60);

/// What is measured how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measure<'a> {
    pub(crate) workloads: &'a [&'static Workload],
    pub(crate) rounds: u32,
    pub(crate) seconds: u32,
    pub(crate) peer: Option<Peer>,
}

impl Measure<'_> {
    /// Returns the workloads that make sense with the devices.
    fn suitable(&self, devices: &Devices) -> impl Iterator<Item = &'static Workload> {
        self.workloads.iter().copied().filter(|workload| devices.suit(workload, self.peer.is_some()))
    }
}

/// A seat's guest with what it has.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) seat: String,
    pub(crate) devices: Devices,
    pub(crate) guest: Guest,
}

/// A workload as a line for a shell: all it says behind its name, its figure too.
fn line(workload: &Workload) -> String {
    format!("{{ {}; }} 2>&1 | sed 's/^/{}: /'", workload.script, workload.name)
}

/// Reads the one figure of a workload out of what was said.
fn figure(workload: &Workload, said: &[String], wherever: &str) -> Result<f64, BenchError> {
    let found =
        said.iter().rev().find_map(|line| reading(line).filter(|(read, _)| read.name == workload.name));
    found.map(|(_, figure)| figure).ok_or_else(|| BenchError::NoFigure {
        workload: workload.name,
        place: wherever.to_owned(),
        said: said.join("\n"),
    })
}

/// Runs the rounds on the host.
pub(crate) fn native(
    measure: &Measure,
    devices: &Devices,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Series>, BenchError> {
    let mut series = begun(measure, devices, Condition::Native, Engine::Host, None);
    let setup = devices.native_setup(measure.seconds, measure.peer);
    for round in 1..=measure.rounds {
        progress(&format!("native, round {round} of {}", measure.rounds));
        for (workload, series) in measure.suitable(devices).zip(&mut series) {
            let said = native::run(&format!("{setup}; {}", line(workload))).map_err(BenchError::Shell)?;
            series.rounds.push(figure(workload, &said, "on the host")?);
        }
    }
    Ok(series)
}

/// Runs the rounds in all places at once: each workload begins everywhere before it is awaited anywhere.
pub(crate) fn in_seats(
    measure: &Measure,
    condition: Condition,
    engine: Engine,
    places: &mut [Place],
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Series>, BenchError> {
    let limit = Duration::from_secs(measure.seconds.into()) + ROUND_GRACE;
    let of_guest = |place: &str| {
        let seat = place.to_owned();
        move |error: GuestError| BenchError::Guest { seat: seat.clone(), error }
    };
    for (number, place) in places.iter_mut().enumerate() {
        let failed = of_guest(&place.seat);
        let peer = measure.peer.map(|peer| peer.of_place(number));
        place.guest.begin(&place.devices.guest_setup(measure.seconds, peer)).map_err(&failed)?;
        place.guest.finish(limit).map_err(&failed)?;
    }
    let mut all: Vec<Vec<Series>> = places
        .iter()
        .map(|place| begun(measure, &place.devices, condition, engine, Some(&place.seat)))
        .collect();
    for round in 1..=measure.rounds {
        progress(&format!(
            "{}, {} at once, round {round} of {}",
            engine.name(),
            places.len(),
            measure.rounds
        ));
        for workload in measure.workloads {
            for place in
                places.iter_mut().filter(|place| place.devices.suit(workload, measure.peer.is_some()))
            {
                place.guest.begin(&line(workload)).map_err(of_guest(&place.seat))?;
            }
            for (place, series) in places.iter_mut().zip(&mut all) {
                let Some(series) = series.iter_mut().find(|series| series.workload == workload.name) else {
                    continue;
                };
                let said = place.guest.finish(limit).map_err(of_guest(&place.seat))?;
                series.rounds.push(figure(workload, &said, &place.seat)?);
            }
        }
    }
    Ok(all.into_iter().flatten().collect())
}

/// Returns a series without rounds for each workload that makes sense with the devices.
fn begun(
    measure: &Measure,
    devices: &Devices,
    condition: Condition,
    engine: Engine,
    seat: Option<&str>,
) -> Vec<Series> {
    let suitable = measure.suitable(devices);
    suitable
        .map(|workload| Series {
            workload: workload.name.to_owned(),
            condition,
            engine,
            seat: seat.map(str::to_owned),
            rounds: Vec::new(),
        })
        .collect()
}
