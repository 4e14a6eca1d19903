//! Plugging: each card into a root port of its own, its functions' wires into the interrupt controllers, for one life of
//! the machine. And taking them back between lives, with a reset.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};

use linux::event::new_event;
use linux::kvm::{VfioDevice, Vm};
use linux::vfio::add_to_kvm;
use pci::{Bar, Change, FunctionId, Link, Place, RootPort, RootPortOptions, register};
use spec::ResetWay;

use super::function::{AssignedFunction, Wires};
use super::interrupts::{Interrupts, PinWire, WireError};
use super::placement::{BarPlaces, Placement};
use super::quirk::{Bell, Shortcuts};
use super::reset::{GuestSlot, SlotOwner};
use super::{AssignError, Assigned, Function};
use crate::followers::{Dma, KvmSlots, MemoryFollower};
use crate::messages::{Messages, Triggers};
use crate::pci_host::PciHost;

/// The device number of slot 0's root port on bus 0; the others follow.
const FIRST_PORT: u8 = 16;

/// The base classes of storage and network controllers, and the class of USB's.
const STORAGE_CLASS: u32 = 0x01;
const NETWORK_CLASS: u32 = 0x02;
const USB_CLASS: u32 = 0x0c03;

/// What functions are plugged into.
pub(crate) struct Sockets<'a> {
    pub(crate) vm: &'a Vm,
    pub(crate) pci: &'a PciHost,
    pub(crate) messages: &'a Messages,
}

/// The assigned functions in one life of the machine.
#[derive(Default)]
pub(crate) struct Plugged {
    interrupts: BTreeMap<FunctionId, Arc<Interrupts>>,
    places: Vec<Arc<BarPlaces>>,
    shortcuts: Vec<Arc<Shortcuts>>,
    // KVM knows of the functions as long as this is open.
    _known: Option<VfioDevice>,
}

/// A root port, and who resets the slot below it when the guest asks for that.
struct Port {
    id: FunctionId,
    owner: Arc<dyn SlotOwner>,
}

impl Assigned {
    /// Device numbers on bus 0 of the root ports.
    pub(crate) fn ports(&self) -> Vec<u8> {
        self.slots().map(|slot| FIRST_PORT + slot_number(slot)).collect()
    }

    /// The network cards, as Open Firmware writes device paths (SeaBIOS src/boot.c, OVMF QemuBootOrderLib).
    pub(crate) fn network_cards(&self) -> impl Iterator<Item = String> {
        let cards = self.paths(|class| class >> 16 == NETWORK_CLASS, "ethernet");
        cards.map(|card| card + "/ethernet-phy@0")
    }

    /// The controllers of disks, in the same way; the path is the beginning of those of all their disks.
    pub(crate) fn storage(&self) -> impl Iterator<Item = String> {
        self.paths(|class| class >> 16 == STORAGE_CLASS, "storage")
    }

    /// The USB controllers, in the same way.
    pub(crate) fn usb_controllers(&self) -> impl Iterator<Item = String> {
        self.paths(|class| class >> 8 == USB_CLASS, "usb")
    }

    /// The functions of a kind of class.
    fn paths(&self, is_meant: fn(u32) -> bool, name: &str) -> impl Iterator<Item = String> {
        let class = |function: &Function| function.hardware.view.config.u32(register::REVISION) >> 8;
        self.functions.iter().filter(move |function| is_meant(class(function))).map(move |function| {
            let port = FIRST_PORT + function.place.slot;
            let number = match function.place.function {
                0 => String::new(),
                number => format!(",{number:x}"),
            };
            format!("/pci@i0cf8/pci-bridge@{port:x}/{name}@0{number}")
        })
    }

    /// The window for BARs above RAM that ends at `ram_end`, and whether the rest fits below 4 GiB.
    pub(crate) fn high_window(
        &self,
        ram_end: u64,
        bits: u8,
    ) -> Result<Option<RangeInclusive<u64>>, AssignError> {
        let bars = |slot: &[Function]| -> Vec<Bar> {
            slot.iter().flat_map(|function| function.hardware.bars.iter().map(|bar| bar.bar)).collect()
        };
        let slots: Vec<_> = self.slots().map(bars).collect();
        super::aperture::check_low(&slots)?;
        Ok(super::aperture::high_window(&slots, ram_end, bits)?)
    }

