//! QEMU's teaching device: a function whose DMA and interrupt can be ordered by register (`docs/specs/edu.rst`).
//!
//! It shows that mapped memory is reached, and that nothing else is.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use linux::iommu::{AddressSpace, DmaAccess};
use linux::memory::{GuestBytes, Mapping, MappingRange, RamBlock};
use linux::vfio::config::{Config, command};
use linux::vfio::{Area, Device, IrqAction, IrqIndex, KernelDevice, RegionIndex};
use serde_json::{Value, json};
use vm_memory::MemoryRegionAddress;

use super::{Outcome, event_fd, signals};

/// Device and vendor id as one register.
pub(crate) const IDS: u32 = 0x11e8_1234;

const BAR_SIZE: usize = 0x10_0000;
// Registers.
const LIVENESS: u64 = 0x04;
const FACTORIAL: u64 = 0x08;
const STATUS: u64 = 0x20;
const STATUS_INTERRUPT: u32 = 0x80;
const INTERRUPT_STATUS: u64 = 0x24;
const INTERRUPT_RAISE: u64 = 0x60;
const INTERRUPT_ACKNOWLEDGE: u64 = 0x64;
const DMA_SOURCE: u64 = 0x80;
const DMA_DESTINATION: u64 = 0x88;
const DMA_COUNT: u64 = 0x90;
const DMA_COMMAND: u64 = 0x98;
const DMA_START: u64 = 1;
const DMA_TO_MEMORY: u64 = 2;
const DMA_INTERRUPT: u64 = 4;
/// The device's own buffer, at this address of its DMA engine.
const BUFFER: u64 = 0x4_0000;

/// Where memory is mapped, and where none is.
const MAPPED: u64 = 0x100_0000;
const UNMAPPED: u64 = 0x200_0000;
const PAGE: usize = 4096;
const TRANSFER: usize = 1024;
/// The engine waits 100 ms before it moves anything.
const PATIENCE: Duration = Duration::from_secs(5);

/// Long enough for an interrupt that must not come.
const QUIET: Duration = Duration::from_millis(200);

struct Edu {
    registers: RamBlock,
    interrupt: OwnedFd,
}

impl Edu {
    fn write(&self, register: u64, value: u32) -> Outcome<()> {
        Ok(self.registers.store(value, MemoryRegionAddress(register), Ordering::Relaxed)?)
    }

    fn read(&self, register: u64) -> Outcome<u32> {
        Ok(self.registers.load(MemoryRegionAddress(register), Ordering::Relaxed)?)
    }

    /// Waits for the interrupt and acknowledges it.
    fn served(&self) -> Outcome<bool> {
        let arrived = arrives(&self.interrupt, PATIENCE);
        if arrived {
            self.write(INTERRUPT_ACKNOWLEDGE, self.read(INTERRUPT_STATUS)?)?;
        }
        Ok(arrived)
    }

    fn transfer(&self, source: u64, destination: u64, direction: u64) -> Outcome<bool> {
        for (register, value) in [
            (DMA_SOURCE, source),
            (DMA_DESTINATION, destination),
            (DMA_COUNT, TRANSFER as u64),
            (DMA_COMMAND, direction | DMA_START | DMA_INTERRUPT),
        ] {
            self.registers.store(value, MemoryRegionAddress(register), Ordering::Relaxed)?;
        }
        self.served()
    }
}

/// Orders an interrupt and DMA inside and outside of mapped memory.
pub(crate) fn exercise(device: &KernelDevice, space: &dyn AddressSpace) -> Outcome<Value> {
    Config(device).change_command(0, command::MEMORY | command::BUS_MASTER)?;
    let mapping = device.map(RegionIndex(0), Area { offset: 0, size: BAR_SIZE as u64 })?;
    let registers = block(Arc::new(mapping), BAR_SIZE)?;
    let edu = Edu { registers, interrupt: event_fd()? };
    let fds = [Some(edu.interrupt.as_fd())];
    device.set_irqs(IrqIndex::Msi, IrqAction::Signal { start: 0, fds: &fds })?;

    edu.write(LIVENESS, 0x1234_5678)?;
    let alive = edu.read(LIVENESS)? == !0x1234_5678;
    edu.write(STATUS, STATUS_INTERRUPT)?;
    edu.write(FACTORIAL, 10)?;
    let message = edu.served()?;
    let factorial = edu.read(FACTORIAL)?;
    edu.write(STATUS, 0)?;
    let on_event = written_on_event(device, &edu)?;
    let dma = dma(&edu, space)?;
    device.set_irqs(IrqIndex::Msi, IrqAction::Disable)?;
    let pin = pin(device, &edu)?;
    Config(device).change_command(command::BUS_MASTER, 0)?;
    Ok(json!({
        "alive": alive,
        "interrupt": message,
        "factorial": factorial,
        "written_on_event": on_event,
        "dma": dma,
        "pin": pin,
    }))
}

