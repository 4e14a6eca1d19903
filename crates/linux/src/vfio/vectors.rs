//! Message signalled interrupts that appear one by one, as the guest unmasks them.
//!
//! A guest enables MSI-X long before it uses most vectors, and a table may have 2048 of them. So only what is used is
//! armed: where the kernel can add vectors that is one request, where it cannot (`VFIO_IRQ_INFO_NORESIZE`) the kind
//! is disabled and enabled again with all vectors used so far. The decision is pure and apart from the doing.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::{Cause, Device, DeviceError, IrqAction, IrqIndex, IrqInfo, Operation};

/// The vectors of MSI or MSI-X of one device.
#[derive(Debug)]
pub struct MessageVectors {
    irq: IrqIndex,
    info: IrqInfo,
    // Vectors the kernel has set up; 0 while disabled.
    enabled: u32,
    // By vector; what is armed, or is to be once enabled.
    fds: Vec<Option<OwnedFd>>,
}

/// A request to the kernel that a change of vectors needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Disable the kind of interrupt.
    Disable,
    /// Name the eventfds, or their absence, of vectors `start..end`.
    Signal {
        /// First vector.
        start: u32,
        /// The vector after the last.
        end: u32,
    },
}

impl MessageVectors {
    /// Prepares MSI or MSI-X of `device`; nothing is enabled.
    pub fn new(device: &dyn Device, irq: IrqIndex) -> Result<Self, DeviceError> {
        let info = device.irq(irq)?;
        Ok(Self { irq, info, enabled: 0, fds: (0..info.count).map(|_| None).collect() })
    }

    /// Vectors the function has.
    pub fn count(&self) -> u32 {
        self.info.count
    }

    /// Whether the kernel has the kind of interrupt enabled.
    pub fn is_enabled(&self) -> bool {
        self.enabled != 0
    }

    /// Whether `vector` has an eventfd.
    pub fn is_armed(&self, vector: u32) -> bool {
        self.fds.get(vector as usize).is_some_and(Option::is_some)
    }

    /// Enables with what is armed, which may be nothing: the first vector is then set up without an eventfd, because
    /// some functions must see the enable bit at once (QEMU `hw/vfio/pci.c`, `vfio_enable_msix_no_vec`).
    pub fn enable(&mut self, device: &dyn Device) -> Result<(), DeviceError> {
        if self.is_enabled() {
            return Ok(());
        }
        self.carry_out(device, &[Step::Signal { start: 0, end: self.used().max(1) }])
    }

    /// Signals `vector` through `fd` from now on.
    ///
    /// When the kernel refuses, the vector keeps no eventfd and the others are armed as before, as far as the kernel
    /// still allows.
    pub fn arm(&mut self, device: &dyn Device, vector: u32, fd: OwnedFd) -> Result<(), DeviceError> {
        let slot = self.slot(vector)?;
        *slot = Some(fd);
        if !self.is_enabled() {
            return Ok(());
        }
        let steps = self.steps_for(vector);
        let outcome = self.carry_out(device, &steps);
        if outcome.is_err() {
            *self.slot(vector)? = None;
            if !self.is_enabled() {
                // The vectors that worked before must not be lost with the one that does not.
                self.enable(device)?;
            }
        }
        outcome
    }

    /// Signals `vector` no more.
    pub fn disarm(&mut self, device: &dyn Device, vector: u32) -> Result<(), DeviceError> {
        if self.slot(vector)?.take().is_none() || vector >= self.enabled {
            return Ok(());
        }
        self.carry_out(device, &[Step::Signal { start: vector, end: vector + 1 }])
    }

    /// Disables the kind of interrupt; what is armed is armed again by [`MessageVectors::enable`].
    pub fn disable(&mut self, device: &dyn Device) -> Result<(), DeviceError> {
        if self.is_enabled() { self.carry_out(device, &[Step::Disable]) } else { Ok(()) }
    }

    /// Forgets every eventfd; the kernel must be told by [`MessageVectors::disable`] first.
    pub fn clear(&mut self) {
        self.fds.iter_mut().for_each(|fd| *fd = None);
    }

    /// What has to be asked for when `vector` has just been given an eventfd while enabled.
    fn steps_for(&self, vector: u32) -> Vec<Step> {
        let single = Step::Signal { start: vector, end: vector + 1 };
        match vector {
            vector if vector < self.enabled => vec![single],
            _ if self.info.growable => vec![single],
            _ => vec![Step::Disable, Step::Signal { start: 0, end: self.used().max(1) }],
        }
    }

    /// One more than the highest armed vector.
    fn used(&self) -> u32 {
        let used = self.fds.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        u32::try_from(used).unwrap_or(self.info.count)
    }

    fn carry_out(&mut self, device: &dyn Device, steps: &[Step]) -> Result<(), DeviceError> {
        for step in steps {
            match *step {
                Step::Disable => {
                    device.set_irqs(self.irq, IrqAction::Disable)?;
                    self.enabled = 0;
                }
                Step::Signal { start, end } => {
                    let fds: Vec<Option<BorrowedFd<'_>>> = (start..end)
                        .map(|vector| self.fds.get(vector as usize)?.as_ref().map(OwnedFd::as_fd))
                        .collect();
                    device.set_irqs(self.irq, IrqAction::Signal { start, fds: &fds })?;
                    self.enabled = self.enabled.max(end);
                }
            }
        }
        Ok(())
    }