    /// Plugs all functions in, at power-on. None of them answers before the guest switches its BARs on.
    pub(crate) fn plug(&self, into: &Sockets<'_>) -> Result<Plugged, AssignError> {
        let known = into.vm.create_vfio_device()?;
        for file in self.access.kvm_files(self.devices.iter().map(Arc::as_ref)) {
            add_to_kvm(&known, file)?;
        }
        let mut plugged = Plugged { _known: Some(known), ..Plugged::default() };
        for slot in self.slots() {
            let port = self.plug_port(into, slot)?;
            for function in slot {
                self.plug_function(into, &port, function, &mut plugged)?;
            }
        }
        Ok(plugged)
    }

    fn plug_port(&self, into: &Sockets<'_>, slot: &[Function]) -> Result<Port, AssignError> {
        let number = slot_number(slot);
        let links = slot.iter().map(|function| function.hardware.link());
        // No slower than any function behind it, or drivers warn and limit themselves.
        let link = links.reduce(|a, b| Link { speed: a.speed.max(b.speed), width: a.width.max(b.width) });
        let Some(link) = link else { return Err(AssignError::Port(pci::NoRoom { id: 0, length: 0 })) };
        let port = RootPort::new(&RootPortOptions {
            port_number: number,
            slot_number: u16::from(number) + 1,
            link,
            occupied: true,
            atomics: atomics(slot),
        })?;
        let place = Place::Root { device: FIRST_PORT + number, function: 0 };
        let id = into.pci.add(place, Arc::new(Mutex::new(port)))?;
        let functions = slot.iter().map(|function| function.place.address).collect();
        Ok(Port { id, owner: Arc::new(GuestSlot { owner: Arc::clone(&self.access) as _, functions }) })
    }

    fn plug_function(
        &self,
        into: &Sockets<'_>,
        port: &Port,
        function: &Function,
        plugged: &mut Plugged,
    ) -> Result<(), AssignError> {
        let hardware = &function.hardware;
        let address = function.place.address;
        hardware.quiet().map_err(|error| AssignError::Quiet { address, error })?;
        let mut followers: Vec<Box<dyn MemoryFollower>> = vec![Box::new(KvmSlots::new(into.vm))];
        if self.functions.len() > 1 {
            followers.push(Box::new(Dma(self.access.space())));
        }
        let places = Arc::new(BarPlaces::new(Arc::clone(hardware), followers));
        let triggers = Triggers::default();
        let interrupts = Arc::new(Interrupts::new(Arc::clone(hardware), triggers.clone()));
        let shortcuts = Arc::new(Shortcuts::new(Arc::clone(hardware), bell(into.vm)));
        let wires = Wires {
            places: Arc::clone(&places),
            interrupts: Arc::clone(&interrupts),
            triggers: triggers.clone(),
            shortcuts: Arc::clone(&shortcuts),
            owner: Arc::clone(&port.owner),
        };
        let end = AssignedFunction::new(Arc::clone(hardware), wires);
        let place = Place::Slot { port: port.id, function: function.place.function };
        let id = into.pci.add(place, Arc::new(Mutex::new(end)))?;
        into.messages.plug(id, triggers);
        into.pci.follow_bars(id, Box::new(Placement(Arc::clone(&places))));
        into.pci.follow_bars(id, Box::new(Arc::clone(&shortcuts)));
        if let Some(gsi) = into.pci.intx_gsi(id) {
            let vm = into.vm.clone();
            interrupts.connect_pin(Box::new(move || wire(&vm, gsi)));
        }
        plugged.interrupts.insert(id, interrupts);
        plugged.places.push(places);
        plugged.shortcuts.push(shortcuts);
        Ok(())
    }

    /// Resets the functions that the kernel could not reset alone when it opened them, as it leaves them as the host's
    /// driver had them. To be called before the first life.
    pub(crate) fn reset_left_over(&self) -> Result<(), AssignError> {
        self.reset_where(|function| !function.hardware.device.info().resettable)
    }

