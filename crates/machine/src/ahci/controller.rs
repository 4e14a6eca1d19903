//! The host bus adapter at work: commands fetched from guest memory, carried out by the drives, one at a time, on a thread
//! of its own.
//!
//! Everything in memory is the guest's and may lie: what makes no sense is an error that the port shows, as hardware's.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use linux::EventFd;
use linux::memory::{GuestAddress, GuestBytes, GuestMemory};

use super::drive::{Answer, BLOCK, Drive, PACKET, Sense};
use super::fis::{self, COMMAND_BYTES, COMPLETE, Ending, FromHost, TaskFile};
use super::pages;
use super::registers::{Asked, Job, Outcome, Post, Registers};
use crate::interrupt::InterruptLine;
use crate::parts::Parts;
use crate::worker::Serve;

/// Where packet and region table lie in a command's table (AHCI 1.3.1, section 4.2.3).
const PACKET_AT: u64 = 0x40;
const REGIONS_AT: u64 = 0x80;
const REGION_BYTES: u64 = 16;
const HEADER_BYTES: usize = 32;
/// Flag of a command's header: a packet comes with it.
const IS_PACKET: u16 = 1 << 5;

/// ATA commands.
mod command {
    pub(super) const DEVICE_RESET: u8 = 0x08;
    pub(super) const DIAGNOSE: u8 = 0x90;
    pub(super) const PACKET: u8 = 0xa0;
    pub(super) const IDENTIFY_PACKET: u8 = 0xa1;
    pub(super) const STANDBY: u8 = 0xe0;
    pub(super) const IDLE: u8 = 0xe1;
    pub(super) const POWER_MODE: u8 = 0xe5;
    pub(super) const SLEEP: u8 = 0xe6;
    pub(super) const IDENTIFY: u8 = 0xec;
    pub(super) const SET_FEATURES: u8 = 0xef;
}
/// Of SET FEATURES: choose a way of transfer.
const TRANSFER_MODE: u8 = 0x03;
/// Error bit: the command is not known.
const ABORTED: u8 = 0x04;

/// The controller as its function and its thread share it.
pub(crate) struct Controller {
    memory: Arc<GuestMemory>,
    doorbell: Arc<EventFd>,
    // The function may reach memory (bus master enable).
    master: AtomicBool,
    last_port: AtomicUsize,
    // Held while a command is carried out, so that stopping waits for the one at hand. Before the registers' lock.
    drives: Mutex<Vec<Drive>>,
    registers: Mutex<Wired>,
}

struct Wired {
    registers: Registers,
    line: Box<dyn InterruptLine>,
    disabled: bool,
    high: bool,
}

impl Wired {
    fn drive_line(&mut self) {
        let high = self.registers.interrupt() && !self.disabled;
        if self.high != high {
            self.high = high;
            self.line.set(high);
        }
    }
}

impl Controller {
    /// A controller with these drives, one at each port.
    pub(super) fn new(
        drives: Vec<Drive>,
        memory: Arc<GuestMemory>,
        line: Box<dyn InterruptLine>,
        doorbell: Arc<EventFd>,
    ) -> Self {
        let registers = Registers::new(drives.len());
        Self {
            memory,
            doorbell,
            master: AtomicBool::new(false),
            last_port: AtomicUsize::new(0),
            drives: Mutex::new(drives),
            registers: Mutex::new(Wired { registers, line, disabled: false, high: false }),
        }
    }

    /// Reads a register.
    pub(super) fn read(&self, offset: u64) -> u32 {
        self.lock().registers.read(offset)
    }

    /// Writes a register; when it returns, what it has stopped has stopped.
    pub(super) fn write(&self, offset: u64, value: u32) {
        let asked = {
            let mut wired = self.lock();
            let asked = wired.registers.write(offset, value);
            if let Some(post) = asked.greet.and_then(|port| wired.registers.greeting(port)) {
                self.post(&post);
            }
            wired.drive_line();
            asked
        };
        let Asked { work, wait, .. } = asked;
        if wait {
            drop(self.drives.lock());
        }
        if work {
            self.ring();
        }
    }

    /// Goes back to power-on.
    pub(super) fn reset(&self) {
        {
            let mut wired = self.lock();
            wired.registers.reset();
            wired.drive_line();
        }
        let mut drives = self.drives.lock().unwrap_or_else(PoisonError::into_inner);
        drives.iter_mut().for_each(Drive::reset);
    }

