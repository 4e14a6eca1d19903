//! The clock read and set as firmware and kernels do it, with a hand-moved clock under it.

use super::{BoardFacts, Rtc, RtcWiring};
use crate::board::clock::{Clock, Deadline, NANOS_PER_SECOND};
use crate::board::testing::{HandClock, RecordedLine, WakeCount};
use crate::bus::Device;

/// 2024-02-29 23:59:50, a Thursday.
const LEAP_DAY: u64 = 1_709_251_190;

const FACTS: BoardFacts = BoardFacts { ram_below_4g: 2 << 30, ram_above_4g: 6 << 30, cpus: 4 };

struct Board {
    clock: HandClock,
    line: RecordedLine,
    wakes: WakeCount,
    rtc: Rtc,
}

fn board(seconds: u64, utc_offset_s: i32) -> Board {
    let (clock, line, wakes) = (HandClock::at(seconds), RecordedLine::default(), WakeCount::default());
    let wiring = RtcWiring { clock: clock.clock(), line: line.line(), deadline_moved: wakes.wake() };
    Board { rtc: Rtc::new(wiring, FACTS, utc_offset_s), clock, line, wakes }
}

impl Board {
    fn read(&mut self, index: u8) -> u8 {
        let mut data = [0];
        self.rtc.write(0, &[index]);
        self.rtc.read(1, &mut data);
        data[0]
    }

    fn write(&mut self, index: u8, value: u8) {
        self.rtc.write(0, &[index]);
        self.rtc.write(1, &[value]);
    }

    /// Century, year, month, day, weekday, hours, minutes, seconds.
    fn time(&mut self) -> [u8; 8] {
        [0x32, 9, 8, 7, 6, 4, 2, 0].map(|index| self.read(index))
    }

    fn pass_s(&self, seconds: u64) {
        self.clock.pass_ns(seconds * NANOS_PER_SECOND);
    }
}

#[test]
fn the_time_is_the_hosts_in_the_guests_zone() {
    for (offset, passed, time) in [
        (0, 0, [0x20, 0x24, 0x02, 0x29, 5, 0x23, 0x59, 0x50]),
        (0, 9, [0x20, 0x24, 0x02, 0x29, 5, 0x23, 0x59, 0x59]),
        (0, 10, [0x20, 0x24, 0x03, 0x01, 6, 0x00, 0x00, 0x00]),
        (3600, 0, [0x20, 0x24, 0x03, 0x01, 6, 0x00, 0x59, 0x50]),
        (-86_400, 0, [0x20, 0x24, 0x02, 0x28, 4, 0x23, 0x59, 0x50]),
        (0, 306 * 86_400 + 10, [0x20, 0x25, 0x01, 0x01, 4, 0x00, 0x00, 0x00]),
    ] {
        let mut board = board(LEAP_DAY, offset);
        board.pass_s(passed);
        assert_eq!(board.time(), time, "offset {offset}, {passed} s: {:x?}", board.time());
    }
}

#[test]
fn hours_and_numbers_come_in_the_form_the_guest_asked_for() {
    // From the last second of an hour, in each of the four forms.
    for (hour, mode, before, after) in [
        (11, 0x02, 0x11, 0x12),
        (23, 0x02, 0x23, 0x00),
        (11, 0x06, 11, 12),
        (23, 0x06, 23, 0),
        (11, 0x00, 0x11, 0x92),
        (23, 0x00, 0x91, 0x12),
        (0, 0x00, 0x12, 0x01),
        (12, 0x00, 0x92, 0x81),
        (11, 0x04, 11, 0x8c),
        (23, 0x04, 0x8b, 12),
    ] {
        let mut board = board(LEAP_DAY, 0);
        board.write(0x0b, 0x80 | mode);
        let minute = if mode & 0x04 != 0 { 59 } else { 0x59 };
        for (index, value) in [(0, minute), (2, minute), (4, before)] {
            board.write(index, value);
        }
        board.write(0x0b, mode);
        assert_eq!(board.read(4), before, "{hour} h in mode {mode:#x}");
        board.pass_s(1);
        assert_eq!([4, 2, 0].map(|index| board.read(index)), [after, 0, 0], "{hour} h in mode {mode:#x}");
    }
}

