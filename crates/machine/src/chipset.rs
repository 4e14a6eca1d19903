//! The chipset: every board device at its place on the buses, wired to its interrupt.
//!
//! Built anew for each life of the machine. Not here: vCPUs, memory, and the functions plugged into PCI slots.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use linux::kvm::{KvmError, Vm};
use linux::memory::GuestRam;
use pci::{
    Change, Ecam, EcamUnfit, FunctionId, HostBridge, HostBridgePreset, Lpc, LpcPreset, Occupied, Place,
    Shadow, SharedFunction,
};
use spec::seat_file::BootFirst;

use crate::assigned::{self, AssignError, Assigned};
use crate::board::clock::Deadline;
use crate::board::debug_port::{DEBUG_PORT, DebugPort, POST_PORT, PostPort};
use crate::board::i8042::{self, I8042};
use crate::board::output::{OutputBuffer, Wake};
use crate::board::port92::{self, Port92};
use crate::board::power::{self, PowerManagement};
use crate::board::reset_pulse::ResetPulse;
use crate::board::rtc::{self, Rtc};
use crate::board::serial::Serial;
use crate::bus::{Bus, Effect, RangeTaken, SharedDevice};
use crate::config_ports::{self, ConfigPorts};
use crate::display::Picture;
use crate::endpoints::{EndpointError, Endpoints, Plugged, Sockets};
use crate::events::Events;
use crate::firmware::acpi::BoardError;
use crate::firmware::acpi::board::{Board, HOST_BRIDGE_DEVICE, LPC_DEVICE, SCI_GSI};
use crate::firmware::files::{self, Told};
use crate::firmware::smbios;
use crate::flash::{Flash, FlashSlots, FlashSlotsError};
use crate::fw_cfg::{self, FwCfg};
use crate::input::Motion;
use crate::interrupt::{InterruptLine, KvmLine};
use crate::layout;
use crate::messages::{Latest, Lines, MessageError, Messages, SharedLine};
use crate::pci_host::PciHost;
use crate::shadow::{ShadowArea, ShadowError};
use crate::time::MachineClock;
use crate::tpm::Tpm;
use crate::worker::Worker;

