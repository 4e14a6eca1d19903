//! The flash chip of UEFI variables: Intel's command set, as far as OVMF uses it
//! (OvmfPkg/QemuFlashFvbServicesRuntimeDxe/QemuFlash.c; Intel 28F640J5 datasheet, section 4).
//!
//! Not here: the memory slot by which its cells are read while nobody commands it (`super`).

use std::sync::Arc;

use super::Flash;
use crate::bus::{Device, Effect};

/// Bytes that are erased at once.
pub(super) const BLOCK: u64 = 4096;

mod command {
    pub(super) const PROGRAM: [u8; 2] = [0x10, 0x40];
    pub(super) const ERASE: [u8; 2] = [0x20, 0x28];
    pub(super) const CONFIRM: u8 = 0xd0;
    pub(super) const CLEAR_STATUS: u8 = 0x50;
    pub(super) const READ_STATUS: u8 = 0x70;
    pub(super) const READ_ID: u8 = 0x90;
}

/// The status bit of a finished write or erase. Unlike a real chip's, it is clear after the status was cleared: by that,
/// OVMF tells this chip from ROM and RAM.
const READY: u8 = 1 << 7;
/// The status bits of a command that nobody knows.
const SEQUENCE_ERROR: u8 = 0b0011_0000;

/// Intel, and the device code of a chip of this kind.
const ID: [u8; 2] = [0x89, 0x18];

/// What a read gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reads {
    Cells,
    Status,
    Id,
}

/// What the next write is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Command,
    Data,
    EraseConfirm,
}

/// The chip.
pub(super) struct Chip {
    flash: Arc<Flash>,
    reads: Reads,
    next: Next,
    status: u8,
    // The owner was told that the file cannot be written.
    complained: bool,
}

impl Chip {
    /// A chip as it is after power-on, over the variables of `flash`.
    pub(super) fn new(flash: Arc<Flash>) -> Self {
        Self { flash, reads: Reads::Cells, next: Next::Command, status: READY, complained: false }
    }

    /// Whether a read gives the cells, so that it need not come here.
    pub(super) fn reads_as_memory(&self) -> bool {
        self.reads == Reads::Cells
    }

    fn command(&mut self, command: u8) {
        (self.reads, self.next) = match command {
            _ if command::PROGRAM.contains(&command) => (Reads::Status, Next::Data),
            _ if command::ERASE.contains(&command) => (Reads::Status, Next::EraseConfirm),
            command::READ_STATUS => (Reads::Status, Next::Command),
            command::READ_ID => (Reads::Id, Next::Command),
            command::CLEAR_STATUS => {
                self.status = 0;
                (Reads::Cells, Next::Command)
            }
            // 0xFF, and what nobody knows.
            _ => (Reads::Cells, Next::Command),
        };
    }

    fn erase(&mut self, offset: u64, confirm: u8) {
        self.next = Next::Command;
        if confirm == command::CONFIRM {
            self.flash.set_cells(offset - offset % BLOCK, &[0xff; BLOCK as usize]);
            self.status |= READY;
        } else {
            self.status |= READY | SEQUENCE_ERROR;
        }
    }

    /// Saves what a whole sequence of commands has written.
    fn save(&mut self, effects: &mut Vec<Effect>) {
        match self.flash.save() {
            Ok(()) => self.complained = false,
            Err(_) if self.complained => {}
            Err(errno) => {
                self.complained = true;
                effects.push(Effect::Note(format!(
                    "the file of UEFI variables cannot be written: {errno}; what the guest sets now is kept in memory and tried again with its next change"
                )));
            }
        }
    }
}

impl Device for Chip {
    fn name(&self) -> &str {
        "flash"
    }

    fn read(&mut self, offset: u64, data: &mut [u8]) -> Vec<Effect> {
        for (index, byte) in (0..).zip(data) {
            let at = offset.wrapping_add(index);
            *byte = match self.reads {
                Reads::Cells => self.flash.cell(at),
                Reads::Status => self.status,
                Reads::Id => usize::try_from(at % BLOCK).ok().and_then(|at| ID.get(at)).copied().unwrap_or(0),
            };
        }
        Vec::new()
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Vec<Effect> {
        let Some(&first) = data.first() else { return Vec::new() };
        let before = self.reads_as_memory();
        match self.next {
            Next::Command => self.command(first),
            Next::Data => {
                // Over what is there, erased or not: QEMU's chip does not need the erasing either.
                self.flash.set_cells(offset, data);
                self.status |= READY;
                self.next = Next::Command;
            }
            Next::EraseConfirm => self.erase(offset, first),
        }
        let mut effects = Vec::new();
        // OVMF writes byte by byte and ends with "read cells"; an erase stands for itself.
        if self.next == Next::Command && (self.reads_as_memory() || first == command::CONFIRM) {
            self.save(&mut effects);
        }
        if before != self.reads_as_memory() {
            effects.push(Effect::FlashMode);
        }
        effects
    }
}
