//! The serial port: a 16550A at eight byte-wide ports.
//!
//! Not here: the terminal. Output goes into an [`OutputBuffer`] that the event thread drains; input comes by
//! [`Serial::receive`] from the same thread. Register names follow the PC16550D data sheet (National, 1995).
//!
//! Our own rather than `vm-superio`'s: that one writes to its sink under the caller's lock and drops the byte
//! when the sink fails, whereas this one holds the byte and shows a busy transmitter; it also has no FIFO
//! control, clears all causes on one IIR read, raises no line-status or modem interrupt, and knows no line
//! level, of which guests' THRE tests (Linux `8250_port.c`, `serial8250_THRE_test`) need the edges.
//!
//! The line has no speed: a byte written has left at once unless the buffer is full, so LSR shows an empty
//! transmitter and a driver writes 16 bytes for each look at it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::output::{OutputBuffer, Wake};
use super::{read_bytes, write_bytes};
use crate::bus::{Device, Effect};
use crate::interrupt::InterruptLine;

/// The number of ports a serial port takes.
pub const PORTS: u64 = 8;

const DATA: u64 = 0;
const IER: u64 = 1;
const IIR_FCR: u64 = 2;
const LCR: u64 = 3;
const MCR: u64 = 4;
const LSR: u64 = 5;
const MSR: u64 = 6;
const SCR: u64 = 7;

const IER_RECEIVED: u8 = 1 << 0;
const IER_TRANSMITTER: u8 = 1 << 1;
const IER_LINE_STATUS: u8 = 1 << 2;
const IER_MODEM_STATUS: u8 = 1 << 3;
const IER_BITS: u8 = 0x0f;

const IIR_NONE: u8 = 0x01;
const IIR_FIFOS_ENABLED: u8 = 0xc0;

const FCR_ENABLE: u8 = 1 << 0;
const FCR_CLEAR_RECEIVER: u8 = 1 << 1;
const FCR_CLEAR_TRANSMITTER: u8 = 1 << 2;
const FCR_TRIGGER_SHIFT: u8 = 6;

const LCR_DIVISOR_ACCESS: u8 = 1 << 7;

const MCR_DTR: u8 = 1 << 0;
const MCR_RTS: u8 = 1 << 1;
const MCR_OUT1: u8 = 1 << 2;
const MCR_OUT2: u8 = 1 << 3;
const MCR_LOOP: u8 = 1 << 4;
const MCR_BITS: u8 = 0x1f;

const LSR_DATA_READY: u8 = 1 << 0;
const LSR_OVERRUN: u8 = 1 << 1;
const LSR_TRANSMITTER_EMPTY: u8 = 1 << 5 | 1 << 6;

const MSR_CTS: u8 = 1 << 4;
const MSR_DSR: u8 = 1 << 5;
const MSR_RI: u8 = 1 << 6;
const MSR_DCD: u8 = 1 << 7;

/// Bytes in each FIFO of a 16550A.
const FIFO: usize = 16;
/// Bytes in the FIFO at which the receiver interrupts, by FCR bits 7:6.
const TRIGGERS: [usize; 4] = [1, 4, 8, 14];
/// 9600 baud, what a PC's firmware leaves; only ever read back.
const DIVISOR: [u8; 2] = [12, 0];

/// Why the interrupt line is high, most urgent first; the value is IIR bits 3:0 (data sheet table IV).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Cause {
    LineStatus = 0x06,
    ReceivedData = 0x04,
    CharacterTimeout = 0x0c,
    TransmitterEmpty = 0x02,
    ModemStatus = 0x00,
}

/// A 16550A.
pub struct Serial {
    line: Box<dyn InterruptLine>,
    output: Arc<OutputBuffer>,
    room: Arc<dyn Wake>,
    // What was received and what could not be sent yet; each at most a FIFO long.
    receiver: VecDeque<u8>,
    transmitter: VecDeque<u8>,
    input_refused: bool,
    registers: Registers,
}

/// What a reset sets back.
#[derive(Default)]
struct Registers {
    interrupt_enable: u8,
    fifos_enabled: bool,
    trigger: usize,
    line_control: u8,
    modem_control: u8,
    modem_changes: u8,
    scratch: u8,
    divisor: [u8; 2],
    overrun: bool,
    transmitter_emptied: bool,
    line_high: bool,
}

