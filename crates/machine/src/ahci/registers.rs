//! The registers of the host bus adapter and of its ports (AHCI 1.3.1, section 3), and what writing them begins and ends.
//!
//! Pure: commands are carried out by the controller, which comes back with how they went.

use super::fis::{Ending, TaskFile};

/// Ports there can be.
pub(crate) const PORT_LIMIT: usize = 4;
/// Commands that one port takes at a time.
const SLOTS: u32 = 32;

/// Offsets of the generic registers.
mod host {
    pub(super) const CAP: u64 = 0x00;
    pub(super) const GHC: u64 = 0x04;
    pub(super) const IS: u64 = 0x08;
    pub(super) const PI: u64 = 0x0c;
    pub(super) const VS: u64 = 0x10;
}

/// Where the ports' registers begin, and how far one port's lie from another's.
const PORTS: u64 = 0x100;
const PORT_BYTES: u64 = 0x80;

/// Offsets of a port's registers.
mod port {
    pub(super) const CLB: u64 = 0x00;
    pub(super) const CLBU: u64 = 0x04;
    pub(super) const FB: u64 = 0x08;
    pub(super) const FBU: u64 = 0x0c;
    pub(super) const IS: u64 = 0x10;
    pub(super) const IE: u64 = 0x14;
    pub(super) const CMD: u64 = 0x18;
    pub(super) const TFD: u64 = 0x20;
    pub(super) const SIG: u64 = 0x24;
    pub(super) const SSTS: u64 = 0x28;
    pub(super) const SCTL: u64 = 0x2c;
    pub(super) const SERR: u64 = 0x30;
    pub(super) const CI: u64 = 0x38;
}

/// 64-bit addresses, AHCI only, 3 Gbit/s, 32 slots.
const CAPABILITIES: u32 = 1 << 31 | 1 << 18 | 2 << 20 | (SLOTS - 1) << 8;
const VERSION: u32 = 0x0001_0301;

const GHC_RESET: u32 = 1 << 0;
const GHC_INTERRUPTS: u32 = 1 << 1;
const GHC_AHCI: u32 = 1 << 31;

const CMD_START: u32 = 1 << 0;
/// Spun up and powered, as all that cannot be otherwise.
const CMD_ALWAYS: u32 = 1 << 1 | 1 << 2;
const CMD_RECEIVE: u32 = 1 << 4;
const CMD_SLOT_SHIFT: u32 = 8;
const CMD_RECEIVES: u32 = 1 << 14;
const CMD_RUNS: u32 = 1 << 15;
const CMD_ATAPI: u32 = 1 << 24;
const CMD_LED: u32 = 1 << 25;
const CMD_WRITABLE: u32 = CMD_START | CMD_RECEIVE | CMD_ATAPI | CMD_LED;

const IS_DEVICE_TO_HOST: u32 = 1 << 0;
const IS_PIO_SETUP: u32 = 1 << 1;
const IS_DESCRIPTOR: u32 = 1 << 5;
const IS_CONNECT_CHANGE: u32 = 1 << 6;
const IS_BUS_ERROR: u32 = 1 << 29;
const IS_TASK_FILE_ERROR: u32 = 1 << 30;
const IE_WRITABLE: u32 = 0xfdc0_00ff;

const SERR_EXCHANGED: u32 = 1 << 26;

const DETECT: u32 = 0xf;
const DETECT_RESET: u32 = 1;
const DETECT_OFF: u32 = 4;
/// A device is there, at 3 Gbit/s, and awake.
const PRESENT: u32 = 0x123;

/// The status of a device that has said nothing yet.
const SILENT: u32 = 0x7f;

/// What a packet device says of itself after a reset (ATA8-ACS, table of signatures): one sector, LBA 0xEB1401.
const SIGNATURE: u32 = 0xeb14_0101;

/// A command to be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) port: usize,
    pub(super) slot: u32,
    /// The command's header.
    pub(super) header: u64,
    /// Which run of the port it belongs to: one that has ended takes no answer.
    run: u32,
}

/// What is to be told to the guest's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Post {
    /// Where the port's frames are received.
    pub(super) at: u64,
    pub(super) ending: Ending,
}

/// How a job went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The device has answered; true when a descriptor asked for an interrupt.
    Answered(Ending, bool),
    /// The guest's structures are not in RAM.
    BusError,
}

/// What a write asks of the controller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// There may be commands to carry out.
    pub(super) work: bool,
    /// A port has been stopped: the command at hand must have ended before the write has.
    pub(super) wait: bool,
    /// Frames of these ports' devices that wait to be received.
    pub(super) greet: Option<usize>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Port {
    command_list: u64,
    frames: u64,
    status: u32,
    enabled: u32,
    command: u32,
    slot: u32,
    task_file: TaskFile,
    silent: bool,
    control: u32,
    errors: u32,
    issued: u32,
    // A command has failed: nothing goes on until the port is stopped.
    halted: bool,
    run: u32,
    // A software reset has begun and not ended.
    resetting: bool,
    // The device's first frame has not been received.
    greeting: bool,
}

