//! Why a measurement gave no figures.

use std::io;
use std::time::Duration;

/// Why a measurement gave no figures.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command line makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The system refused something.
    #[error("cannot {what}: {cause}")]
    System {
        /// What was tried.
        what: String,
        /// The system's reason.
        cause: io::Error,
    },
    /// The guest did not come as far as expected.
    #[error("{awaited} did not come within {} s of the host's clock; the console says: {console}", limit.as_secs())]
    Stalled {
        /// What was waited for.
        awaited: &'static str,
        /// How long.
        limit: Duration,
        /// The end of the guest's console.
        console: String,
    },
    /// The VMM ended too early.
    #[error("the VMM ended before {awaited}; the console says: {console}")]
    Ended {
        /// What was waited for.
        awaited: &'static str,
        /// The end of the guest's console.
        console: String,
    },
    /// Something that must have happened left no trace.
    #[error("no {0} was seen")]
    Unseen(&'static str),
}

impl Failure {
    /// Returns the exit status that stands for it: 3 means that trying again may help.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Stalled { .. } => 3,
            Self::System { .. } | Self::Ended { .. } | Self::Unseen(_) => 1,
        }
    }
}

/// Makes a system's refusal say what was tried.
pub(crate) fn attempt(what: impl Into<String>) -> impl FnOnce(io::Error) -> Failure {
    move |cause| Failure::System { what: what.into(), cause }
}
