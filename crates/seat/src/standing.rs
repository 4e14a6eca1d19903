//! The seats that live, as their supervisors keep them on disk, and those whose supervisor was killed.
//!
//! Not here: giving claims back (`host::recovery`).

use std::io::ErrorKind;
use std::path::Path;

use linux::sysfs::Tree;
use spec::ledger::ProcessMark;
use spec::{SEAT_LIFE_SCHEMA_VERSION, SeatEnding, SeatReport, SeatStatus};

use crate::cgroup::{self, Cgroup, CgroupError};
use crate::documents;
use crate::places::{Places, SeatPlaces};

/// More seats than one host has; a folder with more is not ours.
const MOST_SEATS: usize = 4096;

/// A seat that lives, or did when its supervisor was killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// As its supervisor left it on disk.
    pub status: SeatStatus,
    /// Whether its supervisor is gone, so that its claim waits to be given back.
    pub lost: bool,
}

/// The seats, by name.
///
/// # Errors
/// The folder cannot be read.
pub fn list(places: &Places, tree: &dyn Tree) -> std::io::Result<Vec<Standing>> {
    let entries = match std::fs::read_dir(places.seats()) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut seats = Vec::new();
    for entry in entries.take(MOST_SEATS) {
        if let Some(seat) =
            entry?.file_name().to_str().map(|name| find(places, tree, name)).transpose()?.flatten()
        {
            seats.push(seat);
        }
    }
    seats.sort_by(|one, other| one.status.name.cmp(&other.status.name));
    Ok(seats)
}

/// The seat `name`, if it lives or was lost.
///
/// # Errors
/// Its status cannot be read.
pub fn find(places: &Places, tree: &dyn Tree, name: &str) -> std::io::Result<Option<Standing>> {
    let status: Option<SeatStatus> = documents::read(&places.seat(name).status())?;
    Ok(status.map(|status| Standing { lost: !is_alive(tree, status.supervisor), status }))
}

/// The last report of the seat `name`.
///
/// # Errors
/// It cannot be read.
pub fn report(places: &Places, name: &str) -> std::io::Result<Option<SeatReport>> {
    documents::read(&places.seat(name).report())
}

fn is_alive(tree: &dyn Tree, process: ProcessMark) -> bool {
    host::system::start_of(tree, process.pid) == Some(process.start)
}

impl Standing {
    /// Clears a lost seat away: ends what is left of its machine and leaves the report that its supervisor could not. Its
    /// claim is given back by recovery, which is to come after this.
    ///
    /// # Errors
    /// A process that does not go.
    pub fn clear(&self, places: &Places, now: u64) -> Result<(), CgroupError> {
        let seat: SeatPlaces = places.seat(&self.status.name);
        // The machine ends with its supervisor by itself; this waits until it has.
        Cgroup::of(Path::new(cgroup::ROOT), &self.status.name).remove()?;
        let report = SeatReport {
            schema_version: SEAT_LIFE_SCHEMA_VERSION,
            seat: self.status.name.clone(),
            ending: SeatEnding::Lost,
            began: self.status.since,
            ended: now,
            machine: None,
            debts: Vec::new(),
            steps: self.status.steps.clone(),
        };
        let text = serde_json::to_string_pretty(&report).unwrap_or_default() + "\n";
        // Neither keeps the devices from going home.
        let _ = documents::replace(&seat.report(), text.as_bytes());
        let _ = std::fs::remove_dir_all(seat.folder());
        Ok(())
    }
}
