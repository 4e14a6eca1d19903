//! Takes what a plan gives to a seat, and gives it back: step by step, each written down before it is made.
//!
//! Called by `seat`, by `allod claim` and `release`, and by trials. Not here: which functions (the planner), the files
//! of the ledger, and what is done about a claim whose process died (`recovery`).

mod describe;
mod expand;
mod make;
pub(crate) mod place;
mod port;
mod request;
mod undo;
mod unwind;

use std::time::{Duration, Instant};

use linux::sysfs::Tree;
use spec::PciAddress;
use spec::inventory::PciId;
use spec::ledger::{Change, Ending, Keeper, LedgerEvent};
use spec::plan::{ClaimRecord, ClaimedFunction, StepAction};

use crate::ledger::{Debt, Ledger, LedgerError};
use crate::system::System;

pub use describe::{making, undoing};
pub use request::TakeRequest;
pub use unwind::unwind;

/// Functions that belong to a claim, from a successful [`take`] until [`Claim::release`].
///
/// Dropping it changes nothing on the host: the ledger knows the claim, and the next start gives it back when its
/// keeper is gone.
#[must_use = "a claim stands until it is released; dropping it leaves that to the next start"]
#[derive(Debug)]
pub struct Claim {
    record: ClaimRecord,
}

/// A step that was made or undone, for progress.
#[derive(Clone, Debug)]
pub struct StepReport {
    /// What was done, in words: `unbind 0000:01:00.0 from nvme`.
    pub what: String,
    /// Whether it was undoing.
    pub undo: bool,
    /// How long it took, with writing it down.
    pub took: Duration,
    /// Why it could not be done.
    pub failed: Option<String>,
}

/// Who watches steps being made and undone.
pub trait Watcher {
    /// Hears of a step that is over.
    fn step(&mut self, report: &StepReport);

    /// Whether taking should stop and be undone; asked before each step.
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// Nobody watches.
impl Watcher for () {
    fn step(&mut self, _: &StepReport) {}
}

/// Why a claim could not be taken. Unless it says otherwise, all is as it was.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// A claim of this name stands.
    #[error("`{name}` stands already; give it back first: allod release {name}")]
    Stands {
        /// The name.
        name: String,
    },
    /// A function belongs to another claim.
    #[error("{function} belongs to `{owner}`; end that first")]
    Claimed {
        /// The function.
        function: PciAddress,
        /// Who has it.
        owner: String,
    },
    /// The claim that this one needs does not stand.
    #[error("`{name}` does not stand, and what it holds is needed")]
    NoGround {
        /// The claim that is missing.
        name: String,
    },
    /// Another device is at the address.
    #[error("{function} is {found} now and not {planned}: the cards were changed; plan again")]
    OtherDevice {
        /// The address.
        function: PciAddress,
        /// The ids there now.
        found: String,
        /// The ids in the plan.
        planned: String,
    },
    /// Whoever watches asked to stop.
    #[error("stopped as asked{}", after(.debts))]
    Cancelled {
        /// What could not be undone.
        debts: Vec<Debt>,
    },
    /// A step could not be made.
    #[error("cannot {what}: {why}{}", after(.debts))]
    Step {
        /// The step.
        what: String,
        /// Why not.
        why: String,
        /// What could not be undone.
        debts: Vec<Debt>,
    },
    /// The ledger could not be written.
    #[error("{error}{}", after(.debts))]
    Ledger {
        /// The error.
        #[source]
        error: LedgerError,
        /// What could not be undone.
        debts: Vec<Debt>,
    },
}

fn after(debts: &[Debt]) -> String {
    match debts {
        [] => "; everything is as it was".to_owned(),
        [debt, ..] => format!(
            "; {} of the steps before could not be undone, the first: {}: {}; the next start of allod tries again",
            debts.len(),
            undoing(&debt.change),
            debt.reason
        ),
    }
}

/// Why a claim could not be given back whole.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// There is no such claim.
    #[error("there is no claim `{name}`; `allod claims` lists those there are")]
    Unknown {
        /// The name.
        name: String,
    },
    /// Other claims need it.
    #[error("`{by}` needs what `{name}` holds; end that first")]
    Needed {
        /// The claim.
        name: String,
        /// Who needs it.
        by: String,
    },
    /// Some changes could not be undone; the ledger keeps them.
    #[error("{} of the changes could not be undone; the next start of allod tries again:\n{}", .debts.len(), list(.debts))]
    Debts {
        /// Those.
        debts: Vec<Debt>,
    },
    /// The ledger could not be written.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

fn list(debts: &[Debt]) -> String {
    let lines: Vec<String> =
        debts.iter().map(|debt| format!("  - {}: {}", undoing(&debt.change), debt.reason)).collect();
    lines.join("\n")
}

