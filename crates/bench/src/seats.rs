//! Seats as places to measure: one machine or several at once, each with its devices.

use crate::devices::Devices;
use crate::engine::{self, Boot};
use crate::guest::{Guest, GuestError};
use crate::journal::Figure;
use crate::leg::{Ground, Trouble};
use crate::result::Engine;
use crate::run::Options;
use crate::workload::{Measure, Workload};
use spec::plan::SeatPlan;
use std::path::Path;
use std::time::Duration;

/// How long a guest may take to boot; in the lab two boot on one emulated processor.
const BOOT_LIMIT: Duration = Duration::from_secs(180);
/// How long a round may take beyond what it is asked for: several guests may share one processor.
const ROUND_GRACE: Duration = Duration::from_secs(60);

/// A seat of the plan with what it has and what it boots.
#[derive(Clone, Debug)]
pub(crate) struct Seat<'a> {
    pub(crate) plan: &'a SeatPlan,
    pub(crate) devices: Devices,
    pub(crate) kernel: &'a Path,
}

/// Seats under one engine.
pub(crate) struct Seats<'a> {
    engine: Engine,
    seats: &'a [Seat<'a>],
    options: &'a Options<'a>,
    /// A guest for each seat once they are started.
    guests: Vec<Guest<'a>>,
}

impl<'a> Seats<'a> {
    /// Makes a ground of seats that are yet to be started.
    pub(crate) fn new(engine: Engine, seats: &'a [Seat<'a>], options: &'a Options<'a>) -> Self {
        Self { engine, seats, options, guests: Vec::new() }
    }

    /// Powers all guests off; says what went wrong with which.
    pub(crate) fn end(self) -> Vec<String> {
        let name = |seat: &Seat| seat.plan.name.clone();
        let ended = self.seats.iter().zip(self.guests).map(|(seat, guest)| (name(seat), guest.power_off()));
        ended.filter_map(|(name, ended)| ended.err().map(|error| format!("seat `{name}`: {error}"))).collect()
    }

    fn boot(&self, number: usize) -> Result<Guest<'a>, GuestError> {
        let Seat { plan, devices, kernel } = &self.seats[number];
        let Options { initrd, disk, allod, interrupt, .. } = self.options;
        let boot = Boot { kernel, initrd, disk: disk.as_deref(), allod };
        let mut guest = Guest::start(&engine::command(self.engine, plan, devices, &boot), *interrupt)?;
        guest.await_ready(BOOT_LIMIT)?;
        let measure = self.options.measure();
        let measure = Measure { peer: measure.peer.map(|peer| peer.of_place(number)), ..measure };
        guest.begin(&devices.guest_setup(measure))?;
        guest.finish(self.limit())?;
        Ok(guest)
    }

    fn limit(&self) -> Duration {
        self.options.measure().longest() + ROUND_GRACE
    }
}

fn lost(seat: &Seat, error: &GuestError) -> Trouble {
    match error {
        GuestError::Interrupted => Trouble::Interrupted,
        error => Trouble::Failed { why: format!("seat `{}`: {error}", seat.plan.name), lost: true },
    }
}

impl Ground for Seats<'_> {
    fn start(&mut self) -> Result<(), Trouble> {
        // Those of before are ended first: their devices are wanted.
        self.guests.clear();
        for (number, seat) in self.seats.iter().enumerate() {
            let guest = self.boot(number).map_err(|error| lost(seat, &error))?;
            self.guests.push(guest);
        }
        Ok(())
    }

    /// Begins everywhere before anything is awaited anywhere.
    fn measure(&mut self, workload: &Workload) -> Result<Vec<Figure>, Trouble> {
        let (limit, peer) = (self.limit(), self.options.peer.is_some());
        let suited: Vec<bool> = self.seats.iter().map(|seat| seat.devices.suit(workload, peer)).collect();
        for ((seat, guest), suited) in self.seats.iter().zip(&mut self.guests).zip(&suited) {
            if *suited {
                guest.begin(&workload.line()).map_err(|error| lost(seat, &error))?;
            }
        }
        let mut said = Vec::new();
        for ((seat, guest), suited) in self.seats.iter().zip(&mut self.guests).zip(&suited) {
            if *suited {
                said.push((seat, guest.finish(limit).map_err(|error| lost(seat, &error))?));
            }
        }
        // Read when all are done: a guest that is still at it would answer the next question with this one's figure.
        let figure = |(seat, said): (&Seat, Vec<String>)| {
            let figure = workload.figure(&said, &format!("in seat `{}`", seat.plan.name))?;
            Ok(Figure { seat: Some(seat.plan.name.clone()), figure })
        };
        said.into_iter().map(figure).collect()
    }
}
