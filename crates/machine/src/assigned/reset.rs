//! Resets of assigned functions: a ladder of ways, tried until one works, each with a deadline.
//!
//! The function alone first, by whatever way the kernel knows (device-specific, FLR); then its slot or bus, when every
//! function there is ours; last the way through its power states, which many functions only claim to have. At the start
//! only those are reset that the kernel could not reset when it opened them. QEMU's vfio_pci_reset goes the same way.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use linux::vfio::config::{Config, PowerState, ResetWays};
use linux::vfio::{Access, Cause, Device, DeviceError, Errno, Operation};
use spec::{PciAddress, ResetWay};

/// How long one rung may take. The kernel gives a function up to a minute to come back; one that needs more than this
/// keeps a person waiting who asked for a restart.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// How a reset went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResetOutcome {
    /// The way that worked; `None` when none did, or the function has none.
    pub(crate) by: Option<ResetWay>,
    /// The ways that were tried in vain, and why.
    pub(crate) failed: Vec<(ResetWay, DeviceError)>,
}

impl ResetOutcome {
    /// Whether a way did not come back in time: what it was doing may still go on.
    pub(crate) fn hangs(&self) -> bool {
        self.failed.iter().any(|(_, error)| matches!(error.cause, Cause::Deadline(_)))
    }
}

/// Who owns the functions around one, for a reset of the slot.
pub(crate) trait SlotOwner: Send + Sync {
    /// Resets the slot or bus of `device`, if everything there is ours.
    fn reset_slot(&self, device: &dyn Device) -> Result<(), DeviceError>;
}

impl SlotOwner for Access {
    fn reset_slot(&self, device: &dyn Device) -> Result<(), DeviceError> {
        let groups = self.groups();
        device.hot_reset(self.ownership(&groups))
    }
}

/// The functions of one slot of the guest, for resets that the guest asks for while the others work: what is one slot or
/// bus of the host can be several slots of the guest.
pub(crate) struct GuestSlot {
    /// Who owns what is around.
    pub(crate) owner: Arc<dyn SlotOwner>,
    /// The functions of the slot.
    pub(crate) functions: Vec<PciAddress>,
}

impl SlotOwner for GuestSlot {
    fn reset_slot(&self, device: &dyn Device) -> Result<(), DeviceError> {
        let concerned = device.reset_scope()?.functions;
        let elsewhere = concerned.iter().filter(|function| !self.functions.contains(&function.address));
        match elsewhere.count() {
            0 => self.owner.reset_slot(device),
            count => Err(DeviceError::new(Operation::HotReset, Cause::OtherSlots(count))),
        }
    }
}

/// The ways worth trying, best first. `resettable` is the kernel's word that it can reset the function alone.
fn ladder(resettable: bool, ways: ResetWays) -> Vec<ResetWay> {
    // What the kernel can do for a function without FLR is either specific to the device or by power state: which of
    // them it does not tell, so the slot goes first where power is a way.
    let rungs = [
        (resettable && (ways.function_level || !ways.power), ResetWay::Function),
        (true, ResetWay::Slot),
        (resettable && ways.power && !ways.function_level, ResetWay::Power),
    ];
    rungs.into_iter().filter(|(worth, _)| *worth).map(|(_, rung)| rung).collect()
}

/// Wakes the function and resets it; `deadline` is for each way.
pub(crate) fn reset(
    device: &Arc<dyn Device>,
    ways: ResetWays,
    owner: &Arc<dyn SlotOwner>,
    deadline: Duration,
) -> ResetOutcome {
    // A function that sleeps cannot be reset by some of the ways; one that does not wake may wake by the reset.
    let _ = Config(device.as_ref()).set_power_state(PowerState::D0);
    let mut outcome = ResetOutcome::default();
    for rung in ladder(device.info().resettable, ways) {
        let (device, owner) = (Arc::clone(device), Arc::clone(owner));
        let tried = within(deadline, move || match rung {
            ResetWay::Function | ResetWay::Power => device.reset(),
            ResetWay::Slot => owner.reset_slot(device.as_ref()),
        });
        match tried {
            Ok(()) => {
                outcome.by = Some(rung);
                break;
            }
            Err(error) => outcome.failed.push((rung, error)),
        }
        if outcome.hangs() {
            // The kernel still holds the function: the next way would wait for the one before.
            break;
        }
    }
    outcome
}

/// Does `job` on a thread of its own and waits so long for it. A job that takes longer is left to itself.
pub(crate) fn within(
    deadline: Duration,
    job: impl FnOnce() -> Result<(), DeviceError> + Send + 'static,
) -> Result<(), DeviceError> {
    let (done, wait) = channel();
    let thread = std::thread::Builder::new().name("reset".into()).stack_size(STACK).spawn(move || {
        // Nobody waits any more after the deadline.
        let _ = done.send(job());
    });
    if let Err(error) = thread {
        // Without a thread there is no watch, and nothing has been begun.
        let errno = Errno::from_io_error(&error).unwrap_or(Errno::AGAIN);
        return Err(DeviceError::new(Operation::Reset, errno));
    }
    match wait.recv_timeout(deadline) {
        Ok(outcome) => outcome,
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            Err(DeviceError::new(Operation::Reset, Cause::Deadline(deadline)))
        }
    }
}

