//! A scripted device without a kernel: real enough for tests, and as broken as hardware can be.
//!
//! It keeps the rules by which the kernel shows a function (configuration space, interrupts, memory decode) and
//! fails as told: a reset that fails, hangs or lies, a power state it does not leave, a ROM or BAR shorter than it
//! says, a removal at any call. Tests of the machine's assigned functions use it; nothing else does.

mod config_space;
mod interrupts;
mod script;
#[cfg(test)]
mod tests;
mod written_on_event;

use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::MemfdFlags;
use rustix::io::Errno;

use self::config_space::{Asked, ConfigSpace};
use self::interrupts::Interrupts;
pub use self::script::{FakeBar, FakeIrqs, FakeReset, FakeRom, Script};
use self::written_on_event::WrittenOnEvent;
use super::kernel_device::mapped_len;
use super::{
    Area, Cause, Device, DeviceError, DeviceInfo, IrqAction, IrqIndex, IrqInfo, Operation, Ownership,
    RegionIndex, RegionInfo, ResetScope,
};
use crate::memory::Mapping;

/// Size of the legacy VGA region: up to the end of the memory range.
const VGA_SIZE: u64 = 0xc_0000;

/// How a function that is gone answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// As on the real kernel after a card is pulled: reads give all-ones where the hardware would answer, writes
    /// vanish, resets fail with `ENOTTY`; what the kernel does without the function still works.
    AllOnes,
    /// Everything fails with this.
    Fails(Errno),
}

/// A fake device.
#[derive(Debug)]
pub struct FakeDevice {
    script: Script,
    // Memory behind BARs 0..=5, and behind the VGA region last.
    memory: [Option<OwnedFd>; 7],
    state: Mutex<State>,
    let_go: Condvar,
}

#[derive(Debug)]
struct State {
    config: ConfigSpace,
    interrupts: Interrupts,
    written_on_event: WrittenOnEvent,
    removal: Option<Removal>,
    remove_in: Option<(usize, Removal)>,
    fail_in: Option<(usize, Errno)>,
    let_go: bool,
    resets: u32,
    calls: Vec<Operation>,
}

impl FakeDevice {
    /// Opens the device. Fails only when the host has no memory for its BARs.
    pub fn new(script: Script) -> Result<Self, Errno> {
        let mut memory: [Option<OwnedFd>; 7] = Default::default();
        let sizes = script.bars.iter().map(|bar| bar.as_ref().map(|bar| bar.size));
        for (place, size) in memory.iter_mut().zip(sizes.chain([script.vga.then_some(VGA_SIZE)])) {
            *place = size.map(zeroed).transpose()?;
        }
        let state = State {
            config: ConfigSpace::new(&script),
            interrupts: Interrupts::default(),
            written_on_event: WrittenOnEvent::default(),
            removal: None,
            remove_in: None,
            fail_in: None,
            let_go: false,
            resets: 0,
            calls: Vec::new(),
        };
        Ok(Self { script, memory, state: Mutex::new(state), let_go: Condvar::new() })
    }

    /// Takes the device away now.
    pub fn remove(&self, how: Removal) {
        self.lock().removal = Some(how);
    }

    /// Takes the device away before the call after the next `calls`.
    pub fn remove_after(&self, calls: usize, how: Removal) {
        self.lock().remove_in = Some((calls, how));
    }

    /// Makes one call fail: the one after the next `calls`.
    pub fn fail_after(&self, calls: usize, errno: Errno) {
        self.lock().fail_in = Some((calls, errno));
    }

    /// Raises an interrupt as the hardware would; whether an eventfd was signalled.
    pub fn raise(&self, irq: IrqIndex, vector: u32) -> bool {
        let mut state = self.lock();
        let disabled = state.config.intx_disabled();
        state.interrupts.raise(irq, vector, disabled)
    }

    /// The vectors that have an eventfd.
    pub fn armed(&self, irq: IrqIndex) -> Vec<u32> {
        self.lock().interrupts.armed(irq)
    }

    /// The kind of interrupt that is enabled.
    pub fn enabled(&self) -> Option<IrqIndex> {
        self.lock().interrupts.enabled()
    }

    /// Whether the pin is masked.
    pub fn is_masked(&self) -> bool {
        self.lock().interrupts.is_masked()
    }

