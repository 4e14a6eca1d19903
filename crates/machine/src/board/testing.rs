//! Stand-ins for what the machine gives its devices; each only records, or says what it was told to say.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::clock::{Clock, NANOS_PER_SECOND, WallTime};
use super::output::Wake;
use crate::interrupt::InterruptLine;

/// An interrupt line that remembers every level it was driven to.
#[derive(Clone, Default)]
pub(super) struct RecordedLine(Arc<Mutex<Vec<bool>>>);

impl RecordedLine {
    pub(super) fn line(&self) -> Box<dyn InterruptLine> {
        Box::new(self.clone())
    }

    pub(super) fn high(&self) -> bool {
        self.0.lock().unwrap().last().copied().unwrap_or(false)
    }

    /// Rising edges so far.
    pub(super) fn edges(&self) -> usize {
        let levels = self.0.lock().unwrap();
        let before = [false].into_iter().chain(levels.iter().copied());
        before.zip(levels.iter()).filter(|(before, after)| !before && **after).count()
    }
}

impl InterruptLine for RecordedLine {
    fn set(&self, high: bool) {
        self.0.lock().unwrap().push(high);
    }
}

/// A wake that counts.
#[derive(Clone, Default)]
pub(super) struct WakeCount(Arc<AtomicU32>);

impl WakeCount {
    pub(super) fn wake(&self) -> Arc<dyn Wake> {
        let count = Arc::clone(&self.0);
        Arc::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        })
    }

    pub(super) fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A clock that stands still until it is moved.
#[derive(Clone, Default)]
pub(super) struct HandClock(Arc<HandClockTimes>);

#[derive(Default)]
struct HandClockTimes {
    monotonic_ns: AtomicU64,
    wall_ns: AtomicU64,
}

impl HandClock {
    /// Stands at `seconds` of wall time, and at 0 of monotonic time.
    pub(super) fn at(seconds: u64) -> Self {
        let clock = Self::default();
        clock.set_wall_ns(seconds * NANOS_PER_SECOND);
        clock
    }

    pub(super) fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(self.clone())
    }

    /// Lets time pass.
    pub(super) fn pass_ns(&self, ns: u64) {
        self.0.monotonic_ns.fetch_add(ns, Ordering::Relaxed);
        self.0.wall_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// Sets the host's clock, as an administrator would.
    pub(super) fn set_wall_ns(&self, ns: u64) {
        self.0.wall_ns.store(ns, Ordering::Relaxed);
    }
}

impl Clock for HandClock {
    fn monotonic_ns(&self) -> u64 {
        self.0.monotonic_ns.load(Ordering::Relaxed)
    }

    fn wall(&self) -> WallTime {
        let ns = self.0.wall_ns.load(Ordering::Relaxed);
        WallTime {
            seconds: i64::try_from(ns / NANOS_PER_SECOND).unwrap(),
            nanos: u32::try_from(ns % NANOS_PER_SECOND).unwrap(),
        }
    }
}
