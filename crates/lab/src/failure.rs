//! The ways a host can fail its user, told apart: a command's own exit status is none of them.

use crate::image::ImageError;
use crate::profile::ProfileError;
use crate::qmp::QmpError;
use std::io;
use std::time::Duration;

/// Why the lab could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No image.
    #[error("no lab image: {0}")]
    Image(#[from] ImageError),
    /// No such profile.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The emulator's control socket.
    #[error(transparent)]
    Control(#[from] QmpError),
    /// A file, socket or process of the lab on this machine.
    #[error("cannot {operation}: {cause}")]
    Setup {
        /// What was tried.
        operation: String,
        /// The system's reason.
        cause: io::Error,
    },
    /// The request makes no sense for this host.
    #[error("{0}")]
    Request(String),
    /// The kernel of the host panicked.
    #[error("the host's kernel panicked; its console ended:\n{tail}")]
    Panic {
        /// The end of the console.
        tail: String,
    },
    /// The host gave no sign of life, or its kernel found itself standing still.
    #[error("the emulated host hung ({sign}); its console ended:\n{tail}")]
    Hang {
        /// How it was noticed.
        sign: String,
        /// The end of the console.
        tail: String,
    },
    /// The host was alive, but the command took longer than allowed.
    #[error("no end after {} s; the host's console ended:\n{tail}", limit.as_secs_f32())]
    TimedOut {
        /// The time allowed.
        limit: Duration,
        /// The end of the console.
        tail: String,
    },
    /// The emulator itself broke.
    #[error("the emulator died ({status}):\n{words}\nthe host's console ended:\n{tail}")]
    EmulatorDied {
        /// How its process ended.
        status: String,
        /// The end of what it said.
        words: String,
        /// The end of the console.
        tail: String,
    },
    /// The host powered off or rebooted before the command was over.
    #[error("the host powered off or rebooted before the command was over; its console ended:\n{tail}")]
    PoweredOff {
        /// The end of the console.
        tail: String,
    },
    /// The command could not be started inside the host.
    #[error("the host cannot start the command: {reason}")]
    NotStarted {
        /// The host's reason.
        reason: String,
    },
}

impl Failure {
    pub(crate) fn setup(operation: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let operation = operation.into();
        move |cause| Self::Setup { operation, cause }
    }

    /// Says whether another try is fair: the emulator hung, which is no word about what was tested.
    pub fn is_hang(&self) -> bool {
        matches!(self, Self::Hang { .. })
    }
}
