//! Interrupts of a fake device, by the rules of the kernel (`drivers/vfio/pci/vfio_pci_intrs.c`).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::script::FakeIrqs;
use crate::vfio::{Cause, IrqAction, IrqIndex, IrqInfo};

/// What is set up.
#[derive(Debug, Default)]
pub(super) struct Interrupts {
    // Only one of the three kinds at a time, with the eventfds of the vectors set up.
    enabled: Option<IrqIndex>,
    vectors: Vec<Option<OwnedFd>>,
    masked: bool,
    pending: bool,
    unmask_on: Option<OwnedFd>,
    error: Option<OwnedFd>,
    request: Option<OwnedFd>,
}

impl FakeIrqs {
    pub(super) fn info(self, irq: IrqIndex) -> IrqInfo {
        let pin = irq == IrqIndex::Intx;
        IrqInfo {
            count: match irq {
                IrqIndex::Intx => u32::from(self.intx),
                IrqIndex::Msi => self.msi,
                IrqIndex::Msix => self.msix,
                IrqIndex::Error => u32::from(self.error),
                IrqIndex::Request => 1,
            },
            event_fd: true,
            maskable: pin,
            automasked: pin,
            growable: pin || (irq == IrqIndex::Msix && self.growable),
        }
    }
}

impl Interrupts {
    pub(super) fn enabled(&self) -> Option<IrqIndex> {
        self.enabled
    }

    /// The vectors that have an eventfd.
    pub(super) fn armed(&self, irq: IrqIndex) -> Vec<u32> {
        match irq {
            IrqIndex::Error => self.error.iter().map(|_| 0).collect(),
            IrqIndex::Request => self.request.iter().map(|_| 0).collect(),
            _ if self.enabled == Some(irq) => {
                (0..).zip(&self.vectors).filter_map(|(vector, fd)| fd.as_ref().map(|_| vector)).collect()
            }
            _ => Vec::new(),
        }
    }

    pub(super) fn set(&mut self, irqs: FakeIrqs, irq: IrqIndex, action: IrqAction<'_>) -> Result<(), Cause> {
        let info = irqs.info(irq);
        let (_, start, count) = action.summary();
        if start.checked_add(count).is_none_or(|end| end > info.count) || info.count == 0 {
            return Err(Errno::INVAL.into());
        }
        match irq {
            IrqIndex::Error => set_single(&mut self.error, action),
            IrqIndex::Request => set_single(&mut self.request, action),
            IrqIndex::Intx | IrqIndex::Msi | IrqIndex::Msix => self.set_vectors(irqs, irq, action),
        }
    }

    fn set_vectors(&mut self, irqs: FakeIrqs, irq: IrqIndex, action: IrqAction<'_>) -> Result<(), Cause> {
        let ours = self.enabled == Some(irq);
        match action {
            // What allocating no vector says; one that is enabled has nothing to do.
            IrqAction::Signal { fds: [], .. } if irq == IrqIndex::Intx => Err(Errno::INVAL.into()),
            IrqAction::Signal { fds: [], .. } if self.enabled.is_none() => Err(Errno::RANGE.into()),
            IrqAction::Signal { start, fds } if ours || self.enabled.is_none() => {
                self.signal(irqs, irq, start as usize, fds)
            }
            IrqAction::Disable if ours => {
                let (error, request) = (self.error.take(), self.request.take());
                *self = Self { error, request, ..Self::default() };
                Ok(())
            }
            IrqAction::Fire { start, count } if ours => {
                for fd in self.vectors.iter().skip(start as usize).take(count as usize).flatten() {
                    notify(fd.as_fd());
                }
                Ok(())
            }
            IrqAction::Mask if ours && irq == IrqIndex::Intx => {
                self.masked = true;
                Ok(())
            }
            IrqAction::Unmask if ours && irq == IrqIndex::Intx => {
                self.unmask();
                Ok(())
            }
            IrqAction::UnmaskOn(fd) if ours && irq == IrqIndex::Intx => {
                self.unmask_on = fd.map(copy).transpose()?;
                Ok(())
            }
            _ => Err(Errno::INVAL.into()),
        }
    }