    fn slot(&mut self, vector: u32) -> Result<&mut Option<OwnedFd>, DeviceError> {
        let irq = self.irq;
        self.fds.get_mut(vector as usize).ok_or_else(|| {
            let operation = Operation::SetIrqs { irq, action: "signal", start: vector, count: 1 };
            DeviceError::new(operation, Cause::Errno(Errno::INVAL))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use rustix::event::{EventfdFlags, eventfd};

    use super::MessageVectors;
    use crate::vfio::fake::{FakeDevice, FakeIrqs, Script};
    use crate::vfio::{Cause, IrqIndex, Operation};

    fn fd() -> OwnedFd {
        eventfd(0, EventfdFlags::CLOEXEC).unwrap()
    }

    fn device(irqs: FakeIrqs) -> FakeDevice {
        FakeDevice::new(Script::new(1, 2).with_irqs(irqs)).unwrap()
    }

    /// The requests made, as action, first vector and count.
    fn requests(device: &FakeDevice) -> Vec<(&'static str, u32, u32)> {
        let request = |call| match call {
            Operation::SetIrqs { action, start, count, .. } => Some((action, start, count)),
            _ => None,
        };
        device.calls().into_iter().filter_map(request).collect()
    }

    const GROWABLE: FakeIrqs =
        FakeIrqs { intx: false, msi: 0, msix: 2048, growable: true, given: None, error: false };
    const FIXED: FakeIrqs = FakeIrqs { growable: false, ..GROWABLE };

    #[test]
    fn enabling_without_vectors_sets_up_one_without_an_eventfd() {
        let device = device(GROWABLE);
        let mut vectors = MessageVectors::new(&device, IrqIndex::Msix).unwrap();
        vectors.enable(&device).unwrap();
        vectors.enable(&device).unwrap();
        assert_eq!((requests(&device), device.armed(IrqIndex::Msix)), (vec![("signal", 0, 1)], vec![]));
    }

    #[test]
    fn a_vector_is_added_alone_where_the_kernel_can() {
        let device = device(GROWABLE);
        let mut vectors = MessageVectors::new(&device, IrqIndex::Msix).unwrap();
        vectors.enable(&device).unwrap();
        vectors.arm(&device, 1000, fd()).unwrap();
        vectors.arm(&device, 3, fd()).unwrap();
        assert_eq!(requests(&device)[1..], [("signal", 1000, 1), ("signal", 3, 1)]);
        assert_eq!(device.armed(IrqIndex::Msix), [3, 1000]);
    }

    #[test]
    fn where_it_cannot_all_used_vectors_are_set_up_again() {
        let device = device(FIXED);
        let mut vectors = MessageVectors::new(&device, IrqIndex::Msix).unwrap();
        vectors.enable(&device).unwrap();
        vectors.arm(&device, 2, fd()).unwrap();
        vectors.arm(&device, 1, fd()).unwrap();
        let expected = [("signal", 0, 1), ("disable", 0, 0), ("signal", 0, 3), ("signal", 1, 1)];
        assert_eq!(requests(&device), expected);
        assert_eq!(device.armed(IrqIndex::Msix), [1, 2]);
    }

    #[test]
    fn vectors_armed_before_enabling_come_with_it() {
        let device = device(FIXED);
        let mut vectors = MessageVectors::new(&device, IrqIndex::Msix).unwrap();
        vectors.arm(&device, 1, fd()).unwrap();
        vectors.arm(&device, 3, fd()).unwrap();
        vectors.enable(&device).unwrap();
        assert_eq!((requests(&device), device.armed(IrqIndex::Msix)), (vec![("signal", 0, 4)], vec![1, 3]));
        vectors.disarm(&device, 1).unwrap();
        vectors.disarm(&device, 1).unwrap();
        vectors.disable(&device).unwrap();
        vectors.enable(&device).unwrap();
        assert_eq!(device.armed(IrqIndex::Msix), [3]);
        vectors.disable(&device).unwrap();
        vectors.clear();
        vectors.enable(&device).unwrap();
        assert!(device.armed(IrqIndex::Msix).is_empty());
    }

    #[test]
    fn a_vector_the_host_cannot_give_leaves_the_others_working() {
        for irqs in [FIXED, GROWABLE] {
            let device = device(FakeIrqs { given: Some(4), ..irqs });
            let mut vectors = MessageVectors::new(&device, IrqIndex::Msix).unwrap();
            vectors.enable(&device).unwrap();
            vectors.arm(&device, 2, fd()).unwrap();
            let refused = vectors.arm(&device, 9, fd()).unwrap_err();
            assert_eq!(refused.cause, Cause::FewerVectors { available: 4 });
            assert_eq!(device.armed(IrqIndex::Msix), [2], "growable: {}", irqs.growable);
        }
    }

    #[test]
    fn a_vector_beyond_the_table_is_refused() {
        let device = device(GROWABLE);
        let mut vectors = MessageVectors::new(&device, IrqIndex::Msix).unwrap();
        assert!(vectors.arm(&device, 2048, fd()).is_err());
        assert!(vectors.disarm(&device, u32::MAX).is_err());
    }
}
