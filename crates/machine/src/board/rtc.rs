//! The real-time clock and its battery-backed memory: an MC146818 at ports 0x70 and 0x71, with the ICH9's second
//! bank at 0x72 and 0x73 (MC146818A data sheet, Motorola 1984; ICH9 data sheet section 13.6).
//!
//! Not here: the host's clocks (see [`Clock`]) and the host's time zone. What the guest sets is its own: the
//! registers run on from there with the host's seconds, and the host's clock is never touched.
//!
//! Nothing ticks. The registers are brought up to date when somebody looks, and the event loop is asked for a
//! call only while the guest has enabled an interrupt and has none pending.

use std::sync::Arc;

use super::clock::{Clock, Deadline, NANOS_PER_SECOND};
use super::output::Wake;
use super::{read_bytes, write_bytes};
use crate::bus::{Device, Effect};
use crate::interrupt::InterruptLine;

mod registers;

use registers::{
    ALARM, BANK, INTERRUPT_REQUEST, INTERRUPTS, PERIODIC, REGISTER_A, REGISTER_B, REGISTER_C, REGISTER_D,
    Registers, SET, SQUARE_WAVE, UPDATE_ENDED, UPDATE_IN_PROGRESS, VALID,
};

/// The number of ports from [`BASE`].
pub const PORTS: u64 = 4;
/// The first port.
pub const BASE: u64 = 0x70;

/// An index port's upper bit masks NMIs, of which this board has none.
const INDEX_BITS: u8 = 0x7f;

/// How long before an update its flag is up (data sheet, tBUC).
const UPDATE_NOTICE_NS: u64 = 244_000;
/// The first update comes half a second after the divider's reset ends.
const AFTER_DIVIDER_RESET_NS: u64 = 500_000_000;
const CRYSTAL_HZ: u64 = 32_768;

/// Facts about the board that PC firmware expects in the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoardFacts {
    /// Bytes of RAM below 4 GiB, counted from address 0.
    pub ram_below_4g: u64,
    /// Bytes of RAM from 4 GiB on.
    pub ram_above_4g: u64,
    /// Number of CPUs.
    pub cpus: u32,
}

/// A real-time clock.
pub struct Rtc {
    clock: Arc<dyn Clock>,
    line: Box<dyn InterruptLine>,
    deadline_moved: Arc<dyn Wake>,
    facts: BoardFacts,
    indexes: [u8; 2],
    // The time registers are the truth about the time as of `second`; no other copy is kept.
    registers: Registers,
    second_bank: [u8; BANK],
    // The guest's seconds begin this long before the host's.
    phase_ns: u64,
    // The host's second, shifted by the phase, that the time registers show.
    second: i64,
    // When the divider last started, and the periods of the present rate seen since.
    divider_start_ns: u64,
    periods: u64,
    line_high: bool,
}

/// What the clock is connected to.
pub struct RtcWiring {
    /// Where it reads the time.
    pub clock: Arc<dyn Clock>,
    /// Its interrupt, IRQ 8.
    pub line: Box<dyn InterruptLine>,
    /// Called when [`Deadline::next_deadline`] is to be asked again.
    pub deadline_moved: Arc<dyn Wake>,
}

impl Rtc {
    /// Makes a clock that shows the wall time plus `utc_offset_s` seconds: 0 for guests that keep UTC in
    /// their clock, the zone's offset for those (Windows) that keep local time.
    pub fn new(wiring: RtcWiring, facts: BoardFacts, utc_offset_s: i32) -> Self {
        let RtcWiring { clock, line, deadline_moved } = wiring;
        let (second, divider_start_ns) = (clock.wall().seconds, clock.monotonic_ns());
        let mut rtc = Self {
            clock,
            line,
            deadline_moved,
            facts,
            indexes: [0; 2],
            registers: Registers::new(),
            second_bank: [0; BANK],
            phase_ns: 0,
            second,
            divider_start_ns,
            periods: 0,
            line_high: false,
        };
        rtc.state_facts();
        rtc.registers.show(second.saturating_add(i64::from(utc_offset_s)));
        rtc
    }

