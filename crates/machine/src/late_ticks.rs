//! When KVM stops making up for ticks of the PIT that the guest had no time for.
//!
//! Not at once: KVM waits meanwhile until no vCPU looks at what changes, for some sixteen milliseconds by which neither a
//! machine's start nor its first output should be later. Why at all: [`Vm::let_go_of_late_ticks`].

use std::sync::Arc;

use linux::kvm::{KvmError, Vm};

use crate::board::clock::Clock;
use crate::time::MachineClock;

/// How much of a life passes first, in nanoseconds of the machine's time.
const DELAY_NS: u64 = 20_000_000;

/// The change of one life, until it is made.
#[derive(Debug)]
pub(crate) struct LateTicks {
    vm: Vm,
    clock: Arc<MachineClock>,
    due_ns: Option<u64>,
}

impl LateTicks {
    /// For a life that begins now.
    pub(crate) fn new(vm: Vm, clock: Arc<MachineClock>) -> Self {
        let due_ns = Some(clock.monotonic_ns() + DELAY_NS);
        Self { vm, clock, due_ns }
    }

    /// When [`fire`](Self::fire) is wanted, in the machine's time.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.due_ns
    }

    /// Makes the change when it is due, and not again.
    pub(crate) fn fire(&mut self) -> Result<(), KvmError> {
        let now = self.clock.monotonic_ns();
        match self.due_ns.take_if(|due| *due <= now) {
            Some(_) => self.vm.let_go_of_late_ticks(),
            None => Ok(()),
        }
    }
}