#[test]
fn what_the_guest_sets_runs_on_and_the_host_keeps_its_own() {
    let mut board = board(LEAP_DAY, 0);
    board.write(0x0b, 0x82);
    let set = [(0x32, 0x19), (9, 0x99), (8, 0x12), (7, 0x31), (6, 6), (4, 0x23), (2, 0x59), (0, 0x58)];
    for (index, value) in set {
        board.write(index, value);
    }
    board.pass_s(5);
    assert_eq!(board.time(), [0x19, 0x99, 0x12, 0x31, 6, 0x23, 0x59, 0x58], "stands still while set");
    board.write(0x0b, 0x02);
    board.pass_s(2);
    assert_eq!(board.time(), [0x20, 0x00, 0x01, 0x01, 7, 0x00, 0x00, 0x00]);
    assert_eq!(board.clock.wall().seconds, LEAP_DAY as i64 + 7);
    board.rtc.reset();
    assert_eq!(board.time(), [0x20, 0x00, 0x01, 0x01, 7, 0x00, 0x00, 0x00], "a reset keeps the time");
}

#[test]
fn nonsense_is_kept_until_the_next_second_and_then_carries() {
    for (index, value, next) in [
        (0, 0x75, [0x20, 0x24, 0x03, 0x01, 6, 0x00, 0x00, 0x16]),
        (7, 0x31, [0x20, 0x24, 0x03, 0x02, 7, 0x23, 0x59, 0x51]),
        (8, 0x00, [0x20, 0x23, 0x12, 0x29, 6, 0x23, 0x59, 0x51]),
        (4, 0xff, [0x20, 0x24, 0x03, 0x06, 4, 0x21, 0x59, 0x51]),
    ] {
        let mut board = board(LEAP_DAY, 0);
        board.write(index, value);
        assert_eq!(board.read(index), value);
        board.pass_s(1);
        let time = board.time();
        assert_eq!(time, next, "register {index} = {value:#x}: {time:x?}");
    }
}

#[test]
fn the_guest_follows_a_step_of_the_hosts_clock() {
    let mut board = board(LEAP_DAY, 0);
    board.clock.set_wall_ns((LEAP_DAY - 50) * NANOS_PER_SECOND);
    assert_eq!(board.time(), [0x20, 0x24, 0x02, 0x29, 5, 0x23, 0x59, 0x00]);
    assert_eq!(board.read(0x0c), 0x00, "a step back is no update");
    board.clock.set_wall_ns((LEAP_DAY + 10) * NANOS_PER_SECOND);
    assert_eq!(board.time(), [0x20, 0x24, 0x03, 0x01, 6, 0x00, 0x00, 0x00]);
}

#[test]
fn an_update_announces_itself_244_microseconds_ahead() {
    for (ns, mode, divider, flag) in [
        (0, 0x02, 0x26, 0x00),
        (999_755_999, 0x02, 0x26, 0x00),
        (999_756_000, 0x02, 0x26, 0x80),
        (999_999_999, 0x02, 0x26, 0x80),
        (1_000_000_000, 0x02, 0x26, 0x00),
        (999_999_999, 0x82, 0x26, 0x00),
        (999_999_999, 0x02, 0x76, 0x00),
    ] {
        let mut board = board(LEAP_DAY, 0);
        board.write(0x0b, mode);
        board.write(0x0a, divider);
        board.clock.pass_ns(ns);
        assert_eq!(board.read(0x0a), divider | flag, "{ns} ns, mode {mode:#x}, divider {divider:#x}");
    }
}

#[test]
fn the_first_second_after_a_divider_reset_is_half_as_long() {
    for into_second in [0, 123_456_789, 499_999_999, 500_000_000, 876_543_210] {
        let mut board = board(LEAP_DAY, 0);
        board.clock.pass_ns(into_second);
        board.write(0x0a, 0x76);
        board.pass_s(3);
        assert_eq!(board.read(0), 0x50, "{into_second}");
        board.write(0x0a, 0x26);
        for (ns, second) in [(499_999_999, 0x50), (1, 0x51), (NANOS_PER_SECOND - 1, 0x51), (1, 0x52)] {
            board.clock.pass_ns(ns);
            assert_eq!(board.read(0), second, "{into_second}, then {ns}");
        }
    }
}