const STACK: usize = 128 << 10;

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::sync::Arc;
    use std::time::Duration;

    use linux::vfio::config::{PowerState, ResetWays};
    use linux::vfio::fake::{FakeDevice, FakeReset, Removal, Script};
    use linux::vfio::{ConcernedFunction, Device, DeviceError, Errno, Holder, Ownership, ResetScope};
    use spec::PciAddress;

    use super::{GuestSlot, ResetWay, SlotOwner, ladder, reset};

    const FLR: ResetWays = ResetWays { function_level: true, power: true };
    const POWER: ResetWays = ResetWays { function_level: false, power: true };
    const NONE: ResetWays = ResetWays { function_level: false, power: false };
    const SOON: Duration = Duration::from_millis(200);

    /// Holds groups by number.
    struct Groups(Vec<u32>);

    impl SlotOwner for Groups {
        fn reset_slot(&self, device: &dyn Device) -> Result<(), DeviceError> {
            let out = std::io::stdout();
            let groups: Vec<_> = self.0.iter().map(|id| (*id, out.as_fd())).collect();
            device.hot_reset(Ownership::Groups(&groups))
        }
    }

    fn scope(groups: &[u32]) -> Option<ResetScope> {
        let function = |(number, group): (u8, &u32)| ConcernedFunction {
            address: PciAddress::new(0, 3, 0, number).unwrap(),
            holder: Holder::Group(*group),
        };
        Some(ResetScope { functions: (0..).zip(groups).map(function).collect(), all_owned: false })
    }

    #[test]
    fn the_ladder_begins_with_what_concerns_least() {
        for (resettable, ways, expected) in [
            (true, FLR, vec![ResetWay::Function, ResetWay::Slot]),
            (true, NONE, vec![ResetWay::Function, ResetWay::Slot]),
            (true, POWER, vec![ResetWay::Slot, ResetWay::Power]),
            (false, FLR, vec![ResetWay::Slot]),
            (false, NONE, vec![ResetWay::Slot]),
        ] {
            assert_eq!(ladder(resettable, ways), expected, "{resettable} {ways:?}");
        }
    }

    #[test]
    fn the_first_way_that_works_ends_the_climb() {
        let fails = FakeReset::Fails(Errno::NOTTY);
        for (name, ways, alone, slot, scope, by, failed) in [
            ("FLR", FLR, FakeReset::Works, FakeReset::Works, scope(&[7]), Some(ResetWay::Function), 0),
            ("FLR fails", FLR, fails, FakeReset::Works, scope(&[7]), Some(ResetWay::Slot), 1),
            (
                "power, slot ours",
                POWER,
                FakeReset::Works,
                FakeReset::Works,
                scope(&[7, 8]),
                Some(ResetWay::Slot),
                0,
            ),
            (
                "power, slot shared",
                POWER,
                FakeReset::Works,
                FakeReset::Works,
                scope(&[7, 9]),
                Some(ResetWay::Power),
                1,
            ),
            ("no way", NONE, FakeReset::Absent, FakeReset::Works, None, None, 1),
            ("all fail", POWER, fails, fails, scope(&[7]), None, 2),
        ] {
            let script = Script { reset: alone, hot_reset: slot, scope, ..Script::new(1, 2) };
            let device = Arc::new(FakeDevice::new(script).unwrap());
            let outcome =
                reset(&(Arc::clone(&device) as _), ways, &(Arc::new(Groups(vec![7, 8])) as _), SOON);
            assert_eq!((outcome.by, outcome.failed.len()), (by, failed), "{name}: {outcome:?}");
            assert_eq!(device.resets(), u32::from(by.is_some()), "{name}");
        }
    }

    #[test]
    fn a_guest_resets_no_slot_but_its_own() {
        let script = Script { reset: FakeReset::Absent, scope: scope(&[7, 8]), ..Script::new(1, 2) };
        let address = |number| PciAddress::new(0, 3, 0, number).unwrap();
        for (functions, by) in
            [(vec![address(0), address(1)], Some(ResetWay::Slot)), (vec![address(0)], None), (vec![], None)]
        {
            let device = Arc::new(FakeDevice::new(script.clone()).unwrap());
            let slot = GuestSlot { owner: Arc::new(Groups(vec![7, 8])), functions };
            let outcome = reset(&(Arc::clone(&device) as _), NONE, &(Arc::new(slot) as _), SOON);
            assert_eq!((outcome.by, device.resets()), (by, u32::from(by.is_some())));
        }
    }

    #[test]
    fn a_reset_that_hangs_is_left_and_nothing_else_tried() {
        let script = Script {
            reset: FakeReset::Hangs(Duration::from_secs(60)),
            scope: scope(&[7]),
            ..Script::new(1, 2)
        };
        let device = Arc::new(FakeDevice::new(script).unwrap());
        let outcome = reset(&(Arc::clone(&device) as _), FLR, &(Arc::new(Groups(vec![7])) as _), SOON);
        assert!(outcome.hangs() && outcome.by.is_none() && outcome.failed.len() == 1, "{outcome:?}");
        device.let_go();
    }

    #[test]
    fn a_function_that_is_gone_or_stuck_is_no_hang() {
        let gone = Arc::new(FakeDevice::new(Script::new(1, 2)).unwrap());
        gone.remove(Removal::AllOnes);
        let owner: Arc<dyn SlotOwner> = Arc::new(Groups(vec![]));
        let outcome = reset(&(gone as _), FLR, &owner, SOON);
        assert_eq!((outcome.by, outcome.failed.len(), outcome.hangs()), (None, 2, false));
        let stuck = Script {
            stuck_in: Some(PowerState::D3hot),
            ..Script::new(1, 2).with_capability(0x40, 1, &[0; 6])
        };
        let outcome = reset(&(Arc::new(FakeDevice::new(stuck).unwrap()) as _), FLR, &owner, SOON);
        assert_eq!(outcome.by, Some(ResetWay::Function));
    }
}
