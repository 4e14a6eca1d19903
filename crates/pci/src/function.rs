//! What a PCI function is to the hierarchy, and what its answers ask of the machine.
//!
//! Emulated devices, bridges and assigned hardware all stand behind this trait.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{BarIndex, BarRange, Ecam, Forwarding, MsiChange, MsixChange, Shadow};

/// A PCI function. Required methods are few; the defaults answer as hardware without that part does.
///
/// A function does not know its place: identity is added by the hierarchy, and by whoever carries a BAR access out.
pub trait Function: Send {
    /// Names the function for messages.
    fn name(&self) -> &str;

    /// Answers a config read. The hierarchy cuts accesses into aligned ones of 1, 2 or 4 bytes inside the 4 KiB.
    fn read_config(&mut self, offset: u16, data: &mut [u8]);

    /// Takes a config write, cut like the reads, and says what it changed.
    fn write_config(&mut self, offset: u16, data: &[u8]) -> Vec<Change>;

    /// The ranges the function now asks for; the set of indexes never changes, addresses and decode do.
    fn bars(&self) -> Vec<BarRange>;

    /// Goes back to power-on values, as at a fundamental reset, and says what that changed.
    fn reset(&mut self) -> Vec<Change>;

    /// What a bridge passes to its secondary bus; a function that is no bridge has none.
    fn forwarding(&self) -> Option<Forwarding> {
        None
    }

    /// Answers a read at `offset` in one of its ranges.
    fn read_bar(&mut self, bar: BarIndex, offset: u64, data: &mut [u8]) -> Vec<Change> {
        let _ = (bar, offset);
        data.fill(0xff);
        Vec::new()
    }

    /// Takes a write at `offset` in one of its ranges.
    fn write_bar(&mut self, bar: BarIndex, offset: u64, data: &[u8]) -> Vec<Change> {
        let _ = (bar, offset, data);
        Vec::new()
    }
}

/// A function as the hierarchy and the buses share it.
///
/// Lock order: the hierarchy's lock, then a function's; never two functions at once.
pub type SharedFunction = Arc<Mutex<dyn Function>>;

/// What an access to a function changed, besides its BARs, which the hierarchy sees for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The function moved its BARs outside of a config access: call `Hierarchy::refresh`.
    Bars,
    /// A bridge began a reset of its secondary bus. The hierarchy has reset the functions there.
    SecondaryBusReset,
    /// The function asserts its interrupt pin, or no longer.
    Intx(bool),
    /// MSI was set up anew.
    Msi(MsiChange),
    /// MSI-X was set up anew.
    Msix(MsixChange),
    /// The host bridge shows config space in memory elsewhere, or no longer.
    EcamMoved(Option<Ecam>),
    /// The host bridge reads or writes RAM elsewhere between 0xC0000 and 0xFFFFF.
    ShadowMoved(Shadow),
    /// The ACPI PM block of 128 ports answers elsewhere, or no longer.
    PmBaseMoved(Option<u16>),
    /// The ACPI interrupt is another GSI; `None` for the chip's reserved values.
    SciRouted(Option<u8>),
    /// PIRQ A to H go to these interrupts of the PIC, or to none of them. The IOAPIC has them at 16 to 23 anyway.
    PirqRouted([Option<u8>; 8]),
    /// The root complex's 16 KiB of registers answer elsewhere, or no longer.
    RcbaMoved(Option<u64>),
}

/// A function that panicked in an earlier access has already been reported; its registers are still its own.
pub(crate) fn lock<'a>(
    function: &'a Mutex<dyn Function + 'static>,
) -> MutexGuard<'a, dyn Function + 'static> {
    function.lock().unwrap_or_else(PoisonError::into_inner)
}