    fn signal(
        &mut self,
        irqs: FakeIrqs,
        irq: IrqIndex,
        start: usize,
        fds: &[Option<BorrowedFd<'_>>],
    ) -> Result<(), Cause> {
        let end = start + fds.len();
        if self.enabled.is_none() || end > self.vectors.len() {
            if self.enabled.is_some() && !irqs.info(irq).growable {
                return Err(Errno::INVAL.into());
            }
            if let Some(available) = irqs.given.filter(|given| (*given as usize) < end) {
                return Err(Cause::FewerVectors { available });
            }
            self.vectors.resize_with(end, || None);
        }
        let copies = fds.iter().map(|fd| fd.map(copy).transpose()).collect::<Result<Vec<_>, _>>()?;
        for (place, fd) in self.vectors.iter_mut().skip(start).zip(copies) {
            *place = fd;
        }
        self.enabled = Some(irq);
        Ok(())
    }

    /// The device raises an interrupt; whether an eventfd was signalled.
    pub(super) fn raise(&mut self, irq: IrqIndex, vector: u32, disabled: bool) -> bool {
        let fd = match irq {
            IrqIndex::Error => self.error.as_ref(),
            IrqIndex::Request => self.request.as_ref(),
            IrqIndex::Intx => {
                self.take_unmask();
                if self.enabled != Some(irq) {
                    return false;
                }
                self.pending = self.masked || disabled;
                if self.pending {
                    return false;
                }
                // A level stays until the guest has served it: the kernel masks the pin at once.
                self.masked = true;
                self.vectors.first().and_then(Option::as_ref)
            }
            IrqIndex::Msi | IrqIndex::Msix if self.enabled == Some(irq) => {
                self.vectors.get(vector as usize).and_then(Option::as_ref)
            }
            _ => None,
        };
        fd.is_some_and(|fd| notify(fd.as_fd()))
    }

    /// Whether the pin is masked now.
    pub(super) fn is_masked(&mut self) -> bool {
        self.take_unmask();
        self.masked
    }

    /// Does what the kernel would have done when the unmask eventfd was signalled.
    fn take_unmask(&mut self) {
        if self.unmask_on.as_ref().is_some_and(|fd| drain(fd.as_fd())) {
            self.unmask();
        }
    }

    fn unmask(&mut self) {
        self.masked = false;
        if std::mem::take(&mut self.pending) {
            self.masked = true;
            if let Some(fd) = self.vectors.first().and_then(Option::as_ref) {
                notify(fd.as_fd());
            }
        }
    }
}

fn set_single(slot: &mut Option<OwnedFd>, action: IrqAction<'_>) -> Result<(), Cause> {
    match action {
        IrqAction::Signal { fds: [fd], .. } => *slot = fd.map(copy).transpose()?,
        IrqAction::Disable if slot.is_some() => *slot = None,
        IrqAction::Fire { count: 1, .. } if slot.is_some() => {
            if let Some(fd) = slot {
                notify(fd.as_fd());
            }
        }
        _ => return Err(Errno::INVAL.into()),
    }
    Ok(())
}

fn copy(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    rustix::io::fcntl_dupfd_cloexec(fd, 0)
}

fn notify(fd: BorrowedFd<'_>) -> bool {
    rustix::io::write(fd, &1_u64.to_ne_bytes()).is_ok()
}

/// Takes what was signalled; whether anything was.
pub(super) fn drain(fd: BorrowedFd<'_>) -> bool {
    let mut ready = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut ready, Some(&now)).is_ok_and(|count| count > 0) && rustix::io::read(fd, &mut [0_u8; 8]).is_ok()
}