    /// Follows the bus master enable bit; when it returns after switching it off, no memory is touched.
    pub(super) fn set_master(&self, on: bool) {
        if self.master.swap(on, Ordering::AcqRel) == on {
            return;
        }
        if on {
            self.ring();
        } else {
            drop(self.drives.lock());
        }
    }

    /// Follows the interrupt disable bit.
    pub(super) fn set_pin_disabled(&self, disabled: bool) {
        let mut wired = self.lock();
        wired.disabled = disabled;
        wired.drive_line();
    }

    /// Whether the pin would be asserted, were it not disabled.
    pub(super) fn is_pin_pending(&self) -> bool {
        self.lock().registers.interrupt()
    }

    /// Carries one command out; false when there is none.
    pub(super) fn serve(&self) -> bool {
        let mut drives = self.drives.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.master.load(Ordering::Acquire) {
            return false;
        }
        let last = self.last_port.load(Ordering::Relaxed);
        let Some(job) = self.lock().registers.next(last) else { return false };
        self.last_port.store(job.port, Ordering::Relaxed);
        let Some(drive) = drives.get_mut(job.port) else { return false };
        let outcome = self.carry_out(&job, drive).unwrap_or(Outcome::BusError);
        let mut wired = self.lock();
        if let Some(post) = wired.registers.finish(&job, outcome) {
            self.post(&post);
        }
        wired.registers.tell(&job, outcome);
        wired.drive_line();
        true
    }

    /// What became of the command; nothing when its structures are not in RAM.
    fn carry_out(&self, job: &Job, drive: &mut Drive) -> Option<Outcome> {
        let header: [u8; HEADER_BYTES] = self.fetch(job.header)?;
        let [f0, f1, r0, r1, _, _, _, _, t0, t1, t2, t3, t4, t5, t6, t7, ..] = header;
        let flags = u16::from_le_bytes([f0, f1]);
        let table = Table {
            at: u64::from_le_bytes([t0 & 0x80, t1, t2, t3, t4, t5, t6, t7]),
            regions: u16::from_le_bytes([r0, r1]),
            moved: job.header.wrapping_add(4),
        };
        self.memory.write_obj(0_u32, GuestAddress(table.moved)).ok()?;
        let frame: [u8; COMMAND_BYTES] = self.fetch(table.at)?;
        let answered = |task_file| Some(Outcome::Answered(Ending::Register(task_file), false));
        match fis::from_host(frame) {
            FromHost::Control { reset } => {
                let ended = self.lock().registers.software_reset(job, reset);
                if ended {
                    drive.reset();
                    return answered(TaskFile::SIGNATURE);
                }
                Some(Outcome::Answered(Ending::Silent, false))
            }
            FromHost::Command { command: command::PACKET, .. } if flags & IS_PACKET != 0 => {
                let packet: [u8; PACKET] = self.fetch(table.at.wrapping_add(PACKET_AT))?;
                self.packet(drive, &packet, &table)
            }
            FromHost::Command { command: command::IDENTIFY_PACKET, .. } => {
                let descriptor = self.send(&table, &pages::identify(job.port))?;
                let task_file = TaskFile::done(0);
                Some(Outcome::Answered(
                    Ending::PioIn { task_file, bytes: pages::IDENTIFY as u16 },
                    descriptor,
                ))
            }
            FromHost::Command { command: command::DEVICE_RESET | command::DIAGNOSE, .. } => {
                drive.reset();
                answered(TaskFile::SIGNATURE)
            }
            FromHost::Command { command: command::STANDBY | command::IDLE | command::SLEEP, .. } => {
                answered(TaskFile::done(0))
            }
            // Active or idle.
            FromHost::Command { command: command::POWER_MODE, .. } => answered(TaskFile::done(0xff)),
            FromHost::Command { command: command::SET_FEATURES, features: TRANSFER_MODE, .. } => {
                answered(TaskFile::done(0))
            }
            // A packet device says so by its signature (ATA8-ACS, section 7.16.3).
            FromHost::Command { command: command::IDENTIFY, .. } => {
                let failed = TaskFile::failed(ABORTED, TaskFile::SIGNATURE.count);
                answered(TaskFile { lba: TaskFile::SIGNATURE.lba, ..failed })
            }
            FromHost::Command { .. } | FromHost::Nonsense => answered(TaskFile::failed(ABORTED, 0)),
        }
    }

