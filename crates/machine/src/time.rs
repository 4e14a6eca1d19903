//! The machine's time: the host's clocks, less the time the machine stood still.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use linux::event::monotonic_ns;

use crate::board::clock::{Clock, WallTime};

/// Time that stands still while the machine is paused.
#[derive(Debug, Default)]
pub(crate) struct MachineClock {
    // Nanoseconds spent in pauses, and the start of the present one (0: running).
    paused_ns: AtomicU64,
    pause_start: AtomicU64,
}

impl MachineClock {
    /// Stops the time.
    pub(crate) fn pause(&self) {
        self.pause_start.store(monotonic_ns(), Ordering::Release);
    }

    /// Lets the time go on where it stood.
    pub(crate) fn resume(&self) {
        let start = self.pause_start.swap(0, Ordering::AcqRel);
        if start != 0 {
            self.paused_ns.fetch_add(monotonic_ns().saturating_sub(start), Ordering::AcqRel);
        }
    }

    /// The host's monotonic moment at which the machine's time will be `ns`, if it is not paused again.
    pub(crate) fn host_ns(&self, ns: u64) -> u64 {
        ns.saturating_add(self.paused_ns.load(Ordering::Acquire))
    }
}

impl Clock for MachineClock {
    fn monotonic_ns(&self) -> u64 {
        let now = match self.pause_start.load(Ordering::Acquire) {
            0 => monotonic_ns(),
            start => start,
        };
        now.saturating_sub(self.paused_ns.load(Ordering::Acquire))
    }

    fn wall(&self) -> WallTime {
        // A host clock before 1970 is a host without a clock: the guest gets the epoch.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        WallTime { seconds: since.as_secs() as i64, nanos: since.subsec_nanos() }
    }
}

#[cfg(test)]
mod tests {
    use super::MachineClock;
    use crate::board::clock::Clock;

    #[test]
    fn a_paused_clock_stands_still_and_goes_on_where_it_stood() {
        let clock = MachineClock::default();
        clock.pause();
        let stopped = clock.monotonic_ns();
        let host = linux::event::monotonic_ns();
        while linux::event::monotonic_ns() < host + 1_000_000 {}
        assert_eq!(clock.monotonic_ns(), stopped);
        clock.resume();
        let paused = linux::event::monotonic_ns() - clock.monotonic_ns();
        assert!(paused >= 1_000_000, "the pause is left out: {paused}");
        assert!(clock.host_ns(stopped) >= stopped + 1_000_000);
    }
}
