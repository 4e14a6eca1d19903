//! One life of a machine: from power-on or reset to the next reset or the end.
//!
//! Each life is a fresh KVM VM with a fresh chipset; only guest RAM, the clock and the files outlive it. So there is no
//! reset code that could forget a register.

use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use linux::kvm::{CpuidEntry, Kvm, KvmError, Vcpu, Vm};
use linux::memory::{GuestAddress, GuestBytes, GuestRam};

use crate::assigned::{AssignError, Assigned};
use crate::board::debug_port::{DEBUG_PORT, POST_PORT};
use crate::board::output::OutputBuffer;
use crate::board::rtc::{self, Rtc};
use crate::boot::{self, Facts, LoadError};
use crate::chipset::{Chipset, ChipsetError, Connections};
use crate::cpu::cpuid::{self, Topology};
use crate::cpu::msrs;
use crate::endpoints::Endpoints;
use crate::events::Events;
use crate::firmware::acpi::{self, BoardError, PlacementError};
use crate::firmware::smbios;
use crate::interrupt::Socket;
use crate::late_ticks::LateTicks;
use crate::layout;
use crate::machine::Starting;
use crate::time::MachineClock;
use crate::tpm::Tpm;
use crate::vcpus::{Surroundings, Vcpus};

/// A machine could not be brought to life.
#[derive(Debug, thiserror::Error)]
pub enum LifeError {
    /// KVM refused a call.
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// The kernel could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The ACPI tables could not be made.
    #[error("describe the board in ACPI tables")]
    Describe(#[from] BoardError),
    /// The ACPI tables could not be placed.
    #[error("place the ACPI tables")]
    Place(#[from] PlacementError),
    /// The machine has no memory where the ACPI tables go.
    #[error("the machine has no memory at {address:#x} for its ACPI tables; give it at least 64 MiB")]
    NoMemory {
        /// Guest-physical address.
        address: u64,
    },
    /// The board's devices do not fit together.
    #[error(transparent)]
    Chipset(#[from] ChipsetError),
    /// A vCPU's thread could not be made.
    #[error("make a vCPU thread")]
    Thread(#[source] io::Error),
    /// Assigned functions do not fit, or cannot be reset.
    #[error(transparent)]
    Assigned(#[from] AssignError),
}

/// What a life is made from.
pub(crate) struct Ingredients<'a> {
    pub(crate) kvm: &'a Kvm,
    pub(crate) cpuid: &'a [CpuidEntry],
    /// Whether each vCPU has Hyper-V's synthetic interrupt controller.
    pub(crate) synic: bool,
    pub(crate) name: &'a str,
    pub(crate) cpus: u32,
    pub(crate) pins: &'a [u32],
    pub(crate) ram: &'a GuestRam,
    pub(crate) ram_size: u64,
    pub(crate) starting: &'a mut Starting,
    pub(crate) endpoints: &'a Endpoints,
    pub(crate) tpm: Option<&'a Tpm>,
    pub(crate) assigned: Option<&'a Assigned>,
    pub(crate) connections: ConnectionsWithoutVm<'a>,
}

/// The outside ends of the chipset's wires that outlive a life.
pub(crate) struct ConnectionsWithoutVm<'a> {
    pub(crate) clock: &'a Arc<MachineClock>,
    pub(crate) events: &'a Arc<Events>,
    pub(crate) console: &'a Arc<OutputBuffer>,
    pub(crate) firmware_log: &'a Arc<OutputBuffer>,
    pub(crate) rtc: &'a Arc<Mutex<Rtc>>,
    pub(crate) rtc_line: &'a Socket,
    pub(crate) exits: &'a Arc<AtomicU64>,
}

/// A machine that lives. Its vCPUs stand until [`Vcpus::resume`].
pub(crate) struct Life {
    pub(crate) vcpus: Vcpus,
    pub(crate) chipset: Arc<Chipset>,
    late_ticks: LateTicks,
}

const RTC_IRQ: u32 = 8;

// The root pointer at the start of the BIOS area, where a kernel that was told nothing would search.
const RSDP: u64 = layout::BIOS_AREA.start;
const ACPI_TABLES: std::ops::Range<u64> = layout::BIOS_AREA.start + 0x40..SMBIOS;

// A kernel searches for the entry point from 0xF0000 on. The structures take some hundred bytes.
const SMBIOS: u64 = 0xf_e000;

impl Life {
    pub(crate) fn begin(ingredients: Ingredients<'_>) -> Result<Self, LifeError> {
        let vm = ingredients.kvm.create_vm()?;
        vm.create_interrupt_controllers(layout::KVM_PRIVATE)?;
        let flash = match &*ingredients.starting {
            Starting::Firmware(flash) => Some(Arc::clone(flash)),
            Starting::Kernel(_) => None,
        };
        if flash.is_none() {
            for block in ingredients.ram.blocks() {
                vm.map(block.guest, &block.memory, false)?;
            }
        }

        let board = board(&ingredients)?;
        let outside = &ingredients.connections;
        outside.rtc_line.plug(vm.irq_line(RTC_IRQ));
        let connections = Connections {
            vm: &vm,
            ram: ingredients.ram,
            endpoints: ingredients.endpoints,
            tpm: ingredients.tpm,
            assigned: ingredients.assigned,
            clock: outside.clock,
            events: outside.events,
            console: outside.console,
            firmware_log: outside.firmware_log,
            rtc: outside.rtc,
            ram_size: ingredients.ram_size,
            address_bits: cpuid::physical_bits(ingredients.cpuid),
            name: ingredients.name,
            flash: flash.as_ref(),
        };
        let chipset = Arc::new(Chipset::build(&board, &connections)?);

        let mut vcpus = create_vcpus(&vm, &ingredients)?;
        // Firmware starts where a processor starts at reset, which is what KVM makes.
        if let (Starting::Kernel(kernel), Some(first)) = (&mut *ingredients.starting, vcpus.first_mut()) {
            let ecam = u64::from(board.ecam.base)..u64::from(board.ecam.base) + board.ecam.len_bytes();
            let memory_map = layout::memory_map(ingredients.ram_size, ecam);
            let rsdp = write_tables(&board, ingredients.ram)?;
            write_smbios(ingredients.name, ingredients.cpus, ingredients.ram_size, ingredients.ram)?;
            let facts = Facts { rsdp, memory_map: &memory_map };
            first.set_start_state(&boot::load(ingredients.ram.view(), kernel, &facts)?)?;
        }
        for (port, len) in BUFFERED_PORTS {
            vm.coalesce_port(port, len)?;
        }

        let surroundings = Surroundings {
            chipset: Arc::clone(&chipset),
            events: Arc::clone(outside.events),
            exits: Arc::clone(outside.exits),
        };
        let vcpus = Vcpus::spawn(vcpus, ingredients.pins, &surroundings).map_err(LifeError::Thread)?;
        let late_ticks = LateTicks::new(vm, Arc::clone(outside.clock));
        Ok(Self { vcpus, chipset, late_ticks })
    }

    /// The earliest moment, in the machine's time, at which [`fire_deadlines`](Self::fire_deadlines) has something to do.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        [self.chipset.next_deadline(), self.late_ticks.next_deadline()].into_iter().flatten().min()
    }

    /// Does what has come due.
    pub(crate) fn fire_deadlines(&mut self) -> Result<(), KvmError> {
        self.chipset.fire_deadlines();
        self.late_ticks.fire()
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.vcpus.end();
    }
}

/// Ports whose writes have no effect of their own: a PCI config access and an RTC access both begin with an address, so
/// that each pair costs one exit to user space; what is written to the POST port, nobody reads.
///
/// Firmware's debug port takes a byte at a time, many thousands.
const BUFFERED_PORTS: [(u16, u32); 4] =
    [(pci::ADDRESS_PORT, 4), (rtc::BASE as u16, 1), (POST_PORT as u16, 1), (DEBUG_PORT as u16, 1)];

fn board(of: &Ingredients<'_>) -> Result<acpi::Board, AssignError> {
    let mut board = acpi::Board::new((0..of.cpus).collect());
    // Keyboard and mouse come with the display. Without them a guest need not probe for any.
    board.keyboard_controller = of.endpoints.display.is_some();
    board.tpm = of.tpm.is_some();
    board.endpoints = of.endpoints.devices();
    if let Some(assigned) = of.assigned {
        board.root_ports = assigned.ports();
        // One bus below each port.
        board.ecam.last_bus = u8::try_from(board.root_ports.len()).unwrap_or(u8::MAX);
        let ram_end = layout::ram_blocks(of.ram_size).last().map_or(0, |block| block.end);
        let window = assigned.high_window(ram_end, cpuid::physical_bits(of.cpuid))?;
        board.memory_windows_64.extend(window);
    }
    Ok(board)
}

fn write_tables(board: &acpi::Board, ram: &GuestRam) -> Result<u64, LifeError> {
    let placement = acpi::place(&acpi::tables(board)?, RSDP, ACPI_TABLES)?;
    for table in &placement.tables {
        ram.view()
            .write_slice(&table.bytes, GuestAddress(table.address))
            .map_err(|_| LifeError::NoMemory { address: table.address })?;
    }
    Ok(placement.rsdp)
}

fn write_smbios(name: &str, cpus: u32, ram_size: u64, ram: &GuestRam) -> Result<(), LifeError> {
    let facts = smbios::Facts { name, cpus: cpus as usize, ram_size };
    let bytes = smbios::at(&facts, SMBIOS);
    if SMBIOS + bytes.len() as u64 > layout::BIOS_AREA.end {
        // More memory than the area can describe: such a machine has no SMBIOS rather than half of one.
        return Ok(());
    }
    let place = ram.view().write_slice(&bytes, GuestAddress(SMBIOS));
    place.map_err(|_| LifeError::NoMemory { address: SMBIOS })
}

fn create_vcpus(vm: &Vm, of: &Ingredients<'_>) -> Result<Vec<Vcpu>, KvmError> {
    let (cpus, supported) = (of.cpus, of.cpuid);
    let topology = Topology { cpus, tsc_deadline: of.kvm.has_tsc_deadline() };
    let msrs = match of.starting {
        Starting::Kernel(_) => msrs::at_start(cpuid::physical_bits(supported)),
        Starting::Firmware(_) => msrs::at_reset(),
    };
    let mut vcpus = Vec::with_capacity(cpus as usize);
    for id in 0..cpus {
        let vcpu = vm.create_vcpu(id)?;
        if of.synic {
            vcpu.enable_synic()?;
        }
        vcpu.set_cpuid(&cpuid::leaves(supported, topology, id))?;
        vcpu.set_msrs(&msrs)?;
        vcpus.push(vcpu);
    }
    Ok(vcpus)
}
