//! The controller at work: commands fetched from guest memory and carried out, one at a time, on a thread of its own.
//!
//! Everything in memory is the guest's and may lie: what makes no sense is answered with a status, as hardware's.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use linux::EventFd;
use linux::memory::{GuestAddress, GuestBytes, GuestMemory};

use super::command::{self, COMMAND_BYTES, Command, Result, Status};
use super::identify::{self, BLOCK_BITS, EVENT_REQUESTS, Facts};
use super::state::{Asked, Job, PAIRS, State};
use crate::messages::Triggers;
use crate::parts::Parts;
use crate::storage::Storage;
use crate::worker::Serve;

/// Bytes of a page of the guest's, the only size there is.
const PAGE: u64 = 4096;
/// Bytes that one command moves at most; the controller says so.
const TRANSFER_LIMIT: u64 = 1 << 20;
/// Ranges in a command that gives blocks back.
const RANGES: u32 = 256;
const RANGE_BYTES: u64 = 16;
/// Zeros are written in pieces of this.
const ZEROS: usize = 64 << 10;
/// All namespaces.
const EVERY: u32 = u32::MAX;

/// Opcodes of the admin queue (figure 139).
mod admin {
    pub(super) const DELETE_SUBMISSION: u8 = 0x00;
    pub(super) const CREATE_SUBMISSION: u8 = 0x01;
    pub(super) const LOG_PAGE: u8 = 0x02;
    pub(super) const DELETE_COMPLETION: u8 = 0x04;
    pub(super) const CREATE_COMPLETION: u8 = 0x05;
    pub(super) const IDENTIFY: u8 = 0x06;
    pub(super) const ABORT: u8 = 0x08;
    pub(super) const SET_FEATURES: u8 = 0x09;
    pub(super) const GET_FEATURES: u8 = 0x0a;
    pub(super) const EVENT_REQUEST: u8 = 0x0c;
}

/// Opcodes of the others (figure 346).
mod block {
    pub(super) const FLUSH: u8 = 0x00;
    pub(super) const WRITE: u8 = 0x01;
    pub(super) const READ: u8 = 0x02;
    pub(super) const WRITE_ZEROES: u8 = 0x08;
    pub(super) const DATASET: u8 = 0x09;
}

/// Features (figure 271).
const WRITE_CACHE: u8 = 0x06;
const QUEUE_COUNT: u8 = 0x07;
/// Those that a driver may set and read back, and that change nothing.
const REMEMBERED: [u8; 9] = [0x01, 0x02, 0x04, 0x05, WRITE_CACHE, 0x08, 0x09, 0x0a, 0x0b];

/// The controller as its function and its thread share it.
pub(crate) struct Controller {
    memory: Arc<GuestMemory>,
    doorbell: Arc<EventFd>,
    triggers: Triggers,
    facts: Facts,
    // The function may reach memory (bus master enable).
    master: AtomicBool,
    // Held while a command is carried out, so that stopping waits for the one at hand. Before the state's lock.
    work: Mutex<Work>,
    state: Mutex<State>,
}

struct Work {
    storage: Box<dyn Storage>,
    features: [u32; 16],
    // Requests to be told of events, none of which ever comes.
    waiting: u8,
}

impl Work {
    /// Back to power-on, with the cache on.
    fn reset(&mut self) {
        self.features = [0; 16];
        if let Some(cache) = self.features.get_mut(usize::from(WRITE_CACHE)) {
            *cache = 1;
        }
        self.waiting = 0;
    }

    fn is_cached(&self) -> bool {
        self.features.get(usize::from(WRITE_CACHE)).is_some_and(|value| value & 1 != 0)
    }
}

impl Controller {
    pub(super) fn new(
        storage: Box<dyn Storage>,
        facts: Facts,
        memory: Arc<GuestMemory>,
        triggers: Triggers,
        doorbell: Arc<EventFd>,
    ) -> Self {
        let mut work = Work { storage, features: [0; 16], waiting: 0 };
        work.reset();
        Self {
            memory,
            doorbell,
            triggers,
            facts,
            master: AtomicBool::new(false),
            work: Mutex::new(work),
            state: Mutex::default(),
        }
    }

    /// What it signals its vectors by.
    pub(super) fn triggers(&self) -> &Triggers {
        &self.triggers
    }

