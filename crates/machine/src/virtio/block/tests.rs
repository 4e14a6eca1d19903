//! Requests against a disk in memory: what moves, what is refused, and what a failing host looks like.

use std::io;
use std::sync::{Arc, Mutex};

use linux::memory::{GuestBytes, VolatileSlice};

use super::{Block, NAME_BYTES, SECTOR, feature};
use crate::storage::Storage;
use crate::virtio::testing::{Driver, Piece};
use crate::virtio::{Broken, VirtioDevice};

const SECTORS: u64 = 8;

/// A disk in memory that counts flushes, and fails when told.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<State>>);

struct State {
    bytes: Vec<u8>,
    flushes: usize,
    fails: bool,
}

impl Default for State {
    fn default() -> Self {
        let bytes = (0..SECTORS).flat_map(|sector| [sector as u8; SECTOR as usize]).collect();
        Self { bytes, flushes: 0, fails: false }
    }
}

impl Memory {
    fn act(&self, act: impl FnOnce(&mut State)) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        if state.fails {
            return Err(io::ErrorKind::StorageFull.into());
        }
        act(&mut state);
        Ok(())
    }

    fn byte(&self, at: usize) -> u8 {
        self.0.lock().unwrap().bytes[at]
    }
}

impl Storage for Memory {
    fn len(&self) -> u64 {
        self.0.lock().unwrap().bytes.len() as u64
    }

