//! The RTC's first bank: time, alarm and control registers as the guest wrote them, and what they mean.
//!
//! Not here: the clock and the ports (`rtc`). Values past their range are the guest's and are kept until the next
//! update; the calendar then carries them.

use std::ops::{Index, IndexMut};

use crate::board::calendar::{Civil, SECONDS_PER_DAY, weekday};
use crate::firmware::acpi::board::RTC_CENTURY_INDEX;

/// Bytes in a bank.
pub(super) const BANK: usize = 128;

const SECONDS: usize = 0x00;
const SECONDS_ALARM: usize = 0x01;
const MINUTES: usize = 0x02;
const MINUTES_ALARM: usize = 0x03;
const HOURS: usize = 0x04;
const HOURS_ALARM: usize = 0x05;
const WEEKDAY: usize = 0x06;
const DAY: usize = 0x07;
const MONTH: usize = 0x08;
const YEAR: usize = 0x09;
pub(super) const REGISTER_A: usize = 0x0a;
pub(super) const REGISTER_B: usize = 0x0b;
pub(super) const REGISTER_C: usize = 0x0c;
pub(super) const REGISTER_D: usize = 0x0d;
const CENTURY: usize = RTC_CENTURY_INDEX as usize;

/// Register A: an update of the time registers is near.
pub(super) const UPDATE_IN_PROGRESS: u8 = 1 << 7;
/// Both of these set hold the divider in reset.
const DIVIDER_RESET: u8 = 0x60;
/// A 32.768 kHz crystal.
const DIVIDER_RUNS: u8 = 0x20;
const RATE: u8 = 0x0f;
/// 1024 Hz, as PC firmware leaves it.
const RATE_DEFAULT: u8 = 0x06;

/// Register B: the time registers stand still and may be set.
pub(super) const SET: u8 = 1 << 7;
/// The three interrupts: enables in register B, flags in register C.
pub(super) const PERIODIC: u8 = 1 << 6;
pub(super) const ALARM: u8 = 1 << 5;
pub(super) const UPDATE_ENDED: u8 = 1 << 4;
pub(super) const INTERRUPTS: u8 = PERIODIC | ALARM | UPDATE_ENDED;
pub(super) const SQUARE_WAVE: u8 = 1 << 3;
const BINARY: u8 = 1 << 2;
const HOURS_24: u8 = 1 << 1;

/// Register C: the interrupt line is active.
pub(super) const INTERRUPT_REQUEST: u8 = 1 << 7;
/// Register D: the battery is good.
pub(super) const VALID: u8 = 1 << 7;

/// In 12-hour mode, the bit of the hours that says "afternoon".
const PM: u8 = 1 << 7;
/// An alarm register with both of these set matches everything.
const ALARM_ANY: u8 = 0xc0;

/// The 128 bytes.
pub(super) struct Registers([u8; BANK]);

impl Registers {
    /// Counts 24 hours in BCD and runs, as PC firmware leaves it.
    pub(super) fn new() -> Self {
        let mut bank = [0; BANK];
        bank[REGISTER_A] = DIVIDER_RUNS | RATE_DEFAULT;
        bank[REGISTER_B] = HOURS_24;
        Self(bank)
    }

    /// The time in the registers, in seconds since 1970 of whatever zone the guest keeps.
    pub(super) fn shown(&self) -> i64 {
        let field = |index| i64::from(self.decode(self.0[index]));
        let civil = Civil {
            year: field(CENTURY) * 100 + field(YEAR),
            month: field(MONTH),
            day: field(DAY),
            hour: i64::from(self.decode_hour(self.0[HOURS])),
            minute: field(MINUTES),
            second: field(SECONDS),
        };
        civil.to_seconds()
    }

    pub(super) fn show(&mut self, seconds: i64) {
        let civil = Civil::from_seconds(seconds);
        for (index, value) in [
            (SECONDS, civil.second),
            (MINUTES, civil.minute),
            (WEEKDAY, weekday(seconds)),
            (DAY, civil.day),
            (MONTH, civil.month),
            (YEAR, civil.year.rem_euclid(100)),
            (CENTURY, civil.year.div_euclid(100).rem_euclid(100)),
        ] {
            self.0[index] = self.encode(value);
        }
        self.0[HOURS] = self.encode_hour(civil.hour);
    }