    /// Reads a register.
    pub(super) fn read(&self, offset: u64) -> u32 {
        self.lock().read(offset)
    }

    /// Writes a register; when it returns, what it has stopped has stopped.
    pub(super) fn write(&self, offset: u64, value: u32) {
        let Asked { work, wait } = self.lock().write(offset, value);
        if wait {
            self.work.lock().unwrap_or_else(PoisonError::into_inner).reset();
            self.triggers.clear();
        }
        if work {
            self.ring();
        }
    }

    /// Goes back to power-on.
    pub(super) fn reset(&self) {
        self.lock().reset();
        self.work.lock().unwrap_or_else(PoisonError::into_inner).reset();
        self.triggers.clear();
    }

    /// Follows the bus master enable bit; when it returns after switching it off, no memory is touched.
    pub(super) fn set_master(&self, on: bool) {
        if self.master.swap(on, Ordering::AcqRel) == on {
            return;
        }
        if on {
            self.ring();
        } else {
            drop(self.work.lock());
        }
    }

    /// Carries one command out; false when there is none.
    pub(super) fn serve(&self) -> bool {
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.master.load(Ordering::Acquire) {
            return false;
        }
        let Some(job) = self.lock().next() else {
            let shutting_down = self.lock().is_shutting_down();
            if shutting_down {
                // What cannot be written now is lost; the driver is told by its next flush, if it asks for one.
                let _ = work.storage.flush();
                self.lock().shut_down();
            }
            return false;
        };
        let mut bytes = [0; COMMAND_BYTES as usize];
        if self.memory.read_slice(&mut bytes, GuestAddress(job.at)).is_err() {
            self.lock().fail();
            return false;
        }
        let command = Command::read(&bytes);
        let result = match (job.queue, command.is_foreign) {
            (_, true) => Err(Status::FIELD),
            (0, false) => match self.admin(&mut work, &command, &job) {
                Some(result) => result,
                // It waits for an event.
                None => return true,
            },
            (_, false) => self.block(&mut work, &command, &job),
        };
        self.answer(&job, command.id, result);
        true
    }

    fn answer(&self, job: &Job, id: u16, result: Result) {
        let mut state = self.lock();
        let Some(place) = state.place(job) else { return };
        let bytes = command::answer(result, id, (job.queue, place.head), place.phase);
        // The driver polls the last word, which has the phase: it is there after the others.
        let (first, last) = bytes.split_at(12);
        let last = u32::from_le_bytes(last.try_into().unwrap_or_default());
        let written = self.memory.write_slice(first, GuestAddress(place.at)).and_then(|()| {
            self.memory.store(last, GuestAddress(place.at.wrapping_add(12)), Ordering::Release)
        });
        if written.is_err() {
            return state.fail();
        }
        if let Some(vector) = place.vector {
            self.triggers.signal(vector);
        }
    }

    /// A command of the admin queue; `None` when its answer waits.
    fn admin(&self, work: &mut Work, command: &Command, job: &Job) -> Option<Result> {
        let [word, next, ..] = command.words;
        let [page, ..] = command.pages;
        Some(match command.opcode {
            admin::IDENTIFY => self.identify(command),
            admin::LOG_PAGE => self.log_page(command),
            admin::GET_FEATURES => self.feature(work, word as u8),
            admin::SET_FEATURES => {
                let id = word as u8;
                match work.features.get_mut(usize::from(id)) {
                    Some(value) if REMEMBERED.contains(&id) => {
                        *value = next;
                        Ok(0)
                    }
                    _ if id == QUEUE_COUNT => self.feature(work, id),
                    _ => Err(Status::FIELD),
                }
            }
            admin::EVENT_REQUEST if work.waiting > EVENT_REQUESTS => Err(Status::EVENT_LIMIT),
            admin::EVENT_REQUEST => {
                work.waiting += 1;
                return None;
            }
            // Commands are not kept for long enough to be found: bit 0 says that it was not aborted.
            admin::ABORT => Ok(1),
            opcode => {
                let mut state = self.lock();
                if !state.goes_on(job) {
                    return Some(Err(Status::ABORTED_BY_DELETION));
                }
                match opcode {
                    admin::CREATE_COMPLETION => state.create_completion(page, (word, next)),
                    admin::CREATE_SUBMISSION => state.create_submission(page, (word, next)),
                    admin::DELETE_COMPLETION => state.delete_completion(word & 0xffff),
                    admin::DELETE_SUBMISSION => state.delete_submission(word),
                    _ => Err(Status::OPCODE),
                }
            }
        })
    }