    fn read_at(&self, offset: u64, parts: &[VolatileSlice<'_>]) -> io::Result<()> {
        self.act(|state| {
            let mut at = offset as usize;
            for part in parts {
                part.copy_from(&state.bytes[at..at + part.len()]);
                at += part.len();
            }
        })
    }

    fn write_at(&self, offset: u64, parts: &[VolatileSlice<'_>]) -> io::Result<()> {
        self.act(|state| {
            let mut at = offset as usize;
            for part in parts {
                part.read_slice(&mut state.bytes[at..at + part.len()], 0).unwrap();
                at += part.len();
            }
        })
    }

    fn flush(&self) -> io::Result<()> {
        self.act(|state| state.flushes += 1)
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.act(|state| state.bytes[offset as usize..(offset + len) as usize].fill(0))
    }
}

const HEADER: u64 = 0x1_0000;
const DATA: u64 = 0x2_0000;
const STATUS: u64 = 0x1_0100;
const UNTOUCHED: u8 = 0xee;

fn header(kind: u32, sector: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&kind.to_le_bytes());
    bytes[8..].copy_from_slice(&sector.to_le_bytes());
    bytes
}

fn disk(memory: &Memory, read_only: bool) -> Block {
    let mut disk =
        Block::new("a-name-longer-than-twenty-bytes".to_owned(), Box::new(memory.clone()), read_only);
    disk.accept(feature::FLUSH);
    disk
}

/// Sends a request with these pieces between header and status; gives the status byte and the bytes written.
fn send(disk: &mut Block, driver: &Driver, head: [u8; 16], data: &[Piece]) -> (u8, u32) {
    driver.write(HEADER, &head);
    driver.write(STATUS, &[UNTOUCHED]);
    let mut pieces = vec![Piece::readable(HEADER, 16)];
    pieces.extend_from_slice(data);
    pieces.push(Piece::writable(STATUS, 1));
    let written = driver.with_request(&pieces, |request| disk.answer(0, request)).unwrap();
    (driver.byte(STATUS), written)
}

#[test]
fn each_request_is_done_or_refused_by_its_kind_place_and_size() {
    let (into, from) = (|len| Piece::writable(DATA, len), |len| Piece::readable(DATA, len));
    let rows = [
        ("read", false, header(0, 3), vec![into(512)], (0, 513)),
        ("read all", false, header(0, 0), vec![into(4096)], (0, 4097)),
        ("read nothing", false, header(0, 8), vec![], (0, 1)),
        ("read in pieces", false, header(0, 1), vec![into(100), Piece::writable(DATA + 100, 412)], (0, 513)),
        ("read half a sector", false, header(0, 0), vec![into(256)], (1, 1)),
        ("read past the end", false, header(0, 7), vec![into(1024)], (1, 1)),
        ("read from nowhere", false, header(0, u64::MAX), vec![into(512)], (1, 1)),
        ("write", false, header(1, 2), vec![from(512)], (0, 1)),
        ("write past the end", false, header(1, 8), vec![from(512)], (1, 1)),
        ("write what is read only", true, header(1, 2), vec![from(512)], (1, 1)),
        ("read what is read only", true, header(0, 2), vec![into(512)], (0, 513)),
        ("flush", false, header(4, 0), vec![], (0, 1)),
        ("identify", false, header(8, 0), vec![into(20)], (0, 21)),
        ("identify into too little", false, header(8, 0), vec![into(19)], (1, 1)),
        ("unknown", false, header(13, 0), vec![from(16)], (2, 1)),
        ("no kind at all", false, header(u32::MAX, 0), vec![], (2, 1)),
    ];
    for (name, read_only, head, data, expected) in rows {
        let driver = Driver::new();
        let mut disk = disk(&Memory::default(), read_only);
        assert_eq!(send(&mut disk, &driver, head, &data), expected, "{name}");
    }
}

#[test]
fn bytes_go_to_the_place_they_are_for() {
    let (memory, driver) = (Memory::default(), Driver::new());
    let mut disk = disk(&memory, false);
    send(&mut disk, &driver, header(0, 3), &[Piece::writable(DATA, 1024)]);
    assert_eq!([driver.byte(DATA), driver.byte(DATA + 511), driver.byte(DATA + 512)], [3, 3, 4]);
    driver.write(DATA, &[0x55; 512]);
    send(&mut disk, &driver, header(1, 5), &[Piece::readable(DATA, 12), Piece::readable(DATA + 12, 500)]);
    assert_eq!(
        [memory.byte(2559), memory.byte(2560), memory.byte(3071), memory.byte(3072)],
        [4, 0x55, 0x55, 6]
    );
    send(&mut disk, &driver, header(8, 0), &[Piece::writable(DATA, 64)]);
    let mut name = [0; NAME_BYTES];
    driver.ram.read_slice(&mut name, linux::memory::GuestAddress(DATA)).unwrap();
    assert_eq!(&name, b"a-name-longer-than-t");
}

#[test]
fn ranges_are_discarded_when_all_of_them_make_sense() {
    let range = |sector: u64, count: u32, flags: u32| {
        [&sector.to_le_bytes()[..], &count.to_le_bytes(), &flags.to_le_bytes()].concat()
    };
    for (ranges, status, zeroed) in [
        (vec![range(2, 1, 0), range(4, 2, 0)], 0, vec![2, 4, 5]),
        (vec![range(0, 0, 0)], 0, vec![]),
        (vec![range(2, 1, 0), range(7, 2, 0)], 1, vec![]),
        (vec![range(u64::MAX, 1, 0)], 1, vec![]),
        (vec![range(2, 1, 1)], 2, vec![]),
        (vec![], 1, vec![]),
        (vec![range(0, 1, 0); 17], 1, vec![]),
    ] {
        let (memory, driver) = (Memory::default(), Driver::new());
        let bytes = ranges.concat();
        driver.write(DATA, &bytes);
        let data = [Piece::readable(DATA, bytes.len() as u32)];
        assert_eq!(send(&mut disk(&memory, false), &driver, header(11, 0), &data), (status, 1), "{ranges:?}");
        for sector in 1..SECTORS {
            let byte = memory.byte((sector * SECTOR) as usize);
            assert_eq!(byte == 0, zeroed.contains(&sector), "{ranges:?} {sector}");
        }
    }
}

#[test]
fn writes_last_at_once_when_the_driver_knows_no_flush() {
    for (features, flushes) in [(feature::FLUSH, 0), (0, 1)] {
        let (memory, driver) = (Memory::default(), Driver::new());
        let mut disk = disk(&memory, false);
        disk.accept(features);
        send(&mut disk, &driver, header(1, 0), &[Piece::readable(DATA, 512)]);
        assert_eq!(memory.0.lock().unwrap().flushes, flushes);
    }
}

#[test]
fn a_host_that_fails_is_an_error_to_the_guest_and_tells_of_no_data() {
    let (memory, driver) = (Memory::default(), Driver::new());
    memory.0.lock().unwrap().fails = true;
    let mut disk = disk(&memory, false);
    for (kind, data) in [
        (0, vec![Piece::writable(DATA, 512)]),
        (1, vec![Piece::readable(DATA, 512)]),
        (4, vec![]),
        (11, vec![Piece::readable(DATA, 16)]),
    ] {
        driver.write(DATA, &[1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(send(&mut disk, &driver, header(kind, 0), &data), (1, 1), "{kind}");
    }
}

#[test]
fn requests_without_header_or_status_break_the_device() {
    for pieces in [
        vec![Piece::readable(HEADER, 16)],
        vec![Piece::readable(HEADER, 15), Piece::writable(STATUS, 1)],
        vec![Piece::writable(STATUS, 1)],
    ] {
        let driver = Driver::new();
        let mut disk = disk(&Memory::default(), false);
        let result = driver.with_request(&pieces, |request| disk.answer(0, request));
        assert_eq!(result, Err(Broken::Request), "{pieces:?}");
    }
}
