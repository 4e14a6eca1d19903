//! The wire from a board device to the interrupt controllers.

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