    fn feature(&self, work: &Work, id: u8) -> Result {
        match id {
            QUEUE_COUNT => Ok(u32::from(PAIRS - 1) | u32::from(PAIRS - 1) << 16),
            id if REMEMBERED.contains(&id) => Ok(work.features.get(usize::from(id)).copied().unwrap_or(0)),
            _ => Err(Status::FIELD),
        }
    }

    fn identify(&self, command: &Command) -> Result {
        let [word, ..] = command.words;
        let page = match (word & 0xff, command.namespace) {
            (0, 1) => identify::namespace(&self.facts),
            (0, EVERY) => vec![0; identify::PAGE],
            (1, _) => identify::controller(&self.facts),
            (2, after) if after < EVERY - 1 => identify::namespaces(after),
            (3, 1) => identify::descriptors(&self.facts),
            (0 | 2 | 3, _) => return Err(Status::NAMESPACE),
            _ => return Err(Status::FIELD),
        };
        self.send(command, &page)
    }

    fn log_page(&self, command: &Command) -> Result {
        let [word, high, low_offset, high_offset, ..] = command.words;
        let page = match word & 0xff {
            // Errors: none.
            0x01 => vec![0; identify::PAGE],
            0x02 => identify::health(),
            0x03 => identify::firmware(),
            _ => return Err(Status::LOG_PAGE),
        };
        let bytes = (u64::from(word >> 16) | u64::from(high & 0xffff) << 16) * 4 + 4;
        let offset = u64::from(low_offset) | u64::from(high_offset) << 32;
        let part = usize::try_from(offset).ok().and_then(|offset| page.get(offset..)).ok_or(Status::FIELD)?;
        let wanted = usize::try_from(bytes).unwrap_or(usize::MAX).min(part.len());
        self.send(command, part.get(..wanted).unwrap_or_default())
    }

    /// A command of another queue.
    fn block(&self, work: &mut Work, command: &Command, job: &Job) -> Result {
        let flush = command.opcode == block::FLUSH;
        if command.namespace != 1 && !(flush && command.namespace == EVERY) {
            return Err(Status::NAMESPACE);
        }
        if self.facts.read_only
            && matches!(command.opcode, block::WRITE | block::WRITE_ZEROES | block::DATASET)
        {
            return Err(Status::PROTECTED);
        }
        let lasting = |work: &Work| {
            let [_, _, word, ..] = command.words;
            // Force unit access.
            if word >> 30 & 1 != 0 || !work.is_cached() { work.storage.flush() } else { Ok(()) }
        };
        let fault = |done: io::Result<()>| done.map(|()| 0).map_err(|_| Status::WRITE_FAULT);
        match command.opcode {
            block::FLUSH => fault(work.storage.flush()),
            block::READ => {
                let (offset, parts) = self.transfer(command)?;
                let read = work.storage.read_at(offset, parts.slices());
                read.map(|()| 0).map_err(|_| Status::READ_ERROR)
            }
            block::WRITE => {
                let (offset, parts) = self.transfer(command)?;
                fault(work.storage.write_at(offset, parts.slices()).and_then(|()| lasting(work)))
            }
            block::WRITE_ZEROES => {
                let (offset, len) = self.range(command.blocks())?;
                fault(write_zeros(work.storage.as_ref(), offset, len).and_then(|()| lasting(work)))
            }
            block::DATASET => self.dataset(work, command, job),
            _ => Err(Status::OPCODE),
        }
    }

    /// Bytes of a range of blocks, when the disk has them.
    fn range(&self, (first, count): (u64, u64)) -> std::result::Result<(u64, u64), Status> {
        let end = first.checked_add(count).filter(|end| *end <= self.facts.blocks);
        end.map(|_| (first << BLOCK_BITS, count << BLOCK_BITS)).ok_or(Status::RANGE)
    }

