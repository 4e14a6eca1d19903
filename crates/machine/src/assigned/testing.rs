//! Fake devices as the functions of a machine, for the tests of this folder.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use linux::EventFd;
use linux::memory::MappingRange;
use linux::vfio::config::{Config, command};
use linux::vfio::fake::{FakeDevice, FakeRom, Script};
use linux::vfio::{Device, DeviceError, Errno, RegionIndex};
use pci::capability::{walk_extended, walk_standard};
use pci::{BarIndex, Bdf, Change, Function, FunctionId, Hierarchy, Place};
use spec::PciAddress;

use super::function::{AssignedFunction, Wires};
use super::hardware::{ExamineError, Hardware, Terms};
use super::health::Health;
use super::interrupts::Interrupts;
use super::placement::{BarPlaces, Placement};
use super::quirk::{Bell, Shortcuts};
use super::reset::SlotOwner;
use crate::events::Events;
use crate::followers::{FollowError, MemoryFollower};
use crate::messages::Triggers;
use crate::pci_host::BarFollower;

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

/// Owns nothing besides the function.
struct Alone;

impl SlotOwner for Alone {
    fn reset_slot(&self, device: &dyn Device) -> Result<(), DeviceError> {
        device.hot_reset(linux::vfio::Ownership::Groups(&[]))
    }
}

/// Shows memory to nobody, keeps account, and looks whether the device decodes whenever something is shown.
#[derive(Clone)]
struct Slots {
    shown: Arc<Mutex<BTreeMap<u64, u64>>>,
    device: Arc<FakeDevice>,
    broken: bool,
}

impl MemoryFollower for Slots {
    fn show(&self, guest: u64, memory: &MappingRange) -> Result<(), FollowError> {
        if self.broken {
            let operation = linux::iommu::IommuOperation::Limits;
            return Err(linux::iommu::IommuError::new(operation, Errno::NOSPC).into());
        }
        assert!(self.shown.lock().unwrap().insert(guest, memory.len() as u64).is_none());
        Ok(())
    }

    fn hide(&self, guest: u64, len: u64) -> Result<(), FollowError> {
        assert_eq!(self.shown.lock().unwrap().remove(&guest), Some(len));
        let decodes =
            Config(self.device.as_ref()).read_u16(4).is_ok_and(|value| value & command::MEMORY != 0);
        assert!(decodes, "taken away only after the hardware stopped answering");
        Ok(())
    }
}

/// A function in its slot, reached as a guest does.
pub(crate) struct Bench {
    pub(crate) device: Arc<FakeDevice>,
    pub(crate) hardware: Arc<Hardware>,
    pub(crate) events: Arc<Events>,
    pub(crate) interrupts: Arc<Interrupts>,
    pub(crate) triggers: Triggers,
    pub(crate) function: Arc<Mutex<AssignedFunction>>,
    pub(crate) hierarchy: Hierarchy,
    pub(crate) id: FunctionId,
    pub(crate) followers: [Box<dyn BarFollower>; 2],
    pub(crate) shown: Arc<Mutex<BTreeMap<u64, u64>>>,
    pub(crate) bells: Bells,
}

/// Where BARs can be.
pub(crate) const APERTURES: pci::Apertures = pci::Apertures {
    low: 0x8000_0000..0xfec0_0000,
    high: 0x10_0000_0000..0x20_0000_0000,
    io: 0x1000..0x1_0000,
};
/// Its address in the guest.
pub(crate) const BDF: Bdf = Bdf::new(0, 3, 0).unwrap();

impl Bench {
    pub(crate) fn new(script: Script) -> Self {
        Self::with(script, false)
    }

    pub(crate) fn with(script: Script, broken_slots: bool) -> Self {
        let device = Arc::new(FakeDevice::new(script).unwrap());
        let (hardware, events) = hardware(&device);
        hardware.quiet().unwrap();
        let shown = Arc::<Mutex<BTreeMap<u64, u64>>>::default();
        let slots = Slots { shown: Arc::clone(&shown), device: Arc::clone(&device), broken: broken_slots };
        let places = Arc::new(BarPlaces::new(Arc::clone(&hardware), vec![Box::new(slots)]));
        let triggers = Triggers::default();
        let interrupts = Arc::new(Interrupts::new(Arc::clone(&hardware), triggers.clone()));
        let bells = Bells::default();
        let shortcuts = Arc::new(Shortcuts::new(Arc::clone(&hardware), bells.bell()));
        let function = Arc::new(Mutex::new(AssignedFunction::new(
            Arc::clone(&hardware),
            Wires {
                places: Arc::clone(&places),
                interrupts: Arc::clone(&interrupts),
                triggers: triggers.clone(),
                shortcuts: Arc::clone(&shortcuts),
                owner: Arc::new(Alone),
            },
        )));
        let mut hierarchy = Hierarchy::new(APERTURES);
        let (id, _) =
            hierarchy.add(Place::Root { device: 3, function: 0 }, Arc::clone(&function) as _).unwrap();
        let followers: [Box<dyn BarFollower>; 2] = [Box::new(Placement(places)), Box::new(shortcuts)];
        Self {
            device,
            hardware,
            events,
            interrupts,
            triggers,
            function,
            hierarchy,
            id,
            followers,
            shown,
            bells,
        }
    }

