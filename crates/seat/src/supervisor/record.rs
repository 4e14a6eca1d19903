//! What a supervisor lets others know: its state on disk, its events to those who listen, its report.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use host::claim::{StepReport, Watcher};
use spec::ledger::ProcessMark;
use spec::plan::SeatPlan;
use spec::{
    ExitReport, SEAT_LIFE_SCHEMA_VERSION, SeatEnding, SeatEvent, SeatReport, SeatRequest, SeatState,
    SeatStatus, SeatStep,
};

use super::clients::Clients;
use super::log::Log;
use super::starter::Starter;
use crate::documents;
use crate::places::SeatPlaces;

/// How long the last words to slow listeners may take.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How often that is tried.
const LAST_STEP: Duration = Duration::from_millis(10);

/// The record.
pub(super) struct Record {
    pub(super) seat: SeatPlan,
    pub(super) starter: Starter,
    pub(super) requests: Clients,
    pub(super) machine_log: Log,
    pub(super) machine_report: Option<ExitReport>,
    pub(super) status: SeatStatus,
    pub(super) debts: Vec<String>,
    path: std::path::PathBuf,
}

impl Record {
    pub(super) fn new(
        places: &SeatPlaces,
        seat: SeatPlan,
        supervisor: ProcessMark,
        starter: Starter,
        requests: Clients,
        machine_log: Log,
    ) -> Self {
        let status = SeatStatus {
            schema_version: SEAT_LIFE_SCHEMA_VERSION,
            name: seat.name.clone(),
            state: SeatState::Claiming,
            supervisor,
            machine: None,
            user: None,
            cgroup: None,
            since: now(),
            plan: seat.clone(),
            functions: Vec::new(),
            steps: Vec::new(),
        };
        let path = places.status();
        Self { seat, starter, requests, machine_log, machine_report: None, status, debts: Vec::new(), path }
    }

    /// Another state.
    pub(super) fn enter(&mut self, state: SeatState) {
        self.status.state = state;
        self.write();
        self.tell(&SeatEvent::State { state });
    }

    /// Something was done.
    pub(super) fn step(&mut self, what: &str, took: Duration) {
        let step =
            SeatStep { what: what.to_owned(), ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX) };
        self.status.steps.push(step.clone());
        self.tell(&SeatEvent::Step(step));
    }

    /// Something that people should know.
    pub(super) fn note(&mut self, text: &str) {
        self.tell(&SeatEvent::Note { text: text.to_owned() });
    }

    pub(super) fn tell(&mut self, event: &SeatEvent) {
        let line = serde_json::to_string(event).unwrap_or_default() + "\n";
        self.starter.tell(line.as_bytes());
        self.requests.send(line.as_bytes());
    }

    /// Keeps the status on disk true.
    pub(super) fn write(&mut self) {
        let text = serde_json::to_string_pretty(&self.status).unwrap_or_default() + "\n";
        if let Err(error) = documents::replace(&self.path, text.as_bytes()) {
            // The seat itself does not depend on it.
            eprintln!("allod: the seat's status cannot be written: {error}");
        }
    }

    /// Takes in somebody who wants to listen or ask.
    pub(super) fn accept(&mut self) {
        let line =
            serde_json::to_string(&SeatEvent::State { state: self.status.state }).unwrap_or_default() + "\n";
        self.requests.accept(line.as_bytes());
    }

    /// What a client asks for.
    pub(super) fn request(&mut self, index: usize) -> Option<SeatRequest> {
        let line = self.requests.serve(index).and_then(super::clients::Client::line);
        let request = line.and_then(|line| serde_json::from_slice(&line).ok());
        self.requests.sweep();
        request
    }

    pub(super) fn drain_errors(&mut self, text: Vec<u8>) {
        self.machine_log.write(&text);
    }

    pub(super) fn report(&mut self, ending: SeatEnding) -> SeatReport {
        SeatReport {
            schema_version: SEAT_LIFE_SCHEMA_VERSION,
            seat: self.seat.name.clone(),
            ending,
            began: self.status.since,
            ended: now(),
            machine: self.machine_report.take(),
            debts: std::mem::take(&mut self.debts),
            steps: std::mem::take(&mut self.status.steps),
        }
    }

    /// Lets slow listeners have the last words.
    pub(super) fn flush_for_good(&mut self) {
        let end = Instant::now() + LAST_WORDS;
        while self.requests.streams().any(|(_, waiting)| waiting) && Instant::now() < end {
            std::thread::sleep(LAST_STEP);
            self.requests.flush();
            self.requests.sweep();
        }
    }
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// Tells of the steps of a claim.
impl Watcher for Record {
    fn step(&mut self, report: &StepReport) {
        let what = match &report.failed {
            Some(why) => format!("{}: {why}", report.what),
            None => report.what.clone(),
        };
        Self::step(self, &what, report.took);
    }

    fn is_cancelled(&self) -> bool {
        self.starter.is_gone()
    }
}