/// All registers.
#[derive(Debug)]
pub(super) struct Registers {
    control: u32,
    status: u32,
    ports: Vec<Port>,
}

impl Registers {
    /// At power-on, with a device at each of `ports` ports.
    pub(super) fn new(ports: usize) -> Self {
        let ports = vec![Port::default(); ports.clamp(1, PORT_LIMIT)];
        let mut registers = Self { control: GHC_AHCI, status: 0, ports };
        registers.ports.iter_mut().for_each(Port::connect);
        registers
    }

    /// Goes back to power-on. Commands at hand find their run ended.
    pub(super) fn reset(&mut self) {
        self.control = GHC_AHCI;
        self.status = 0;
        for port in &mut self.ports {
            let (command_list, frames, run) = (port.command_list, port.frames, port.run.wrapping_add(1));
            *port = Port { command_list, frames, run, ..Port::default() };
            port.connect();
        }
    }

    /// Reads the register at `offset`, a multiple of 4.
    pub(super) fn read(&self, offset: u64) -> u32 {
        if let Some((port, offset)) = self.place(offset) {
            return self.ports.get(port).map_or(0, |port| port.read(offset));
        }
        let count = self.ports.len() as u32;
        match offset {
            host::CAP => CAPABILITIES | (count - 1),
            host::GHC => self.control,
            host::IS => self.status,
            host::PI => (1 << count) - 1,
            host::VS => VERSION,
            _ => 0,
        }
    }

    /// Writes it.
    pub(super) fn write(&mut self, offset: u64, value: u32) -> Asked {
        let mut asked = Asked::default();
        match (self.place(offset), offset) {
            (Some((number, offset)), _) => {
                if let Some(port) = self.ports.get_mut(number) {
                    asked = port.write(offset, value);
                    asked.greet = asked.greet.map(|_| number);
                }
            }
            (None, host::GHC) if value & GHC_RESET != 0 => {
                self.reset();
                asked.wait = true;
            }
            (None, host::GHC) => self.control = GHC_AHCI | value & GHC_INTERRUPTS,
            (None, host::IS) => self.status &= !value,
            _ => {}
        }
        self.collect();
        asked
    }

    /// Whether the interrupt is asserted.
    pub(super) fn interrupt(&self) -> bool {
        self.control & GHC_INTERRUPTS != 0 && self.status != 0
    }

    /// The next command to carry out, from the first port after `after` that has one.
    pub(super) fn next(&mut self, after: usize) -> Option<Job> {
        let count = self.ports.len();
        (1..=count).map(|step| (after + step) % count).find_map(|number| {
            let port = self.ports.get_mut(number)?;
            if port.command & CMD_START == 0 || port.halted || port.issued == 0 {
                return None;
            }
            let slot = port.issued.trailing_zeros();
            port.slot = slot;
            let header = port.command_list.wrapping_add(u64::from(slot) * 32);
            Some(Job { port: number, slot, header, run: port.run })
        })
    }

    /// Takes a device's software reset bit; true when a reset has ended by it.
    pub(super) fn software_reset(&mut self, job: &Job, on: bool) -> bool {
        let Some(port) = self.current(job) else { return false };
        std::mem::replace(&mut port.resetting, on) && !on
    }

    /// Ends a command; gives the frame to be received before the guest is told. Nothing when the port was stopped.
    pub(super) fn finish(&mut self, job: &Job, outcome: Outcome) -> Option<Post> {
        let port = self.current(job)?;
        let Outcome::Answered(ending, _) = outcome else { return None };
        let receives = port.command & CMD_RECEIVE != 0 && ending != Ending::Silent;
        receives.then_some(Post { at: port.frames, ending })
    }

    /// Tells the guest of a command's end.
    pub(super) fn tell(&mut self, job: &Job, outcome: Outcome) {
        let Some(port) = self.current(job) else { return };
        match outcome {
            Outcome::BusError => {
                port.status |= IS_BUS_ERROR;
                port.halted = true;
            }
            Outcome::Answered(ending, descriptor) => {
                if descriptor {
                    port.status |= IS_DESCRIPTOR;
                }
                port.answer(ending);
                if port.task_file.is_error() {
                    // Section 6.2.2.1: the port stops with the failed command still issued.
                    port.status |= IS_TASK_FILE_ERROR;
                    port.halted = true;
                } else {
                    port.issued &= !(1 << job.slot);
                }
            }
        }
        self.collect();
    }

    /// The first frame of a port's device, to be received now.
    pub(super) fn greeting(&mut self, number: usize) -> Option<Post> {
        let port = self.ports.get_mut(number)?;
        std::mem::take(&mut port.greeting)
            .then_some(Post { at: port.frames, ending: Ending::Register(port.task_file) })
    }

    fn current(&mut self, job: &Job) -> Option<&mut Port> {
        self.ports.get_mut(job.port).filter(|port| port.run == job.run)
    }

