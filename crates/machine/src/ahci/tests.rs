//! Drivers, sound and hostile, against the controller: registers, frames and regions as a guest writes them.

use std::io;
use std::sync::{Arc, Mutex};

use linux::memory::{GuestAddress, GuestBytes, GuestMemory, GuestRam, PageKind, RamSpec, VolatileSlice};

use super::Controller;
use super::drive::BLOCK;
use crate::interrupt::InterruptLine;
use crate::storage::Storage;

const RAM: u64 = 0x10_0000;
const LIST: u64 = 0x1000;
const FRAMES: u64 = 0x2000;
const TABLE: u64 = 0x3000;
const DATA: u64 = 0x8000;

// Registers of port 0.
const GHC: u64 = 0x04;
const PORT: u64 = 0x100;
const IS: u64 = PORT + 0x10;
const IE: u64 = PORT + 0x14;
const CMD: u64 = PORT + 0x18;
const TFD: u64 = PORT + 0x20;
const SIG: u64 = PORT + 0x24;
const SSTS: u64 = PORT + 0x28;
const SCTL: u64 = PORT + 0x2c;
const SERR: u64 = PORT + 0x30;
const CI: u64 = PORT + 0x38;

/// A disc whose every byte is its block's number.
struct Disc(u64);

impl Storage for Disc {
    fn len(&self) -> u64 {
        self.0 * BLOCK
    }

