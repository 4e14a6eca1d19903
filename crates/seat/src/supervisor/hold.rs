//! What a supervisor holds for its seat: the seat's name and folder, and its claim on the host.
//!
//! Not here: changing the host (`host::claim`).

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::{Duration, Instant};

use host::claim::{self, ReleaseError, TakeError, TakeRequest, Watcher};
use host::ledger::{Ledger, LedgerError};
use host::recovery;
use host::system::{RunningSystem, System};
use linux::event::Signals;
use spec::ledger::{Keeper, ProcessMark};
use spec::plan::ClaimedFunction;
use spec::{SeatEnding, SeatOrder};

use super::record::Record;
use super::{SuperviseError, place};
use crate::cgroup::{self, Cgroup};
use crate::places::{Places, SeatPlaces};

/// How long another caller may keep the ledger before a seat gives up.
const LEDGER_TIME: Duration = Duration::from_secs(120);
/// How often it is asked for.
const LEDGER_STEP: Duration = Duration::from_millis(20);

pub(super) struct Hold {
    system: RunningSystem,
    ledger: std::path::PathBuf,
    places: SeatPlaces,
    name: String,
    /// What the ledger tells others who come meanwhile.
    who: String,
    claimed: bool,
    functions: Vec<ClaimedFunction>,
    _lock: File,
}

impl Hold {
    /// Takes the seat's name and makes its folders; nothing of the host.
    pub(super) fn new(all: &Places, order: &SeatOrder) -> Result<Self, SuperviseError> {
        let places = all.seat(&order.seat);
        let lock = lock(&places, &order.seat)?;
        let system = RunningSystem::open()
            .map_err(|error| place("read the host", std::io::Error::other(error.to_string())))?;
        // Whatever is there is left from one that was killed, and whoever holds the lock may clear it.
        let _ = std::fs::remove_dir_all(places.folder());
        Cgroup::of(Path::new(cgroup::ROOT), &order.seat).remove().map_err(|error| {
            place(&error.to_string(), std::io::Error::other("a process of an earlier start"))
        })?;
        make(places.folder(), 0o755)?;
        make(places.kept(), 0o700)?;
        Ok(Self {
            system,
            ledger: all.state.clone(),
            places,
            name: order.seat.clone(),
            who: format!("allod, for seat {}", order.seat),
            claimed: false,
            functions: Vec::new(),
            _lock: lock,
        })
    }

    /// This process.
    pub(super) fn process(&self) -> ProcessMark {
        self.system.process()
    }

    /// Another process, as it is known from now on.
    pub(super) fn mark(&self, pid: u32) -> Option<ProcessMark> {
        let start = host::system::start_of(self.system.tree(), pid)?;
        Some(ProcessMark { pid, start })
    }

    /// The functions of the claim.
    pub(super) fn functions(&self) -> &[ClaimedFunction] {
        &self.functions
    }

    /// Takes what the plan gives the seat; on failure nothing of it is left, or the ledger knows what.
    pub(super) fn claim(
        &mut self,
        order: &SeatOrder,
        record: &mut Record,
        signals: &Signals,
    ) -> Result<(), SeatEnding> {
        let failed = |message: String| SeatEnding::NotStarted { message };
        let mut ledger =
            self.open(|| record.is_cancelled() || signals.next().is_some()).map_err(|error| match error {
                None => SeatEnding::Abandoned,
                Some(error) => failed(error.to_string()),
            })?;
        recovery::recover(&self.system, &mut ledger, record).map_err(|error| failed(error.to_string()))?;
        let keeper = Keeper::Process(self.system.process());
        let shared = TakeRequest::shared(&order.plan, keeper.clone())
            .filter(|shared| ledger.book().claim(&shared.name).is_none());
        if let Some(shared) = &shared {
            let _ = claim::take(&self.system, &mut ledger, shared, record).map_err(why)?;
        }
        let own = TakeRequest::seat(&order.plan, &self.name, keeper)
            .ok_or_else(|| failed(format!("the plan has no seat `{}`", self.name)))?;
        match claim::take(&self.system, &mut ledger, &own, record) {
            Ok(claim) => {
                self.functions = claim.record().functions.clone();
                self.claimed = true;
                Ok(())
            }
            Err(error) => {
                if let Some(shared) = shared
                    && let Err(error) = claim::release(&self.system, &mut ledger, &shared.name, record)
                {
                    record.debts.push(error.to_string());
                }
                Err(why(error))
            }
        }
    }

    /// Gives the claim back; what cannot be is in the record, and the ledger keeps it for the next start.
    pub(super) fn release(&mut self, record: &mut Record) {
        if !std::mem::take(&mut self.claimed) {
            return;
        }
        let released = match self.open(|| false) {
            Ok(mut ledger) => claim::release(&self.system, &mut ledger, &self.name, record),
            Err(Some(error)) => Err(ReleaseError::Ledger(error)),
            Err(None) => return,
        };
        if let Err(error) = released {
            record.debts.push(error.to_string());
            record.note(&error.to_string());
        }
    }

    /// Opens the ledger, when other callers let it go; no error means that waiting was given up.
    fn open(&self, given_up: impl Fn() -> bool) -> Result<Ledger, Option<LedgerError>> {
        let end = Instant::now() + LEDGER_TIME;
        loop {
            match Ledger::open(&self.ledger, &self.who) {
                Err(LedgerError::Busy { .. }) if given_up() => return Err(None),
                Err(LedgerError::Busy { .. }) if Instant::now() < end => std::thread::sleep(LEDGER_STEP),
                opened => return opened.map_err(Some),
            }
        }
    }

    /// Removes what others would take for a living seat.
    pub(super) fn leave(&self) {
        // What stays is cleared by the next one of this name.
        let _ = std::fs::remove_dir_all(self.places.folder());
    }
}

fn why(error: TakeError) -> SeatEnding {
    match error {
        TakeError::Cancelled { debts } if debts.is_empty() => SeatEnding::Abandoned,
        error => SeatEnding::NotStarted { message: error.to_string() },
    }
}

fn make(folder: &Path, mode: u32) -> Result<(), SuperviseError> {
    let made = DirBuilder::new().recursive(true).mode(mode).create(folder);
    made.map_err(|error| place(&format!("make the folder {}", folder.display()), error))
}

fn lock(places: &SeatPlaces, name: &str) -> Result<File, SuperviseError> {
    let path = places.lock();
    make(path.parent().unwrap_or(&path), 0o755)?;
    let mut options = OpenOptions::new();
    let opened = options.write(true).create(true).truncate(false).open(&path);
    let file = opened.map_err(|error| place(&format!("open {}", path.display()), error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(SuperviseError::Runs(name.to_owned())),
        Err(TryLockError::Error(error)) => Err(place(&format!("lock {}", path.display()), error)),
    }
}
