//! The chipset: every board device at its place on the buses, wired to its interrupt.
//!
//! Built anew for each life of the machine. Not here: vCPUs, memory, and the functions plugged into PCI slots.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use linux::kvm::Vm;
use linux::memory::GuestRam;
use pci::{
    Change, Ecam, EcamUnfit, FunctionId, HostBridge, HostBridgePreset, Lpc, LpcPreset, Occupied, Place,
    SharedFunction,
};

use crate::assigned::{self, AssignError, Assigned};
use crate::board::clock::Deadline;
use crate::board::debug_port::{DEBUG_PORT, DebugPort, POST_PORT, PostPort};
use crate::board::i8042::{self, I8042};
use crate::board::output::{OutputBuffer, Wake};
use crate::board::port92::{self, Port92};
use crate::board::power::{self, PowerManagement};
use crate::board::rtc::{self, Rtc};
use crate::board::serial::Serial;
use crate::bus::{Bus, Effect, RangeTaken};
use crate::config_ports::{self, ConfigPorts};
use crate::endpoints::{EndpointError, Endpoints, Plugged, Sockets};
use crate::events::Events;
use crate::firmware::acpi::board::{Board, HOST_BRIDGE_DEVICE, LPC_DEVICE, SCI_GSI};
use crate::interrupt::{InterruptLine, KvmLine};
use crate::messages::{Lines, MessageError, Messages, SharedLine};
use crate::pci_host::PciHost;
use crate::time::MachineClock;

/// The board's devices on their buses.
pub(crate) struct Chipset {
    ports: Arc<Bus>,
    memory: Arc<Bus>,
    pci: Arc<PciHost>,
    serial: Arc<Mutex<Serial>>,
    power: Arc<Mutex<PowerManagement>>,
    rtc: Arc<Mutex<Rtc>>,
    messages: Messages,
    lines: Arc<Lines>,
    // The pins of functions that tell of them by a change.
    pins: Mutex<BTreeMap<FunctionId, SharedLine>>,
    endpoints: Plugged,
    assigned: assigned::Plugged,
    // Where the PM block lies now: the LPC bridge's PMBASE says, and a guest may move it.
    pm_base: Mutex<Option<u16>>,
}

