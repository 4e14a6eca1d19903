//! The block device (section 5.2): a disk of 512-byte sectors over whatever stores bytes.
//!
//! One queue, one request after another. Not here: files (`linux::disk`), and the thread.

mod request;

use super::request::Request;
use super::{Broken, Kind, VirtioDevice};
use crate::storage::Storage;
use request::{Header, Status, Task};

/// Bytes of a sector, whatever the storage's own are (section 5.2.4).
pub(crate) const SECTOR: u64 = 512;

const DEVICE_ID: u16 = 2;
/// Mass storage of no special kind, as QEMU's.
const CLASS: u32 = 0x01_0000;
const QUEUE: u16 = 256;

/// Feature bits (section 5.2.3).
mod feature {
    pub(super) const SEG_MAX: u64 = 1 << 2;
    pub(super) const READ_ONLY: u64 = 1 << 5;
    pub(super) const BLK_SIZE: u64 = 1 << 6;
    pub(super) const FLUSH: u64 = 1 << 9;
    pub(super) const DISCARD: u64 = 1 << 13;
}

/// What a transfer moves at most, so that stopping the device never waits for long. Drivers ask for a megabyte or two.
const TRANSFER_LIMIT: u64 = 64 << 20;
/// Sectors in one discarded range at most.
const DISCARD_SECTORS: u32 = 1 << 22;
/// Ranges in one discard request at most.
const DISCARD_RANGES: u32 = 16;

/// Bytes of the identification (VIRTIO_BLK_ID_BYTES).
const NAME_BYTES: usize = 20;

/// The device.
pub(crate) struct Block {
    name: String,
    storage: Box<dyn Storage>,
    read_only: bool,
    // The driver knows that written bytes may wait in a cache until it says flush. Else each write is made to last.
    cached: bool,
}

impl Block {
    /// A disk over `storage`. `name` is in messages, and the first of it in the disk's identification.
    pub(crate) fn new(name: String, storage: Box<dyn Storage>, read_only: bool) -> Self {
        Self { name, storage, read_only, cached: false }
    }

    fn sectors(&self) -> u64 {
        self.storage.len() / SECTOR
    }

    /// Carries a task out. A host that fails is an I/O error to the guest: what else the guest cannot help.
    fn carry_out(&self, task: Task<'_>) -> Status {
        let done = match task {
            Task::Read { offset, to } => self.storage.read_at(offset, to.slices()),
            Task::Write { offset, from } => self
                .storage
                .write_at(offset, from.slices())
                .and_then(|()| if self.cached { Ok(()) } else { self.storage.flush() }),
            Task::Flush => self.storage.flush(),
            Task::Discard(ranges) => ranges
                .into_iter()
                .try_for_each(|range| self.storage.discard(range.start, range.end - range.start)),
            Task::Identify { to } => {
                let mut name = [0; NAME_BYTES];
                for (place, byte) in name.iter_mut().zip(self.name.bytes()) {
                    *place = byte;
                }
                to.write(&name);
                Ok(())
            }
        };
        if done.is_ok() { Status::Ok } else { Status::Error }
    }
}

impl VirtioDevice for Block {
    fn kind(&self) -> Kind {
        let mut features = feature::SEG_MAX | feature::BLK_SIZE | feature::FLUSH;
        features |= if self.read_only { feature::READ_ONLY } else { feature::DISCARD };
        Kind {
            name: self.name.clone(),
            id: DEVICE_ID,
            class: CLASS,
            features,
            queues: vec![QUEUE],
            frugal: false,
            config: config(self.sectors()),
            rom: None,
        }
    }

    fn accept(&mut self, features: u64) {
        self.cached = features & feature::FLUSH != 0;
    }

    fn answer(&mut self, _queue: usize, request: Request<'_>) -> Result<u32, Broken> {
        let Request { readable, writable } = request;
        let (header, from) = Header::read(readable)?;
        // The last byte takes the status.
        let (to, status) =
            writable.len().checked_sub(1).and_then(|at| writable.split_at(at)).ok_or(Broken::Request)?;
        let room = to.len();
        let task = header.task(from, to, self.sectors(), self.read_only);
        let (result, data) = match task {
            Ok(task) => {
                let data = task.written();
                (self.carry_out(task), data)
            }
            Err(refusal) => (refusal, 0),
        };
        status.write(&[result.code()]);
        // What is told is what was surely written: data only in a read that went well.
        let data = if result == Status::Ok { data.min(room) } else { 0 };
        Ok(u32::try_from(data + 1).unwrap_or(u32::MAX))
    }
}

/// The configuration structure (section 5.2.4), as far as the features reach.
fn config(sectors: u64) -> Vec<u8> {
    let mut config = [0; 48];
    for (offset, bytes) in [
        (0, &sectors.to_le_bytes()[..]),
        // A chain has a header and a status beside its data.
        (12, &u32::from(QUEUE - 2).to_le_bytes()),
        (20, &(SECTOR as u32).to_le_bytes()),
        (36, &DISCARD_SECTORS.to_le_bytes()),
        (40, &DISCARD_RANGES.to_le_bytes()),
        // Alignment of discarded ranges, in sectors: a page, below which file systems give nothing back.
        (44, &8_u32.to_le_bytes()),
    ] {
        for (place, byte) in config.iter_mut().skip(offset).zip(bytes) {
            *place = *byte;
        }
    }
    config.to_vec()
}

#[cfg(test)]
mod tests;
