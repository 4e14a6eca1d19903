//! Drivers, sound and hostile, against the controller: registers, queues and page lists as a guest writes them.

use std::io;
use std::sync::{Arc, Mutex};

use linux::memory::{GuestAddress, GuestBytes, GuestMemory, GuestRam, PageKind, RamSpec, VolatileSlice};

use super::{Controller, NvmeDisk};
use crate::messages::Triggers;
use crate::storage::Storage;

const RAM: u64 = 0x40_0000;
const ADMIN: (u64, u64) = (0x1000, 0x2000);
const IO: (u64, u64) = (0x3000, 0x4000);
const DATA: u64 = 0x10_0000;
const LIST: u64 = 0x8000;
const ENTRIES: u16 = 8;
const BLOCKS: u64 = 8192;

/// What was done to the disk last.
#[derive(Default)]
struct Deeds {
    bytes: Vec<u8>,
    flushes: u32,
    discarded: Vec<(u64, u64)>,
    fails: bool,
    /// What happens while the first range is given back.
    meanwhile: Option<Box<dyn FnOnce() + Send>>,
}

struct Memory(Arc<Mutex<Deeds>>);

impl Memory {
    fn act(&self, act: impl FnOnce(&mut Deeds)) -> io::Result<()> {
        let mut deeds = self.0.lock().unwrap();
        if deeds.fails {
            return Err(io::ErrorKind::StorageFull.into());
        }
        act(&mut deeds);
        Ok(())
    }
}

impl Storage for Memory {
    fn len(&self) -> u64 {
        BLOCKS * 512
    }