    /// Writes the facts where SeaBIOS (`src/hw/rtc.h`) and OVMF (`PlatformInitLib`) look for them.
    fn state_facts(&mut self) {
        const KIB: u64 = 1 << 10;
        const UNIT: u64 = 64 * KIB;
        let clip = |value: u64| u16::try_from(value).unwrap_or(u16::MAX);
        let from_1m = clip(self.facts.ram_below_4g.saturating_sub(1024 * KIB) / KIB);
        let from_16m = clip(self.facts.ram_below_4g.saturating_sub(256 * UNIT) / UNIT);
        let [above_low, above_mid, above_high, ..] = (self.facts.ram_above_4g / UNIT).to_le_bytes();
        let cpus = u8::try_from(self.facts.cpus.saturating_sub(1)).unwrap_or(u8::MAX);
        for (index, [low, high]) in [
            (0x15, 640u16.to_le_bytes()),
            (0x17, from_1m.to_le_bytes()),
            (0x30, from_1m.to_le_bytes()),
            (0x34, from_16m.to_le_bytes()),
            (0x5b, [above_low, above_mid]),
        ] {
            self.registers[index] = low;
            self.registers[index + 1] = high;
        }
        for (index, value) in [
            (0x5d, above_high),
            (0x5f, cpus),
            // No floppy drives; equipment: a coprocessor.
            (0x10, 0x00),
            (0x14, 0x02),
            // Boot from disk, CD, network, in this order (SeaBIOS `boot_init`); no floppy signature check.
            (0x3d, 0x32),
            (0x38, 0x41),
        ] {
            self.registers[index] = value;
        }
    }

    fn read_port(&mut self, port: u64) -> u8 {
        match port {
            1 => self.read_register(self.index(0)),
            3 => self.second_bank[self.index(1)],
            // The index ports cannot be read.
            _ => 0xff,
        }
    }

    fn write_port(&mut self, port: u64, value: u8) {
        match port {
            0 => self.indexes[0] = value & INDEX_BITS,
            1 => self.write_register(self.index(0), value),
            2 => self.indexes[1] = value & INDEX_BITS,
            3 => self.second_bank[self.index(1)] = value,
            _ => {}
        }
    }

    fn index(&self, bank: usize) -> usize {
        usize::from(self.indexes[bank])
    }

    fn read_register(&mut self, index: usize) -> u8 {
        self.catch_up();
        let value = self.registers[index];
        match index {
            REGISTER_A if self.update_is_near() => value | UPDATE_IN_PROGRESS,
            REGISTER_C => {
                let requested = if self.registers.requests_interrupt() { INTERRUPT_REQUEST } else { 0 };
                self.registers[REGISTER_C] = 0;
                self.settle();
                value | requested
            }
            REGISTER_D => VALID,
            _ => value,
        }
    }

    fn write_register(&mut self, index: usize, value: u8) {
        self.catch_up();
        match index {
            REGISTER_A => self.set_divider(value & !UPDATE_IN_PROGRESS),
            // Setting the time disables the update interrupt (data sheet, register B).
            REGISTER_B if value & SET != 0 => self.registers[index] = value & !UPDATE_ENDED,
            REGISTER_C | REGISTER_D => {}
            _ => self.registers[index] = value,
        }
        if index <= REGISTER_D {
            self.settle();
        }
    }

    fn set_divider(&mut self, value: u8) {
        let was_reset = self.registers.divider_is_reset();
        self.registers[REGISTER_A] = value;
        if was_reset && !self.registers.divider_is_reset() {
            self.divider_start_ns = self.clock.monotonic_ns();
            let into_second = u64::from(self.clock.wall().nanos) % NANOS_PER_SECOND;
            self.phase_ns = (NANOS_PER_SECOND + AFTER_DIVIDER_RESET_NS - into_second) % NANOS_PER_SECOND;
            self.second = self.now().0;
        }
        // A new rate counts from here on: periods of the old one are no event.
        self.periods = self.periods_now();
    }

    /// Brings time registers and interrupt flags up to date with the clock.
    fn catch_up(&mut self) {
        let (second, _) = self.now();
        let passed = second.saturating_sub(self.second);
        self.second = second;
        if passed != 0 && self.registers.updates() {
            let shown = self.registers.shown();
            if passed > 0 {
                self.registers[REGISTER_C] |= UPDATE_ENDED;
            }
            if self.registers.seconds_until_alarm(shown).is_some_and(|alarm| alarm <= passed) {
                self.registers[REGISTER_C] |= ALARM;
            }
            // Backwards too: the host's clock was set, and the guest's follows it.
            self.registers.show(shown.saturating_add(passed));
        }
        let periods = self.periods_now();
        if periods != self.periods {
            self.periods = periods;
            self.registers[REGISTER_C] |= PERIODIC;
        }
        self.drive_line();
    }

