//! The queues of a device and the device behind them: what the transport starts and stops, and a thread serves.
//!
//! Not here: registers (`registers`), PCI (`function`), and which thread serves.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use linux::EventFd;
use linux::memory::GuestMemory;

use super::interrupt::Interrupt;
use super::ring::{Placement, Proceed, Ring, Served};
use super::{Kind, VirtioDevice};
use crate::worker::Serve;

/// Requests served from one queue before others, and other devices of the thread, have their turn.
const TURN: u16 = 64;

/// A device at work.
pub(crate) struct Engine {
    pub(super) interrupt: Interrupt,
    memory: Arc<GuestMemory>,
    doorbell: Arc<EventFd>,
    // The driver has started the device, which is not broken.
    running: AtomicBool,
    // The function may reach memory (bus master enable).
    master: AtomicBool,
    broken: AtomicBool,
    // Held while a request is carried out, so that stopping waits for the one at hand and for no other. Before the
    // interrupt's lock.
    work: Mutex<Work>,
}

struct Work {
    device: Box<dyn VirtioDevice>,
    rings: Vec<Option<Ring>>,
}

impl Engine {
    /// An engine for `device` that stands still. `doorbell` is signalled when there is something to serve.
    pub(crate) fn new(
        device: Box<dyn VirtioDevice>,
        memory: Arc<GuestMemory>,
        interrupt: Interrupt,
        doorbell: Arc<EventFd>,
    ) -> Self {
        Self {
            interrupt,
            memory,
            doorbell,
            running: AtomicBool::new(false),
            master: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            work: Mutex::new(Work { device, rings: Vec::new() }),
        }
    }

    /// Serves what the driver has asked for, up to a turn of each queue; true when more is left.
    pub(crate) fn serve(&self) -> bool {
        if !self.may_run() {
            return false;
        }
        let Work { device, rings } = &mut *self.lock();
        let mut more = false;
        for (index, ring) in rings.iter_mut().enumerate() {
            let Some(ring) = ring else { continue };
            let device = std::cell::RefCell::new(device.as_mut());
            let result = ring.serve(
                TURN,
                || match (self.may_run(), device.borrow_mut().is_ready(index)) {
                    (false, _) => Proceed::Stop,
                    (true, false) => Proceed::Later,
                    (true, true) => Proceed::Yes,
                },
                |request| device.borrow_mut().answer(index, request),
                || self.interrupt.queue(index),
            );
            match result {
                Ok(served) => more |= served == Served::More,
                Err(_) => self.break_down(),
            }
        }
        more && self.may_run()
    }

    /// Has the queues looked at.
    pub(crate) fn ring_doorbell(&self) {
        // The counter cannot overflow by adding one: it is read as soon as it is not zero.
        let _ = self.doorbell.write(1);
    }

    pub(super) fn kind(&self) -> Kind {
        self.lock().device.kind()
    }

    /// Hands what the driver writes to the configuration to the device; gives what the configuration is then.
    pub(super) fn configure(&self, offset: u64, data: &[u8]) -> Option<Vec<u8>> {
        self.lock().device.configure(usize::try_from(offset).ok()?, data)
    }

    /// Whether a driver uses the device.
    pub(crate) fn is_running(&self) -> bool {
        self.may_run()
    }

    /// Whether the driver must reset the device.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Starts the device with the queues that are enabled.
    pub(super) fn start(&self, features: u64, queues: &[Option<Placement>]) {
        let mut work = self.lock();
        work.device.accept(features);
        let place = |at: &Placement| Ring::new(Arc::clone(&self.memory), at, features);
        let rings: Result<_, _> = queues.iter().map(|at| at.as_ref().map(place).transpose()).collect();
        let Ok(rings) = rings else {
            self.break_down();
            return;
        };
        work.rings = rings;
        drop(work);
        self.running.store(true, Ordering::Release);
        // A driver may have filled its queues before.
        self.ring_doorbell();
    }

    /// Adds a queue to those in use.
    pub(super) fn add(&self, index: usize, features: u64, at: &Placement) {
        let mut work = self.lock();
        match (Ring::new(Arc::clone(&self.memory), at, features), work.rings.get_mut(index)) {
            (Ok(ring), Some(place)) => *place = Some(ring),
            _ => self.break_down(),
        }
        drop(work);
        self.ring_doorbell();
    }

    /// Stops the device and forgets its queues; when it returns, no memory of the guest is touched any more.
    pub(super) fn reset(&self) {
        self.running.store(false, Ordering::Release);
        self.lock().rings.clear();
        self.broken.store(false, Ordering::Release);
        self.interrupt.reset();
    }

    /// Follows the bus master enable bit; when it returns after switching it off, no memory is touched.
    pub(super) fn set_master(&self, on: bool) {
        if self.master.swap(on, Ordering::AcqRel) == on {
            return;
        }
        if on {
            self.ring_doorbell();
        } else {
            drop(self.lock());
        }
    }

    pub(super) fn may_run(&self) -> bool {
        self.running.load(Ordering::Acquire)
            && self.master.load(Ordering::Acquire)
            && !self.broken.load(Ordering::Acquire)
    }

    /// The device has met nonsense: it stands still until it is reset, and says so (section 2.1.2).
    fn break_down(&self) {
        self.broken.store(true, Ordering::Release);
        self.interrupt.config();
    }

    /// A device that panicked has been reported; its queues are still its own.
    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Serve for Engine {
    fn doorbell(&self) -> &Arc<EventFd> {
        &self.doorbell
    }

    fn serve(&self) -> bool {
        self.serve()
    }
}