    fn transfer(&self, command: &Command) -> std::result::Result<(u64, Parts<'_>), Status> {
        let (offset, len) = self.range(command.blocks())?;
        if len > TRANSFER_LIMIT {
            return Err(Status::FIELD);
        }
        Ok((offset, self.parts(command.pages, len)?))
    }

    /// Gives ranges back, where the driver asks for that; the other hints are of no use here.
    fn dataset(&self, work: &Work, command: &Command, job: &Job) -> Result {
        let [count, hints, ..] = command.words;
        if hints & 4 == 0 {
            return Ok(0);
        }
        let count = (count & 0xff) + 1;
        debug_assert!(count <= RANGES);
        let mut bytes = vec![0; (u64::from(count) * RANGE_BYTES) as usize];
        self.parts(command.pages, bytes.len() as u64)?.read(&mut bytes);
        for range in bytes.as_chunks::<{ RANGE_BYTES as usize }>().0 {
            let [_, _, _, _, c0, c1, c2, c3, f0, f1, f2, f3, f4, f5, f6, f7] = *range;
            let blocks = (
                u64::from_le_bytes([f0, f1, f2, f3, f4, f5, f6, f7]),
                u32::from_le_bytes([c0, c1, c2, c3]).into(),
            );
            // Each may be the whole disk, and who switches the controller off waits for the command at hand.
            if !self.lock().goes_on(job) || !self.master.load(Ordering::Acquire) {
                return Err(Status::ABORTED_BY_DELETION);
            }
            let (offset, len) = self.range(blocks)?;
            if len > 0 {
                work.storage.discard(offset, len).map_err(|_| Status::WRITE_FAULT)?;
            }
        }
        Ok(0)
    }

    fn send(&self, command: &Command, bytes: &[u8]) -> Result {
        self.parts(command.pages, bytes.len() as u64)?.write(bytes);
        Ok(0)
    }

    /// The memory that a command's two page entries describe (section 4.3): the first may begin inside a page; the second
    /// is a page, or, when more are needed, where a list of them begins, each list's last entry leading to the next list.
    fn parts(&self, pages: [u64; 2], len: u64) -> std::result::Result<Parts<'_>, Status> {
        let [first, second] = pages;
        let mut parts = Parts::default();
        let in_first = len.min(PAGE - first % PAGE);
        parts.add(&self.memory, first, in_first).ok_or(Status::TRANSFER)?;
        let mut left = len - in_first;
        if left <= PAGE {
            if left > 0 {
                parts.add(&self.memory, second, left).ok_or(Status::TRANSFER)?;
            }
            return Ok(parts);
        }
        let mut at = second;
        while left > 0 {
            let entry: u64 = self.memory.read_obj(GuestAddress(at & !7)).map_err(|_| Status::TRANSFER)?;
            let is_last_in_page = at & (PAGE - 8) == PAGE - 8;
            if is_last_in_page && left > PAGE {
                // Each list has at least one page of data before the next, so this ends.
                if entry & (PAGE - 1) != 0 {
                    return Err(Status::FIELD);
                }
                at = entry;
                continue;
            }
            if !entry.is_multiple_of(PAGE) {
                return Err(Status::FIELD);
            }
            let bytes = left.min(PAGE);
            parts.add(&self.memory, entry, bytes).ok_or(Status::TRANSFER)?;
            left -= bytes;
            at = at.wrapping_add(8);
        }
        Ok(parts)
    }

    fn ring(&self) {
        // The counter cannot overflow by adding one: it is read as soon as it is not zero.
        let _ = self.doorbell.write(1);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write_zeros(storage: &dyn Storage, offset: u64, len: u64) -> io::Result<()> {
    let mut zeros = vec![0; ZEROS.min(usize::try_from(len).unwrap_or(usize::MAX))];
    let mut at = offset;
    while at < offset + len {
        let bytes = (offset + len - at).min(zeros.len() as u64);
        let part = zeros.get_mut(..bytes as usize).unwrap_or_default();
        storage.write_at(at, &[linux::memory::VolatileSlice::from(part)])?;
        at += bytes;
    }
    Ok(())
}

impl Serve for Controller {
    fn doorbell(&self) -> &Arc<EventFd> {
        &self.doorbell
    }

    fn serve(&self) -> bool {
        self.serve()
    }
}