/// Lets the kernel write a register when an eventfd is signalled; once, and no longer once that is taken back.
fn written_on_event(device: &KernelDevice, edu: &Edu) -> Outcome<Value> {
    let event = event_fd()?;
    let set = |value, fd| device.write_on_event(RegionIndex(0), LIVENESS, value, fd);
    let written = |value: u32| -> Outcome<bool> {
        edu.write(LIVENESS, 0)?;
        rustix::io::write(&event, &1_u64.to_ne_bytes())?;
        let begin = Instant::now();
        while begin.elapsed() < QUIET {
            if edu.read(LIVENESS)? == !value {
                return Ok(true);
            }
        }
        Ok(false)
    };
    set(0x0a11_0d00, Some(event.as_fd()))?;
    let first = written(0x0a11_0d00)?;
    let twice = set(0x0a11_0d00, Some(event.as_fd())).is_err();
    set(0x0a11_0d00, None)?;
    let gone = !written(0x0a11_0d00)?;
    let unknown = set(0x0a11_0d00, None).is_err();
    Ok(json!([first, twice, gone, unknown]))
}

/// Holds the pin down and lets it be unmasked by an eventfd, as a guest's end of interrupt does.
fn pin(device: &KernelDevice, edu: &Edu) -> Outcome<Value> {
    let unmask = event_fd()?;
    let set = |action: IrqAction<'_>| device.set_irqs(IrqIndex::Intx, action);
    set(IrqAction::Signal { start: 0, fds: &[Some(edu.interrupt.as_fd())] })?;
    set(IrqAction::UnmaskOn(Some(unmask.as_fd())))?;
    let end_of_interrupt = || rustix::io::write(&unmask, &1_u64.to_ne_bytes());

    edu.write(INTERRUPT_RAISE, 1)?;
    let first = arrives(&edu.interrupt, PATIENCE);
    edu.write(INTERRUPT_RAISE, 2)?;
    let while_masked = arrives(&edu.interrupt, QUIET);
    end_of_interrupt()?;
    let still_held = arrives(&edu.interrupt, PATIENCE);
    edu.write(INTERRUPT_ACKNOWLEDGE, 3)?;
    end_of_interrupt()?;
    let after_acknowledge = arrives(&edu.interrupt, QUIET);
    edu.write(INTERRUPT_RAISE, 1)?;
    let next = arrives(&edu.interrupt, PATIENCE);
    edu.write(INTERRUPT_ACKNOWLEDGE, 1)?;
    set(IrqAction::Disable)?;
    Ok(json!([first, while_masked, still_held, after_acknowledge, next]))
}

fn dma(edu: &Edu, space: &dyn AddressSpace) -> Outcome<Value> {
    let memory = block(Arc::new(Mapping::anonymous(2 * PAGE, PAGE)?), 2 * PAGE)?;
    let second = MAPPED + PAGE as u64;
    let pattern: Vec<u8> = (0..TRANSFER).map(|index| (index * 7) as u8).collect();
    memory.write_slice(&pattern, MemoryRegionAddress(0))?;
    let read = |at: usize| -> Outcome<Vec<u8>> {
        let mut bytes = vec![0; TRANSFER];
        memory.read_slice(&mut bytes, MemoryRegionAddress(at as u64))?;
        Ok(bytes)
    };

    space.map(MAPPED, &memory.memory, DmaAccess::ReadWrite)?;
    let overlap =
        space.map(MAPPED, &memory.memory, DmaAccess::ReadWrite).err().map(|error| super::text(&error));
    let out = edu.transfer(MAPPED, BUFFER, 0)?;
    let back = edu.transfer(BUFFER, second, DMA_TO_MEMORY)?;
    let inside = out && back && read(PAGE)? == pattern;

    // Outside: a write to nowhere, a read from nowhere whose answer is then brought into view.
    edu.transfer(BUFFER, UNMAPPED, DMA_TO_MEMORY)?;
    edu.transfer(UNMAPPED, BUFFER, 0)?;
    edu.transfer(BUFFER, second, DMA_TO_MEMORY)?;
    let fetched = read(PAGE)?;
    let leaked = fetched.iter().any(|byte| *byte != 0 && *byte != 0xff);

    let cut = space.unmap(MAPPED, PAGE as u64).err().map(|error| super::text(&error));
    space.unmap(MAPPED, 2 * PAGE as u64)?;
    let twice = space.unmap(MAPPED, 2 * PAGE as u64).err().map(|error| super::text(&error));
    memory.write_slice(&[0x55; TRANSFER], MemoryRegionAddress(0))?;
    edu.transfer(BUFFER, MAPPED, DMA_TO_MEMORY)?;
    let untouched_after_unmap = read(0)? == [0x55; TRANSFER];

    space.map(MAPPED, &memory.memory, DmaAccess::Read)?;
    edu.transfer(BUFFER, MAPPED, DMA_TO_MEMORY)?;
    let untouched_read_only = read(0)? == [0x55; TRANSFER];
    space.unmap(MAPPED, 2 * PAGE as u64)?;
    Ok(json!({
        "inside_works": inside,
        "outside_leaked": leaked,
        "untouched_after_unmap": untouched_after_unmap,
        "untouched_read_only": untouched_read_only,
        "overlap_refused": overlap,
        "cut_refused": cut,
        "second_unmap_refused": twice,
    }))
}

fn arrives(interrupt: &OwnedFd, limit: Duration) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < limit {
        if signals(interrupt) > 0 {
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    false
}

fn block(mapping: Arc<Mapping>, len: usize) -> Outcome<RamBlock> {
    let memory = MappingRange::new(mapping, 0..len).ok_or("the mapping is too small")?;
    Ok(RamBlock { guest: 0, memory })
}
