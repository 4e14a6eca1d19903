//! Queues as drivers make them: sound ones served to the last request, hostile ones ended with nothing touched.

use std::cell::Cell;
use std::sync::Arc;

use proptest::prelude::{ProptestConfig, any, prop_assert, proptest};
use proptest::test_runner::RngSeed;

use super::super::Broken;
use super::super::testing::{Driver, INDIRECT, PLACE, Piece, RAM, SIZE};
use super::{EVENT_INDEX, Placement, Ring, Served};

const ROOM: u64 = 0x4_0000;
const NEXT: u16 = 1;
const WRITE: u16 = 2;

fn serve_all(ring: &mut Ring) -> Result<(Served, u32), Broken> {
    let count = Cell::new(0);
    let served = ring.serve(
        1000,
        || true,
        |request| Ok(request.writable.write(&[7; 4096]) as u32),
        || {
            count.set(count.get() + 1);
        },
    )?;
    Ok((served, count.get()))
}

#[test]
fn every_request_is_answered_by_its_head_with_the_bytes_written() {
    let driver = Driver::new();
    driver.chain(0, &[Piece::readable(ROOM, 16), Piece::writable(ROOM + 0x100, 10)]);
    driver.chain(5, &[Piece::writable(ROOM + 0x200, 0), Piece::writable(ROOM + 0x200, 3)]);
    driver.chain(9, &[Piece::readable(ROOM, 16)]);
    for (number, head) in [(0, 9), (1, 0), (2, 5)] {
        driver.offer(number, head);
    }
    assert_eq!(serve_all(&mut driver.ring()), Ok((Served::All, 3)));
    assert_eq!(driver.answers(), 3);
    assert_eq!([0, 1, 2].map(|number| driver.answer(number)), [(9, 0), (0, 10), (5, 3)]);
}

#[test]
fn chains_that_make_no_sense_break_the_queue() {
    let piece = |address, len, flags, next| Piece { address, len, flags, next };
    let rows: Vec<(&str, Vec<Piece>)> = vec![
        ("to itself", vec![piece(ROOM, 8, NEXT, 0)]),
        ("in a circle", vec![piece(ROOM, 8, NEXT, 1), piece(ROOM, 8, NEXT, 0)]),
        ("past the table", vec![piece(ROOM, 8, NEXT, SIZE)]),
        ("outside of RAM", vec![piece(RAM, 8, 0, 0)]),
        ("across the end of RAM", vec![piece(RAM - 4, 8, WRITE, 0)]),
        ("around the end of the address space", vec![piece(u64::MAX - 3, 8, 0, 0)]),
        ("longer than RAM", vec![piece(ROOM, u32::MAX, WRITE, 0)]),
        ("over 4 GiB in all", vec![piece(0, RAM as u32, NEXT, 1), piece(0, u32::MAX, 0, 0)]),
        ("read after write", vec![piece(ROOM, 8, WRITE | NEXT, 1), piece(ROOM, 8, 0, 0)]),
        ("a table of broken size", vec![piece(ROOM, 24, INDIRECT, 0)]),
        ("an empty table", vec![piece(ROOM, 0, INDIRECT, 0)]),
        ("a table outside of RAM", vec![piece(RAM, 32, INDIRECT, 0)]),
        ("a table with a table in it", vec![piece(PLACE.descriptors, 16, INDIRECT, 0)]),
        (
            "a second piece that is a table outside",
            vec![piece(ROOM, 8, NEXT, 1), piece(RAM, 16, INDIRECT, 0)],
        ),
    ];
    for (name, pieces) in rows {
        let driver = Driver::new();
        for (index, piece) in (0..).zip(&pieces) {
            driver.put(index, *piece);
        }
        driver.offer(0, 0);
        assert_eq!(serve_all(&mut driver.ring()), Err(Broken::Chain), "{name}");
        assert_eq!(driver.answers(), 0, "{name}");
    }
}

#[test]
fn indirect_tables_hold_chains_up_to_a_limit() {
    for (count, result) in
        [(1, Ok((Served::All, 1))), (1024, Ok((Served::All, 1))), (1025, Err(Broken::Chain))]
    {
        let driver = Driver::new();
        let table = 0x5_0000;
        for index in 0..count {
            let flags = WRITE | if index + 1 == count { 0 } else { NEXT };
            let piece = Piece { address: ROOM, len: 1, flags, next: index + 1 };
            driver.write(table + u64::from(index) * 16, &piece.bytes());
        }
        let flags = INDIRECT;
        driver.put(0, Piece { address: table, len: u32::from(count) * 16, flags, next: 0 });
        driver.offer(0, 0);
        assert_eq!(serve_all(&mut driver.ring()), result, "{count}");
    }
}

