//! What stands on this host from before: the state directory, its ledger opened for a change, progress on standard
//! error, and the exit statuses of everything that takes or gives back.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use host::claim::{ReleaseError, StepReport, TakeError, Watcher, undoing};
use host::ledger::{Ledger, LedgerError};
use host::recovery;
use host::system::RunningSystem;
use seat::places::Places;

/// A device or claim that is not there.
pub(crate) const NOT_FOUND: u8 = 4;
/// Not for this user.
pub(crate) const NOT_PERMITTED: u8 = 5;
/// Somebody else has it, or is at it.
pub(crate) const BUSY: u8 = 6;

/// The choice of the state directory.
#[derive(Debug, clap::Args)]
pub(crate) struct State {
    /// Where claims and trials are written down; without it ALLOD_STATE_DIR, else /var/lib/allod
    #[arg(long = "state", value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// The host and its ledger, open for a change.
pub(crate) struct Open {
    pub(crate) system: RunningSystem,
    pub(crate) ledger: Ledger,
}

/// An error of a verb with the exit status it ends in.
pub(crate) struct Ended {
    pub(crate) status: u8,
    pub(crate) error: anyhow::Error,
}

impl Ended {
    /// Ends with a status of its own.
    pub(crate) fn with(status: u8, error: impl Into<anyhow::Error>) -> Self {
        Self { status, error: error.into() }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Ended {
    fn from(error: E) -> Self {
        let error = error.into();
        let status = match () {
            () if is_busy(&error) => BUSY,
            () if is_refused(&error) => NOT_PERMITTED,
            () if matches!(error.downcast_ref(), Some(ReleaseError::Unknown { .. })) => NOT_FOUND,
            () => 1,
        };
        Self { status, error }
    }
}

fn is_busy(error: &anyhow::Error) -> bool {
    let ledger = error.chain().any(|cause| matches!(cause.downcast_ref(), Some(LedgerError::Busy { .. })));
    let taken = matches!(error.downcast_ref(), Some(TakeError::Stands { .. } | TakeError::Claimed { .. }));
    ledger || taken || matches!(error.downcast_ref(), Some(ReleaseError::Needed { .. }))
}

fn is_refused(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let own = cause.downcast_ref::<std::io::Error>();
        own.is_some_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
    })
}

/// Ends a verb: what went wrong goes to standard error.
pub(crate) fn end(result: Result<(), Ended>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Ended { status, error }) => {
            eprintln!("allod: {error:#}");
            if status == NOT_PERMITTED {
                eprintln!("allod: taking devices and giving them back is for root");
            }
            ExitCode::from(status)
        }
    }
}

impl State {
    /// The directory.
    pub(crate) fn directory(&self) -> PathBuf {
        self.directory.clone().unwrap_or_else(|| Places::of_environment().state)
    }

    /// Opens the ledger for `verb`, and first puts in order what an earlier process has left behind.
    pub(crate) fn open(&self, verb: &str) -> Result<Open, Ended> {
        let system = RunningSystem::open()?;
        let mut ledger = Ledger::open(&self.directory(), &format!("allod {verb}"))?;
        let recovered = recovery::recover(&system, &mut ledger, &mut Progress)?;
        for name in &recovered.released {
            eprintln!("allod: `{name}` was left behind by a process that is gone, and is given back");
        }
        for debt in &recovered.debts {
            eprintln!("allod: `{}` still owes: {}: {}", debt.claim, undoing(&debt.change), debt.reason);
        }
        Ok(Open { system, ledger })
    }
}

/// Shows every step with its time on standard error.
pub(crate) struct Progress;

impl Watcher for Progress {
    fn step(&mut self, report: &StepReport) {
        let time = time(report.took);
        match &report.failed {
            None => eprintln!("{time}  {}", report.what),
            Some(why) => eprintln!("{time}  {}: FAILED: {why}", report.what),
        }
    }
}

/// A duration in eight columns.
pub(crate) fn time(duration: Duration) -> String {
    format!("{:>5} ms", duration.as_millis())
}
