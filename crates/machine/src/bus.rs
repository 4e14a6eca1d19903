//! The port and memory buses of the board: sorted ranges, each with the device that answers there.
//!
//! A device answers an access and returns effects; whoever carried the access out applies them after the
//! device's lock is gone, so no device ever calls the machine.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// A device on a bus. The defaults answer as an empty slot does: reads give all-ones, writes vanish.
pub trait Device: Send {
    /// Names the device for messages.
    fn name(&self) -> &str;

    /// Answers a read at `offset` from the start of the range; `data` is the access's width (1, 2, 4 or 8 bytes).
    fn read(&mut self, offset: u64, data: &mut [u8]) -> Vec<Effect> {
        let _ = offset;
        data.fill(0xff);
        Vec::new()
    }

    /// Takes a write at `offset` from the start of the range; `data` is the access's width.
    fn write(&mut self, offset: u64, data: &[u8]) -> Vec<Effect> {
        let _ = (offset, data);
        Vec::new()
    }
}

/// What an access asks of the machine, carried out once the device's lock is released.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Reset the whole machine.
    Reset(ResetPath),
    /// Power the machine off.
    PowerOff,
    /// A PCI function has changed something outside of a config access.
    Pci(pci::FunctionId, pci::Change),
    /// The flash chip answers reads by itself now, or no longer.
    FlashMode,
    /// The owner should know.
    Note(String),
}

/// The way by which a guest asked for a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetPath {
    /// Port 0xCF9, which is also the ACPI reset register.
    ResetControl,
    /// The keyboard controller's pulse of the reset line.
    KeyboardController,
    /// Bit 0 of system control port A, 0x92.
    SystemControlPort,
    /// Hyper-V's reset register.
    Hypervisor,
    /// A vCPU gave up: three faults, one inside the other.
    TripleFault,
}

impl std::fmt::Display for ResetPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::ResetControl => "reset-control",
            Self::KeyboardController => "keyboard-controller",
            Self::SystemControlPort => "system-control-port",
            Self::Hypervisor => "hypervisor",
            Self::TripleFault => "triple-fault",
        })
    }
}

/// A device as the buses share it.
pub type SharedDevice = Arc<Mutex<dyn Device>>;

/// A range could not be added because another one is there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bus range {wanted:#x?} meets {present:#x?}")]
pub struct RangeTaken {
    /// The range that was to be added.
    pub wanted: Range<u64>,
    /// The range that is there.
    pub present: Range<u64>,
}

/// An address space with devices in it.
#[derive(Default)]
pub struct Bus {
    // Sorted by start and free of overlap. The lock is held for the search only, never while a device answers.
    ranges: RwLock<Vec<(Range<u64>, SharedDevice)>>,
}

impl Bus {
    /// Puts `device` at `range`; refused when any part of the range is taken.
    pub fn insert(&self, range: Range<u64>, device: SharedDevice) -> Result<(), RangeTaken> {
        let mut ranges = self.ranges.write().unwrap_or_else(PoisonError::into_inner);
        let index = ranges.partition_point(|(present, _)| present.start < range.start);
        let before = index.checked_sub(1).and_then(|index| ranges.get(index));
        let after = ranges.get(index);
        if let Some((present, _)) =
            [before, after].into_iter().flatten().find(|(present, _)| overlap(present, &range))
        {
            return Err(RangeTaken { wanted: range, present: present.clone() });
        }
        ranges.insert(index, (range, device));
        Ok(())
    }

    /// Takes away the device whose range starts at `start`.
    pub fn remove(&self, start: u64) -> Option<SharedDevice> {
        let mut ranges = self.ranges.write().unwrap_or_else(PoisonError::into_inner);
        let index = ranges.iter().position(|(range, _)| range.start == start)?;
        Some(ranges.remove(index).1)
    }

    /// Reads at `address`; an address nobody answers reads as all-ones.
    pub fn read(&self, address: u64, data: &mut [u8]) -> Vec<Effect> {
        match self.find(address, data.len()) {
            Some((offset, device)) => lock(&device).read(offset, data),
            None => {
                data.fill(0xff);
                Vec::new()
            }
        }
    }

    /// Writes at `address`; a write nobody takes vanishes.
    pub fn write(&self, address: u64, data: &[u8]) -> Vec<Effect> {
        match self.find(address, data.len()) {
            Some((offset, device)) => lock(&device).write(offset, data),
            None => Vec::new(),
        }
    }

    /// The device that holds all of the access, and the offset in its range.
    fn find(&self, address: u64, len: usize) -> Option<(u64, SharedDevice)> {
        let ranges = self.ranges.read().unwrap_or_else(PoisonError::into_inner);
        let index = ranges.partition_point(|(range, _)| range.start <= address).checked_sub(1)?;
        let (range, device) = ranges.get(index)?;
        let end = address.checked_add(u64::try_from(len).ok()?)?;
        (end <= range.end).then(|| (address - range.start, Arc::clone(device)))
    }
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

/// A device that panicked in an earlier access has already been reported; its registers are still its own.
fn lock<'a>(device: &'a Mutex<dyn Device + 'static>) -> MutexGuard<'a, dyn Device + 'static> {
    device.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::{Bus, Device, Effect, SharedDevice};

    struct Echo;

    impl Device for Echo {
        fn name(&self) -> &str {
            "echo"
        }

        fn read(&mut self, offset: u64, data: &mut [u8]) -> Vec<Effect> {
            data.fill(u8::try_from(offset).unwrap());
            Vec::new()
        }
    }

    fn echo() -> SharedDevice {
        Arc::new(Mutex::new(Echo))
    }

    #[test]
    fn an_access_reaches_the_device_that_holds_all_of_it() {
        let bus = Bus::default();
        bus.insert(0x100..0x108, echo()).unwrap();
        bus.insert(0x110..0x120, echo()).unwrap();
        for (address, len, byte) in [
            (0x100, 1, 0),
            (0x107, 1, 7),
            (0x107, 2, 0xff),
            (0x108, 1, 0xff),
            (0x112, 4, 2),
            (0xff, 1, 0xff),
            (u64::MAX, 8, 0xff),
        ] {
            let mut data = vec![0x55; len];
            bus.read(address, &mut data);
            assert_eq!(data, vec![byte; len], "{address:#x}+{len}");
        }
    }

    #[test]
    fn ranges_never_overlap() {
        let bus = Bus::default();
        bus.insert(0x100..0x108, echo()).unwrap();
        for (range, free) in [
            (0xf8..0x100, true),
            (0x107..0x109, false),
            (0x100..0x101, false),
            (0xf0..0x200, false),
            (0x108..0x109, true),
        ] {
            assert_eq!(bus.insert(range.clone(), echo()).is_ok(), free, "{range:x?}");
        }
    }

    #[test]
    fn a_removed_range_is_empty_and_free() {
        let bus = Bus::default();
        bus.insert(0x100..0x108, echo()).unwrap();
        assert!(bus.remove(0x100).is_some());
        assert!(bus.remove(0x100).is_none());
        let mut data = [0];
        bus.read(0x100, &mut data);
        assert_eq!(data, [0xff]);
        bus.insert(0x100..0x108, echo()).unwrap();
    }
}
