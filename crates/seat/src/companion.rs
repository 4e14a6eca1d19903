//! A program of another package that runs beside a machine, shut in as the machine is: its TPM, its user's network.
//!
//! Not here: how each is started (`tpm`, `network`). `launch` keeps them.

use std::process::Child;
use std::time::{Duration, Instant};

use crate::confine::Confinement;
use crate::launch::LaunchError;

/// A program that runs for a machine. It ends when the machine closes its socket, and at the latest when this is dropped.
#[derive(Debug)]
pub(crate) struct Companion(Child);

/// How long it has to end by itself when the machine is gone.
const END_TIME: Duration = Duration::from_secs(2);
const END_STEP: Duration = Duration::from_millis(5);

impl Companion {
    /// Takes over what was started, and shuts it in.
    pub(crate) fn new(child: Child, confinement: Option<&Confinement>) -> Result<Self, LaunchError> {
        let companion = Self(child);
        confinement.map_or(Ok(()), |confinement| confinement.hold(companion.0.id()))?;
        Ok(companion)
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        let end = Instant::now() + END_TIME;
        while let (Ok(None), true) = (self.0.try_wait(), Instant::now() < end) {
            std::thread::sleep(END_STEP);
        }
        // One that is gone already is as good as killed; all that a TPM keeps is on disk when it has answered.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