    fn packet(&self, drive: &mut Drive, packet: &[u8; PACKET], table: &Table) -> Option<Outcome> {
        let sent = match drive.packet(packet) {
            Ok(Answer::Nothing) => Ok(false),
            Ok(Answer::Data(data)) => Ok(self.send(table, &data)?),
            Ok(Answer::Blocks { first, count }) => {
                let (parts, descriptor) = self.parts(table, count * BLOCK)?;
                let read = drive.disc().read_at(first * BLOCK, parts.slices());
                match read {
                    Ok(()) => {
                        self.moved(table, parts.len())?;
                        Ok(descriptor)
                    }
                    Err(_) => {
                        drive.failed(Sense::MEDIUM_ERROR);
                        Err(Sense::MEDIUM_ERROR)
                    }
                }
            }
            Err(sense) => Err(sense),
        };
        let (task_file, descriptor) = match sent {
            Ok(descriptor) => (TaskFile::done(COMPLETE), descriptor),
            // The sense key stands in the error register (SFF-8020i, section 7.2.1).
            Err(sense) => (TaskFile::failed(sense.key << 4 | ABORTED, COMPLETE), false),
        };
        Some(Outcome::Answered(Ending::Register(task_file), descriptor))
    }

    /// Sends bytes into the command's regions, as far as they reach; true when one of them asks for an interrupt.
    fn send(&self, table: &Table, data: &[u8]) -> Option<bool> {
        let (parts, descriptor) = self.parts(table, data.len() as u64)?;
        let written = parts.write(data);
        self.moved(table, written as u64)?;
        Some(descriptor)
    }

    fn moved(&self, table: &Table, bytes: u64) -> Option<()> {
        let bytes = u32::try_from(bytes).ok()?;
        self.memory.write_obj(bytes, GuestAddress(table.moved)).ok()
    }

    /// The first `wanted` bytes of the command's regions, or all of them, and whether one asks for an interrupt.
    fn parts(&self, table: &Table, wanted: u64) -> Option<(Parts<'_>, bool)> {
        let (mut parts, mut left, mut descriptor) = (Parts::default(), wanted, false);
        for number in 0..u64::from(table.regions) {
            if left == 0 {
                break;
            }
            let at = table.at.wrapping_add(REGIONS_AT + number * REGION_BYTES);
            let [a0, a1, a2, a3, a4, a5, a6, a7, _, _, _, _, c0, c1, c2, c3]: [u8; 16] = self.fetch(at)?;
            let address = u64::from_le_bytes([a0 & !1, a1, a2, a3, a4, a5, a6, a7]);
            let count = u32::from_le_bytes([c0, c1, c2, c3]);
            // Bit 0 is one, as the count is one less than the bytes; the top bit asks for an interrupt.
            let bytes = (u64::from(count & 0x3f_ffff) + 1).min(left);
            parts.add(&self.memory, address, bytes)?;
            descriptor |= count >> 31 != 0;
            left -= bytes;
        }
        Some((parts, descriptor))
    }

    fn post(&self, post: &Post) {
        if let Some((at, frame)) = post.ending.frame() {
            // A guest that receives where it has no RAM receives nothing.
            let _ = self.memory.write_slice(&frame, GuestAddress(post.at.wrapping_add(at)));
        }
    }

    fn fetch<const N: usize>(&self, at: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.memory.read_slice(&mut bytes, GuestAddress(at)).ok()?;
        Some(bytes)
    }

    fn ring(&self) {
        // The counter cannot overflow by adding one: it is read as soon as it is not zero.
        let _ = self.doorbell.write(1);
    }

    fn lock(&self) -> MutexGuard<'_, Wired> {
        self.registers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A command's table in guest memory.
struct Table {
    at: u64,
    regions: u16,
    /// Where the number of bytes that were moved goes.
    moved: u64,
}

impl Serve for Controller {
    fn doorbell(&self) -> &Arc<EventFd> {
        &self.doorbell
    }

    fn serve(&self) -> bool {
        self.serve()
    }
}