impl Serial {
    /// Makes a port that interrupts by `line` and sends into `output`; `room` is called when bytes that
    /// [`Serial::receive`] refused would now be taken.
    pub fn new(line: Box<dyn InterruptLine>, output: Arc<OutputBuffer>, room: Arc<dyn Wake>) -> Self {
        let registers = Registers { divisor: DIVISOR, ..Registers::default() };
        let (receiver, transmitter) = (VecDeque::new(), VecDeque::new());
        Self { line, output, room, receiver, transmitter, input_refused: false, registers }
    }

    /// Receives bytes from the terminal and returns how many were taken; the rest is to be offered again
    /// after the wake.
    pub fn receive(&mut self, bytes: &[u8]) -> usize {
        // In loopback the receiver hears only the transmitter.
        let room = if self.in_loopback() { 0 } else { self.depth().saturating_sub(self.receiver.len()) };
        let taken = bytes.len().min(room);
        self.receiver.extend(bytes.iter().take(taken));
        self.input_refused = taken < bytes.len();
        self.drive_line();
        taken
    }

    /// Sends what waited for room in the output; called after a drain that said the device was refused.
    pub fn output_has_room(&mut self) {
        while let Some(byte) = self.transmitter.front() {
            if !self.output.offer(*byte) {
                return;
            }
            self.transmitter.pop_front();
            self.registers.transmitter_emptied = self.transmitter.is_empty();
        }
        self.drive_line();
    }

    fn read_register(&mut self, port: u64) -> u8 {
        let value = match port {
            DATA | IER if self.divisor_access() => self.registers.divisor[usize::from(port == IER)],
            DATA => self.receiver.pop_front().unwrap_or(0),
            IER => self.registers.interrupt_enable,
            IIR_FCR => self.identify(),
            LCR => self.registers.line_control,
            MCR => self.registers.modem_control,
            LSR => self.line_status(),
            MSR => self.modem_status() | std::mem::take(&mut self.registers.modem_changes),
            SCR => self.registers.scratch,
            _ => 0xff,
        };
        if port == DATA {
            self.announce_room();
        }
        self.drive_line();
        value
    }

    fn write_register(&mut self, port: u64, value: u8) {
        match port {
            DATA | IER if self.divisor_access() => self.registers.divisor[usize::from(port == IER)] = value,
            DATA => self.transmit(value),
            IER => self.enable_interrupts(value & IER_BITS),
            IIR_FCR => self.control_fifos(value),
            LCR => self.registers.line_control = value,
            MCR => self.control_modem(value & MCR_BITS),
            SCR => self.registers.scratch = value,
            _ => {}
        }
        self.drive_line();
    }

    fn transmit(&mut self, byte: u8) {
        if self.in_loopback() {
            self.loop_back(byte);
        } else if !self.transmitter.is_empty() || !self.output.offer(byte) {
            if self.transmitter.len() < self.depth() {
                self.transmitter.push_back(byte);
            } else {
                // As on hardware: who writes without looking at LSR loses bytes.
                self.output.count_lost(1);
            }
        }
        // Between two bytes of a burst the line stays high: the first byte's edge is still to be served.
        self.registers.transmitter_emptied = self.transmitter.is_empty();
    }

    fn loop_back(&mut self, byte: u8) {
        if self.receiver.len() < self.depth() {
            self.receiver.push_back(byte);
            return;
        }
        self.registers.overrun = true;
        if !self.registers.fifos_enabled {
            // The single receiver buffer is overwritten; a full FIFO keeps what it has.
            self.receiver = VecDeque::from([byte]);
        }
    }

    fn enable_interrupts(&mut self, enable: u8) {
        let changed = self.registers.interrupt_enable ^ enable;
        self.registers.interrupt_enable = enable;
        if changed & IER_TRANSMITTER != 0 {
            // Enabling the interrupt while the transmitter is empty raises it; drivers start output this way.
            self.registers.transmitter_emptied = enable & IER_TRANSMITTER != 0 && self.transmitter.is_empty();
        }
    }

    fn control_fifos(&mut self, control: u8) {
        let enable = control & FCR_ENABLE != 0;
        let switched = enable != self.registers.fifos_enabled;
        self.registers.fifos_enabled = enable;
        // With the FIFOs off the other bits are not programmed.
        let control = if enable { control } else { 0 };
        self.registers.trigger = usize::from(control >> FCR_TRIGGER_SHIFT);
        if switched || control & FCR_CLEAR_RECEIVER != 0 {
            self.receiver.clear();
            self.announce_room();
        }
        if (switched || control & FCR_CLEAR_TRANSMITTER != 0) && !self.transmitter.is_empty() {
            self.transmitter.clear();
            self.registers.transmitter_emptied = true;
        }
    }