    fn read_at(&self, offset: u64, parts: &[VolatileSlice<'_>]) -> io::Result<()> {
        self.act(|deeds| {
            let mut at = offset as usize;
            for part in parts {
                part.copy_from(&deeds.bytes[at..at + part.len()]);
                at += part.len();
            }
        })
    }

    fn write_at(&self, offset: u64, parts: &[VolatileSlice<'_>]) -> io::Result<()> {
        self.act(|deeds| {
            let mut at = offset as usize;
            for part in parts {
                part.copy_to(&mut deeds.bytes[at..at + part.len()]);
                at += part.len();
            }
        })
    }

    fn flush(&self) -> io::Result<()> {
        self.act(|deeds| deeds.flushes += 1)
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.act(|deeds| {
            deeds.discarded.push((offset, len));
            if let Some(meanwhile) = deeds.meanwhile.take() {
                meanwhile();
            }
        })
    }
}

struct Driver {
    controller: Arc<Controller>,
    memory: Arc<GuestMemory>,
    triggers: Triggers,
    deeds: Arc<Mutex<Deeds>>,
    // Of the admin queue and the other: commands so far.
    sent: [u16; 2],
    _ram: GuestRam,
}

impl Driver {
    fn new(read_only: bool) -> Self {
        let spec = RamSpec { blocks: vec![0..RAM], pages: PageKind::Small, shared: false, prefault: false };
        let ram = GuestRam::allocate(&spec).unwrap();
        let memory = Arc::new(ram.view().clone());
        let deeds = Arc::new(Mutex::new(Deeds {
            bytes: (0..BLOCKS * 512).map(|at| (at / 512) as u8).collect(),
            ..Deeds::default()
        }));
        let triggers = Triggers::default();
        let storage = Box::new(Memory(Arc::clone(&deeds)));
        let disk = NvmeDisk { name: "disk0".to_owned(), number: 2, storage, read_only };
        let bell = Arc::new(linux::event::new_event().unwrap());
        let controller = super::controller(disk, Arc::clone(&memory), triggers.clone(), bell);
        controller.set_master(true);
        Self { controller, memory, triggers, deeds, sent: [0; 2], _ram: ram }
    }

    /// A driver that has enabled the controller and made a pair of queues.
    fn at_work() -> Self {
        let mut driver = Self::new(false);
        driver.enable();
        assert_eq!(driver.admin(5, &[(6, IO.1 as u32), (10, 7 << 16 | 1), (11, 1 << 16 | 3)]), 0);
        assert_eq!(driver.admin(1, &[(6, IO.0 as u32), (10, 7 << 16 | 1), (11, 1 << 16 | 1)]), 0);
        driver
    }

    fn enable(&mut self) {
        self.sent = [0; 2];
        for (register, value) in [
            (0x14, 0),
            (0x24, 0x0007_0007),
            (0x28, ADMIN.0 as u32),
            (0x30, ADMIN.1 as u32),
            (0x14, 0x0046_0001),
        ] {
            self.controller.write(register, value);
        }
        self.put(ADMIN.1, &[0; 128]);
        self.put(IO.1, &[0; 128]);
        assert_eq!(self.controller.read(0x1c), 1, "ready");
    }

    fn put(&self, at: u64, bytes: &[u8]) {
        self.memory.write_slice(bytes, GuestAddress(at)).unwrap();
    }

    fn get<const N: usize>(&self, at: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.memory.read_slice(&mut bytes, GuestAddress(at)).unwrap();
        bytes
    }

    /// Sends a command of these words to queue 0 or 1 and gives its status.
    fn send(&mut self, queue: usize, opcode: u8, words: &[(usize, u32)]) -> u16 {
        let (submissions, completions) = [ADMIN, IO][queue];
        let number = self.sent[queue];
        let slot = u64::from(number % ENTRIES);
        let mut command = [0_u8; 64];
        command[0] = opcode;
        command[2..4].copy_from_slice(&number.to_le_bytes());
        for (word, value) in words {
            command[word * 4..word * 4 + 4].copy_from_slice(&value.to_le_bytes());
        }
        self.put(submissions + slot * 64, &command);
        self.sent[queue] += 1;
        let tail = u32::from(self.sent[queue] % ENTRIES);
        self.controller.write(0x1000 + 8 * queue as u64, tail);
        while self.controller.serve() {}
        let answer: [u8; 16] = self.get(completions + slot * 16);
        let [.., id_low, id_high, status_low, status_high] = answer;
        let status = u16::from_le_bytes([status_low, status_high]);
        assert_eq!(u16::from_le_bytes([id_low, id_high]), number, "whose answer");
        assert_eq!(status & 1, u16::from((number / ENTRIES).is_multiple_of(2)), "phase");
        self.controller.write(0x1004 + 8 * queue as u64, tail);
        status >> 1 & 0x7ff
    }

    fn admin(&mut self, opcode: u8, words: &[(usize, u32)]) -> u16 {
        self.send(0, opcode, words)
    }

    fn result(&self) -> u32 {
        let slot = u64::from((self.sent[0] - 1) % ENTRIES);
        u32::from_le_bytes(self.get(ADMIN.1 + slot * 16))
    }

    /// A transfer of `blocks` from `first` on, by these two page entries.
    fn transfer(&mut self, opcode: u8, (first, blocks): (u32, u32), pages: (u64, u64)) -> u16 {
        let low_high = |at, value: u64| [(at, value as u32), (at + 1, (value >> 32) as u32)];
        let mut words = vec![(1, 1), (10, first), (12, blocks.wrapping_sub(1))];
        words.extend(low_high(6, pages.0));
        words.extend(low_high(8, pages.1));
        self.send(1, opcode, &words)
    }
}

#[test]
fn a_driver_learns_what_the_disk_is() {
    let mut driver = Driver::new(false);
    assert_eq!((driver.controller.read(0) & 0x1_ffff, driver.controller.read(4)), (0x1_00ff, 0x20));
    driver.enable();
    let data = [(6, DATA as u32), (1, 1)];
    assert_eq!(driver.admin(6, &[data[0], (10, 1)]), 0);
    assert_eq!(&driver.get::<6>(DATA + 4), b"disk0 ");
    assert_eq!(
        (driver.get(DATA + 512), driver.get(DATA + 516), driver.get(DATA + 525)),
        ([0x66, 0x44], [1], [7])
    );
    assert_eq!(driver.admin(6, &[data[0], data[1]]), 0);
    assert_eq!((driver.get(DATA), driver.get(DATA + 130)), (BLOCKS.to_le_bytes(), [9]));
    assert_eq!(driver.admin(6, &[data[0], (10, 2)]), 0);
    assert_eq!(driver.get(DATA), [1, 0, 0, 0, 0]);
    assert_eq!(driver.admin(6, &[data[0], data[1], (10, 3)]), 0);
    assert_eq!(driver.get(DATA), [1, 8, 0, 0, 0x52]);
    for log in 1..=3 {
        assert_eq!(driver.admin(2, &[data[0], (10, 127 << 16 | log)]), 0);
    }
    assert_eq!(driver.get(DATA), [1]);
    // Queues that it has, and a cache that can be switched off.
    assert_eq!((driver.admin(9, &[(10, 7), (11, 0xffff_ffff)]), driver.result()), (0, 0x0007_0007));
    assert_eq!((driver.admin(10, &[(10, 6)]), driver.result()), (0, 1));
    assert_eq!((driver.admin(9, &[(10, 6)]), driver.admin(10, &[(10, 6)]), driver.result()), (0, 0, 0));
}

#[test]
fn blocks_go_by_one_page_by_two_and_by_lists_of_them() {
    let mut driver = Driver::at_work();
    // Inside a page, and over its end into the second entry.
    assert_eq!(driver.transfer(2, (3, 1), (DATA + 512, 0)), 0);
    assert_eq!(driver.get(DATA + 511), [0, 3, 3]);
    assert_eq!(driver.transfer(2, (5, 8), (DATA + 3584, DATA + 0x9000)), 0);
    assert_eq!(
        (driver.get(DATA + 3584), driver.get(DATA + 0x9000), driver.get(DATA + 0x9000 + 3583)),
        ([5], [6], [12, 0])
    );
    // A list that begins just before a page's end, and goes on in another.
    driver.put(LIST + 0xff0, &(DATA + 0x2_0000).to_le_bytes());
    driver.put(LIST + 0xff8, &(LIST + 0x1000).to_le_bytes());
    for page in 0..3 {
        driver.put(LIST + 0x1000 + page * 8, &(DATA + 0x3_0000 + page * 0x2000).to_le_bytes());
    }
    assert_eq!(driver.transfer(2, (16, 40), (DATA + 0x1_0000, LIST + 0xff0)), 0);
    for (at, block) in [(0x1_0000, 16), (0x2_0000, 24), (0x3_0000, 32), (0x3_2000, 40), (0x3_4fff, 55)] {
        assert_eq!(driver.get(DATA + at), [block], "{at:#x}");
    }
    // And back: what is written lasts when it is said so.
    driver.put(DATA, &[0xab; 512]);
    assert_eq!(driver.transfer(1, (100, 1), (DATA, 0)), 0);
    let deeds = {
        let deeds = driver.deeds.lock().unwrap();
        (deeds.bytes[100 * 512], deeds.flushes)
    };
    assert_eq!(deeds, (0xab, 0));
    assert_eq!(driver.transfer(1, (100, 1 | 1 << 30), (DATA, 0)), 0);
    assert_eq!(driver.send(1, 0, &[(1, u32::MAX)]), 0);
    assert_eq!(driver.deeds.lock().unwrap().flushes, 2);
    assert!(driver.triggers.is_pending(1) && driver.triggers.is_pending(0));
    // Zeros, and ranges given back.
    assert_eq!(driver.transfer(8, (90, 20), (0, 0)), 0);
    assert_eq!(driver.deeds.lock().unwrap().bytes[100 * 512], 0);
    driver.put(DATA, &[[0, 0, 0, 0, 8, 0, 0, 0], 64_u64.to_le_bytes()].concat());
    assert_eq!(driver.send(1, 9, &[(1, 1), (6, DATA as u32), (11, 4)]), 0);
    assert_eq!(driver.deeds.lock().unwrap().discarded, [(64 * 512, 4096)]);
}

#[test]
fn commands_that_cannot_be_are_answered_with_their_reason() {
    let mut driver = Driver::at_work();
    for (transfer, status) in [
        ((2, (BLOCKS as u32 - 1, 2), (DATA, 0)), 0x80),
        ((2, (u32::MAX, 1), (DATA, 0)), 0x80),
        ((2, (0, 2049), (DATA, LIST)), 2),
        ((2, (0, 1), (RAM, 0)), 4),
        ((2, (0, 1), (u64::MAX - 100, 0)), 4),
        ((2, (0, 16), (DATA, u64::MAX - 4095)), 4),
        ((2, (0, 64), (DATA, RAM)), 4),
        // A list of nothing but zeros is memory at 0; one entry is in the middle of a page.
        ((2, (0, 64), (DATA, LIST + 0x2000)), 2),
        ((0x7f, (0, 1), (DATA, 0)), 1),
        ((5, (0, 1), (DATA, 0)), 1),
    ] {
        driver.put(LIST + 0x2000, &(DATA + 8).to_le_bytes());
        let (opcode, blocks, pages) = transfer;
        assert_eq!(driver.transfer(opcode, blocks, pages), status, "{transfer:x?}");
    }
    assert_eq!(driver.send(1, 2, &[(1, 2), (6, DATA as u32)]), 0xb, "no such namespace");
    let number = u32::from(driver.sent[1]);
    assert_eq!(
        driver.send(1, 2, &[(0, 0x4002 | number << 16), (1, 1), (6, DATA as u32)]),
        2,
        "a list of another kind"
    );
    driver.deeds.lock().unwrap().fails = true;
    for (opcode, status) in [(1, 0x280), (2, 0x281), (8, 0x280)] {
        assert_eq!(driver.transfer(opcode, (0, 1), (DATA, 0)), status);
    }
    assert_eq!(driver.send(1, 0, &[(1, 1)]), 0x280);
    for (opcode, words, status) in [
        (5, vec![(10, 7 << 16 | 1), (11, 1)], 0x101),
        (5, vec![(10, 7 << 16 | 9), (11, 1)], 0x101),
        (5, vec![(10, 7 << 16), (11, 1)], 0x101),
        (5, vec![(10, 2), (11, 1)], 0x102),
        (5, vec![(10, 256 << 16 | 2), (11, 1)], 0x102),
        (5, vec![(10, 0xffff << 16 | 2), (11, 1)], 0x102),
        (5, vec![(10, 7 << 16 | 2), (11, 0)], 2),
        (5, vec![(6, 8), (10, 7 << 16 | 2), (11, 1)], 2),
        (5, vec![(10, 7 << 16 | 2), (11, 9 << 16 | 3)], 0x108),
        (1, vec![(10, 7 << 16 | 2), (11, 5 << 16 | 1)], 0x100),
        (1, vec![(10, 7 << 16 | 2), (11, 1)], 0x100),
        (4, vec![(10, 1)], 0x10c),
        (4, vec![(10, 0)], 0x101),
        (4, vec![(10, 0xffff)], 0x101),
        (0, vec![(10, 0)], 0x101),
        (0, vec![(10, 3)], 0x101),
        (2, vec![(10, 0x70)], 0x109),
        (2, vec![(6, DATA as u32), (10, 2), (12, 8192)], 2),
        (9, vec![(10, 0x80)], 2),
        (6, vec![(1, 7)], 0xb),
        (6, vec![(10, 0x20)], 2),
        (0x80, vec![], 1),
    ] {
        assert_eq!(driver.admin(opcode, &words), status, "{opcode:#x} {words:x?}");
    }
    assert_eq!((driver.admin(0, &[(10, 1)]), driver.admin(4, &[(10, 1)])), (0, 0), "in their order");
}

#[test]
fn a_disk_that_is_only_read_takes_no_writes() {
    let mut driver = Driver::new(true);
    driver.enable();
    assert_eq!(driver.admin(5, &[(6, IO.1 as u32), (10, 7 << 16 | 1), (11, 1)]), 0);
    assert_eq!(driver.admin(1, &[(6, IO.0 as u32), (10, 7 << 16 | 1), (11, 1 << 16 | 1)]), 0);
    for opcode in [1, 8, 9] {
        assert_eq!(driver.transfer(opcode, (0, 1), (DATA, 0)), 0x20);
    }
    assert_eq!(driver.transfer(2, (0, 1), (DATA, 0)), 0);
}

#[test]
fn a_full_answer_queue_holds_commands_back() {
    let driver = Driver::at_work();
    // More commands than answers have room: the driver takes none of them.
    for slot in 0..8_u64 {
        driver.put(IO.0 + slot * 64, &[0, 0, slot as u8, 0, 1]);
    }
    driver.controller.write(0x1008, 7);
    while driver.controller.serve() {}
    driver.controller.write(0x1008, 3);
    while driver.controller.serve() {}
    assert_eq!(driver.get(IO.1 + 7 * 16 + 14), [0, 0], "the eighth place stays free");
    driver.controller.write(0x100c, 2);
    while driver.controller.serve() {}
    assert_eq!(driver.get::<2>(IO.1 + 7 * 16 + 14)[0] & 1, 1);
    assert_eq!(driver.deeds.lock().unwrap().flushes, 9);
}

#[test]
fn a_reset_forgets_queues_and_what_was_in_them() {
    let mut driver = Driver::at_work();
    driver.put(IO.0, &[0, 0, 0, 0, 1]);
    driver.controller.write(0x1008, 1);
    driver.controller.write(0x14, 0);
    assert!(!driver.controller.serve());
    assert_eq!((driver.controller.read(0x1c), driver.deeds.lock().unwrap().flushes), (0, 0));
    driver.enable();
    assert_eq!(driver.admin(0, &[(10, 1)]), 0x101, "no such queue any more");
    // Switched off in good order.
    driver.controller.write(0x14, 0x0046_4001);
    while driver.controller.serve() {}
    assert_eq!((driver.controller.read(0x1c), driver.deeds.lock().unwrap().flushes), (9, 1));
}

#[test]
fn what_it_cannot_go_on_from_is_told_and_ended_by_a_reset() {
    for (register, value) in [(0x24, 0), (0x28, 0xffff_f000), (0x14, 0x0046_0081)] {
        let mut driver = Driver::new(false);
        for (at, usual) in [(0x24, 0x0007_0007), (0x28, ADMIN.0 as u32), (0x30, ADMIN.1 as u32)] {
            driver.controller.write(at, if at == register { value } else { usual });
        }
        driver.controller.write(0x14, if register == 0x14 { value } else { 0x0046_0001 });
        driver.controller.write(0x1000, 1);
        while driver.controller.serve() {}
        assert_eq!(driver.controller.read(0x1c) & 2, 2, "{register:#x}");
        driver.enable();
    }
    // Answers that have no place.
    let driver = Driver::new(false);
    for (at, value) in
        [(0x24, 0x0007_0007), (0x28, ADMIN.0 as u32), (0x34, u32::MAX), (0x14, 0x0046_0001), (0x1000, 1)]
    {
        driver.controller.write(at, value);
    }
    while driver.controller.serve() {}
    assert_eq!(driver.controller.read(0x1c), 3);
}

#[test]
fn ranges_to_give_back_are_left_when_the_controller_is_switched_off() {
    let driver = Driver::at_work();
    let range = [&[0; 4][..], &8_u32.to_le_bytes(), &0_u64.to_le_bytes()].concat();
    driver.put(DATA, &range.repeat(256));
    let controller = Arc::clone(&driver.controller);
    driver.deeds.lock().unwrap().meanwhile = Some(Box::new(move || {
        let other = Arc::clone(&controller);
        // It waits for the command at hand, which is this one.
        std::thread::spawn(move || other.write(0x14, 0x0046_0000));
        while controller.read(0x14) & 1 != 0 {
            std::thread::yield_now();
        }
    }));
    let words: [(usize, u32); 5] = [(0, 9), (1, 1), (6, DATA as u32), (10, 255), (11, 4)];
    for (word, value) in words {
        driver.put(IO.0 + word as u64 * 4, &value.to_le_bytes());
    }
    driver.controller.write(0x1008, 1);
    driver.controller.serve();
    assert_eq!(driver.deeds.lock().unwrap().discarded.len(), 1);
}

#[test]
fn event_requests_wait_and_only_a_few_of_them() {
    let mut driver = Driver::new(false);
    driver.enable();
    for id in 0..4 {
        driver.put(ADMIN.0 + id * 64, &[0x0c, 0, id as u8, 0]);
    }
    driver.controller.write(0x1000, 4);
    while driver.controller.serve() {}
    assert_eq!(driver.get(ADMIN.1 + 14), [0, 0], "no answer");
    driver.put(ADMIN.0 + 4 * 64, &[0x0c, 0, 4, 0]);
    driver.controller.write(0x1000, 5);
    while driver.controller.serve() {}
    assert_eq!(u16::from_le_bytes(driver.get(ADMIN.1 + 14)) >> 1 & 0x7ff, 0x105);
}

#[test]
fn no_register_access_is_too_much_for_it() {
    let driver = Driver::at_work();
    for value in [u32::MAX, 0, 0x1111_1111, 1, 0x0046_0001, 7] {
        for register in (0..0x1100).step_by(4) {
            driver.controller.write(register, value);
            driver.controller.read(register);
            while driver.controller.serve() {}
        }
    }
}
