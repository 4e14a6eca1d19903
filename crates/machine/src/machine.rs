//! The machine as its process sees it: built once, living one life after another, steered from the event thread.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use linux::kvm::{CpuidEntry, Kvm, KvmError};
use linux::memory::{AllocateRamError, GuestRam, PageKind, RamSpec};
use spec::seat_file::{BootFirst, FirmwareKind};
use spec::{AssignedReport, MachineState, MemoryBacking, MemorySpec};

use crate::assigned::{self, AssignError, Assigned, Opening};
use crate::board::output::{OutputBuffer, Wake};
use crate::board::rtc::{BoardFacts, Rtc, RtcWiring};
use crate::boot::Kernel;
use crate::cpu::hyperv::{self, HyperV};
use crate::display::{Card, DisplayConfig, Picture};
use crate::endpoints::{CDROM_LIMIT, DISK_LIMIT, Disk, Endpoints, NETWORK_LIMIT, Network};
use crate::events::{Event, Events};
use crate::flash::{Firmware, Flash, FlashError};
use crate::input::Motion;
use crate::interrupt::Socket;
use crate::layout;
use crate::life::{ConnectionsWithoutVm, Ingredients, Life, LifeError};
use crate::time::MachineClock;
use crate::tpm::{Tpm, TpmError};

/// What a machine is built from.
#[derive(Debug)]
pub struct Config {
    /// Number of vCPUs.
    pub cpus: u32,
    /// The host processors that vCPUs 0, 1 and so on run on and nowhere else; vCPUs past its end run anywhere.
    pub pins: Vec<u32>,
    /// Guest RAM.
    pub memory: MemorySpec,
    /// The name that the guest reads as its serial number.
    pub name: String,
    /// What it starts.
    pub start: Start,
    /// Whether it has an entropy device.
    pub rng: bool,
    /// Its disks.
    pub disks: Vec<Disk>,
    /// The discs in its optical drives.
    pub cdroms: Vec<Arc<linux::disk::Disk>>,
    /// What it shows of Hyper-V, which Windows looks for.
    pub hyperv: Option<HyperV>,
    /// How many seconds the clock is ahead of universal time at the start.
    pub utc_offset_s: i32,
    /// Its network cards.
    pub networks: Vec<Network>,
    /// What its firmware tries to start from first.
    pub boot: BootFirst,
    /// Its emulated graphics card.
    pub display: Option<DisplayConfig>,
    /// The control socket of the swtpm that is its TPM.
    pub tpm: Option<OwnedFd>,
    /// Its assigned functions.
    pub assigned: Option<assigned::Request>,
}

/// What a machine starts.
#[derive(Debug)]
pub enum Start {
    /// A kernel, without firmware.
    Kernel(Kernel),
    /// Firmware, which then looks for something to start.
    Firmware(Firmware),
}

/// What a machine starts at each life.
pub(crate) enum Starting {
    Kernel(Kernel),
    Firmware(Arc<Flash>),
}

