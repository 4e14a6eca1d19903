//! What the lines of the ledger add up to: the claims that stand, and what was changed for each.
//!
//! Pure: lines in, claims out. Lines that contradict each other cannot harm: every undo looks at the host first.

use std::collections::BTreeMap;

use spec::ledger::{Change, Keeper, LedgerEvent, LedgerLine};
use spec::plan::{ClaimRecord, ClaimState};

/// All claims that stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Book {
    claims: BTreeMap<String, ClaimEntry>,
}

/// One claim that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimEntry {
    /// The claim as the planner sees it.
    pub record: ClaimRecord,
    /// The host's start in which it was taken.
    pub boot: String,
    /// Who has to be there; none while it is being taken.
    pub keeper: Option<Keeper>,
    /// The claim that this one needs.
    pub rests_on: Option<String>,
    /// When it was begun, in seconds since 1970.
    pub since: u64,
    /// The changes, in the order in which they were made.
    pub steps: Vec<StepEntry>,
    lines: Vec<LedgerLine>,
}

/// One change of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepEntry {
    /// Its number within the claim.
    pub number: u32,
    /// The change.
    pub change: Change,
    /// What became of it.
    pub state: StepState,
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepState {
    /// Announced, so most likely made.
    Made,
    /// Undone.
    Undone,
    /// Could not be undone, and why not.
    Owed(String),
}

/// A change that could not be undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Debt {
    /// The claim.
    pub claim: String,
    /// The change.
    pub change: Change,
    /// Why it could not be undone.
    pub reason: String,
}

impl Book {
    /// The claim with this name.
    pub fn claim(&self, name: &str) -> Option<&ClaimEntry> {
        self.claims.get(name)
    }

    /// All claims by name.
    pub fn claims(&self) -> impl Iterator<Item = &ClaimEntry> {
        self.claims.values()
    }

    /// The claims that need the claim `name`.
    pub fn resting_on(&self, name: &str) -> impl Iterator<Item = &ClaimEntry> {
        self.claims.values().filter(move |entry| entry.rests_on.as_deref() == Some(name))
    }

    /// Every change that could not be undone.
    pub fn debts(&self) -> Vec<Debt> {
        let of_claim = |entry: &ClaimEntry| {
            let name = entry.record.seat.clone();
            let owed = entry.steps.iter().filter_map(move |step| match &step.state {
                StepState::Owed(reason) => {
                    let (claim, change) = (name.clone(), step.change.clone());
                    Some(Debt { claim, change, reason: reason.clone() })
                }
                _ => None,
            });
            owed.collect::<Vec<_>>()
        };
        self.claims.values().flat_map(of_claim).collect()
    }

    /// The lines that are needed to make this book again, claim by claim.
    pub(super) fn lines(&self) -> impl Iterator<Item = &LedgerLine> {
        let mut lines: Vec<&LedgerLine> = self.claims.values().flat_map(|entry| &entry.lines).collect();
        lines.sort_by_key(|line| line.number);
        lines.into_iter()
    }

    /// Adds what a line says.
    pub(super) fn apply(&mut self, line: &LedgerLine) {
        match &line.event {
            LedgerEvent::Open { kind, boot, functions, cpus, rests_on } => {
                let record = ClaimRecord {
                    seat: line.claim.clone(),
                    kind: *kind,
                    state: ClaimState::Taking,
                    functions: functions.clone(),
                    cpus: cpus.clone(),
                };
                let entry = ClaimEntry {
                    record,
                    boot: boot.clone(),
                    keeper: None,
                    rests_on: rests_on.clone(),
                    since: line.at,
                    steps: Vec::new(),
                    lines: vec![line.clone()],
                };
                self.claims.insert(line.claim.clone(), entry);
            }
            LedgerEvent::Close { .. } => {
                self.claims.remove(&line.claim);
            }
            event => {
                if let Some(entry) = self.claims.get_mut(&line.claim) {
                    entry.apply(event);
                    entry.lines.push(line.clone());
                }
            }
        }
    }
}

impl ClaimEntry {
    /// The changes that are not undone, the last one first.
    pub fn standing_steps(&self) -> impl Iterator<Item = &StepEntry> {
        self.steps.iter().rev().filter(|step| step.state != StepState::Undone)
    }

    fn apply(&mut self, event: &LedgerEvent) {
        match event {
            LedgerEvent::Has { function } => self.record.functions.push(function.clone()),
            LedgerEvent::Intend { step, change } => {
                let entry = StepEntry { number: *step, change: change.clone(), state: StepState::Made };
                self.steps.push(entry);
            }
            LedgerEvent::Taken { keeper } => {
                self.record.state = ClaimState::Taken;
                self.keeper = Some(keeper.clone());
            }
            LedgerEvent::Kept { keeper } => self.keeper = Some(keeper.clone()),
            LedgerEvent::Release => self.record.state = ClaimState::Releasing,
            LedgerEvent::Undone { step, .. } => self.settle(*step, StepState::Undone),
            LedgerEvent::Owe { step, reason } => {
                self.record.state = ClaimState::Debt;
                self.settle(*step, StepState::Owed(reason.clone()));
            }
            LedgerEvent::Open { .. } | LedgerEvent::Close { .. } => {}
        }
    }

    fn settle(&mut self, number: u32, state: StepState) {
        if let Some(step) = self.steps.iter_mut().find(|step| step.number == number) {
            step.state = state;
        }
    }
}