#[test]
fn an_enabled_interrupt_comes_at_its_deadline_and_goes_when_read() {
    // 10 s before midnight and 123 ms into the second; alarm registers: seconds, minutes, hours.
    for (enable, alarm, rate, first_ns, second_ns, flags) in [
        (0x10, [0xff; 3], 0x26, 877_000_000, 1_000_000_000, 0x90),
        (0x20, [0x55, 0xff, 0xff], 0x26, 4_877_000_000, 60_000_000_000, 0xb0),
        (0x20, [0x50, 0xff, 0xff], 0x26, 59_877_000_000, 60_000_000_000, 0xb0),
        (0x20, [0xff, 0xff, 0xff], 0x26, 877_000_000, 1_000_000_000, 0xb0),
        (0x20, [0x05, 0x00, 0x00], 0x26, 14_877_000_000, 86_400_000_000_000, 0xb0),
        (0x20, [0x50, 0x59, 0x23], 0x26, 86_399_877_000_000, 86_400_000_000_000, 0xb0),
        (0x20, [0xc0, 0x30, 0xc0], 0x26, 1_809_877_000_000, 1_000_000_000, 0xb0),
        // 1024 Hz, 2 Hz, and rate 1, which is 256 Hz; 123 ms is 125.95, 0.246 and 31.49 periods.
        (0x40, [0xff; 3], 0x26, 46_875, 976_562, 0xc0),
        (0x40, [0xff; 3], 0x2f, 377_000_000, 500_000_000, 0xc0),
        (0x40, [0xff; 3], 0x21, 2_000_000, 3_906_250, 0xc0),
    ] {
        let row = format!("enable {enable:#x}, alarm {alarm:x?}, rate {rate:#x}");
        let mut board = board(LEAP_DAY, 0);
        board.clock.pass_ns(123_000_000);
        for (index, value) in [1, 3, 5].into_iter().zip(alarm) {
            board.write(index, value);
        }
        board.write(0x0a, rate);
        assert_eq!(board.rtc.next_deadline(), None, "{row}");
        board.read(0x0c);
        let wakes = board.wakes.count();
        board.write(0x0b, 0x02 | enable);
        assert_eq!(board.wakes.count(), wakes + 1, "{row}");
        for (round, ns) in [first_ns, second_ns].into_iter().enumerate() {
            let ahead = board.rtc.next_deadline().unwrap() - board.clock.monotonic_ns();
            // Periods of the crystal are no whole nanoseconds.
            assert!(ahead.abs_diff(ns) <= 1, "{row}, round {round}: {ahead} for {ns}");
            board.clock.pass_ns(ahead - 1);
            board.rtc.fire();
            assert!(!board.line.high(), "{row}, round {round}, early");
            board.clock.pass_ns(1);
            board.rtc.fire();
            assert!(board.line.high(), "{row}, round {round}");
            assert_eq!(board.rtc.next_deadline(), None, "{row}, round {round}");
            let seen = board.read(0x0c);
            assert_eq!(seen & (0x80 | enable), flags & (0x80 | enable), "{row}, round {round}");
            assert!(!board.line.high(), "{row}, round {round}");
        }
    }
}

#[test]
fn flags_rise_without_an_interrupt_enabled() {
    let mut board = board(LEAP_DAY, 0);
    assert_eq!(board.read(0x0c), 0x00);
    board.pass_s(1);
    assert_eq!(board.read(0x0c), 0x50);
    assert_eq!(board.read(0x0c), 0x00);
    // The alarm registers are 00:00:00 as long as nobody sets them.
    board.pass_s(9);
    assert_eq!(board.read(0x0c), 0x70);
    assert_eq!(board.line.edges(), 0);
}