    /// Resets all functions. To be called between two lives.
    pub(crate) fn reset(&self) -> Result<(), AssignError> {
        self.reset_where(|_| true)
    }

    /// Resets functions, those on different buses of the host at once.
    fn reset_where(&self, which: impl Fn(&Function) -> bool) -> Result<(), AssignError> {
        let mut buses: BTreeMap<_, Vec<&Function>> = BTreeMap::new();
        for function in self.functions.iter().filter(|function| which(function)) {
            let address = function.place.address;
            buses.entry((address.domain(), address.bus())).or_default().push(function);
        }
        std::thread::scope(|scope| {
            let resets: Vec<_> = buses.into_values().map(|bus| scope.spawn(|| self.reset_bus(bus))).collect();
            // A panic of a reset's thread is on standard error; its functions are as they were.
            resets.into_iter().try_for_each(|thread| thread.join().unwrap_or(Ok(())))
        })
    }

    /// One after another: functions of one bus share the lock and the reset of their slot.
    fn reset_bus(&self, functions: Vec<&Function>) -> Result<(), AssignError> {
        let owner: Arc<dyn SlotOwner> = Arc::clone(&self.access) as _;
        let mut done = false;
        for function in functions {
            // What cannot be written is reset all the same, or has to be.
            let _ = function.hardware.quiet();
            if done {
                continue;
            }
            let outcome = function.hardware.reset(&owner);
            if outcome.hangs() {
                return Err(AssignError::ResetHangs { address: function.place.address });
            }
            // The slot's reset has reset the others as well.
            done = outcome.by == Some(ResetWay::Slot);
        }
        Ok(())
    }

    /// The functions of each used slot.
    fn slots(&self) -> impl Iterator<Item = &[Function]> {
        self.functions.chunk_by(|a, b| a.place.slot == b.place.slot)
    }
}

fn slot_number(slot: &[Function]) -> u8 {
    slot.first().map_or(0, |function| function.place.slot)
}

/// Atomic operations that the host's path completes: the guest is told for a function alone in its slot, as a driver asks
/// for all functions at once.
fn atomics(slot: &[Function]) -> u8 {
    let [function] = slot else { return 0 };
    let widths = function.hardware.device.info().atomics;
    u8::from(widths.bits32) | u8::from(widths.bits64) << 1 | u8::from(widths.bits128) << 2
}

/// Rings for a write that KVM takes without an exit to us.
fn bell(vm: &Vm) -> Bell {
    let vm = vm.clone();
    Box::new(move |address, value, event| {
        let bell = vm.ioevent_of(address, value, event).ok()?;
        Some(Box::new(bell))
    })
}

fn wire(vm: &Vm, gsi: u32) -> Result<PinWire, WireError> {
    let event = || new_event().map(Arc::new).map_err(WireError::Event);
    let (trigger, resample) = (event()?, event()?);
    let irqfd = vm.irqfd(gsi, Arc::clone(&trigger), Some(Arc::clone(&resample)))?;
    Ok(PinWire { trigger, resample, _listener: Box::new(irqfd) })
}

impl Plugged {
    /// Functions of which only the places of their BARs matter.
    #[cfg(test)]
    pub(crate) fn at(places: Vec<Arc<BarPlaces>>) -> Self {
        Self { places, ..Self::default() }
    }

    /// Follows what a function has changed, after the message routes have.
    pub(crate) fn follow(&self, id: FunctionId, change: &Change) {
        if let Some(interrupts) = self.interrupts.get(&id) {
            interrupts.follow(change);
        }
    }

    /// Switches all interrupts off and takes all BARs from processors and peers, so that nothing of this life is left in
    /// the kernel: the IOMMU's map outlives it, and a peer of the next life would reach what lay there in this one.
    ///
    /// To be called while the functions still decode.
    pub(crate) fn stop(&self) {
        for interrupts in self.interrupts.values() {
            interrupts.stop();
        }
        for shortcuts in &self.shortcuts {
            shortcuts.forget();
        }
        for places in &self.places {
            places.hide();
        }
    }
}