/// The chipset could not be built.
#[derive(Debug, thiserror::Error)]
pub enum ChipsetError {
    /// Two devices want the same addresses.
    #[error(transparent)]
    Range(#[from] RangeTaken),
    /// Two functions want the same slot.
    #[error(transparent)]
    Slot(#[from] Occupied),
    /// The host bridge cannot describe the config window.
    #[error(transparent)]
    Ecam(#[from] EcamUnfit),
    /// A virtio device cannot be had.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// An assigned function cannot be plugged in.
    #[error(transparent)]
    Assigned(#[from] AssignError),
}

/// What the chipset is connected to.
pub(crate) struct Connections<'a> {
    pub(crate) vm: &'a Vm,
    pub(crate) ram: &'a GuestRam,
    pub(crate) endpoints: &'a Endpoints,
    pub(crate) assigned: Option<&'a Assigned>,
    pub(crate) clock: &'a Arc<MachineClock>,
    pub(crate) events: &'a Arc<Events>,
    pub(crate) console: &'a Arc<OutputBuffer>,
    pub(crate) firmware_log: &'a Arc<OutputBuffer>,
    pub(crate) rtc: &'a Arc<Mutex<Rtc>>,
}

const KEYBOARD_IRQ: u32 = 1;
const MOUSE_IRQ: u32 = 12;

/// COM1: its first port, the number of its ports, its ISA interrupt.
const SERIAL: (u64, u64, u32) = (0x3f8, 8, 4);

/// The fewest buses that PCIEXBAR can describe; the tables announce only those that exist.
const SMALLEST_ECAM: u16 = 64;

impl Chipset {
    /// Builds the devices that `board` describes.
    pub(crate) fn build(board: &Board, to: &Connections<'_>) -> Result<Self, ChipsetError> {
        let (ports, memory) = (Arc::new(Bus::default()), Arc::new(Bus::default()));
        let pci = PciHost::new(apertures(board), &ports, &memory);
        let line = |gsi| Box::new(KvmLine(to.vm.irq_line(gsi)));
        let wake: Arc<dyn Wake> = Arc::clone(to.events) as _;

        let serial = Serial::new(line(SERIAL.2), Arc::clone(to.console), Arc::clone(&wake));
        let clock = Arc::clone(to.clock) as _;
        let power = PowerManagement::new(clock, line(u32::from(SCI_GSI)), Arc::clone(&wake));
        let vm = to.vm.clone();
        let mut chipset = Self {
            pci,
            messages: Messages::new(to.vm.clone()),
            lines: Lines::new(move |gsi| Box::new(KvmLine(vm.irq_line(gsi)))),
            pins: Mutex::default(),
            endpoints: Plugged::default(),
            assigned: assigned::Plugged::default(),
            serial: Arc::new(Mutex::new(serial)),
            power: Arc::new(Mutex::new(power)),
            rtc: Arc::clone(to.rtc),
            pm_base: Mutex::new(Some(board.power.pm1_event)),
            ports,
            memory,
        };

        let place = |base: u64, len: u64, device| chipset.ports.insert(base..base + len, device);
        place(SERIAL.0, SERIAL.1, Arc::clone(&chipset.serial) as _)?;
        place(u64::from(board.power.pm1_event), power::PORTS, Arc::clone(&chipset.power) as _)?;
        let config = Arc::new(Mutex::new(ConfigPorts::new(&chipset.pci)));
        place(u64::from(pci::ADDRESS_PORT), config_ports::PORTS, config)?;
        place(rtc::BASE, rtc::PORTS, Arc::clone(&chipset.rtc) as _)?;
        let keyboard = I8042::new(line(KEYBOARD_IRQ), line(MOUSE_IRQ));
        place(i8042::BASE, i8042::PORTS, Arc::new(Mutex::new(keyboard)))?;
        place(port92::PORT, 1, Arc::new(Mutex::new(Port92)))?;
        place(DEBUG_PORT, 1, Arc::new(Mutex::new(DebugPort::new(Arc::clone(to.firmware_log)))))?;
        place(POST_PORT, 1, Arc::new(Mutex::new(PostPort::default())))?;
        chipset.add_bridges(board)?;
        chipset.endpoints = to.endpoints.plug(&Sockets {
            vm: to.vm,
            ram: to.ram,
            events: to.events,
            pci: &chipset.pci,
            messages: &chipset.messages,
            lines: &chipset.lines,
        })?;
        if let Some(assigned) = to.assigned {
            let (pci, messages) = (&*chipset.pci, &chipset.messages);
            chipset.assigned = assigned.plug(&assigned::Sockets { vm: to.vm, pci, messages })?;
        }
        Ok(chipset)
    }

    /// The host bridge and the LPC bridge, programmed as firmware would leave them.
    fn add_bridges(&self, board: &Board) -> Result<(), ChipsetError> {
        let ecam = Ecam { base: board.ecam.base.into(), buses: SMALLEST_ECAM };
        let host = HostBridge::new(&HostBridgePreset { ecam: Some(ecam), shadow_is_ram: true })?;
        let lpc = Lpc::new(&LpcPreset { pm_base: Some(board.power.pm1_event), rcba: None });
        for (device, function) in
            [(HOST_BRIDGE_DEVICE, shared(host)), (LPC_DEVICE, shared(lpc))] as [(u8, SharedFunction); 2]
        {
            self.pci.add(Place::Root { device, function: 0 }, function)?;
        }
        self.pci.place_ecam(Some(ecam));
        Ok(())
    }

    /// Follows what a PCI function has changed.
    pub(crate) fn follow(&self, id: FunctionId, change: Change) -> Result<(), MessageError> {
        match &change {
            Change::Bars => self.pci.refresh(id),
            Change::PmBaseMoved(base) => self.move_power(*base),
            Change::Intx(high) => self.drive_pin(id, *high),
            Change::Msi(change) => self.messages.follow_msi(id, change, self.pci.bdf(id))?,
            Change::Msix(change) => self.messages.follow_msix(id, change, self.pci.bdf(id))?,
            // RAM answers below 1 MiB whatever the shadow registers say, and interrupts take the IOAPIC's way: both
            // are right for a kernel that is started without firmware. What answers at RCBA is nobody.
            _ => {}
        }
        // After the routes: the hardware may speak as soon as it is told that it may.
        self.assigned.follow(id, &change);
        Ok(())
    }

    /// Ends what assigned functions still do for this life.
    pub(crate) fn stop_assigned(&self) {
        self.assigned.stop();
    }

    /// Serves the guest's requests to devices without a thread of their own; true when more is left.
    pub(crate) fn serve_devices(&self) -> bool {
        self.endpoints.serve()
    }

    fn drive_pin(&self, id: FunctionId, high: bool) {
        let mut pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        let pin = match pins.entry(id) {
            Entry::Occupied(pin) => pin.into_mut(),
            Entry::Vacant(place) => {
                let Some(gsi) = self.pci.intx_gsi(id) else { return };
                place.insert(self.lines.end(gsi))
            }
        };
        pin.set(high);
    }

    fn move_power(&self, base: Option<u16>) {
        let mut now = self.pm_base.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = now.take() {
            self.ports.remove(old.into());
        }
        let Some(base) = base else { return };
        let range = u64::from(base)..u64::from(base) + power::PORTS;
        // Over another device's ports it answers nowhere, as when two chips drive one bus nobody is understood.
        if self.ports.insert(range, Arc::clone(&self.power) as _).is_ok() {
            *now = Some(base);
        }
    }

    /// Memory accesses that no slot answers.
    pub(crate) fn memory(&self) -> &Bus {
        &self.memory
    }

    /// Reads a port once for each `width` bytes of `data`, as the guest's string instruction does.
    pub(crate) fn read_ports(&self, port: u16, width: usize, data: &mut [u8]) -> Vec<Effect> {
        let reads = data.chunks_mut(width.max(1));
        reads.flat_map(|data| self.ports.read(u64::from(port), data)).collect()
    }

    /// Writes a port once for each `width` bytes of `data`.
    pub(crate) fn write_ports(&self, port: u16, width: usize, data: &[u8]) -> Vec<Effect> {
        data.chunks(width.max(1)).flat_map(|data| self.ports.write(u64::from(port), data)).collect()
    }

    /// The serial port.
    pub(crate) fn serial(&self) -> MutexGuard<'_, Serial> {
        self.serial.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The earliest moment, in the machine's time, at which a device has something to do.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        let rtc = self.rtc.lock().unwrap_or_else(PoisonError::into_inner).next_deadline();
        [self.power().next_deadline(), rtc].into_iter().flatten().min()
    }

    /// Lets devices do what has come due.
    pub(crate) fn fire_deadlines(&self) {
        self.power().fire();
        self.rtc.lock().unwrap_or_else(PoisonError::into_inner).fire();
    }

    /// The power management block.
    pub(crate) fn power(&self) -> MutexGuard<'_, PowerManagement> {
        self.power.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shared(function: impl pci::Function + 'static) -> SharedFunction {
    Arc::new(Mutex::new(function))
}

fn apertures(board: &Board) -> pci::Apertures {
    let high = board.memory_windows_64.first().map_or(0..0, |window| *window.start()..window.end() + 1);
    pci::Apertures {
        low: crate::layout::LOW_RAM_LIMIT..crate::layout::PCI_32_BIT[1].end,
        high,
        io: crate::layout::PCI_IO,
    }
}
