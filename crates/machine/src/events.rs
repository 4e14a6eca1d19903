//! What vCPU threads and devices tell the event thread.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use linux::EventFd;

use crate::board::output::Wake;
use crate::bus::ResetPath;

/// Something that only the event thread can act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The guest asks for a reset.
    Reset(ResetPath),
    /// The guest has powered off.
    PowerOff,
    /// A vCPU cannot go on.
    Fault(String),
    /// Something worth telling that the machine survives.
    Note(String),
}

/// The queue of events, and the fd that tells of them and of output, input room and moved deadlines.
pub struct Events {
    queue: Mutex<VecDeque<Event>>,
    wake: Arc<EventFd>,
}

impl Events {
    /// An empty queue.
    ///
    /// # Errors
    /// When the kernel gives no event fd.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self { queue: Mutex::default(), wake: Arc::new(linux::event::new_event()?) })
    }

    /// Adds an event.
    pub fn post(&self, event: Event) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push_back(event);
        self.wake();
    }

    /// The oldest event.
    pub fn take(&self) -> Option<Event> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// Readable when there is something to look after.
    pub fn fd(&self) -> &EventFd {
        &self.wake
    }

    /// The same fd for those that signal it without us: the doorbells of devices that the event thread serves.
    pub(crate) fn shared_fd(&self) -> &Arc<EventFd> {
        &self.wake
    }

    /// Makes the fd unreadable until the next wake.
    pub fn clear(&self) {
        // Nothing to read means that it was cleared already.
        let _ = self.wake.read();
    }
}

impl Wake for Events {
    fn wake(&self) {
        // The counter cannot overflow by adding one: the fd is readable already if it is that high.
        let _ = self.wake.write(1);
    }
}
