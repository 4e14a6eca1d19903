//! Firmware flash below 4 GiB: SeaBIOS's ROM, or OVMF's code with a chip for its variables below it.
//!
//! The memory outlives a life of the machine, as flash does; slots and the chip's mode are of one life. Not here: what
//! answers below 1 MiB (`shadow`).

mod chip;
mod image;
mod variables;

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use linux::disk::Disk;
use linux::kvm::{KvmError, Slot, Vm};
use linux::memory::{
    GuestAddress, GuestBytes, GuestMemoryBackend, GuestRam, MappingRange, PageKind, RamBlock, RamSpec,
};
use spec::seat_file::FirmwareKind;

use crate::bus::{Bus, RangeTaken, SharedDevice};
use crate::layout::ABOVE_4G;
use chip::Chip;
pub use image::FlashError;

/// Firmware as it is given to a machine.
#[derive(Debug)]
pub struct Firmware {
    /// Which of the two.
    pub kind: FirmwareKind,
    /// Its code.
    pub image: std::fs::File,
    /// Where UEFI variables are kept.
    pub variables: Option<Disk>,
}

/// How much of a BIOS's end is also below 1 MiB.
const LOW_COPY: u64 = 0x2_0000;

/// The flash of one machine, over all its lives.
#[derive(Debug)]
pub(crate) struct Flash {
    ram: GuestRam,
    code: RamBlock,
    variables: Option<RamBlock>,
    store: Option<Disk>,
    // What of the variables' cells the store does not have yet.
    unsaved: Mutex<Option<Range<u64>>>,
}

impl Flash {
    /// Reads the files, checks what they are, and puts them where the processor looks for them.
    pub(crate) fn load(firmware: Firmware) -> Result<Self, FlashError> {
        let Firmware { kind, image, variables: store } = firmware;
        let code = image::read_code(kind, image)?;
        let variables = match &store {
            Some(store) => Some(image::read_variables(kind, store, code.len() as u64)?),
            None => None,
        };
        let middle = ABOVE_4G - code.len() as u64;
        let start = middle - variables.as_ref().map_or(0, |bytes| bytes.len() as u64);
        let blocks = [start..middle, middle..ABOVE_4G].into_iter().filter(|block| !block.is_empty());
        let ram = GuestRam::allocate(&RamSpec {
            blocks: blocks.collect(),
            pages: PageKind::Small,
            shared: false,
            prefault: false,
        })?;
        let no_room = || FlashError::Size { what: "firmware", len: ABOVE_4G - start };
        for (address, bytes) in [(start, variables.as_deref().unwrap_or_default()), (middle, &code)] {
            ram.view().write_slice(bytes, GuestAddress(address)).map_err(|_| no_room())?;
        }
        let block = |at| ram.blocks().iter().find(|block| block.guest == at).cloned();
        let code = block(middle).ok_or_else(no_room)?;
        let variables = variables.and_then(|_| block(start));
        Ok(Self { code, variables, ram, store, unsaved: Mutex::default() })
    }

    /// The end of the code, which is also at 0xE0000 until RAM takes its place.
    pub(crate) fn low_copy(&self) -> Option<MappingRange> {
        let len = self.code.memory.len();
        self.code.memory.part(len.checked_sub(LOW_COPY as usize)?..len)
    }

    /// Whether the variables have an order to boot in: one that firmware made at an earlier start, or that a guest chose.
    pub(crate) fn has_boot_order(&self) -> bool {
        let Some(block) = &self.variables else { return false };
        let mut cells = vec![0; block.memory.len()];
        let read = self.ram.view().read_slice(&mut cells, GuestAddress(block.guest));
        read.is_ok() && variables::have_boot_order(&cells)
    }

    /// Where the variables' chip is.
    fn chip_range(&self) -> Option<Range<u64>> {
        let block = self.variables.as_ref()?;
        Some(block.guest..block.guest + block.memory.len() as u64)
    }

