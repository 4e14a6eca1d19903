//! The configuration space of a function as it was when it was opened, read with few calls.
//!
//! Only for building the guest's view: what changes at run time is read from the device each time.

use std::cell::RefCell;

use linux::vfio::config::CONVENTIONAL_SIZE;
use linux::vfio::{Device, DeviceError, RegionIndex};

/// Bytes of the conventional part, which is read in one go.
const CONVENTIONAL: usize = CONVENTIONAL_SIZE;
/// Bytes of all of it.
const EXPRESS: u64 = 0x1000;
/// What is read at once of the extended part.
const STEP: usize = 16;

/// Config space as read, the extended part on demand.
pub(crate) struct Snapshot<'a> {
    device: &'a dyn Device,
    conventional: [u8; CONVENTIONAL],
    extended: RefCell<Vec<Option<[u8; STEP]>>>,
}

impl<'a> Snapshot<'a> {
    /// Reads the conventional part of `device`.
    pub(crate) fn read(device: &'a dyn Device) -> Result<Self, DeviceError> {
        let size = device.region(RegionIndex::CONFIG)?.size;
        let mut conventional = [0xff; CONVENTIONAL];
        device.read(RegionIndex::CONFIG, 0, &mut conventional)?;
        let steps = if size >= EXPRESS { (EXPRESS as usize - CONVENTIONAL) / STEP } else { 0 };
        Ok(Self { device, conventional, extended: RefCell::new(vec![None; steps]) })
    }

    /// The conventional part.
    pub(crate) fn conventional(&self) -> &[u8; CONVENTIONAL] {
        &self.conventional
    }

    /// Bytes there are: 256 or 4096.
    pub(crate) fn size(&self) -> usize {
        CONVENTIONAL + self.extended.borrow().len() * STEP
    }

    /// A byte; ones past the end, and where the device does not answer.
    pub(crate) fn u8(&self, offset: u16) -> u8 {
        let offset = usize::from(offset);
        if let Some(byte) = self.conventional.get(offset) {
            return *byte;
        }
        let (step, rest) = ((offset - CONVENTIONAL) / STEP, (offset - CONVENTIONAL) % STEP);
        let mut extended = self.extended.borrow_mut();
        let Some(place) = extended.get_mut(step) else { return 0xff };
        let bytes = place.get_or_insert_with(|| {
            let mut bytes = [0xff; STEP];
            let start = (CONVENTIONAL + step * STEP) as u64;
            // A device that does not answer reads as ones: the walks know what that means.
            let _ = self.device.read(RegionIndex::CONFIG, start, &mut bytes);
            bytes
        });
        bytes.get(rest).copied().unwrap_or(0xff)
    }

    /// A word, least significant byte first.
    pub(crate) fn u16(&self, offset: u16) -> u16 {
        u16::from_le_bytes(self.bytes(offset))
    }

    /// A dword, least significant byte first.
    pub(crate) fn u32(&self, offset: u16) -> u32 {
        u32::from_le_bytes(self.bytes(offset))
    }

    /// Bytes from `offset` on.
    pub(crate) fn bytes<const N: usize>(&self, offset: u16) -> [u8; N] {
        let mut bytes = [0; N];
        for (byte, at) in bytes.iter_mut().zip(0..) {
            *byte = self.u8(offset.saturating_add(at));
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use linux::vfio::Operation;
    use linux::vfio::fake::{FakeDevice, Script};

    use super::Snapshot;

    #[test]
    fn the_extended_part_is_read_when_asked_for_and_once() {
        let script =
            Script::new(0x1b36, 0x10).with_config(0x100, &[1, 2, 3, 4]).with_config(0xffc, &[9, 8, 7, 6]);
        let device = FakeDevice::new(script).unwrap();
        let snapshot = Snapshot::read(&device).unwrap();
        let reads = |device: &FakeDevice| {
            device.calls().iter().filter(|call| matches!(call, Operation::Read { .. })).count()
        };
        assert_eq!((snapshot.u16(0), snapshot.size(), reads(&device)), (0x1b36, 0x1000, 1));
        assert_eq!(
            (snapshot.u32(0x100), snapshot.u8(0x103), snapshot.u32(0xffc)),
            (0x0403_0201, 4, 0x0607_0809)
        );
        assert_eq!(reads(&device), 3);
        assert_eq!((snapshot.u16(0xfff), snapshot.u8(0x1000)), (0xff06, 0xff));
    }

    #[test]
    fn a_conventional_function_has_no_extended_part() {
        let device = FakeDevice::new(Script::new(1, 2).conventional()).unwrap();
        let snapshot = Snapshot::read(&device).unwrap();
        assert_eq!((snapshot.size(), snapshot.u32(0x100)), (0x100, u32::MAX));
    }
}