#[test]
fn a_new_rate_is_no_event() {
    let mut board = board(LEAP_DAY, 0);
    board.clock.pass_ns(900_000_000);
    board.read(0x0c);
    for rate in [0x2f, 0x21, 0x20, 0x26] {
        board.write(0x0a, rate);
        assert_eq!(board.read(0x0c), 0x00, "{rate:#x}");
    }
}

#[test]
fn an_alarm_that_no_time_matches_never_rings() {
    for alarm in [[0x60, 0xff, 0xff], [0x00, 0x60, 0xff], [0x00, 0x00, 0x24], [0x7f, 0x7f, 0x7f]] {
        let mut board = board(LEAP_DAY, 0);
        for (index, value) in [1, 3, 5].into_iter().zip(alarm) {
            board.write(index, value);
        }
        board.write(0x0b, 0x22);
        assert_eq!(board.rtc.next_deadline(), None, "{alarm:x?}");
        board.pass_s(100_000);
        board.rtc.fire();
        assert!(!board.line.high(), "{alarm:x?}");
    }
}

#[test]
fn setting_the_time_switches_the_update_interrupt_off() {
    let mut board = board(LEAP_DAY, 0);
    board.write(0x0b, 0x92);
    assert_eq!(board.read(0x0b), 0x82);
    board.write(0x0b, 0x32);
    assert_eq!(board.read(0x0b), 0x32);
}

#[test]
fn a_reset_disables_interrupts_and_keeps_the_memory() {
    let mut board = board(LEAP_DAY, 0);
    board.write(0x0f, 0x0a);
    board.write(0x5f, 0xee);
    board.write(0x0b, 0x7a);
    board.pass_s(1);
    board.rtc.fire();
    assert!(board.line.high());
    board.rtc.reset();
    assert!(!board.line.high());
    assert_eq!([0x0b, 0x0c, 0x0f, 0x5f].map(|index| board.read(index)), [0x02, 0x00, 0x0a, 3]);
}

#[test]
fn read_only_registers_stay_as_they_are() {
    let mut board = board(LEAP_DAY, 0);
    for (index, value) in [(0x0c, 0x00), (0x0d, 0x80)] {
        board.write(index, 0x55);
        assert_eq!(board.read(index), value, "{index:#x}");
    }
    board.write(0x0a, 0xa6);
    assert_eq!(board.read(0x0a), 0x26);
}

#[test]
fn firmware_finds_the_boards_facts() {
    // RAM below 4 GiB, above, CPUs; then bytes 15-18, 30-31, 34-35, 5b-5d, 5f.
    for (below, above, cpus, bytes) in [
        (2 << 30, 6 << 30, 4, [0x80, 2, 0xff, 0xff, 0xff, 0xff, 0x00, 0x7f, 0x00, 0x80, 0x01, 3]),
        (8 << 20, 0, 1, [0x80, 2, 0x00, 0x1c, 0x00, 0x1c, 0x00, 0x00, 0x00, 0x00, 0x00, 0]),
        (u64::MAX, u64::MAX, 9999, [0x80, 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        (0, 0, 0, [0x80, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    ] {
        let (clock, line, wake) = (HandClock::at(0), RecordedLine::default(), WakeCount::default());
        let wiring = RtcWiring { clock: clock.clock(), line: line.line(), deadline_moved: wake.wake() };
        let facts = BoardFacts { ram_below_4g: below, ram_above_4g: above, cpus };
        let mut board = Board { rtc: Rtc::new(wiring, facts, 0), clock, line, wakes: wake };
        let indexes = [0x15, 0x16, 0x17, 0x18, 0x30, 0x31, 0x34, 0x35, 0x5b, 0x5c, 0x5d, 0x5f];
        assert_eq!(indexes.map(|index| board.read(index)), bytes, "{facts:?}");
    }
}

#[test]
fn the_second_bank_and_the_ports_are_their_own() {
    let mut board = board(LEAP_DAY, 0);
    // A word written to an index port is index and data at once; the index's upper bit masks NMIs.
    board.rtc.write(0, &[0xc0, 0x11]);
    board.rtc.write(2, &[0xc0, 0x22]);
    let mut data = [0; 4];
    board.rtc.read(0, &mut data);
    assert_eq!(data, [0xff, 0x11, 0xff, 0x22]);
}