#[test]
fn indexes_that_jump_and_heads_past_the_table_break_the_queue() {
    for (index, head, result) in [
        (1_u16, 0, Ok((Served::All, 1))),
        (SIZE, 0, Ok((Served::All, u32::from(SIZE)))),
        (SIZE + 1, 0, Err(Broken::Ring)),
        (u16::MAX, 0, Err(Broken::Ring)),
        (1, SIZE, Err(Broken::Chain)),
        (1, u16::MAX, Err(Broken::Chain)),
    ] {
        let driver = Driver::new();
        driver.chain(0, &[Piece::writable(ROOM, 8)]);
        driver.write(PLACE.available + 2, &index.to_le_bytes());
        driver.write(PLACE.available + 4, &u16::to_le_bytes(head));
        assert_eq!(serve_all(&mut driver.ring()), result, "{index} {head}");
    }
}

#[test]
fn a_turn_ends_at_its_limit_and_the_next_goes_on_there() {
    let driver = Driver::new();
    driver.chain(3, &[Piece::writable(ROOM, 8)]);
    for number in 0..5 {
        driver.offer(number, 3);
    }
    let mut ring = driver.ring();
    let mut turn = |limit| ring.serve(limit, || true, |_| Ok(0), || ()).unwrap();
    assert_eq!((turn(3), driver.answers()), (Served::More, 3));
    assert_eq!((turn(3), driver.answers()), (Served::All, 5));
    assert_eq!(ring.serve(3, || false, |_| Ok(0), || ()), Ok(Served::More));
}

#[test]
fn drivers_that_want_no_interrupt_get_none() {
    for (features, suppressed, interrupts) in
        [(0, false, 1), (0, true, 0), (EVENT_INDEX, false, 1), (EVENT_INDEX, true, 0)]
    {
        let driver = Driver::new();
        driver.chain(0, &[Piece::writable(ROOM, 8)]);
        driver.offer(0, 0);
        if suppressed && features == 0 {
            driver.write(PLACE.available, &1_u16.to_le_bytes());
        } else if suppressed {
            // The driver wants to hear of the third answer.
            driver.write(PLACE.available + 4 + 2 * u64::from(SIZE), &2_u16.to_le_bytes());
        }
        let mut ring = Ring::new(Arc::clone(&driver.ram), &PLACE, features).unwrap();
        assert_eq!(serve_all(&mut ring), Ok((Served::All, interrupts)), "{features:#x} {suppressed}");
    }
}

#[test]
fn queues_lie_in_ram_aligned_and_of_a_power_of_two() {
    let at = PLACE;
    for (at, sound) in [
        (at, true),
        (Placement { size: 1, ..at }, true),
        (Placement { size: 0, ..at }, false),
        (Placement { size: 12, ..at }, false),
        (Placement { descriptors: 0x1008, ..at }, false),
        (Placement { available: 0x2001, ..at }, false),
        (Placement { used: 0x3002, ..at }, false),
        (Placement { descriptors: RAM - 0x10, ..at }, false),
        (Placement { available: RAM - 2, ..at }, false),
        (Placement { used: !3, ..at }, false),
    ] {
        let driver = Driver::new();
        assert_eq!(Ring::new(driver.ram, &at, 0).is_ok(), sound, "{at:x?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 512,
        rng_seed: RngSeed::Fixed(0xa110d),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_queue_at_all_is_served_within_bounds(
        table in proptest::collection::vec(
            (0_u64..RAM + 0x1000, any::<u32>(), 0_u32..0x2000, 0_u16..8, 0_u16..SIZE + 2), usize::from(SIZE)),
        wild in any::<u16>(),
        heads in proptest::collection::vec(0_u16..SIZE + 1, usize::from(SIZE)),
        indexes in proptest::collection::vec(0_u16..SIZE + 2, 1..6),
        event_index in any::<bool>(),
    ) {
        let driver = Driver::new();
        for (index, &(address, len, sane, flags, next)) in (0..).zip(&table) {
            let len = if wild >> index & 1 != 0 { len } else { sane };
            driver.put(index, Piece { address, len, flags, next });
        }
        for (slot, head) in (0_u64..).zip(&heads) {
            driver.write(PLACE.available + 4 + slot * 2, &head.to_le_bytes());
        }
        let features = if event_index { EVENT_INDEX } else { 0 };
        let mut ring = Ring::new(Arc::clone(&driver.ram), &PLACE, features).unwrap();
        for index in indexes {
            driver.write(PLACE.available + 2, &index.to_le_bytes());
            let answered = Cell::new(0_u16);
            let result = ring.serve(
                100,
                || true,
                |request| {
                    answered.set(answered.get() + 1);
                    prop_lengths(&request);
                    Ok(0)
                },
                || (),
            );
            prop_assert!(answered.get() <= 100);
            if result.is_err() {
                break;
            }
        }
    }
}

/// No request is longer than what its descriptors can name.
fn prop_lengths(request: &super::Request<'_>) {
    let limit = RAM * 1024;
    assert!(request.readable.len() <= limit && request.writable.len() <= limit);
}