    /// Writes what the kernel writes for the events that were signalled since, and gives it.
    pub fn write_for_events(&self) -> Vec<(RegionIndex, u64, u32)> {
        let due = self.lock().written_on_event.due();
        for (region, offset, value) in &due {
            if let Ok(memory) = self.memory_of(*region) {
                let _ = rustix::io::pwrite(memory, &value.to_le_bytes(), *offset);
            }
        }
        due
    }

    /// Resets that worked, of any kind.
    pub fn resets(&self) -> u32 {
        self.lock().resets
    }

    /// All calls so far, in order.
    pub fn calls(&self) -> Vec<Operation> {
        self.lock().calls.clone()
    }

    /// Ends a reset that hangs, and those to come.
    pub fn let_go(&self) {
        self.lock().let_go = true;
        self.let_go.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a call and does what the script has for this moment.
    fn begin(&self, operation: &Operation) -> Result<MutexGuard<'_, State>, Cause> {
        let mut state = self.lock();
        state.calls.push(operation.clone());
        match state.remove_in.take() {
            Some((0, how)) => state.removal = Some(how),
            Some((left, how)) => state.remove_in = Some((left - 1, how)),
            None => {}
        }
        match state.fail_in.take() {
            Some((0, errno)) => return Err(errno.into()),
            Some((left, errno)) => state.fail_in = Some((left - 1, errno)),
            None => {}
        }
        match state.removal {
            Some(Removal::Fails(errno)) => Err(errno.into()),
            _ => Ok(state),
        }
    }

    /// As [`Self::begin`], for resets: a function that is gone does not come back from one.
    fn begin_reset(&self, operation: &Operation) -> Result<(), Cause> {
        let state = self.begin(operation)?;
        if state.removal.is_some() { Err(Errno::NOTTY.into()) } else { Ok(()) }
    }

    fn describe(&self, region: RegionIndex) -> Option<RegionInfo> {
        let plain = RegionInfo { readable: true, writable: true, ..RegionInfo::default() };
        match region {
            RegionIndex::CONFIG => Some(RegionInfo { size: self.script.config.len() as u64, ..plain }),
            RegionIndex::ROM => {
                Some(RegionInfo { size: self.script.rom.region_size, writable: false, ..plain })
            }
            RegionIndex::VGA => self.script.vga.then_some(RegionInfo { size: VGA_SIZE, ..plain }),
            RegionIndex(number) => match self.script.bars.get(number as usize)? {
                Some(bar) => Some(RegionInfo { size: bar.size, areas: bar.areas.clone(), ..plain }),
                None => Some(RegionInfo::default()),
            },
        }
    }

    /// The bytes of `len` at `offset` that answer, after the size of the region and the script's shortness.
    fn answering(&self, region: RegionIndex, offset: u64, len: usize) -> Result<usize, Cause> {
        let size = self.describe(region).ok_or(Errno::INVAL)?.size;
        if offset.checked_add(len as u64).is_none_or(|end| end > size) {
            return Err(Cause::Outside { size });
        }
        let answers = match region {
            RegionIndex::ROM => self.script.rom.content.len() as u64,
            RegionIndex(number) => match self.script.bars.get(number as usize) {
                Some(Some(bar)) => bar.answers,
                _ => size,
            },
        };
        Ok(usize::try_from(answers.saturating_sub(offset)).unwrap_or(len).min(len))
    }

    fn read_bytes(
        &self,
        region: RegionIndex,
        offset: u64,
        data: &mut [u8],
        op: &Operation,
    ) -> Result<(), Cause> {
        let state = self.begin(op)?;
        let wanted = data.len();
        let done = self.answering(region, offset, wanted)?;
        let data = data.get_mut(..done).unwrap_or_default();
        let gone = state.removal.is_some();
        match region {
            RegionIndex::CONFIG => state.config.read(offset as usize, data, gone),
            _ if gone => data.fill(0xff),
            RegionIndex::ROM => {
                if let Some(errno) = self.script.rom.fails {
                    return Err(errno.into());
                }
                let content = self.script.rom.content.get(offset as usize..).unwrap_or_default();
                data.iter_mut().zip(content).for_each(|(place, byte)| *place = *byte);
            }
            _ => {
                let table = table_part(&state, region, offset, data.len());
                if table.len() < data.len() {
                    self.must_decode(&state, region)?;
                    rustix::io::pread(self.memory_of(region)?, &mut *data, offset)?;
                }
                data.get_mut(table).unwrap_or_default().fill(0xff);
            }
        }
        if done == wanted { Ok(()) } else { Err(Cause::Short { done, wanted }) }
    }