    fn control_modem(&mut self, control: u8) {
        let before = self.modem_status();
        self.registers.modem_control = control;
        let after = self.modem_status();
        // RI reports its trailing edge only (data sheet, MSR bit 2).
        let changed = (before ^ after) & !MSR_RI | before & !after & MSR_RI;
        self.registers.modem_changes |= changed >> 4;
        if !self.in_loopback() {
            self.announce_room();
        }
    }

    /// Reads IIR, which also takes back the transmitter's interrupt if that is the one reported.
    fn identify(&mut self) -> u8 {
        let cause = self.cause();
        if cause == Some(Cause::TransmitterEmpty) {
            self.registers.transmitter_emptied = false;
        }
        let fifos = if self.registers.fifos_enabled { IIR_FIFOS_ENABLED } else { 0 };
        fifos | cause.map_or(IIR_NONE, |cause| cause as u8)
    }

    fn line_status(&mut self) -> u8 {
        let mut status = 0;
        if !self.receiver.is_empty() {
            status |= LSR_DATA_READY;
        }
        if std::mem::take(&mut self.registers.overrun) {
            status |= LSR_OVERRUN;
        }
        if self.transmitter.is_empty() {
            status |= LSR_TRANSMITTER_EMPTY;
        }
        status
    }

    /// MSR bits 7:4: a cable with a ready partner, or the port's own outputs in loopback.
    fn modem_status(&self) -> u8 {
        if !self.in_loopback() {
            return MSR_CTS | MSR_DSR | MSR_DCD;
        }
        [(MCR_RTS, MSR_CTS), (MCR_DTR, MSR_DSR), (MCR_OUT1, MSR_RI), (MCR_OUT2, MSR_DCD)]
            .into_iter()
            .filter(|(output, _)| self.registers.modem_control & output != 0)
            .fold(0, |status, (_, input)| status | input)
    }

    fn cause(&self) -> Option<Cause> {
        let enabled = |interrupt| self.registers.interrupt_enable & interrupt != 0;
        if enabled(IER_LINE_STATUS) && self.registers.overrun {
            Some(Cause::LineStatus)
        } else if enabled(IER_RECEIVED) && !self.receiver.is_empty() {
            // Bytes come in batches with silence after, so fewer than the trigger are a timeout at once.
            let full = self.receiver.len() >= TRIGGERS.get(self.registers.trigger).copied().unwrap_or(1);
            Some(if full { Cause::ReceivedData } else { Cause::CharacterTimeout })
        } else if enabled(IER_TRANSMITTER) && self.registers.transmitter_emptied {
            Some(Cause::TransmitterEmpty)
        } else if enabled(IER_MODEM_STATUS) && self.registers.modem_changes != 0 {
            Some(Cause::ModemStatus)
        } else {
            None
        }
    }

    fn drive_line(&mut self) {
        let high = self.cause().is_some();
        if high != self.registers.line_high {
            self.registers.line_high = high;
            self.line.set(high);
        }
    }

    /// Wakes who was refused, once the receiver is empty: a batch at a time, not a byte.
    fn announce_room(&mut self) {
        if self.receiver.is_empty() && std::mem::take(&mut self.input_refused) {
            self.room.wake();
        }
    }

    fn depth(&self) -> usize {
        if self.registers.fifos_enabled { FIFO } else { 1 }
    }

    fn in_loopback(&self) -> bool {
        self.registers.modem_control & MCR_LOOP != 0
    }

    fn divisor_access(&self) -> bool {
        self.registers.line_control & LCR_DIVISOR_ACCESS != 0
    }
}

impl Device for Serial {
    fn name(&self) -> &str {
        "serial"
    }

    fn read(&mut self, offset: u64, data: &mut [u8]) -> Vec<Effect> {
        read_bytes(offset, data, |port| self.read_register(port));
        Vec::new()
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Vec<Effect> {
        write_bytes(offset, data, |port, value| self.write_register(port, value));
        Vec::new()
    }
}

#[cfg(test)]
mod tests;
