//! Whether an assigned function is still there, and telling so once.
//!
//! A function that is gone answers all-ones. The host tells of errors and of its wish to have the function back by
//! events of their own (`attention`); this is for what is noticed in passing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use linux::vfio::Device;
use linux::vfio::config::Config;
use spec::PciAddress;

use crate::events::{Event, Events};

/// The error with all that caused it, in one line.
pub(crate) fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// The health of one function.
pub(crate) struct Health {
    address: PciAddress,
    events: Arc<Events>,
    told: AtomicBool,
}

impl Health {
    pub(crate) fn new(address: PciAddress, events: Arc<Events>) -> Self {
        Self { address, events, told: AtomicBool::new(false) }
    }

    /// Looks after a function that just answered with all-ones or not at all. When it is gone, the machine ends: its
    /// guest has lost the hardware it is made for.
    pub(crate) fn suspect(&self, device: &dyn Device) {
        if self.told.load(Ordering::Relaxed) || Config(device).is_present() {
            return;
        }
        self.end_machine(
            "it no longer answers (all its registers read as ones): it was pulled, lost power or broke",
        );
    }

    /// Ends the machine for a reason, which is told once.
    pub(crate) fn end_machine(&self, why: &str) {
        if !self.told.swap(true, Ordering::Relaxed) {
            self.events.post(Event::Fault(format!(
                "the machine was stopped because of its assigned function {}: {why}",
                self.address
            )));
        }
    }

    /// Tells of something that the machine survives.
    pub(crate) fn note(&self, what: &str) {
        self.events.post(Event::Note(format!("assigned function {}: {what}", self.address)));
    }
}