    /// The host's second and the nanoseconds into it, as the guest's seconds begin.
    fn now(&self) -> (i64, u64) {
        let wall = self.clock.wall();
        let ns = u64::from(wall.nanos) + self.phase_ns;
        let carry = i64::try_from(ns / NANOS_PER_SECOND).unwrap_or(0);
        (wall.seconds.saturating_add(carry), ns % NANOS_PER_SECOND)
    }

    fn update_is_near(&self) -> bool {
        self.registers.updates() && self.now().1 >= NANOS_PER_SECOND - UPDATE_NOTICE_NS
    }

    fn periods_now(&self) -> u64 {
        let Some(period) = self.registers.period_ticks().filter(|_| !self.registers.divider_is_reset())
        else {
            return 0;
        };
        let ns = self.clock.monotonic_ns().saturating_sub(self.divider_start_ns);
        let ticks = u128::from(ns) * u128::from(CRYSTAL_HZ) / u128::from(NANOS_PER_SECOND);
        u64::try_from(ticks).unwrap_or(u64::MAX) / period
    }

    /// Nanoseconds from the divider's start to the end of the period that runs now.
    fn period_end_ns(&self) -> Option<u64> {
        let period = self.registers.period_ticks().filter(|_| !self.registers.divider_is_reset())?;
        let ticks = u128::from(self.periods_now() + 1) * u128::from(period);
        let ns = (ticks * u128::from(NANOS_PER_SECOND)).div_ceil(u128::from(CRYSTAL_HZ));
        u64::try_from(ns).ok()
    }

    fn drive_line(&mut self) {
        let high = self.registers.requests_interrupt();
        if high != self.line_high {
            self.line_high = high;
            self.line.set(high);
        }
    }

    /// Makes line and deadline follow an access that may have changed them.
    fn settle(&mut self) {
        self.drive_line();
        if self.next_deadline().is_some() {
            self.deadline_moved.wake();
        }
    }

    /// Disables the interrupts as the RESET pin does; time and memory are the battery's.
    pub fn reset(&mut self) {
        self.registers[REGISTER_B] &= !(INTERRUPTS | SQUARE_WAVE);
        self.registers[REGISTER_C] = 0;
        self.indexes = [0; 2];
        // The last guest may have written over them, and the firmware that starts now reads them.
        self.state_facts();
        self.drive_line();
    }
}

impl Device for Rtc {
    fn name(&self) -> &str {
        "rtc"
    }

    fn read(&mut self, offset: u64, data: &mut [u8]) -> Vec<Effect> {
        read_bytes(offset, data, |port| self.read_port(port));
        Vec::new()
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Vec<Effect> {
        write_bytes(offset, data, |port, value| self.write_port(port, value));
        Vec::new()
    }
}

impl Deadline for Rtc {
    fn next_deadline(&self) -> Option<u64> {
        // While an interrupt is pending another one could not be told from it.
        if self.line_high {
            return None;
        }
        let monotonic = self.clock.monotonic_ns();
        let (second, into_second) = self.now();
        let after_seconds = |seconds: i64| {
            let whole = u64::try_from(seconds).ok()?.checked_mul(NANOS_PER_SECOND)?;
            monotonic.checked_add(whole.saturating_sub(into_second))
        };
        // The registers may be behind; what they will show now is what alarms are counted from.
        let shown = || self.registers.shown().saturating_add(second.saturating_sub(self.second));
        let enabled = |interrupt| self.registers[REGISTER_B] & interrupt != 0;
        let update = (enabled(UPDATE_ENDED) && self.registers.updates()).then(|| after_seconds(1));
        let alarm = (enabled(ALARM) && self.registers.updates())
            .then(|| self.registers.seconds_until_alarm(shown()).and_then(after_seconds));
        let periodic = enabled(PERIODIC)
            .then(|| self.period_end_ns().and_then(|end| self.divider_start_ns.checked_add(end)));
        [update, alarm, periodic].into_iter().flatten().flatten().min()
    }

    fn fire(&mut self) {
        self.catch_up();
    }
}

#[cfg(test)]
mod tests;
