//! The UART seen from both of its ends, step by step.

use std::sync::Arc;

use super::Serial;
use crate::board::output::OutputBuffer;
use crate::board::testing::{RecordedLine, WakeCount};
use crate::bus::Device;

/// One thing done to the port, and what is seen.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The guest writes a register.
    Out(u64, u8),
    /// The guest reads a register and sees this.
    In(u64, u8),
    /// The terminal offers bytes and this many are taken.
    Receive(&'static [u8], usize),
    /// The event thread drains the output and sees this.
    Drain(&'static [u8]),
    /// The interrupt line's level.
    Line(bool),
    /// Rising edges so far.
    Edges(usize),
    /// Calls of the room wake so far.
    Room(u32),
    /// Bytes lost so far.
    Lost(u64),
}
use Step::*;

fn check(capacity: usize, steps: &[Step]) {
    let line = RecordedLine::default();
    let room = WakeCount::default();
    let output = OutputBuffer::new(capacity, WakeCount::default().wake());
    let mut serial = Serial::new(line.line(), Arc::clone(&output), room.wake());
    for (index, step) in steps.iter().copied().enumerate() {
        let at = format!("step {index}, {step:?}");
        match step {
            Out(port, value) => assert_eq!(serial.write(port, &[value]), [], "{at}"),
            In(port, seen) => {
                let mut data = [0x5a];
                serial.read(port, &mut data);
                assert_eq!(data, [seen], "{at}: {:#x}", data[0]);
            }
            Receive(bytes, taken) => assert_eq!(serial.receive(bytes), taken, "{at}"),
            Drain(bytes) => {
                let mut drained = Vec::new();
                if output.drain(&mut drained) {
                    serial.output_has_room();
                }
                assert_eq!(drained, bytes, "{at}");
            }
            Line(high) => assert_eq!(line.high(), high, "{at}"),
            Edges(count) => assert_eq!(line.edges(), count, "{at}"),
            Room(count) => assert_eq!(room.count(), count, "{at}"),
            Lost(bytes) => assert_eq!(output.lost(), bytes, "{at}"),
        }
    }
}

#[test]
fn a_written_byte_has_left_at_once() {
    check(64, &[In(5, 0x60), Out(0, b'a'), In(5, 0x60), Out(0, b'b'), Drain(b"ab"), Line(false)]);
}

#[test]
fn linux_finds_a_16550a() {
    // The order of Linux's autoconfig(): IER bits, loopback MSR, FIFO bits, and none of the later chips.
    check(
        64,
        &[
            Out(1, 0),
            In(1, 0),
            Out(1, 0xff),
            In(1, 0x0f),
            Out(1, 0),
            Out(4, 0x1a),
            In(6, 0x90 | 0x02),
            Out(4, 0),
            Out(3, 0xbf),
            Out(2, 0),
            Out(3, 0),
            Out(2, 1),
            In(2, 0xc1),
            Out(2, 0x21),
            In(2, 0xc1),
            Out(7, 0xa5),
            In(7, 0xa5),
        ],
    );
}

#[test]
fn enabling_the_transmitter_interrupt_raises_it_every_time() {
    check(
        64,
        &[
            Out(1, 2),
            Line(true),
            In(2, 0x02),
            Line(false),
            In(2, 0x01),
            Out(1, 0),
            Out(1, 2),
            Line(true),
            In(2, 0x02),
            Edges(2),
        ],
    );
}

#[test]
fn one_burst_of_bytes_is_one_interrupt() {
    check(
        64,
        &[
            Out(2, 1),
            Out(1, 2),
            In(2, 0xc2),
            Out(0, b'a'),
            Out(0, b'b'),
            Out(0, b'c'),
            Edges(2),
            In(2, 0xc2),
            Line(false),
            Drain(b"abc"),
        ],
    );
}

#[test]
fn a_full_output_holds_the_transmitter_busy_and_loses_nothing() {
    check(
        2,
        &[
            Out(2, 1),
            Out(1, 2),
            In(2, 0xc2),
            Out(0, b'a'),
            Out(0, b'b'),
            In(2, 0xc2),
            Out(0, b'c'),
            Out(0, b'd'),
            Out(0, b'e'),
            In(5, 0x00),
            Line(false),
            Drain(b"ab"),
            In(5, 0x00),
            Drain(b"cd"),
            Line(true),
            In(5, 0x60),
            In(2, 0xc2),
            Drain(b"e"),
            Lost(0),
        ],
    );
}

#[test]
fn waiting_bytes_are_not_overtaken() {
    let output = OutputBuffer::new(1, WakeCount::default().wake());
    let mut serial =
        Serial::new(RecordedLine::default().line(), Arc::clone(&output), WakeCount::default().wake());
    let mut drained = Vec::new();
    serial.write(2, &[0x01]);
    serial.write(0, b"a");
    serial.write(0, b"b");
    // Between the drain and the device's being told, the guest writes on.
    assert!(output.drain(&mut drained));
    serial.write(0, b"c");
    for _ in 0..3 {
        serial.output_has_room();
        let _ = output.drain(&mut drained);
    }
    assert_eq!(drained, b"abc");
}

#[test]
fn writing_past_a_busy_transmitter_loses_and_counts() {
    // Without FIFOs one byte waits in the holding register.
    check(
        1,
        &[
            Out(0, b'a'),
            Out(0, b'b'),
            Out(0, b'c'),
            Out(0, b'd'),
            Lost(2),
            Drain(b"a"),
            Drain(b"b"),
            Drain(b""),
            In(5, 0x60),
        ],
    );
}

#[test]
fn clearing_the_transmitter_frees_it() {
    check(
        1,
        &[
            Out(2, 1),
            Out(1, 2),
            In(2, 0xc2),
            Out(0, b'a'),
            Out(0, b'b'),
            In(2, 0xc1),
            Out(2, 0x05),
            Line(true),
            In(5, 0x60),
            Drain(b"a"),
        ],
    );
}

#[test]
fn input_is_taken_up_to_the_fifo_and_asked_for_again_when_it_is_read() {
    check(
        8,
        &[
            Receive(b"ab", 1),
            Room(0),
            In(5, 0x61),
            In(0, b'a'),
            Room(1),
            In(5, 0x60),
            In(0, 0),
            Room(1),
            Out(2, 1),
            Receive(b"0123456789abcdefgh", 16),
            Receive(b"gh", 0),
            In(0, b'0'),
            Room(1),
            Out(2, 3),
            Room(2),
            Receive(b"gh", 2),
            Room(2),
            // Switching the FIFOs off and on empties them.
            Out(2, 0),
            In(5, 0x60),
            Receive(b"i", 1),
            Out(2, 1),
            In(5, 0x60),
        ],
    );
}

#[test]
fn fewer_bytes_than_the_trigger_are_a_timeout() {
    check(
        8,
        &[
            Out(2, 0x81),
            Out(1, 1),
            Receive(b"1234567", 7),
            Line(true),
            In(2, 0xcc),
            Receive(b"8", 1),
            In(2, 0xc4),
            In(0, b'1'),
            In(2, 0xcc),
            Line(true),
            Out(2, 0x83),
            Line(false),
            Edges(1),
        ],
    );
}

#[test]
fn causes_are_reported_most_urgent_first() {
    check(
        8,
        &[
            Out(2, 1),
            Out(1, 0x0f),
            In(2, 0xc2),
            // In loopback: seventeen bytes overrun the FIFO, and RTS falling is a modem change.
            Out(4, 0x12),
            In(6, 0x10 | 0x0a),
            Out(0, 0),
            Out(0, 1),
            Out(0, 2),
            Out(0, 3),
            Out(0, 4),
            Out(0, 5),
            Out(0, 6),
            Out(0, 7),
            Out(0, 8),
            Out(0, 9),
            Out(0, 10),
            Out(0, 11),
            Out(0, 12),
            Out(0, 13),
            Out(0, 14),
            Out(0, 15),
            Out(0, 16),
            Out(4, 0x10),
            In(2, 0xc6),
            In(5, 0x63),
            In(5, 0x61),
            In(2, 0xc4),
            Out(2, 0x03),
            In(2, 0xc2),
            In(2, 0xc0),
            In(6, 0x01),
            In(2, 0xc1),
            Line(false),
            Drain(b""),
        ],
    );
}

#[test]
fn loopback_keeps_the_terminal_out() {
    check(8, &[Out(4, 0x10), Receive(b"a", 0), Room(0), Out(4, 0x00), Room(1), Receive(b"a", 1)]);
}

#[test]
fn ring_reports_its_trailing_edge_only() {
    check(8, &[Out(4, 0x10), In(6, 0x0b), Out(4, 0x14), In(6, 0x40), Out(4, 0x10), In(6, 0x04)]);
}

#[test]
fn the_divisor_hides_data_and_interrupt_enable() {
    check(
        8,
        &[
            Out(3, 0x83),
            In(0, 12),
            Out(0, 1),
            Out(1, 2),
            In(0, 1),
            In(1, 2),
            Out(3, 0x03),
            In(1, 0),
            Drain(b""),
        ],
    );
}

#[test]
fn a_wide_access_is_split_into_bytes() {
    let output = OutputBuffer::new(8, WakeCount::default().wake());
    let mut serial =
        Serial::new(RecordedLine::default().line(), Arc::clone(&output), WakeCount::default().wake());
    serial.write(6, &[0x00, 0xa5, 0xff, 0xff]);
    let mut data = [0; 4];
    serial.read(5, &mut data);
    assert_eq!(data, [0x60, 0xb0, 0xa5, 0xff]);
    serial.write(0, b"a\x02");
    let mut drained = Vec::new();
    assert!(!output.drain(&mut drained));
    assert_eq!(drained, b"a");
}
