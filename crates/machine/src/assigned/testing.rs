//! Fake devices as the functions of a machine, for the tests of this folder.

use std::sync::Arc;

use linux::vfio::fake::{FakeDevice, FakeRom};
use linux::vfio::{Device, RegionIndex};
use spec::PciAddress;

use super::hardware::{ExamineError, Hardware, Terms};
use super::health::Health;
use crate::events::Events;

/// A device examined as function 0000:03:00.0, and what it tells.
pub(crate) fn hardware(device: &Arc<FakeDevice>) -> (Arc<Hardware>, Arc<Events>) {
    let events = Arc::new(Events::new().unwrap());
    (Arc::new(with(device, &events).unwrap()), events)
}

/// A device examined, which may fail.
pub(crate) fn examine(device: &Arc<FakeDevice>) -> Result<Hardware, ExamineError> {
    with(device, &Arc::new(Events::new().unwrap()))
}

fn with(device: &Arc<FakeDevice>, events: &Arc<Events>) -> Result<Hardware, ExamineError> {
    let address = PciAddress::new(0, 3, 0, 0).unwrap();
    let health = Health::new(address, Arc::clone(events));
    // As the first display, where the device can be one.
    let legacy_vga = device.region(RegionIndex::VGA).is_ok_and(|region| region.size > 0);
    let terms = Terms { legacy_vga, ..Terms::default() };
    Hardware::examine(address, Arc::clone(device) as _, terms, health)
}

/// The smallest ROM with one image of that code type, for 1013:00b8 (PCI Firmware 3.0, section 5.1).
pub(crate) fn rom_of(code_type: u8) -> FakeRom {
    let mut bytes = vec![0; 0x800];
    bytes[..3].copy_from_slice(&[0x55, 0xaa, 1]);
    bytes[0x18] = 0x1c;
    bytes[0x1c..0x24].copy_from_slice(b"PCIR\x13\x10\xb8\x00");
    (bytes[0x26], bytes[0x2c], bytes[0x30], bytes[0x31]) = (0x18, 1, code_type, 0x80);
    FakeRom::honest(bytes)
}