    fn read_at(&self, offset: u64, parts: &[VolatileSlice<'_>]) -> io::Result<()> {
        let mut at = offset;
        for part in parts {
            let bytes: Vec<u8> = (at..at + part.len() as u64).map(|at| (at / BLOCK) as u8).collect();
            part.copy_from(&bytes);
            at += part.len() as u64;
        }
        if offset / BLOCK == 7 { Err(io::ErrorKind::InvalidData.into()) } else { Ok(()) }
    }

    fn write_at(&self, _offset: u64, _parts: &[VolatileSlice<'_>]) -> io::Result<()> {
        panic!("a disc is only read")
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn discard(&self, _offset: u64, _len: u64) -> io::Result<()> {
        panic!("a disc is only read")
    }
}

#[derive(Clone, Default)]
struct Line(Arc<Mutex<bool>>);

impl InterruptLine for Line {
    fn set(&self, high: bool) {
        *self.0.lock().unwrap() = high;
    }
}

struct Driver {
    controller: Arc<Controller>,
    memory: Arc<GuestMemory>,
    line: Line,
    _ram: GuestRam,
}

impl Driver {
    /// A driver that has found the drive and runs its port.
    fn new() -> Self {
        let spec = RamSpec { blocks: vec![0..RAM], pages: PageKind::Small, shared: false, prefault: false };
        let ram = GuestRam::allocate(&spec).unwrap();
        let memory = Arc::new(ram.view().clone());
        let line = Line::default();
        let bell = Arc::new(linux::event::new_event().unwrap());
        let controller =
            super::controller(vec![Box::new(Disc(1000))], Arc::clone(&memory), Box::new(line.clone()), bell);
        let driver = Self { controller, memory, line, _ram: ram };
        driver.controller.set_master(true);
        driver.set(GHC, 0x8000_0002);
        driver.run_port();
        driver
    }

    fn run_port(&self) {
        for (register, value) in
            [(PORT, LIST as u32), (PORT + 8, FRAMES as u32), (SERR, u32::MAX), (IE, u32::MAX), (CMD, 0x11)]
        {
            self.set(register, value);
        }
    }

    fn get(&self, register: u64) -> u32 {
        self.controller.read(register)
    }

    fn set(&self, register: u64, value: u32) {
        self.controller.write(register, value);
    }

    fn put(&self, at: u64, bytes: &[u8]) {
        self.memory.write_slice(bytes, GuestAddress(at)).unwrap();
    }

    fn bytes<const N: usize>(&self, at: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.memory.read_slice(&mut bytes, GuestAddress(at)).unwrap();
        bytes
    }

    /// Writes command 0: a frame, a packet, regions of (address, bytes).
    fn prepare(&self, frame: &[u8], packet: &[u8], regions: &[(u64, u32)]) {
        let flags = 5_u16 | if packet.is_empty() { 0 } else { 1 << 5 };
        let mut header = [flags.to_le_bytes(), (regions.len() as u16).to_le_bytes()].concat();
        header.extend([0; 4]);
        header.extend(TABLE.to_le_bytes());
        self.put(LIST, &header);
        self.put(TABLE, &[0; 0x80]);
        self.put(TABLE, frame);
        self.put(TABLE + 0x40, packet);
        for (number, (address, bytes)) in (0..).zip(regions) {
            self.put(TABLE + 0x80 + number * 16, &address.to_le_bytes());
            self.put(TABLE + 0x80 + number * 16 + 12, &(bytes.wrapping_sub(1) | 1 << 31).to_le_bytes());
        }
    }

    /// Issues command 0 and lets it be served; gives status and error.
    fn issue(&self) -> (u8, u8) {
        self.set(CI, 1);
        while self.controller.serve() {}
        let [status, error, ..] = self.get(TFD).to_le_bytes();
        (status, error)
    }

    fn packet(&self, packet: &[u8], regions: &[(u64, u32)]) -> (u8, u8) {
        self.prepare(&[0x27, 0x80, 0xa0, 1], packet, regions);
        self.issue()
    }

    fn moved(&self) -> u32 {
        u32::from_le_bytes(self.bytes(LIST + 4))
    }
}

const GOOD: (u8, u8) = (0x50, 0);

#[test]
fn the_drive_is_found_by_its_signature_and_says_what_it_is() {
    let driver = Driver::new();
    assert_eq!((driver.get(SSTS), driver.get(SIG), driver.get(0x0c)), (0x123, 0xeb14_0101, 1));
    assert_eq!(driver.bytes::<3>(FRAMES + 0x40), [0x34, 0x40, 0], "its first frame, once it can be received");
    driver.prepare(&[0x27, 0x80, 0xa1], &[], &[(DATA, 512)]);
    assert_eq!(driver.issue(), GOOD);
    assert_eq!((driver.bytes(DATA), driver.moved()), ([0xc0, 0x85], 512));
    assert_eq!(&driver.bytes::<8>(DATA + 54), b"lAol dDC", "letters in pairs");
    // Announced data, and an interrupt that is let go by its two registers.
    assert_eq!(driver.bytes::<3>(FRAMES + 0x20), [0x5f, 0x60, 0x58]);
    assert_eq!(driver.get(IS) & 0x22, 0x22);
    assert!(*driver.line.0.lock().unwrap());
    driver.set(IS, u32::MAX);
    driver.set(0x08, 1);
    assert!(!*driver.line.0.lock().unwrap());
}

#[test]
fn blocks_are_read_into_all_regions_in_order() {
    let driver = Driver::new();
    for packet in [&[0x28, 0, 0, 0, 0, 3, 0, 0, 2, 0, 0, 0], &[0xa8, 0, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0]] {
        driver.put(DATA, &[0xee; 0x2000]);
        assert_eq!(driver.packet(packet, &[(DATA + 0x1000, 1024), (DATA, 3072)]), GOOD);
        assert_eq!(driver.bytes::<2>(DATA + 0x1000 + 1022), [3, 3]);
        assert_eq!(driver.bytes::<2>(DATA + 1022), [3, 3]);
        assert_eq!(driver.bytes::<3>(DATA + 3070), [4, 4, 0xee]);
        assert_eq!((driver.moved(), driver.get(CI)), (4096, 0));
    }
    // Room for less than was asked for: that much, and no further.
    driver.put(DATA, &[0xee; 0x2000]);
    assert_eq!(driver.packet(&[0x28, 0, 0, 0, 0, 1, 0, 0, 2, 0, 0, 0], &[(DATA, 100)]), GOOD);
    assert_eq!((driver.bytes(DATA + 99), driver.moved()), ([1, 0xee], 100));
}

#[test]
fn packets_that_fail_say_why_and_stop_the_port_until_it_is_started_anew() {
    let driver = Driver::new();
    for (packet, sense) in [
        ([0x28, 0, 0, 0, 3, 0xe8, 0, 0, 1, 0, 0, 0], [5, 0x21, 0]),
        ([0x28, 0, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0, 0, 0], [5, 0x21, 0]),
        ([0x28, 0, 0, 0, 0, 7, 0, 0, 1, 0, 0, 0], [3, 0x11, 0]),
        ([0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0], [5, 0x20, 0]),
        ([0x5a, 0, 0x05, 0, 0, 0, 0, 0, 64, 0, 0, 0], [5, 0x24, 0]),
        ([0x43, 0, 5, 0, 0, 0, 0, 0, 64, 0, 0, 0], [5, 0x24, 0]),
    ] {
        assert_eq!(driver.packet(&packet, &[(DATA, 4096)]), (0x51, sense[0] << 4 | 4), "{packet:x?}");
        assert_eq!((driver.get(IS) >> 30 & 1, driver.get(CI)), (1, 1), "{packet:x?}");
        driver.set(CMD, 0x10);
        assert_eq!(driver.get(CMD) & 0x8001, 0);
        driver.set(CMD, 0x11);
        driver.set(IS, u32::MAX);
        assert_eq!(driver.packet(&[3, 0, 0, 0, 18, 0, 0, 0, 0, 0, 0, 0], &[(DATA, 18)]), GOOD);
        let [.., key, _, _, _, _, _, _, _, _, _, code, qualifier, _, _, _, _]: [u8; 18] = driver.bytes(DATA);
        assert_eq!([key, code, qualifier], sense, "{packet:x?}");
    }
}

#[test]
fn what_the_drive_tells_is_cut_to_what_was_asked_for() {
    let driver = Driver::new();
    for (packet, bytes) in [
        (vec![0x12, 0, 0, 0, 36], vec![5, 0x80, 5, 0x32, 31]),
        (vec![0x25], vec![0, 0, 3, 0xe7, 0, 0, 8, 0]),
        (
            vec![0x43, 0, 0, 0, 0, 0, 0, 0, 20],
            vec![0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0, 0, 0x14, 0xaa, 0, 0, 0, 3, 0xe8],
        ),
        (vec![0x43, 2, 0, 0, 0, 0, 0xaa, 0, 12], vec![0, 10, 1, 1, 0, 0x14, 0xaa, 0, 0, 0, 15, 25]),
        (vec![0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8], vec![0, 6, 4, 0x10, 0, 2, 0, 0]),
        (vec![0x46, 2, 0, 0, 0, 0, 0, 0, 16], vec![0, 0, 0, 16, 0, 0, 0, 8, 0, 0, 3, 8, 0, 0x10, 0, 0]),
        (vec![0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 12], vec![0, 28, 0, 0, 0, 0, 0, 0, 0x2a, 20, 0x3b, 0]),
    ] {
        driver.put(DATA, &[0xee; 64]);
        let mut whole = packet.clone();
        whole.resize(12, 0);
        assert_eq!(driver.packet(&whole, &[(DATA, 4096)]), GOOD, "{packet:x?}");
        assert_eq!(driver.bytes::<64>(DATA)[..bytes.len()], bytes, "{packet:x?}");
        assert_eq!(driver.bytes::<64>(DATA)[driver.moved() as usize], 0xee, "{packet:x?}");
    }
}

#[test]
fn a_tray_opens_unless_it_is_locked_and_its_disc_is_away_until_it_closes() {
    let driver = Driver::new();
    let does = |bytes: [u8; 5]| {
        let [a, b, c, d, e] = bytes;
        let went = driver.packet(&[a, b, c, d, e, 0, 0, 0, 8, 0, 0, 0], &[(DATA, 64)]);
        driver.set(CMD, 0x10);
        driver.set(CMD, 0x11);
        went == GOOD
    };
    let (lock, unlock, open, close) =
        ([0x1e, 0, 0, 0, 1], [0x1e, 0, 0, 0, 0], [0x1b, 0, 0, 0, 2], [0x1b, 0, 0, 0, 3]);
    assert!(does(lock) && !does(open) && does([0; 5]));
    assert!(does(unlock) && does(open) && !does([0; 5]) && !does([0x25, 0, 0, 0, 0]));
    assert!(does([0x4a, 1, 0, 0, 0x10]));
    assert_eq!(driver.bytes(DATA + 4), [3, 1]);
    assert!(does(close) && does([0; 5]) && does([0x4a, 1, 0, 0, 0x10]));
    assert_eq!(driver.bytes(DATA + 4), [2, 2]);
}

#[test]
fn resets_of_three_kinds_bring_the_signature_back() {
    let driver = Driver::new();
    let changed = |driver: &Driver| driver.get(IS) & 1 << 6 != 0;
    // Of the device, by its control register: begun by one frame, ended by another.
    driver.prepare(&[0x27, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4], &[], &[]);
    driver.issue();
    driver.prepare(&[0x27, 0], &[], &[]);
    assert_eq!((driver.issue(), driver.get(CI)), ((0, 1), 0));
    // Of the line.
    driver.set(SERR, u32::MAX);
    assert!(!changed(&driver));
    driver.set(CMD, 0x10);
    driver.set(SCTL, 1);
    assert_eq!((driver.get(SSTS), driver.get(TFD) & 0xff), (0, 0x7f));
    driver.set(SCTL, 0);
    assert_eq!((driver.get(SSTS), driver.get(TFD)), (0x123, 0x100));
    assert!(changed(&driver));
    // Of the controller.
    driver.set(CMD, 0x11);
    driver.set(GHC, 0x8000_0001);
    assert_eq!((driver.get(GHC), driver.get(CMD) & 0xc011, driver.get(IE)), (0x8000_0000, 0, 0));
    driver.run_port();
    assert_eq!(driver.packet(&[0; 12], &[]), GOOD);
}

#[test]
fn a_port_that_does_not_run_and_a_function_that_is_no_master_do_nothing() {
    let driver = Driver::new();
    driver.prepare(&[0x27, 0x80, 0xa1], &[], &[(DATA, 512)]);
    driver.set(CMD, 0x10);
    driver.set(CI, 1);
    assert_eq!(driver.get(CI), 0);
    driver.set(CMD, 0x11);
    driver.controller.set_master(false);
    assert_eq!(driver.issue(), (0, 1));
    assert_eq!((driver.bytes(DATA), driver.get(CI)), ([0, 0], 1));
    driver.controller.set_master(true);
    while driver.controller.serve() {}
    assert_eq!(driver.bytes(DATA), [0xc0, 0x85]);
}

#[test]
fn structures_outside_of_ram_are_a_bus_error_and_nothing_more() {
    let read = [0x28, 0, 0, 0, 0, 1, 0, 0, 4, 0, 0, 0];
    for (list, table, region) in [
        (RAM - 16, TABLE, DATA),
        (u64::MAX - 0x3ff, TABLE, DATA),
        (LIST, RAM, DATA),
        (LIST, !0x7f, DATA),
        (LIST, RAM - 0x80, DATA),
        (LIST, TABLE, RAM - 512),
        (LIST, TABLE, !1),
    ] {
        let driver = Driver::new();
        driver.prepare(&[0x27, 0x80, 0xa0, 1], &read, &[(region, 8192)]);
        driver.put(LIST + 8, &table.to_le_bytes());
        driver.set(PORT, list as u32);
        driver.set(PORT + 4, (list >> 32) as u32);
        driver.issue();
        // The first one is cut to a list's alignment, and is an empty command there.
        let failed = driver.get(IS) >> 29 & 3;
        assert_ne!(failed, 0, "{list:#x} {table:#x} {region:#x}");
        assert!(!driver.controller.serve());
        // Frames that are received nowhere.
        driver.set(PORT + 8, 0xffff_ff00);
        driver.set(PORT + 0xc, u32::MAX);
        driver.set(CMD, 0x10);
        driver.set(PORT, LIST as u32);
        driver.set(PORT + 4, 0);
        driver.prepare(&[0x27, 0x80, 0xa0, 1], &[0; 12], &[]);
        driver.set(CMD, 0x11);
        assert_eq!(driver.issue(), GOOD);
    }
}

#[test]
fn no_register_access_is_too_much_for_it() {
    let driver = Driver::new();
    for value in [u32::MAX, 0, 0x1111_1111, 0x8000_0003] {
        for register in (0..0x1000).step_by(4) {
            driver.set(register, value);
            driver.get(register);
            while driver.controller.serve() {}
        }
    }
}
