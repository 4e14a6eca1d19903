//! Time as the board's devices see it, in plain numbers.
//!
//! Not here: reading the host's clocks (the VMM's event loop implements [`Clock`]) and waiting. A device that
//! wants to act later says when ([`Deadline`]); the event loop drives it with one timer.

/// Nanoseconds in a second.
pub const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Where a device reads the time.
pub trait Clock: Send + Sync {
    /// Reads the nanoseconds since some fixed moment; never goes back, stands still while the machine is paused.
    fn monotonic_ns(&self) -> u64;

    /// Reads the wall time; may be set forward and back by the host.
    fn wall(&self) -> WallTime;
}

/// A moment of wall time in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WallTime {
    /// Seconds since 1970-01-01 00:00:00; negative before.
    pub seconds: i64,
    /// Nanoseconds into that second, below [`NANOS_PER_SECOND`].
    pub nanos: u32,
}

/// A device that has something to do at a moment, such as raising a timer's interrupt.
///
/// The event loop keeps one timer at the earliest deadline. A device whose deadline became earlier because of
/// a guest's access calls the [`super::output::Wake`] it was given, and is then asked again.
pub trait Deadline {
    /// Tells when [`Deadline::fire`] is wanted, in [`Clock::monotonic_ns`]; `None` means not at all.
    fn next_deadline(&self) -> Option<u64>;

    /// Does what has come due; a call too early or too late does no harm.
    fn fire(&mut self);
}