    fn mode(&self, bit: u8) -> bool {
        self.0[REGISTER_B] & bit != 0
    }

    /// A number as the registers have it; nonsense digits give nonsense numbers, which the calendar carries.
    fn decode(&self, value: u8) -> u8 {
        if self.mode(BINARY) { value } else { (value >> 4) * 10 + (value & 0x0f) }
    }

    /// `value` is below 100.
    fn encode(&self, value: i64) -> u8 {
        let value = u8::try_from(value).unwrap_or(0);
        if self.mode(BINARY) { value } else { (value / 10) << 4 | (value % 10) }
    }

    fn decode_hour(&self, value: u8) -> u8 {
        if self.mode(HOURS_24) {
            return self.decode(value);
        }
        let afternoon = if value & PM != 0 { 12 } else { 0 };
        self.decode(value & !PM) % 12 + afternoon
    }

    fn encode_hour(&self, hour: i64) -> u8 {
        if self.mode(HOURS_24) {
            return self.encode(hour);
        }
        let afternoon = if hour >= 12 { PM } else { 0 };
        self.encode((hour + 11) % 12 + 1) | afternoon
    }

    /// Seconds from `shown` to the next moment that the alarm registers match, a day at most.
    pub(super) fn seconds_until_alarm(&self, shown: i64) -> Option<i64> {
        const MINUTES_PER_DAY: i64 = SECONDS_PER_DAY / 60;
        let wanted = |index| (self.0[index] & ALARM_ANY != ALARM_ANY).then(|| self.0[index]);
        let hour = wanted(HOURS_ALARM).map(|value| i64::from(self.decode_hour(value)));
        let minute = wanted(MINUTES_ALARM).map(|value| i64::from(self.decode(value)));
        let second = wanted(SECONDS_ALARM).map(|value| i64::from(self.decode(value)));
        if second.is_some_and(|second| second > 59) {
            return None;
        }
        let (this_minute, this_second) = (shown.div_euclid(60), shown.rem_euclid(60));
        (0..=MINUTES_PER_DAY).find_map(|ahead| {
            let at = (this_minute.saturating_add(ahead)).rem_euclid(MINUTES_PER_DAY);
            let matches = hour.is_none_or(|hour| hour == at / 60) && minute.is_none_or(|it| it == at % 60);
            let earliest = if ahead == 0 { this_second + 1 } else { 0 };
            let second = second.unwrap_or(earliest);
            (matches && (earliest..60).contains(&second)).then_some(ahead * 60 + second - this_second)
        })
    }

    pub(super) fn updates(&self) -> bool {
        self.0[REGISTER_B] & SET == 0 && !self.divider_is_reset()
    }

    pub(super) fn divider_is_reset(&self) -> bool {
        self.0[REGISTER_A] & DIVIDER_RESET == DIVIDER_RESET
    }

    pub(super) fn requests_interrupt(&self) -> bool {
        self.0[REGISTER_B] & self.0[REGISTER_C] & INTERRUPTS != 0
    }

    /// Crystal ticks in a period of the periodic interrupt, or none when it is off.
    pub(super) fn period_ticks(&self) -> Option<u64> {
        // Rates 1 and 2 are those of 8 and 9 with this crystal (data sheet, table 5).
        match self.0[REGISTER_A] & RATE {
            0 => None,
            rate @ 1..=2 => Some(1 << (rate + 6)),
            rate => Some(1 << (rate - 1)),
        }
    }
}

impl Index<usize> for Registers {
    type Output = u8;

    fn index(&self, index: usize) -> &u8 {
        &self.0[index]
    }
}

impl IndexMut<usize> for Registers {
    fn index_mut(&mut self, index: usize) -> &mut u8 {
        &mut self.0[index]
    }
}
