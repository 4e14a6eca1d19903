//! The event fds by which a function sends its messages, one for each vector.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use linux::EventFd;

/// The triggers of one function, made as they are needed. Clones are handles to the same ones.
#[derive(Clone, Default)]
pub(crate) struct Triggers(Arc<Mutex<BTreeMap<u16, Trigger>>>);

#[derive(Default)]
struct Trigger {
    event: Option<Arc<EventFd>>,
    // Signalled before there was an event fd.
    early: bool,
}

impl Triggers {
    /// The event fd that sends the message of `vector`: signalled at once if the vector is pending.
    ///
    /// # Errors
    /// When the kernel gives no event fd.
    pub(crate) fn event(&self, vector: u16) -> io::Result<Arc<EventFd>> {
        let mut triggers = self.lock();
        let trigger = triggers.entry(vector).or_default();
        if let Some(event) = &trigger.event {
            return Ok(Arc::clone(event));
        }
        let event = Arc::new(linux::event::new_event()?);
        if std::mem::take(&mut trigger.early) {
            signal(&event);
        }
        trigger.event = Some(Arc::clone(&event));
        Ok(event)
    }

    /// Sends the message of `vector`, or makes it pending while it is masked.
    pub(crate) fn signal(&self, vector: u16) {
        let mut triggers = self.lock();
        let trigger = triggers.entry(vector).or_default();
        match &trigger.event {
            Some(event) => signal(event),
            None => trigger.early = true,
        }
    }

    /// Whether a signal waits for the vector to be unmasked. Means nothing for one that is not masked.
    pub(crate) fn is_pending(&self, vector: u16) -> bool {
        self.lock().get(&vector).is_some_and(|trigger| {
            trigger.early || trigger.event.as_deref().is_some_and(linux::event::is_signalled)
        })
    }

    /// Forgets what is pending, as a reset of the function does.
    pub(crate) fn clear(&self) {
        for trigger in self.lock().values_mut() {
            trigger.early = false;
            if let Some(event) = &trigger.event {
                // Nothing to read means that nothing was pending.
                let _ = event.read();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u16, Trigger>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn signal(event: &EventFd) {
    // The counter overflows only after 2^64 signals without a listener, and then it is signalled all the same.
    let _ = event.write(1);
}

#[cfg(test)]
mod tests {
    use super::Triggers;

    #[test]
    fn a_signal_waits_for_its_event_and_in_it() {
        let triggers = Triggers::default();
        assert!(!triggers.is_pending(3));
        triggers.signal(3);
        assert!(triggers.is_pending(3) && !triggers.is_pending(2));
        let event = triggers.event(3).unwrap();
        assert_eq!(event.read().unwrap(), 1);
        assert!(!triggers.is_pending(3));
        triggers.signal(3);
        triggers.signal(3);
        assert!(triggers.is_pending(3));
        assert_eq!(triggers.event(3).unwrap().read().unwrap(), 2, "one event for good");
    }

    #[test]
    fn clearing_forgets_what_is_pending_early_or_not() {
        let triggers = Triggers::default();
        triggers.event(0).unwrap();
        triggers.signal(0);
        triggers.signal(1);
        triggers.clear();
        assert!(!triggers.is_pending(0) && !triggers.is_pending(1));
    }
}