    /// Lets the ports' interrupts through.
    fn collect(&mut self) {
        for (number, port) in self.ports.iter().enumerate() {
            if port.pending() & port.enabled != 0 {
                self.status |= 1 << number;
            }
        }
    }

    fn place(&self, offset: u64) -> Option<(usize, u64)> {
        let offset = offset.checked_sub(PORTS)?;
        Some((usize::try_from(offset / PORT_BYTES).ok()?, offset % PORT_BYTES))
    }
}

impl Port {
    /// The device answers a reset of the line.
    fn connect(&mut self) {
        self.errors |= SERR_EXCHANGED;
        self.silent = false;
        self.task_file = TaskFile::SIGNATURE;
        self.greeting = true;
        self.resetting = false;
    }

    fn pending(&self) -> u32 {
        // Section 3.3.5: this bit is the error register's, and is cleared there.
        let changed = if self.errors & SERR_EXCHANGED != 0 { IS_CONNECT_CHANGE } else { 0 };
        self.status | changed
    }

    fn read(&self, offset: u64) -> u32 {
        match offset {
            port::CLB => self.command_list as u32,
            port::CLBU => (self.command_list >> 32) as u32,
            port::FB => self.frames as u32,
            port::FBU => (self.frames >> 32) as u32,
            port::IS => self.pending(),
            port::IE => self.enabled,
            port::CMD => {
                let runs = if self.command & CMD_START != 0 { CMD_RUNS } else { 0 };
                let receives = if self.command & CMD_RECEIVE != 0 { CMD_RECEIVES } else { 0 };
                self.command | CMD_ALWAYS | runs | receives | self.slot << CMD_SLOT_SHIFT
            }
            port::TFD if self.silent => SILENT,
            port::TFD => u32::from(self.task_file.error) << 8 | u32::from(self.task_file.status),
            port::SIG if self.silent => u32::MAX,
            port::SIG => SIGNATURE,
            port::SSTS => match self.control & DETECT {
                DETECT_OFF => DETECT_OFF,
                DETECT_RESET => 0,
                _ => PRESENT,
            },
            port::SCTL => self.control,
            port::SERR => self.errors,
            port::CI => self.issued,
            _ => 0,
        }
    }

    fn write(&mut self, offset: u64, value: u32) -> Asked {
        let low = |old: u64, mask: u32| old & !0xffff_ffff | u64::from(value & mask);
        let high = |old: u64| old & 0xffff_ffff | u64::from(value) << 32;
        match offset {
            // Lists are aligned to their sizes: 1 KiB and 256 bytes.
            port::CLB => self.command_list = low(self.command_list, !0x3ff),
            port::CLBU => self.command_list = high(self.command_list),
            port::FB => self.frames = low(self.frames, !0xff),
            port::FBU => self.frames = high(self.frames),
            port::IS => self.status &= !value,
            port::IE => self.enabled = value & IE_WRITABLE,
            port::CMD => return self.write_command(value),
            port::SCTL => return self.write_control(value),
            port::SERR => self.errors &= !value,
            // Only a port that runs takes commands (section 3.3.14).
            port::CI if self.command & CMD_START != 0 => {
                self.issued |= value;
                return Asked { work: true, ..Asked::default() };
            }
            _ => {}
        }
        Asked::default()
    }

    fn write_command(&mut self, value: u32) -> Asked {
        let (before, now) = (self.command, value & CMD_WRITABLE);
        self.command = now;
        let stopped = before & CMD_START != 0 && now & CMD_START == 0;
        if stopped {
            self.stop();
        }
        Asked {
            wait: stopped,
            greet: (now & CMD_RECEIVE != 0 && self.greeting && !self.silent).then_some(0),
            ..Asked::default()
        }
    }

    fn write_control(&mut self, value: u32) -> Asked {
        let (before, now) = (self.control & DETECT, value & DETECT);
        self.control = value & 0xfff;
        let awake = |detect| detect != DETECT_RESET && detect != DETECT_OFF;
        if awake(before) && !awake(now) {
            self.stop();
            self.silent = true;
            self.greeting = false;
            return Asked { wait: true, ..Asked::default() };
        }
        if !awake(before) && awake(now) {
            self.connect();
            let greet = (self.command & CMD_RECEIVE != 0).then_some(0);
            return Asked { greet, ..Asked::default() };
        }
        Asked::default()
    }

    /// Forgets all commands.
    fn stop(&mut self) {
        self.issued = 0;
        self.slot = 0;
        self.halted = false;
        self.run = self.run.wrapping_add(1);
    }

    fn answer(&mut self, ending: Ending) {
        match ending {
            Ending::Register(task_file) => {
                self.task_file = task_file;
                self.status |= IS_DEVICE_TO_HOST;
            }
            Ending::PioIn { task_file, .. } => {
                self.task_file = task_file;
                self.status |= IS_PIO_SETUP;
            }
            Ending::Silent => {}
        }
    }
}