    fn write_bytes(
        &self,
        region: RegionIndex,
        offset: u64,
        data: &[u8],
        op: &Operation,
    ) -> Result<(), Cause> {
        let mut state = self.begin(op)?;
        let wanted = data.len();
        let done = self.answering(region, offset, wanted)?;
        let data = data.get(..done).unwrap_or_default();
        let gone = state.removal.is_some();
        match region {
            RegionIndex::CONFIG => {
                let msi = state.interrupts.enabled() == Some(IrqIndex::Msi);
                let asked = state.config.write(offset as usize, data, gone, msi);
                drop(state);
                match asked {
                    Asked::Nothing => {}
                    Asked::PowerCycle => self.clear_memory(),
                    // The kernel resets on behalf of the bit and tells nobody how it went.
                    Asked::Reset => drop(self.carry_out_reset(self.script.reset)),
                }
            }
            RegionIndex::ROM => return Err(Errno::INVAL.into()),
            _ if gone => {}
            _ => {
                let table = table_part(&state, region, offset, data.len());
                if table.len() < data.len() {
                    self.must_decode(&state, region)?;
                }
                for part in [0..table.start, table.end..data.len()] {
                    let at = offset + part.start as u64;
                    rustix::io::pwrite(self.memory_of(region)?, data.get(part).unwrap_or_default(), at)?;
                }
            }
        }
        if done == wanted { Ok(()) } else { Err(Cause::Short { done, wanted }) }
    }

    /// Memory BARs of a function that does not decode give `EIO` (`vfio_pci_rdwr.c`).
    fn must_decode(&self, state: &State, region: RegionIndex) -> Result<(), Cause> {
        let bar = self.script.bars.get(region.0 as usize).and_then(Option::as_ref);
        match bar {
            Some(bar) if !bar.is_io() && !state.config.memory_enabled() => Err(Errno::IO.into()),
            _ => Ok(()),
        }
    }

    fn memory_of(&self, region: RegionIndex) -> Result<&OwnedFd, Errno> {
        let index = if region == RegionIndex::VGA { 6 } else { region.0 as usize };
        self.memory.get(index).and_then(Option::as_ref).ok_or(Errno::INVAL)
    }

    fn carry_out_reset(&self, reset: FakeReset) -> Result<(), Cause> {
        match reset {
            FakeReset::Works => {
                let mut state = self.lock();
                state.config.after_reset();
                state.resets += 1;
                drop(state);
                self.clear_memory();
                Ok(())
            }
            FakeReset::Lies => Ok(()),
            FakeReset::Absent => Err(Errno::INVAL.into()),
            FakeReset::Fails(errno) => Err(errno.into()),
            FakeReset::Hangs(how_long) => {
                self.hang(how_long);
                Err(Errno::NOTTY.into())
            }
        }
    }

    fn hang(&self, how_long: Duration) {
        // The lock is free while waiting: the rest of the device can be looked at.
        let stays = |state: &mut State| !state.let_go && state.removal.is_none();
        drop(
            self.let_go
                .wait_timeout_while(self.lock(), how_long, stays)
                .unwrap_or_else(PoisonError::into_inner),
        );
    }

    fn clear_memory(&self) {
        for (bar, memory) in self.script.bars.iter().zip(&self.memory) {
            if let (Some(bar), Some(memory)) = (bar, memory) {
                // Down to nothing and up again: all zero, and existing mappings see it.
                let _ =
                    rustix::fs::ftruncate(memory, 0).and_then(|()| rustix::fs::ftruncate(memory, bar.size));
            }
        }
    }
}

impl Device for FakeDevice {
    fn info(&self) -> DeviceInfo {
        let resettable = self.script.reset != FakeReset::Absent;
        DeviceInfo { resettable, pci: true, regions: 9, irqs: 5, ..DeviceInfo::default() }
    }

    fn region(&self, region: RegionIndex) -> Result<RegionInfo, DeviceError> {
        let operation = Operation::RegionInfo { region };
        let described =
            self.begin(&operation).and_then(|_state| self.describe(region).ok_or(Cause::Errno(Errno::INVAL)));
        described.map_err(|cause| DeviceError::new(operation, cause))
    }

    fn read(&self, region: RegionIndex, offset: u64, data: &mut [u8]) -> Result<(), DeviceError> {
        let operation = Operation::Read { region, offset, len: data.len() };
        let done = self.read_bytes(region, offset, data, &operation);
        done.map_err(|cause| DeviceError::new(operation, cause))
    }