/// Takes what `request` asks for. Every change is in the ledger, on disk, before it is made; when one fails, those
/// before it are undone.
///
/// # Errors
///
/// Why not. All is as it was, or the error names what is still owed.
pub fn take(
    system: &dyn System,
    ledger: &mut Ledger,
    request: &TakeRequest,
    watcher: &mut dyn Watcher,
) -> Result<Claim, TakeError> {
    check(system.tree(), ledger, request)?;
    let opened = LedgerEvent::Open {
        kind: request.kind,
        boot: system.boot(),
        functions: request.functions.clone(),
        cpus: request.cpus.clone(),
        rests_on: request.rests_on.clone(),
    };
    let bare = |error| TakeError::Ledger { error, debts: Vec::new() };
    ledger.append(system.now(), &request.name, opened).map_err(bare)?;
    let mut taking = Taking { system, ledger, name: &request.name, watcher, next: 0 };
    let made = taking.all(&request.steps).and_then(|()| {
        let keeper = request.keeper.clone();
        taking.write(LedgerEvent::Taken { keeper })
    });
    if let Err(failure) = made {
        let debts = unwind(system, ledger, &request.name, watcher, Ending::NotTaken);
        let debts = debts.unwrap_or_else(|error| unwritten(ledger, &request.name, &error));
        return Err(failure.with(debts));
    }
    let record = ledger.book().claim(&request.name).map(|entry| entry.record.clone());
    // The lines above made it; a book that lost it would be a bug of ours, and the next start gives it back.
    record.map(|record| Claim { record }).ok_or_else(|| TakeError::NoGround { name: request.name.clone() })
}

/// Gives the claim `name` back: undoes its changes in reverse, resetting each function before its old driver gets it.
///
/// # Errors
///
/// What could not be undone stays in the ledger as a debt.
pub fn release(
    system: &dyn System,
    ledger: &mut Ledger,
    name: &str,
    watcher: &mut dyn Watcher,
) -> Result<(), ReleaseError> {
    let entry = ledger.book().claim(name).ok_or_else(|| ReleaseError::Unknown { name: name.to_owned() })?;
    let ground = entry.rests_on.clone();
    if let Some(by) = ledger.book().resting_on(name).next() {
        return Err(ReleaseError::Needed { name: name.to_owned(), by: by.record.seat.clone() });
    }
    ledger.append(system.now(), name, LedgerEvent::Release)?;
    let mut debts = unwind(system, ledger, name, watcher, Ending::Released)?;
    if let Some(ground) = ground.filter(|_| debts.is_empty()) {
        debts = release_ground(system, ledger, &ground, watcher)?;
    }
    if debts.is_empty() { Ok(()) } else { Err(ReleaseError::Debts { debts }) }
}

/// Makes `change` for a claim that stands, does something, and undoes it; both are written down as for any other step.
pub(crate) fn with_change<R>(
    system: &dyn System,
    ledger: &mut Ledger,
    name: &str,
    change: &Change,
    act: impl FnOnce() -> R,
) -> Result<R, String> {
    let text = |error: LedgerError| error.to_string();
    let last = ledger.book().claim(name).and_then(|entry| entry.steps.last().map(|step| step.number));
    let step = last.map_or(0, |number| number + 1);
    ledger.append(system.now(), name, LedgerEvent::Intend { step, change: change.clone() }).map_err(text)?;
    let made = make::make(system, change);
    let result =
        made.map(|()| act()).map_err(|(make::NotMade::Surely(why) | make::NotMade::Perhaps(why))| why);
    // What cannot be undone now stays written down, and is undone with the rest of the claim.
    undo::undo(system, change, false)?;
    ledger.append(system.now(), name, LedgerEvent::Undone { step, note: None }).map_err(text)?;
    result
}

/// Gives back what several claims share once none of them stands any more. The answer is what is owed.
pub(crate) fn release_ground(
    system: &dyn System,
    ledger: &mut Ledger,
    ground: &str,
    watcher: &mut dyn Watcher,
) -> Result<Vec<Debt>, LedgerError> {
    if ledger.book().claim(ground).is_none() || ledger.book().resting_on(ground).next().is_some() {
        return Ok(Vec::new());
    }
    ledger.append(system.now(), ground, LedgerEvent::Release)?;
    unwind(system, ledger, ground, watcher, Ending::Released)
}

impl Claim {
    /// What it holds.
    pub fn record(&self) -> &ClaimRecord {
        &self.record
    }

    /// The addresses of its functions; those of virtual functions among them.
    pub fn addresses(&self) -> Vec<PciAddress> {
        self.record.functions.iter().map(|function| function.address).collect()
    }

    /// Takes a claim that stands into this process's hands, for example to give it back.
    pub fn standing(ledger: &Ledger, name: &str) -> Option<Self> {
        let entry = ledger.book().claim(name)?;
        Some(Self { record: entry.record.clone() })
    }

    /// Names another keeper: from now on the claim stands as long as that one does.
    ///
    /// # Errors
    ///
    /// The ledger could not be written, and the old keeper stays.
    pub fn keep(&self, system: &dyn System, ledger: &mut Ledger, keeper: Keeper) -> Result<(), LedgerError> {
        ledger.append(system.now(), &self.record.seat, LedgerEvent::Kept { keeper })
    }