    /// Reads a cell of the chip.
    fn cell(&self, offset: u64) -> u8 {
        let at = self.chip_range().map_or(0, |range| range.start.saturating_add(offset));
        self.ram.view().read_obj(GuestAddress(at)).unwrap_or(0xff)
    }

    /// Writes cells of the chip; what lies outside of it is dropped.
    fn set_cells(&self, offset: u64, bytes: &[u8]) {
        let Some(range) = self.chip_range() else { return };
        let start = range.start.saturating_add(offset);
        let end = start.saturating_add(bytes.len() as u64);
        if !range.contains(&start)
            || end > range.end
            || self.ram.view().write_slice(bytes, GuestAddress(start)).is_err()
        {
            return;
        }
        let mut unsaved = self.unsaved();
        *unsaved = Some(match unsaved.take() {
            Some(before) => before.start.min(start)..before.end.max(end),
            None => start..end,
        });
    }

    /// Has what was written on stable storage.
    ///
    /// # Errors
    /// What the kernel said; it is tried again with the next write.
    pub(crate) fn save(&self) -> std::io::Result<()> {
        let mut unsaved = self.unsaved();
        let (Some(range), Some(store), Some(chip)) = (unsaved.clone(), &self.store, self.chip_range()) else {
            return Ok(());
        };
        let len = (range.end - range.start) as usize;
        let cells =
            self.ram.view().get_slice(GuestAddress(range.start), len).map_err(std::io::Error::other)?;
        store.write_at(range.start - chip.start, &[cells])?;
        store.flush()?;
        *unsaved = None;
        Ok(())
    }

    fn unsaved(&self) -> MutexGuard<'_, Option<Range<u64>>> {
        self.unsaved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The flash in one life of the machine: what of it the guest reads as memory.
pub(crate) struct FlashSlots {
    vm: Vm,
    flash: Arc<Flash>,
    chip: Option<Arc<Mutex<Chip>>>,
    // The slot of the variables, while the chip reads as memory.
    slot: Mutex<Option<Slot>>,
}

impl FlashSlots {
    /// Shows `flash` to the guest of `vm`, and its chip's commands on `memory`.
    pub(crate) fn new(vm: &Vm, flash: &Arc<Flash>, memory: &Bus) -> Result<Self, FlashSlotsError> {
        vm.map(flash.code.guest, &flash.code.memory, true)?;
        let chip = flash.chip_range().map(|range| {
            let chip = Arc::new(Mutex::new(Chip::new(Arc::clone(flash))));
            memory.insert(range, Arc::clone(&chip) as SharedDevice).map(|()| chip)
        });
        let slots = Self {
            vm: vm.clone(),
            flash: Arc::clone(flash),
            chip: chip.transpose()?,
            slot: Mutex::default(),
        };
        slots.follow()?;
        Ok(slots)
    }

    /// Lets reads go to memory or to the chip, as the chip's mode now is.
    pub(crate) fn follow(&self) -> Result<(), KvmError> {
        let (Some(chip), Some(block)) = (&self.chip, &self.flash.variables) else { return Ok(()) };
        // First this lock: of two vCPUs that come here, the later one sees the chip as both have left it.
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        let reads_as_memory = chip.lock().unwrap_or_else(PoisonError::into_inner).reads_as_memory();
        match (reads_as_memory, *slot) {
            (true, None) => *slot = Some(self.vm.map(block.guest, &block.memory, true)?),
            (false, Some(shown)) => {
                self.vm.unmap(shown)?;
                *slot = None;
            }
            _ => {}
        }
        Ok(())
    }
}

/// The flash cannot be shown to the guest.
#[derive(Debug, thiserror::Error)]
pub enum FlashSlotsError {
    /// KVM refused.
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// Something else answers there.
    #[error(transparent)]
    Range(#[from] RangeTaken),
}

#[cfg(test)]
mod tests;
