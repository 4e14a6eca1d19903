//! The guest's TPM 2.0: registers and a buffer for commands in memory, served by an emulator on the host (swtpm).
//!
//! Not here: starting swtpm, which whoever starts this process does, and what is in a command: guest and TPM speak with each
//! other. The machine and its chipset are the callers.

mod registers;
mod service;
mod swtpm;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use crate::bus::SharedDevice;
use crate::events::{Event, Events};
use crate::worker::Worker;

use registers::Registers;
use swtpm::Swtpm;
pub use swtpm::TpmError;

/// The TPM of a machine, over all its lives.
pub(crate) struct Tpm(Arc<Mutex<Swtpm>>);

impl Tpm {
    /// Begins to speak with the swtpm at the other end of `control`, and starts its TPM.
    ///
    /// # Errors
    /// When it does not do what every life needs.
    pub(crate) fn connect(control: OwnedFd) -> Result<Self, TpmError> {
        Ok(Self(Arc::new(Mutex::new(Swtpm::connect(control)?))))
    }

    /// The registers for one life of the machine, and the thread that serves them: it resets the TPM first, so that what an
    /// earlier life has measured is gone.
    ///
    /// # Errors
    /// When the kernel gives no event fd or no thread.
    pub(crate) fn plug(&self, events: &Arc<Events>) -> io::Result<(SharedDevice, Worker)> {
        let bell = Arc::new(linux::event::new_event()?);
        let registers = Arc::new(Mutex::new(Registers::new(Arc::clone(&bell))));
        let (emulator, served) = (Arc::clone(&self.0), Arc::clone(&registers));
        let events = Arc::clone(events);
        let tell = move |text| events.post(Event::Note(text));
        let worker = Worker::run("tpm".to_owned(), service::STACK, Arc::clone(&bell), move |ended| {
            let mut emulator = emulator.lock().unwrap_or_else(PoisonError::into_inner);
            service::work(&mut *emulator, &served, &bell, ended, &tell);
        })?;
        Ok((registers, worker))
    }

    /// Ends the TPM in good order. No life has it any more.
    pub(crate) fn end(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).end();
    }
}
