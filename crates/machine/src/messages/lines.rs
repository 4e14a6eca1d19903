//! INTx pins on the inputs of the IOAPIC: level-triggered and shared, so an input is up while any function holds it up.
//!
//! For emulated functions: the OR is made here, as KVM_IRQ_LINE knows one level only for all of user space. Assigned
//! functions use irqfds with resampling on the same inputs: KVM keeps their level apart
//! (KVM_IRQFD_RESAMPLE_IRQ_SOURCE_ID beside KVM_USERSPACE_IRQ_SOURCE_ID) and makes the OR of both itself
//! (arch/x86/kvm/ioapic.c, kvm_ioapic_set_irq). So neither kind needs to know of the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::interrupt::InterruptLine;

/// Makes the end of a wire to an input.
type Connect = dyn Fn(u32) -> Box<dyn InterruptLine> + Send + Sync;

/// The inputs that functions share.
pub(crate) struct Lines {
    connect: Box<Connect>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    inputs: BTreeMap<u32, Input>,
    ends: u32,
}

struct Input {
    line: Box<dyn InterruptLine>,
    holders: BTreeSet<u32>,
}

/// A function's end of a shared line.
pub(crate) struct SharedLine {
    lines: Arc<Lines>,
    gsi: u32,
    end: u32,
}

impl Lines {
    pub(crate) fn new(connect: impl Fn(u32) -> Box<dyn InterruptLine> + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { connect: Box::new(connect), state: Mutex::default() })
    }

    /// One more end of the wire to `gsi`, low.
    pub(crate) fn end(self: &Arc<Self>, gsi: u32) -> SharedLine {
        let mut state = self.lock();
        state.ends += 1;
        SharedLine { lines: Arc::clone(self), gsi, end: state.ends }
    }

    fn set(&self, gsi: u32, end: u32, high: bool) {
        let mut state = self.lock();
        let input = state
            .inputs
            .entry(gsi)
            .or_insert_with(|| Input { line: (self.connect)(gsi), holders: BTreeSet::new() });
        let was = !input.holders.is_empty();
        if high {
            input.holders.insert(end);
        } else {
            input.holders.remove(&end);
        }
        let is = !input.holders.is_empty();
        if was != is {
            // Under the lock: two functions that change at once must not overtake each other on the way to KVM.
            input.line.set(is);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InterruptLine for SharedLine {
    fn set(&self, high: bool) {
        self.lines.set(self.gsi, self.end, high);
    }
}

impl Drop for SharedLine {
    fn drop(&mut self) {
        self.set(false);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::Lines;
    use crate::interrupt::InterruptLine;

    type Log = Arc<Mutex<Vec<(u32, bool)>>>;

    struct Recorded(u32, Log);

    impl InterruptLine for Recorded {
        fn set(&self, high: bool) {
            self.1.lock().unwrap().push((self.0, high));
        }
    }

    #[test]
    fn an_input_is_up_while_anyone_holds_it_up() {
        let log = Log::default();
        let to = Arc::clone(&log);
        let lines = Lines::new(move |gsi| Box::new(Recorded(gsi, Arc::clone(&to))));
        // A copy: an assertion that fails must not hold the log while the ends are dropped.
        let seen = || log.lock().unwrap().clone();
        let (a, b, other) = (lines.end(16), lines.end(16), lines.end(17));
        a.set(true);
        a.set(true);
        b.set(true);
        other.set(true);
        a.set(false);
        assert_eq!(seen(), [(16, true), (17, true)]);
        b.set(false);
        b.set(false);
        assert_eq!(seen().last(), Some(&(16, false)));
        drop(other);
        assert_eq!(seen(), [(16, true), (17, true), (16, false), (17, false)]);
    }
}
