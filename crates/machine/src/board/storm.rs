//! A guest that writes and reads everything everywhere: no device panics, floods its lines' owner or stops answering.

use std::sync::Arc;

use super::clock::Deadline;
use super::debug_port::{DebugPort, PostPort};
use super::i8042::I8042;
use super::output::OutputBuffer;
use super::port92::Port92;
use super::power::PowerManagement;
use super::rtc::{BoardFacts, Rtc, RtcWiring};
use super::serial::Serial;
use super::testing::{HandClock, RecordedLine, WakeCount};
use crate::bus::Device;

/// Accesses for each seed.
const ACCESSES: u32 = 60_000;
const SEEDS: u64 = 8;

/// Marsaglia's xorshift64: the same storm every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Mostly ports that exist, now and then any offset at all.
    fn offset(&mut self) -> u64 {
        match self.next() % 8 {
            0 => self.next(),
            1 => u64::MAX - self.next() % 4,
            _ => self.next() % 0x80,
        }
    }

    /// Mostly registers' values, now and then corners.
    fn bytes(&mut self) -> ([u8; 8], usize) {
        let value = match self.next() % 4 {
            0 => u64::MAX,
            1 => 0,
            _ => self.next(),
        };
        (value.to_le_bytes(), [1, 1, 1, 2, 4, 8, 0, 3][(self.next() % 8) as usize])
    }

    /// From no time at all to a thousand years, which is as wild as a host's clock gets.
    fn nanoseconds(&mut self) -> u64 {
        let bits = self.next() % 56;
        self.next() & ((1 << bits) - 1)
    }
}

struct Board {
    clock: HandClock,
    output: Arc<OutputBuffer>,
    serial: Serial,
    rtc: Rtc,
    power: PowerManagement,
    others: Vec<Box<dyn Device>>,
}

impl Board {
    fn new() -> Self {
        let [serial, rtc, power, keyboard, mouse] = [(); 5].map(|()| RecordedLine::default().line());
        let wake = WakeCount::default();
        let clock = HandClock::at(1_700_000_000);
        let output = OutputBuffer::new(64, wake.wake());
        let wiring = RtcWiring { clock: clock.clock(), line: rtc, deadline_moved: wake.wake() };
        let facts = BoardFacts { ram_below_4g: 1 << 30, ram_above_4g: 0, cpus: 2 };
        Self {
            serial: Serial::new(serial, Arc::clone(&output), wake.wake()),
            rtc: Rtc::new(wiring, facts, 0),
            power: PowerManagement::new(clock.clock(), power, wake.wake()),
            others: vec![
                Box::new(I8042::new(keyboard, mouse)),
                Box::new(DebugPort::new(Arc::clone(&output))),
                Box::new(PostPort::default()),
                Box::new(Port92),
            ],
            clock,
            output,
        }
    }

    fn devices(&mut self) -> Vec<&mut dyn Device> {
        let mut devices: Vec<&mut dyn Device> = vec![&mut self.serial, &mut self.rtc, &mut self.power];
        devices.extend(self.others.iter_mut().map(|device| device.as_mut() as &mut dyn Device));
        devices
    }

    fn disturb(&mut self, random: &mut Random) {
        match random.next() % 16 {
            0 => drop(self.serial.receive(&random.next().to_le_bytes())),
            1 if self.output.drain(&mut Vec::new()) => self.serial.output_has_room(),
            2 => drop(self.power.press_power_button()),
            3 => self.power.raise_event(random.next() as u32),
            4 => self.rtc.fire(),
            5 => self.power.fire(),
            6 => self.clock.pass_ns(random.nanoseconds()),
            7 => self.clock.set_wall_ns(random.nanoseconds()),
            8 if random.next().is_multiple_of(64) => self.rtc.reset(),
            _ => {}
        }
    }
}

#[test]
fn no_storm_of_accesses_breaks_a_device() {
    for seed in 1..=SEEDS {
        let (mut board, mut random) = (Board::new(), Random(seed));
        for _ in 0..ACCESSES {
            let (offset, (mut data, len)) = (random.offset(), random.bytes());
            let which = random.next() as usize % board.devices().len();
            let device = &mut board.devices()[which];
            let effects = if random.next().is_multiple_of(2) {
                device.read(offset, &mut data[..len])
            } else {
                device.write(offset, &data[..len])
            };
            assert!(effects.len() <= len, "seed {seed}: {} gave {effects:?}", device.name());
            board.disturb(&mut random);
            let _ = (board.rtc.next_deadline(), board.power.next_deadline());
        }
        settles_to_working(&mut board, seed);
    }
}

/// After all that, a driver that sets the devices up finds them doing their work.
fn settles_to_working(board: &mut Board, seed: u64) {
    // Eight data bits and no divisor, no loopback, no FIFO; room in the output for what was held back.
    for (register, value) in [(3, 0x03), (4, 0x00), (2, 0x00)] {
        board.serial.write(register, &[value]);
    }
    while board.output.drain(&mut Vec::new()) {
        board.serial.output_has_room();
    }
    let _ = board.output.drain(&mut Vec::new());
    board.serial.write(0, b"k");
    let mut text = Vec::new();
    let _ = board.output.drain(&mut text);
    assert_eq!(text, b"k", "seed {seed}");
    assert_eq!(board.power.write(4, &[0x00, 0x20]), [crate::bus::Effect::PowerOff], "seed {seed}");
    board.rtc.write(0, &[0x0d]);
    let mut valid = [0];
    board.rtc.read(1, &mut valid);
    assert_eq!(valid, [0x80], "seed {seed}");
}