/// The board's devices on their buses.
pub(crate) struct Chipset {
    ports: Arc<Bus>,
    memory: Arc<Bus>,
    pci: Arc<PciHost>,
    // The controller with keyboard and mouse, where there are such.
    keyboard: Option<Arc<Mutex<I8042>>>,
    serial: Arc<Mutex<Serial>>,
    power: Arc<Mutex<PowerManagement>>,
    rtc: Arc<Mutex<Rtc>>,
    messages: Messages,
    latest: Latest,
    lines: Arc<Lines>,
    // The pins of functions that tell of them by a change.
    pins: Mutex<BTreeMap<FunctionId, SharedLine>>,
    endpoints: Plugged,
    assigned: assigned::Plugged,
    // Where the PM block lies now: the LPC bridge's PMBASE says, and a guest may move it.
    pm_base: Mutex<Option<u16>>,
    for_firmware: Option<ForFirmware>,
    // Ends its thread when it is dropped.
    _tpm: Option<Worker>,
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
    /// The TPM has no thread, or nothing to wake it.
    #[error("make a thread for the TPM")]
    Tpm(#[source] std::io::Error),
    /// Flash cannot be shown.
    #[error(transparent)]
    Flash(#[from] FlashSlotsError),
    /// RAM and ROM below 1 MiB cannot be shown.
    #[error(transparent)]
    Shadow(#[from] ShadowError),
    /// What firmware is to be told contradicts itself.
    #[error("describe the board to its firmware")]
    Describe(#[from] BoardError),
    /// An assigned function cannot be plugged in.
    #[error(transparent)]
    Assigned(#[from] AssignError),
}

/// A change could not be followed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FollowError {
    /// A message route.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// A memory slot.
    #[error(transparent)]
    Kvm(#[from] KvmError),
}

/// What firmware finds besides the devices: its flash, and ROM that gives way to RAM.
struct ForFirmware {
    flash: FlashSlots,
    shadow: Option<ShadowArea>,
}

impl ForFirmware {
    fn new(
        flash: &Arc<Flash>,
        memory: &Bus,
        to: &Connections<'_>,
        shadow: Shadow,
    ) -> Result<Self, ChipsetError> {
        let shadow = ShadowArea::new(to.vm, to.ram, flash.low_copy(), memory, shadow)?;
        Ok(Self { flash: FlashSlots::new(to.vm, flash, memory)?, shadow })
    }

    fn follow_shadow(&self, shadow: &Shadow) -> Result<(), KvmError> {
        self.shadow.as_ref().map_or(Ok(()), |area| area.follow(shadow))
    }
}

/// What the chipset is connected to.
pub(crate) struct Connections<'a> {
    pub(crate) vm: &'a Vm,
    pub(crate) ram: &'a GuestRam,
    pub(crate) endpoints: &'a Endpoints,
    pub(crate) tpm: Option<&'a Tpm>,
    pub(crate) assigned: Option<&'a Assigned>,
    pub(crate) clock: &'a Arc<MachineClock>,
    pub(crate) events: &'a Arc<Events>,
    pub(crate) console: &'a Arc<OutputBuffer>,
    pub(crate) firmware_log: &'a Arc<OutputBuffer>,
    pub(crate) rtc: &'a Arc<Mutex<Rtc>>,
    pub(crate) ram_size: u64,
    pub(crate) address_bits: u8,
    pub(crate) name: &'a str,
    /// The firmware's flash; without it, the board is as firmware would leave it.
    pub(crate) flash: Option<&'a Arc<Flash>>,
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
        let pci = PciHost::new(apertures(board, to), &ports, &memory);
        let line = |gsi| Box::new(KvmLine(to.vm.irq_line(gsi)));
        let wake: Arc<dyn Wake> = Arc::clone(to.events) as _;

        let serial = Serial::new(line(SERIAL.2), Arc::clone(to.console), Arc::clone(&wake));
        let clock = Arc::clone(to.clock) as _;
        let power = PowerManagement::new(clock, line(u32::from(SCI_GSI)), Arc::clone(&wake));
        let vm = to.vm.clone();
        let mut chipset = Self {
            pci,
            messages: Messages::new(to.vm.clone()),
            latest: Latest::default(),
            lines: Lines::new(move |gsi| Box::new(KvmLine(vm.irq_line(gsi)))),
            pins: Mutex::default(),
            endpoints: Plugged::default(),
            assigned: assigned::Plugged::default(),
            serial: Arc::new(Mutex::new(serial)),
            power: Arc::new(Mutex::new(power)),
            rtc: Arc::clone(to.rtc),
            pm_base: Mutex::default(),
            keyboard: None,
            for_firmware: None,
            _tpm: None,
            ports,
            memory,
        };

        let place = |base: u64, len: u64, device| chipset.ports.insert(base..base + len, device);
        place(SERIAL.0, SERIAL.1, Arc::clone(&chipset.serial) as _)?;
        let config = Arc::new(Mutex::new(ConfigPorts::new(&chipset.pci)));
        place(u64::from(pci::ADDRESS_PORT), config_ports::PORTS, config)?;
        place(rtc::BASE, rtc::PORTS, Arc::clone(&chipset.rtc) as _)?;
        let controller = I8042::new(line(KEYBOARD_IRQ), line(MOUSE_IRQ));
        let keyboard: SharedDevice = if board.keyboard_controller {
            let controller = Arc::new(Mutex::new(controller.with_devices()));
            chipset.keyboard = Some(Arc::clone(&controller));
            controller
        } else if to.flash.is_some() {
            Arc::new(Mutex::new(ResetPulse))
        } else {
            Arc::new(Mutex::new(controller))
        };
        place(i8042::BASE, i8042::PORTS, keyboard)?;
        place(port92::PORT, 1, Arc::new(Mutex::new(Port92)))?;
        place(DEBUG_PORT, 1, Arc::new(Mutex::new(DebugPort::new(Arc::clone(to.firmware_log)))))?;
        place(POST_PORT, 1, Arc::new(Mutex::new(PostPort::default())))?;
        chipset.add_bridges(board, to)?;
        chipset.endpoints = to.endpoints.plug(&Sockets {
            vm: to.vm,
            ram: to.ram,
            events: to.events,
            pci: &chipset.pci,
            ports: &chipset.ports,
            messages: &chipset.messages,
            lines: &chipset.lines,
        })?;
        if let Some(tpm) = to.tpm {
            let (registers, worker) = tpm.plug(to.events).map_err(ChipsetError::Tpm)?;
            chipset.memory.insert(layout::TPM, registers)?;
            chipset._tpm = Some(worker);
        }
        if let Some(assigned) = to.assigned {
            let (pci, messages) = (&*chipset.pci, &chipset.messages);
            chipset.assigned = assigned.plug(&assigned::Sockets { vm: to.vm, pci, messages })?;
        }
        if to.flash.is_some() {
            chipset.add_fw_cfg(board, to)?;
        }
        Ok(chipset)
    }

    /// The host bridge and the LPC bridge: as they are at power-on for firmware, else as firmware would leave them.
    fn add_bridges(&mut self, board: &Board, to: &Connections<'_>) -> Result<(), ChipsetError> {
        let left_by_firmware = to.flash.is_none();
        let ecam = Ecam { base: board.ecam.base.into(), buses: SMALLEST_ECAM };
        let ecam = left_by_firmware.then_some(ecam);
        let pm_base = left_by_firmware.then_some(board.power.pm1_event);
        let host = HostBridge::new(&HostBridgePreset { ecam, shadow_is_ram: left_by_firmware })?;
        let lpc = Lpc::new(&LpcPreset { pm_base, rcba: None });
        if let Some(flash) = to.flash {
            self.for_firmware = Some(ForFirmware::new(flash, &self.memory, to, host.shadow())?);
        }
        self.move_power(pm_base);
        for (device, function) in
            [(HOST_BRIDGE_DEVICE, shared(host)), (LPC_DEVICE, shared(lpc))] as [(u8, SharedFunction); 2]
        {
            self.pci.add(Place::Root { device, function: 0 }, function)?;
        }
        self.pci.place_ecam(ecam);
        Ok(())
    }

    /// The device by which firmware is told of the board; last, as it tells of the others.
    fn add_fw_cfg(&self, board: &Board, to: &Connections<'_>) -> Result<(), ChipsetError> {
        let pci = Arc::downgrade(&self.pci);
        let told = Told {
            board: board.clone(),
            ram_size: to.ram_size,
            boot_order: boot_order(to),
            display: to.endpoints.display.is_some() || to.assigned.is_some_and(Assigned::has_primary_display),
            smbios: smbios::for_firmware(&smbios::Facts {
                name: to.name,
                cpus: board.cpus.len(),
                ram_size: to.ram_size,
            }),
        };
        let set_up = move || pci.upgrade().map(|pci| pci.set_up()).unwrap_or_default();
        let contents = files::contents(told, set_up)?;
        let device = FwCfg::new(contents, Arc::new(to.ram.view().clone()));
        let range = fw_cfg::BASE..fw_cfg::BASE + fw_cfg::PORTS;
        Ok(self.ports.insert(range, Arc::new(Mutex::new(device)))?)
    }

    /// Follows what a PCI function has changed.
    pub(crate) fn follow(&self, id: FunctionId, change: Change) -> Result<(), FollowError> {
        match change {
            Change::Bars => self.pci.refresh(id),
            Change::PmBaseMoved(base) => self.move_power(base),
            Change::Intx(high) => self.drive_pin(id, high),
            Change::Msi(_) | Change::Msix(_) => {
                self.latest.follow(id, change, |change| self.follow_messages(id, change))?;
            }
            Change::ShadowMoved(shadow) => {
                if let Some(for_firmware) = &self.for_firmware {
                    for_firmware.follow_shadow(&shadow)?;
                }
            }
            // Interrupts take the IOAPIC's way. What answers at RCBA is nobody.
            _ => {}
        }
        Ok(())
    }

    fn follow_messages(&self, id: FunctionId, change: &Change) -> Result<(), MessageError> {
        let requester = self.pci.bdf(id);
        match change {
            Change::Msi(change) => self.messages.follow_msi(id, change, requester)?,
            Change::Msix(change) => self.messages.follow_msix(id, change, requester)?,
            _ => {}
        }
        // After the routes: the hardware may speak as soon as it is told that it may.
        self.assigned.follow(id, change);
        Ok(())
    }

    /// Follows the flash chip into another mode.
    pub(crate) fn follow_flash(&self) -> Result<(), KvmError> {
        self.for_firmware.as_ref().map_or(Ok(()), |for_firmware| for_firmware.flash.follow())
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

    /// A key goes down or comes up; false when there is no such key.
    pub(crate) fn press(&self, key: u16, down: bool) -> bool {
        self.keyboard().is_some_and(|mut keyboard| keyboard.press(key, down))
    }

    /// The pointer is moved: that of the tablet when the guest drives one, else the mouse's. False without either.
    pub(crate) fn moved(&self, motion: Motion) -> bool {
        if self.endpoints.put_pointer(&motion) {
            return true;
        }
        self.keyboard().is_some_and(|mut keyboard| keyboard.moved(motion))
    }

    fn keyboard(&self) -> Option<MutexGuard<'_, I8042>> {
        let keyboard = self.keyboard.as_ref()?;
        Some(keyboard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the emulated graphics card shows; `None` without one.
    pub(crate) fn picture(&self) -> Option<Picture> {
        self.endpoints.display().map(|display| display.picture())
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

/// What firmware is to start from, or nothing where it knows.
///
/// OVMF writes this order over the one in its variables (OvmfPkg/Library/QemuBootOrderLib). So it is for variables that have
/// none yet, and for an owner who wants another one; else the order stays that a guest or a person at the setup screen chose.
fn boot_order(to: &Connections<'_>) -> Vec<String> {
    let chosen = to.flash.is_some_and(|flash| flash.has_boot_order());
    if chosen && to.endpoints.boot == BootFirst::default() {
        return Vec::new();
    }
    to.endpoints.boot_order(to.assigned)
}

fn shared(function: impl pci::Function + 'static) -> SharedFunction {
    Arc::new(Mutex::new(function))
}

fn apertures(board: &Board, to: &Connections<'_>) -> pci::Apertures {
    let announced =
        || board.memory_windows_64.first().map_or(0..0, |window| *window.start()..window.end() + 1);
    let ram_end = layout::ram_blocks(to.ram_size).last().map_or(0, |block| block.end);
    let addresses = 1_u64.checked_shl(to.address_bits.into()).unwrap_or(u64::MAX);
    let high = match to.flash {
        // Firmware looks for a place above RAM by itself, and is believed.
        Some(_) => ram_end.max(layout::ABOVE_4G)..addresses,
        None => announced(),
    };
    pci::Apertures {
        low: crate::layout::LOW_RAM_LIMIT..crate::layout::PCI_32_BIT[1].end,
        high,
        io: crate::layout::PCI_IO,
    }
}
