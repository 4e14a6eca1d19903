//! How a device tells its driver: by message when MSI-X is on, else by pin and the ISR status register (section 4.1.4.5).

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::interrupt::InterruptLine;
use crate::messages::Triggers;

/// The value of a vector register that stands for no vector (VIRTIO_MSI_NO_VECTOR).
pub(super) const NO_VECTOR: u16 = 0xffff;

/// ISR status: a queue has been served.
const ISR_QUEUE: u8 = 1 << 0;
/// ISR status: the configuration, or that the device needs a reset, has changed.
const ISR_CONFIG: u8 = 1 << 1;

/// Which vector tells of what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Vectors {
    pub(super) config: u16,
    pub(super) queues: Vec<u16>,
}

/// The way to the driver.
pub(crate) struct Interrupt {
    triggers: Triggers,
    state: Mutex<State>,
}

struct State {
    vectors: Vectors,
    line: Box<dyn InterruptLine>,
    high: bool,
    isr: u8,
    by_message: bool,
    pin_disabled: bool,
}

impl Interrupt {
    pub(crate) fn new(triggers: Triggers, line: Box<dyn InterruptLine>) -> Self {
        let vectors = Vectors { config: NO_VECTOR, queues: Vec::new() };
        let state = State { vectors, line, high: false, isr: 0, by_message: false, pin_disabled: false };
        Self { triggers, state: Mutex::new(state) }
    }

    /// Tells that requests of a queue have been answered.
    pub(super) fn queue(&self, queue: usize) {
        let mut state = self.lock();
        if state.by_message {
            let vector = state.vectors.queues.get(queue).copied().unwrap_or(NO_VECTOR);
            self.send(vector);
        } else {
            state.raise(ISR_QUEUE);
        }
    }

    /// Tells that the device's configuration or status has changed.
    pub(super) fn config(&self) {
        let mut state = self.lock();
        // Set in both modes, unlike the queue's bit.
        state.raise(ISR_CONFIG);
        if state.by_message {
            self.send(state.vectors.config);
        }
    }

    /// Reads the ISR status, which clears it and lets the pin go.
    pub(super) fn take_isr(&self) -> u8 {
        let mut state = self.lock();
        let isr = std::mem::take(&mut state.isr);
        state.drive();
        isr
    }

    /// Whether the pin would be asserted, were it not disabled: the interrupt bit of the PCI status register.
    pub(super) fn is_pin_pending(&self) -> bool {
        let state = self.lock();
        state.isr != 0 && !state.by_message
    }

    pub(super) fn set_vectors(&self, vectors: Vectors) {
        self.lock().vectors = vectors;
    }

    /// Follows MSI-X being switched on or off.
    pub(super) fn set_by_message(&self, by_message: bool) {
        let mut state = self.lock();
        state.by_message = by_message;
        state.drive();
    }

    /// Follows the interrupt disable bit of the PCI command register.
    pub(super) fn set_pin_disabled(&self, disabled: bool) {
        let mut state = self.lock();
        state.pin_disabled = disabled;
        state.drive();
    }

    /// Forgets what was to be told: the device has been reset.
    pub(super) fn reset(&self) {
        let mut state = self.lock();
        state.isr = 0;
        state.vectors = Vectors { config: NO_VECTOR, queues: Vec::new() };
        state.drive();
        self.triggers.clear();
    }

    fn send(&self, vector: u16) {
        if vector != NO_VECTOR {
            self.triggers.signal(vector);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn raise(&mut self, bits: u8) {
        self.isr |= bits;
        self.drive();
    }

    fn drive(&mut self) {
        let high = self.isr != 0 && !self.by_message && !self.pin_disabled;
        if self.high != high {
            self.high = high;
            // Under the lock: an answer and a read of the ISR on another CPU must reach the line in their order.
            self.line.set(high);
        }
    }
}