    fn write(&self, region: RegionIndex, offset: u64, data: &[u8]) -> Result<(), DeviceError> {
        let operation = Operation::Write { region, offset, len: data.len() };
        let done = self.write_bytes(region, offset, data, &operation);
        done.map_err(|cause| DeviceError::new(operation, cause))
    }

    fn write_on_event(
        &self,
        region: RegionIndex,
        offset: u64,
        value: u32,
        event: Option<BorrowedFd<'_>>,
    ) -> Result<(), DeviceError> {
        let operation = Operation::WriteOnEvent { region, offset, value };
        let made = self.begin(&operation).and_then(|mut state| {
            let bar = self.script.bars.get(region.0 as usize).and_then(Option::as_ref).ok_or(Errno::INVAL)?;
            if offset.checked_add(4).is_none_or(|end| end > bar.size) {
                return Err(Cause::Outside { size: bar.size });
            }
            if !offset.is_multiple_of(4) || !table_part(&state, region, offset, 4).is_empty() {
                return Err(Errno::INVAL.into());
            }
            Ok(state.written_on_event.set((region, offset, value), event)?)
        });
        made.map_err(|cause| DeviceError::new(operation, cause))
    }

    fn map(&self, region: RegionIndex, area: Area) -> Result<Mapping, DeviceError> {
        let operation = Operation::Map { region, area };
        let mapped = self.begin(&operation).and_then(|_state| {
            let info = self.describe(region).ok_or(Errno::INVAL)?;
            let len = mapped_len(&info, area).ok_or(Cause::NotMappable)?;
            let memory = self.memory_of(region)?.as_fd();
            Mapping::file(memory, area.offset, len).map_err(|error| Cause::Errno(error.errno))
        });
        mapped.map_err(|cause| DeviceError::new(operation, cause))
    }

    fn irq(&self, irq: IrqIndex) -> Result<IrqInfo, DeviceError> {
        let operation = Operation::IrqInfo { irq };
        let known = self.begin(&operation).map(|_state| self.script.irqs.info(irq));
        known.map_err(|cause| DeviceError::new(operation, cause))
    }

    fn set_irqs(&self, irq: IrqIndex, action: IrqAction<'_>) -> Result<(), DeviceError> {
        let (verb, start, count) = action.summary();
        let operation = Operation::SetIrqs { irq, action: verb, start, count };
        let set =
            self.begin(&operation).and_then(|mut state| state.interrupts.set(self.script.irqs, irq, action));
        set.map_err(|cause| DeviceError::new(operation, cause))
    }

    fn reset(&self) -> Result<(), DeviceError> {
        self.begin_reset(&Operation::Reset)
            .and_then(|()| self.carry_out_reset(self.script.reset))
            .map_err(|cause| DeviceError::new(Operation::Reset, cause))
    }

    fn reset_scope(&self) -> Result<ResetScope, DeviceError> {
        let scope = self
            .begin(&Operation::HotResetInfo)
            .and_then(|_state| self.script.scope.clone().ok_or(Cause::Errno(Errno::NODEV)));
        scope.map_err(|cause| DeviceError::new(Operation::HotResetInfo, cause))
    }

    fn hot_reset(&self, ownership: Ownership<'_>) -> Result<(), DeviceError> {
        self.reset_scope()?
            .proof(&ownership)
            .and_then(|_proof| self.begin_reset(&Operation::HotReset))
            .and_then(|()| self.carry_out_reset(self.script.hot_reset))
            .map_err(|cause| DeviceError::new(Operation::HotReset, cause))
    }
}

/// The part of an access that falls into the MSI-X table, which the kernel keeps for itself: reads give all-ones,
/// writes vanish, decode does not matter (`vfio_pci_rdwr.c`, `vfio_pci_bar_rw`).
fn table_part(state: &State, region: RegionIndex, offset: u64, len: usize) -> Range<usize> {
    match state.config.msix_table() {
        Some((bar, table)) if bar == region.0 => {
            let inside = |at: u64| usize::try_from(at.saturating_sub(offset)).unwrap_or(len).min(len);
            inside(table.start)..inside(table.end)
        }
        _ => 0..0,
    }
}

fn zeroed(size: u64) -> Result<OwnedFd, Errno> {
    let file = rustix::fs::memfd_create("fake-bar", MemfdFlags::CLOEXEC)?;
    rustix::fs::ftruncate(&file, size)?;
    Ok(file)
}