    /// Gives it back, as [`release`].
    ///
    /// # Errors
    ///
    /// As [`release`].
    pub fn release(
        self,
        system: &dyn System,
        ledger: &mut Ledger,
        watcher: &mut dyn Watcher,
    ) -> Result<(), ReleaseError> {
        release(system, ledger, &self.record.seat, watcher)
    }
}

/// Looks for what stands in the way before anything is written or changed.
fn check(tree: &dyn Tree, ledger: &Ledger, request: &TakeRequest) -> Result<(), TakeError> {
    let book = ledger.book();
    if book.claim(&request.name).is_some() {
        return Err(TakeError::Stands { name: request.name.clone() });
    }
    if let Some(ground) = request.rests_on.as_ref().filter(|ground| book.claim(ground).is_none()) {
        return Err(TakeError::NoGround { name: ground.clone() });
    }
    for function in &request.functions {
        let has =
            |record: &&ClaimRecord| record.functions.iter().any(|held| held.address == function.address);
        if let Some(owner) = book.claims().map(|entry| &entry.record).find(has) {
            return Err(TakeError::Claimed { function: function.address, owner: owner.seat.clone() });
        }
        is_planned(tree, function)?;
    }
    Ok(())
}

/// The plan holds for the device it was made for, not for whatever is at the address.
fn is_planned(tree: &dyn Tree, function: &ClaimedFunction) -> Result<(), TakeError> {
    let directory = place::function(function.address);
    let id = |name: &str| tree.text(&format!("{directory}/{name}")).ok()?.parse::<PciId>().ok();
    let identity = &function.identity;
    let (vendor, device) = (id("vendor"), id("device"));
    if (vendor, device) == (Some(identity.vendor), Some(identity.device)) {
        return Ok(());
    }
    let found = match (vendor, device) {
        (Some(vendor), Some(device)) => format!("{vendor}:{device}"),
        _ => "no device".to_owned(),
    };
    let planned = format!("{}:{}", identity.vendor, identity.device);
    Err(TakeError::OtherDevice { function: function.address, found, planned })
}

/// Taking under way.
struct Taking<'a> {
    system: &'a dyn System,
    ledger: &'a mut Ledger,
    name: &'a str,
    watcher: &'a mut dyn Watcher,
    next: u32,
}

/// Why taking ended before all was taken.
enum Failure {
    Cancelled,
    Step { what: String, why: String },
    Ledger(LedgerError),
}

impl Failure {
    fn with(self, debts: Vec<Debt>) -> TakeError {
        match self {
            Self::Cancelled => TakeError::Cancelled { debts },
            Self::Step { what, why } => TakeError::Step { what, why, debts },
            Self::Ledger(error) => TakeError::Ledger { error, debts },
        }
    }
}

impl Taking<'_> {
    fn all(&mut self, steps: &[StepAction]) -> Result<(), Failure> {
        // Before anything else: nothing is lost yet when it fails.
        if expand::lacks_assignment_driver(self.system.tree(), steps) {
            self.one(Change::LoadModule { module: place::ASSIGNMENT_DRIVER.to_owned() })?;
        }
        for action in steps {
            let refused = |why| Failure::Step { what: format!("go on with {}", request::words(action)), why };
            for change in expand::expand(self.system, action).map_err(refused)? {
                self.one(change)?;
            }
            for change in expand::afterwards(self.system.tree(), action).map_err(refused)? {
                self.one(change)?;
            }
            if let Some(function) = request::made_by(self.system.tree(), action) {
                self.write(LedgerEvent::Has { function })?;
            }
        }
        Ok(())
    }

    fn one(&mut self, change: Change) -> Result<(), Failure> {
        if self.watcher.is_cancelled() {
            return Err(Failure::Cancelled);
        }
        let begin = Instant::now();
        let step = self.next;
        self.next += 1;
        self.write(LedgerEvent::Intend { step, change: change.clone() })?;
        let made = make::make(self.system, &change);
        let what = making(&change);
        let failed = match &made {
            Ok(()) => None,
            Err(make::NotMade::Surely(why) | make::NotMade::Perhaps(why)) => Some(why.clone()),
        };
        let report =
            StepReport { what: what.clone(), undo: false, took: begin.elapsed(), failed: failed.clone() };
        self.watcher.step(&report);
        if matches!(made, Err(make::NotMade::Surely(_))) {
            self.write(LedgerEvent::Undone { step, note: failed.clone() })?;
        }
        failed.map_or(Ok(()), |why| Err(Failure::Step { what, why }))
    }

    fn write(&mut self, event: LedgerEvent) -> Result<(), Failure> {
        self.ledger.append(self.system.now(), self.name, event).map_err(Failure::Ledger)
    }
}

/// When the ledger cannot be written, all that it says stands is owed.
fn unwritten(ledger: &Ledger, name: &str, error: &LedgerError) -> Vec<Debt> {
    let Some(entry) = ledger.book().claim(name) else { return Vec::new() };
    let owed =
        |change: &Change| Debt { claim: name.to_owned(), change: change.clone(), reason: error.to_string() };
    entry.standing_steps().map(|step| owed(&step.change)).collect()
}

#[cfg(test)]
mod tests;
