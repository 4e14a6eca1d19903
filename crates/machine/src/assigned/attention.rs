//! What the host tells of assigned functions while the machine runs: errors that the bus saw, and its wish to have a
//! function back.
//!
//! Both end the machine with an explanation, and nothing else: the fds close, and the host has its function. The event
//! thread waits for all of them.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use linux::EventFd;
use linux::event::{fd_of, new_event};
use linux::vfio::{IrqAction, IrqIndex};

use super::hardware::Hardware;

/// The events of all functions.
#[derive(Default)]
pub(crate) struct Attention {
    watched: Vec<Watched>,
}

struct Watched {
    hardware: Arc<Hardware>,
    kind: IrqIndex,
    event: EventFd,
}

impl Attention {
    /// Listens for what the host tells of a function. A kind that the function or the kernel does not have is left out.
    pub(crate) fn watch(&mut self, hardware: &Arc<Hardware>) -> std::io::Result<()> {
        for kind in [IrqIndex::Error, IrqIndex::Request] {
            let event = new_event()?;
            let signal = IrqAction::Signal { start: 0, fds: &[Some(fd_of(&event))] };
            if hardware.device.set_irqs(kind, signal).is_ok() {
                self.watched.push(Watched { hardware: Arc::clone(hardware), kind, event });
            }
        }
        Ok(())
    }

    /// Each is readable when the host has told something.
    pub(crate) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.watched.iter().map(|watched| fd_of(&watched.event))
    }

    /// Acts on what the host has told.
    pub(crate) fn attend(&self) {
        for Watched { hardware, kind, event } in &self.watched {
            if event.read().is_err() {
                continue;
            }
            hardware.health.end_machine(match kind {
                IrqIndex::Error => {
                    "the bus reports an error that cannot be corrected (AER; see the host's kernel log); its data can no longer be trusted"
                }
                _ => "the host asks for it back, because it is being removed or its driver unbound",
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use linux::vfio::IrqIndex;
    use linux::vfio::fake::{FakeDevice, FakeIrqs, Script};

    use super::super::testing;
    use super::Attention;
    use crate::events::Event;

    #[test]
    fn what_the_host_tells_ends_the_machine_once_and_says_why() {
        for (kind, said) in [(IrqIndex::Error, "AER"), (IrqIndex::Request, "asks for it back")] {
            let script = Script::new(1, 2).with_irqs(FakeIrqs { error: true, ..FakeIrqs::default() });
            let device = Arc::new(FakeDevice::new(script).unwrap());
            let (hardware, events) = testing::hardware(&device);
            let mut attention = Attention::default();
            attention.watch(&hardware).unwrap();
            attention.attend();
            assert_eq!(events.take(), None);
            assert!(device.raise(kind, 0) && device.raise(kind, 0));
            attention.attend();
            attention.attend();
            let Some(Event::Fault(text)) = events.take() else { panic!("no fault") };
            assert!(text.contains(said) && text.contains("0000:03:00.0"), "{text}");
            assert_eq!(events.take(), None);
        }
    }

    #[test]
    fn a_function_without_error_reports_is_watched_for_requests() {
        let device = Arc::new(FakeDevice::new(Script::new(1, 2)).unwrap());
        let (hardware, _) = testing::hardware(&device);
        let mut attention = Attention::default();
        attention.watch(&hardware).unwrap();
        assert_eq!((device.armed(IrqIndex::Error), device.armed(IrqIndex::Request)), (vec![], vec![0]));
    }
}
