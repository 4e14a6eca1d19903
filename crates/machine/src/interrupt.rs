//! The wires from board devices to the interrupt controllers.

use std::sync::{Arc, Mutex, PoisonError};

use linux::kvm::IrqLine;

/// One interrupt input of the board, as the device that drives it sees it.
pub trait InterruptLine: Send {
    /// Drives the line high or low.
    fn set(&self, high: bool);

    /// Makes one rising edge, for edge-triggered (ISA) lines.
    fn pulse(&self) {
        self.set(true);
        self.set(false);
    }
}

/// An interrupt input of the in-kernel controllers.
pub(crate) struct KvmLine(pub(crate) IrqLine);

impl InterruptLine for KvmLine {
    fn set(&self, high: bool) {
        // KVM_IRQ_LINE fails only for a VM without controllers, and then none of this runs.
        let _ = self.0.set(high);
    }
}

/// A line for a device that outlives the controllers: each life of the machine plugs its own end in.
#[derive(Clone, Default)]
pub(crate) struct Socket(Arc<Mutex<Option<KvmLine>>>);

impl Socket {
    /// Plugs `line` in, in place of what was there.
    pub(crate) fn plug(&self, line: IrqLine) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(KvmLine(line));
    }
}

impl InterruptLine for Socket {
    fn set(&self, high: bool) {
        if let Some(line) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            line.set(high);
        }
    }
}