/// A machine could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// More vCPUs than the host's KVM can give, or none.
    #[error("a machine can have 1 to {max} vCPUs on this host, not {wanted}")]
    Cpus {
        /// What was asked for.
        wanted: u32,
        /// What KVM can give.
        max: usize,
    },
    /// Less memory than any kernel needs.
    #[error("a machine needs at least 16 MiB of memory in whole 4 KiB pages, not {wanted} bytes")]
    Memory {
        /// Bytes asked for.
        wanted: u64,
    },
    /// More disks than there are places.
    #[error("a machine can have {DISK_LIMIT} disks, not {wanted}")]
    Disks {
        /// What was asked for.
        wanted: usize,
    },
    /// More optical drives than there are places.
    #[error("a machine can have {CDROM_LIMIT} optical drives, not {wanted}")]
    Cdroms {
        /// What was asked for.
        wanted: usize,
    },
    /// Less memory than UEFI firmware needs.
    #[error("UEFI firmware needs at least 128 MiB of memory, not {wanted} bytes")]
    MemoryForFirmware {
        /// Bytes asked for.
        wanted: u64,
    },
    /// The firmware cannot be used.
    #[error(transparent)]
    Firmware(#[from] FlashError),
    /// More network cards than there are places.
    #[error("a machine can have {NETWORK_LIMIT} network cards, not {wanted}")]
    Networks {
        /// What was asked for.
        wanted: usize,
    },
    /// Guest RAM could not be made.
    #[error(transparent)]
    Ram(#[from] AllocateRamError),
    /// KVM refused a call.
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// The first life could not begin.
    #[error(transparent)]
    Life(#[from] LifeError),
    /// The kernel gave no event fd.
    #[error("make an event fd")]
    Event(#[source] std::io::Error),
    /// The TPM cannot be had.
    #[error("the machine's TPM cannot be used")]
    Tpm(#[from] TpmError),
    /// Assigned functions cannot be had.
    #[error(transparent)]
    Assigned(#[from] AssignError),
}

/// A machine. All methods are for the one event thread that owns it.
pub struct Machine {
    kvm: Kvm,
    cpuid: Vec<CpuidEntry>,
    synic: bool,
    name: String,
    cpus: u32,
    pins: Vec<u32>,
    memory: MemorySpec,
    starting: Starting,
    endpoints: Endpoints,
    tpm: Option<Tpm>,
    assigned: Option<Assigned>,
    clock: Arc<MachineClock>,
    events: Arc<Events>,
    console: Arc<OutputBuffer>,
    firmware_log: Arc<OutputBuffer>,
    // The battery keeps its time over a reset.
    rtc: Arc<Mutex<Rtc>>,
    rtc_line: Socket,
    exits: Arc<AtomicU64>,
    state: MachineState,
    // Declared before the RAM that its slots show to the guest; slots keep it mapped in any case.
    life: Option<Life>,
    ram: GuestRam,
}

/// How much console output may wait for the terminal before the guest's serial port says that it is full.
const CONSOLE_BUFFER: usize = 64 << 10;

const SMALLEST_MEMORY: u64 = 16 << 20;

/// OVMF's own structures, and what it unpacks, take some 80 MiB.
const SMALLEST_MEMORY_FOR_UEFI: u64 = 128 << 20;

impl Machine {
    /// Builds the machine, paused before its first instruction.
    pub fn build(kvm: Kvm, config: Config) -> Result<Self, BuildError> {
        // Every KVM can give one.
        check(&config, if config.cpus == 1 { 1 } else { kvm.max_vcpus() })?;
        let events = Arc::new(Events::new().map_err(BuildError::Event)?);
        // First of all, because it takes longest, and most of that is waiting.
        let firmware = matches!(config.start, Start::Firmware(_));
        let opening =
            config.assigned.map(|request| Opening::begin(request, firmware, &events)).transpose()?;
        let ram = GuestRam::allocate(&ram_spec(&config.memory))?;
        if let Some(opening) = &opening {
            opening.map(ram.blocks())?;
        }
        let wake: Arc<dyn Wake> = Arc::clone(&events) as _;
        let clock = Arc::<MachineClock>::default();
        let rtc_line = Socket::default();
        let starting = match config.start {
            Start::Kernel(kernel) => Starting::Kernel(kernel),
            Start::Firmware(firmware) => Starting::Firmware(Arc::new(Flash::load(firmware)?)),
        };
        let facts = board_facts(&config.memory, config.cpus);
        let (cpuid, synic) = processor(&kvm, config.hyperv.as_ref())?;
        let mut machine = Self {
            cpuid,
            synic,
            kvm,
            rtc: Arc::new(Mutex::new(build_rtc(facts, config.utc_offset_s, &clock, &rtc_line, &wake))),
            rtc_line,
            endpoints: Endpoints {
                rng: config.rng,
                disks: config.disks,
                cdroms: config.cdroms,
                networks: config.networks,
                boot: config.boot,
                display: config.display.map(Card::new).transpose()?,
            },
            tpm: config.tpm.map(Tpm::connect).transpose()?,
            assigned: opening.map(Opening::finish).transpose()?,
            name: config.name,
            cpus: config.cpus,
            pins: config.pins,
            memory: config.memory,
            starting,
            clock,
            console: OutputBuffer::new(CONSOLE_BUFFER, Arc::clone(&wake)),
            firmware_log: OutputBuffer::new(CONSOLE_BUFFER, wake),
            events,
            exits: Arc::default(),
            state: MachineState::Paused,
            life: None,
            ram,
        };
        machine.clock.pause();
        machine.begin_life()?;
        Ok(machine)
    }

    /// Lets the vCPUs run.
    pub fn resume(&mut self) {
        if self.state == MachineState::Running {
            return;
        }
        self.state = MachineState::Running;
        self.clock.resume();
        if let Some(life) = &self.life {
            life.vcpus.resume();
        }
    }

    /// Makes the vCPUs and the machine's time stand still.
    pub fn pause(&mut self) {
        if self.state == MachineState::Paused {
            return;
        }
        self.state = MachineState::Paused;
        if let Some(life) = &self.life {
            life.vcpus.pause();
        }
        self.clock.pause();
    }

    /// Resets the machine: this life ends and the next begins, in the same state (running or paused).
    pub fn reset(&mut self) -> Result<(), LifeError> {
        if let Some(life) = &self.life {
            // Before the event fds that they signal have nobody who listens.
            life.vcpus.pause();
            life.chipset.stop_assigned();
        }
        self.life = None;
        if let Some(assigned) = &self.assigned {
            assigned.reset()?;
        }
        self.save_variables();
        self.rtc.lock().unwrap_or_else(PoisonError::into_inner).reset();
        self.begin_life()?;
        if let (MachineState::Running, Some(life)) = (self.state, &self.life) {
            life.vcpus.resume();
        }
        Ok(())
    }

    /// Ends the life for good; the machine can only be dropped then.
    pub fn end(&mut self) {
        self.life = None;
        if let Some(tpm) = &self.tpm {
            tpm.end();
        }
        self.save_variables();
    }

    /// Saves what a guest that ended in the middle of a write to flash has left unsaved.
    fn save_variables(&self) {
        let Starting::Firmware(flash) = &self.starting else { return };
        if let Err(errno) = flash.save() {
            let text = format!("the last UEFI variables are lost: their file cannot be written: {errno}");
            self.events.post(Event::Note(text));
        }
    }

    /// Presses the power button; false when the guest will not notice.
    pub fn press_power_button(&self) -> bool {
        self.life.as_ref().is_some_and(|life| life.chipset.power().press_power_button())
    }

    /// Whether it runs.
    pub fn state(&self) -> MachineState {
        self.state
    }

    /// Each is readable when the host tells something of an assigned function.
    pub fn attention_fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.assigned.iter().flat_map(Assigned::attention_fds)
    }

    /// What became of the assigned functions so far.
    pub fn assigned_reports(&self) -> Vec<AssignedReport> {
        self.assigned.iter().flat_map(Assigned::reports).collect()
    }

    /// Acts on what the host tells of assigned functions.
    pub fn attend(&self) {
        if let Some(assigned) = &self.assigned {
            assigned.attend();
        }
    }

    /// What its threads and devices want looked after.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// Exits to user space so far, over all vCPUs and lives.
    pub fn exits(&self) -> u64 {
        self.exits.load(Ordering::Relaxed)
    }

    /// Console bytes that were lost because nobody took them.
    pub fn console_lost(&self) -> u64 {
        self.console.lost()
    }

    /// A key of the emulated keyboard goes down or comes up; `key` is its Linux event code. False when there is no such key.
    pub fn press(&self, key: u16, down: bool) -> bool {
        self.life.as_ref().is_some_and(|life| life.chipset.press(key, down))
    }

    /// The emulated mouse is moved; false without one.
    pub fn moved(&self, motion: Motion) -> bool {
        self.life.as_ref().is_some_and(|life| life.chipset.moved(motion))
    }

    /// What the emulated graphics card shows now; `None` without one.
    pub fn picture(&self) -> Option<Picture> {
        self.life.as_ref()?.chipset.picture()
    }

    /// Moves what the guest has written to its console into `taken`.
    pub fn take_console_output(&self, taken: &mut Vec<u8>) {
        let refused = self.console.drain(taken);
        if let (true, Some(life)) = (refused, &self.life) {
            life.chipset.serial().output_has_room();
        }
    }

    /// Moves what the guest's firmware has written to the debug port into `taken`.
    pub fn take_firmware_log(&self, taken: &mut Vec<u8>) {
        // The port refuses nobody: what does not fit is lost and counted.
        let _ = self.firmware_log.drain(taken);
    }

    /// Types into the guest's console; the number of bytes for which it had room.
    pub fn type_into_console(&self, bytes: &[u8]) -> usize {
        self.life.as_ref().map_or(0, |life| life.chipset.serial().receive(bytes))
    }

    /// The moment of the host's monotonic clock, in nanoseconds, at which [`fire_deadlines`](Self::fire_deadlines) is due.
    pub fn next_deadline(&self) -> Option<u64> {
        if self.state == MachineState::Paused {
            return None;
        }
        let due = self.life.as_ref()?.next_deadline()?;
        Some(self.clock.host_ns(due))
    }

    /// Lets devices do what has come due.
    pub fn fire_deadlines(&mut self) {
        if let Some(Err(error)) = self.life.as_mut().map(Life::fire_deadlines) {
            self.events.post(Event::Note(format!(
                "the timer keeps making up for late ticks: {error}: {}",
                error.errno
            )));
        }
    }

    /// Serves the guest's requests to devices that have no thread of their own. To be called after each wake.
    pub fn serve_devices(&self) {
        if self.life.as_ref().is_some_and(|life| life.chipset.serve_devices()) {
            self.events.wake();
        }
    }

    fn begin_life(&mut self) -> Result<(), LifeError> {
        self.life = Some(Life::begin(Ingredients {
            kvm: &self.kvm,
            cpuid: &self.cpuid,
            synic: self.synic,
            name: &self.name,
            cpus: self.cpus,
            pins: &self.pins,
            ram: &self.ram,
            ram_size: self.memory.size.0,
            starting: &mut self.starting,
            endpoints: &self.endpoints,
            tpm: self.tpm.as_ref(),
            assigned: self.assigned.as_ref(),
            connections: ConnectionsWithoutVm {
                clock: &self.clock,
                events: &self.events,
                console: &self.console,
                firmware_log: &self.firmware_log,
                rtc: &self.rtc,
                rtc_line: &self.rtc_line,
                exits: &self.exits,
            },
        })?);
        Ok(())
    }
}

/// Checks what needs nothing of the host but its number of vCPUs.
fn check(config: &Config, max: usize) -> Result<(), BuildError> {
    if config.cpus == 0 || config.cpus as usize > max {
        return Err(BuildError::Cpus { wanted: config.cpus, max });
    }
    let wanted = config.memory.size.0;
    if wanted < SMALLEST_MEMORY || !wanted.is_multiple_of(4096) {
        return Err(BuildError::Memory { wanted });
    }
    let uefi = matches!(&config.start, Start::Firmware(firmware) if firmware.kind == FirmwareKind::Uefi);
    if uefi && wanted < SMALLEST_MEMORY_FOR_UEFI {
        return Err(BuildError::MemoryForFirmware { wanted });
    }
    if config.networks.len() > NETWORK_LIMIT {
        return Err(BuildError::Networks { wanted: config.networks.len() });
    }
    if config.cdroms.len() > CDROM_LIMIT {
        return Err(BuildError::Cdroms { wanted: config.cdroms.len() });
    }
    if config.disks.len() > DISK_LIMIT {
        return Err(BuildError::Disks { wanted: config.disks.len() });
    }
    Ok(())
}

fn board_facts(memory: &MemorySpec, cpus: u32) -> BoardFacts {
    let size = memory.size.0;
    BoardFacts {
        ram_below_4g: size.min(layout::LOW_RAM_LIMIT),
        ram_above_4g: size.saturating_sub(layout::LOW_RAM_LIMIT),
        cpus,
    }
}

/// What CPUID shows of the host's processor, and whether vCPUs have Hyper-V's interrupt controller.
fn processor(kvm: &Kvm, hyperv: Option<&HyperV>) -> Result<(Vec<CpuidEntry>, bool), KvmError> {
    let mut cpuid = kvm.supported_cpuid()?;
    let Some(hyperv) = hyperv else { return Ok((cpuid, false)) };
    let offered = kvm.supported_hyperv()?;
    hyperv::apply(&mut cpuid, hyperv, &offered);
    Ok((cpuid, hyperv::has_synic(&offered)))
}

fn build_rtc(
    facts: BoardFacts,
    utc_offset_s: i32,
    clock: &Arc<MachineClock>,
    line: &Socket,
    wake: &Arc<dyn Wake>,
) -> Rtc {
    let wiring = RtcWiring {
        clock: Arc::clone(clock) as _,
        line: Box::new(line.clone()),
        deadline_moved: Arc::clone(wake),
    };
    Rtc::new(wiring, facts, utc_offset_s)
}

fn ram_spec(memory: &MemorySpec) -> RamSpec {
    RamSpec {
        blocks: layout::ram_blocks(memory.size.0),
        pages: match memory.backing {
            MemoryBacking::Transparent => PageKind::Transparent,
            MemoryBacking::Small => PageKind::Small,
            MemoryBacking::Huge2M => PageKind::Huge2M,
            MemoryBacking::Huge1G => PageKind::Huge1G,
        },
        shared: memory.shared,
        prefault: memory.prefault,
    }
}