    /// Writes config space and carries the effects out in their order, as the machine does.
    pub(crate) fn write(&mut self, offset: u16, data: &[u8]) {
        let effects = self.hierarchy.write_config(BDF, offset, data);
        self.carry_out(effects);
    }

    /// Writes to a BAR where it is trapped, and carries the effects out.
    pub(crate) fn write_bar(&mut self, bar: BarIndex, offset: u64, data: &[u8]) {
        let changes = self.function.lock().unwrap().write_bar(bar, offset, data);
        for change in changes {
            match change {
                Change::Bars => {
                    let effects = self.hierarchy.refresh(self.id);
                    self.carry_out(effects);
                }
                change => self.interrupts.follow(&change),
            }
        }
    }

    pub(crate) fn read_bar(&mut self, bar: BarIndex, offset: u64) -> u32 {
        let mut data = [0; 4];
        self.function.lock().unwrap().read_bar(bar, offset, &mut data);
        u32::from_le_bytes(data)
    }

    fn carry_out(&mut self, effects: Vec<pci::Effect>) {
        for effect in effects {
            match effect {
                pci::Effect::Map(mapping) => {
                    self.followers.iter_mut().for_each(|follower| follower.map(&mapping));
                }
                pci::Effect::Unmap(mapping) => {
                    self.followers.iter_mut().for_each(|follower| follower.unmap(&mapping));
                }
                pci::Effect::Changed(_, change) => self.interrupts.follow(&change),
            }
        }
    }

    pub(crate) fn read(&self, offset: u16) -> u32 {
        let mut data = [0; 4];
        self.hierarchy.read_config(BDF, offset, &mut data);
        u32::from_le_bytes(data)
    }

    pub(crate) fn shown(&self) -> Vec<(u64, u64)> {
        self.shown.lock().unwrap().iter().map(|(guest, len)| (*guest, *len)).collect()
    }

    pub(crate) fn standard(&self) -> Vec<(u16, u16)> {
        let chain = walk_standard(|offset| self.byte(offset));
        assert_eq!(chain.flaw, None, "the guest's chain is sound");
        chain.capabilities.iter().map(|found| (found.id, found.offset)).collect()
    }

    pub(crate) fn extended(&self) -> Vec<(u16, u16)> {
        let chain = walk_extended(|offset| self.byte(offset));
        assert_eq!(chain.flaw, None, "the guest's chain is sound");
        chain.capabilities.iter().map(|found| (found.id, found.offset)).collect()
    }

    pub(crate) fn byte(&self, offset: u16) -> u8 {
        let mut data = [0];
        self.hierarchy.read_config(BDF, offset, &mut data);
        data[0]
    }
}

/// The bells of KVM as they are now: the addresses and values that ring, each with its event.
#[derive(Clone, Default)]
pub(crate) struct Bells(Arc<Mutex<BTreeMap<Ringing, Arc<EventFd>>>>);

/// An address and the dword that is written there.
type Ringing = (u64, u32);

/// One of them, until dropped.
struct Rings(Bells, Ringing);

impl Drop for Rings {
    fn drop(&mut self) {
        self.0.0.lock().unwrap().remove(&self.1);
    }
}

impl Bells {
    fn bell(&self) -> Bell {
        let bells = self.clone();
        Box::new(move |address, value, event| {
            bells.0.lock().unwrap().insert((address, value), event);
            Some(Box::new(Rings(bells.clone(), (address, value))))
        })
    }

    /// A guest writes: whether it rang, so that nobody else hears of the write.
    pub(crate) fn ring(&self, address: u64, value: u32) -> bool {
        let bells = self.0.lock().unwrap();
        bells.get(&(address, value)).is_some_and(|event| event.write(1).is_ok())
    }
}
