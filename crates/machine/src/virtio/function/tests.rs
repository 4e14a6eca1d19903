//! The function as a driver meets it: capabilities, interrupts by message and by pin, and a request from doorbell to
//! answer.

use std::sync::{Arc, Mutex};

use pci::capability::{standard_id, walk_standard};
use pci::{BarIndex, Change, Function};
use proptest::prelude::{ProptestConfig, any, proptest};
use proptest::test_runner::RngSeed;

use super::VirtioFunction;
use crate::interrupt::InterruptLine;
use crate::messages::Triggers;
use crate::virtio::request::Request;
use crate::virtio::testing::{Driver, PLACE, Piece};
use crate::virtio::{Broken, Engine, Interrupt, Kind, VirtioDevice};

const BAR: BarIndex = BarIndex::bar(0).unwrap();

/// A device with two queues and five bytes of configuration, which writes one byte into each request.
#[derive(Default)]
struct Echo {
    frugal: bool,
    rom: Option<Arc<[u8]>>,
}

impl VirtioDevice for Echo {
    fn kind(&self) -> Kind {
        Kind {
            name: "echo".to_owned(),
            id: 42,
            class: 0xff_0000,
            features: 0,
            queues: vec![16, 16],
            frugal: self.frugal,
            config: vec![1, 2, 3, 4, 5],
            rom: self.rom.clone(),
        }
    }

    fn answer(&mut self, queue: usize, request: Request<'_>) -> Result<u32, Broken> {
        Ok(request.writable.write(&[queue as u8 + 1]) as u32)
    }
}

#[derive(Clone, Default)]
struct Line(Arc<Mutex<bool>>);

impl InterruptLine for Line {
    fn set(&self, high: bool) {
        *self.0.lock().unwrap() = high;
    }
}

struct Bench {
    driver: Driver,
    function: VirtioFunction,
    engine: Arc<Engine>,
    triggers: Triggers,
    line: Line,
}

impl Bench {
    fn new() -> Self {
        Self::of(Echo::default())
    }

    fn of(device: Echo) -> Self {
        let driver = Driver::new();
        let (triggers, line) = (Triggers::default(), Line::default());
        let interrupt = Interrupt::new(triggers.clone(), Box::new(line.clone()));
        let bell = Arc::new(linux::event::new_event().unwrap());
        let engine = Arc::new(Engine::new(Box::new(device), Arc::clone(&driver.ram), interrupt, bell));
        let function = VirtioFunction::new(Arc::clone(&engine), triggers.clone()).unwrap();
        let mut bench = Self { driver, function, engine, triggers, line };
        bench.function.write_config(0x04, &0x0006_u16.to_le_bytes());
        bench
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Vec<Change> {
        self.function.write_bar(BAR, offset, data)
    }

    fn read<const N: usize>(&mut self, offset: u64) -> [u8; N] {
        let mut data = [0xaa; N];
        self.function.read_bar(BAR, offset, &mut data);
        data
    }

    fn status(&mut self) -> u8 {
        let [status] = self.read(0x14);
        status
    }

    /// Agrees on the version, places queue 0, and starts.
    fn start(&mut self) {
        self.write(0x08, &1_u32.to_le_bytes());
        self.write(0x0c, &1_u32.to_le_bytes());
        self.write(0x20, &PLACE.descriptors.to_le_bytes());
        self.write(0x28, &PLACE.available.to_le_bytes());
        self.write(0x30, &PLACE.used.to_le_bytes());
        self.write(0x1c, &1_u16.to_le_bytes());
        self.write(0x14, &[15]);
    }

    /// Offers a request of one writable byte and serves it.
    fn request(&mut self, number: u16) {
        self.driver.chain(0, &[Piece::writable(0x1_0000, 8)]);
        self.driver.offer(number, 0);
        self.write(0x200, &0_u16.to_le_bytes());
        assert!(!self.engine.serve());
    }

    fn is_high(&self) -> bool {
        *self.line.0.lock().unwrap()
    }
}

/// A virtio capability: its type, length, BAR, offset and size.
type Structure = (u8, u8, u8, u32, u32);

/// The config space as bytes, and the ids and structures of its capabilities.
fn capabilities(bench: &mut Bench) -> (Vec<u8>, Vec<u16>, Vec<Structure>) {
    let config: Vec<u8> = (0..256)
        .map(|offset| {
            let mut byte = [0];
            bench.function.read_config(offset, &mut byte);
            byte[0]
        })
        .collect();
    let chain = walk_standard(|offset| config[usize::from(offset)]);
    assert_eq!(chain.flaw, None);
    let dword = |at: usize| u32::from_le_bytes(config[at..at + 4].try_into().unwrap());
    let structure =
        |at: usize| (config[at + 3], config[at + 2], config[at + 4], dword(at + 8), dword(at + 12));
    let ids = chain.capabilities.iter().map(|capability| capability.id).collect();
    let structures = chain
        .capabilities
        .iter()
        .filter(|capability| capability.id == u16::from(standard_id::VENDOR))
        .map(|capability| structure(capability.offset.into()))
        .collect();
    (config, ids, structures)
}

#[test]
fn capabilities_say_where_everything_lies() {
    let mut bench = Bench::new();
    let (config, ids, structures) = capabilities(&mut bench);
    assert_eq!(&config[..4], [0xf4, 0x1a, 0x6a, 0x10]);
    assert_eq!((config[8], config[0x3d]), (1, 1), "modern, INTA");
    let common =
        [(1, 16, 0, 0x000, 0x38), (3, 16, 0, 0x040, 1), (2, 20, 0, 0x200, 0x100), (4, 16, 0, 0x100, 5)];
    assert_eq!(structures, [&common[..], &[(5, 20, 0, 0, 0)]].concat());
    assert_eq!(ids, [9, 9, 9, 9, standard_id::MSIX.into(), 9]);
    assert_eq!(bench.read(0x100), [1, 2, 3, 4, 5, 0, 0, 0], "the device's configuration");

    let (_, ids, structures) = capabilities(&mut Bench::of(Echo { frugal: true, ..Echo::default() }));
    assert_eq!((ids, structures), (vec![9; 4], common.to_vec()));
}

#[test]
fn a_frugal_device_tells_by_pin_and_has_no_vectors() {
    let mut bench = Bench::of(Echo { frugal: true, ..Echo::default() });
    bench.write(0x10, &0_u16.to_le_bytes());
    assert_eq!(bench.read(0x10), [0xff, 0xff]);
    assert_eq!(bench.write(0x80c, &[0; 4]), []);
    assert_eq!(bench.read(0x80c), [0; 4]);
    bench.start();
    bench.request(0);
    assert!(bench.is_high());
}

#[test]
fn a_request_is_answered_and_told_by_pin_until_the_isr_is_read() {
    let mut bench = Bench::new();
    bench.start();
    bench.request(0);
    assert_eq!((bench.driver.answers(), bench.driver.byte(0x1_0000)), (1, 1));
    assert!(bench.is_high());
    let mut status = [0; 2];
    bench.function.read_config(0x06, &mut status);
    assert_eq!(status[0] & 0x08, 0x08, "interrupt status");
    // Held back, but still to be told.
    bench.function.write_config(0x04, &0x0406_u16.to_le_bytes());
    assert!(!bench.is_high());
    bench.function.write_config(0x04, &0x0006_u16.to_le_bytes());
    assert!(bench.is_high());
    assert_eq!(bench.read(0x40), [1]);
    assert_eq!((bench.read(0x40), bench.is_high()), ([0], false));
}

#[test]
fn with_msi_x_answers_go_to_the_queue_s_vector_and_leave_the_pin_alone() {
    let mut bench = Bench::new();
    let changes = bench.function.write_config(0x86, &0x8000_u16.to_le_bytes());
    assert!(matches!(&changes[..], [Change::Msix(change)] if change.enabled));
    bench.write(0x10, &2_u16.to_le_bytes());
    bench.write(0x1a, &1_u16.to_le_bytes());
    bench.start();
    bench.request(0);
    assert!(bench.triggers.is_pending(1) && !bench.triggers.is_pending(2));
    assert_eq!((bench.read(0x40), bench.is_high()), ([0], false));
    assert_eq!(bench.read(0xc00), [0b10, 0, 0, 0, 0, 0, 0, 0], "masked, so pending");
    // Unmasking gives the message to whoever listens.
    let changes = bench.write(0x80c + 0x10, &[0; 4]);
    assert!(matches!(&changes[..], [Change::Msix(change)] if change.vectors[0].vector == 1));
    assert_eq!(bench.read(0xc00), [0_u8], "not masked, so not pending");
}

#[test]
fn nonsense_in_a_queue_breaks_the_device_until_it_is_reset() {
    let mut bench = Bench::new();
    bench.start();
    bench.driver.offer(40, 0);
    bench.engine.serve();
    assert_eq!(bench.status(), 15 | 64);
    assert_eq!(bench.read(0x40), [2], "the configuration interrupt");
    bench.driver.offer(0, 0);
    bench.engine.serve();
    assert_eq!(bench.driver.answers(), 0);
    bench.write(0x14, &[0]);
    assert_eq!(bench.status(), 0);
    bench.start();
    bench.request(0);
    assert_eq!((bench.status(), bench.driver.answers()), (15, 1));
}

#[test]
fn a_queue_outside_of_ram_breaks_the_device_at_its_start() {
    for (offset, address) in [(0x20, 0x20_0000_u64), (0x28, u64::MAX - 1), (0x30, 0xf_fff8), (0x20, 0x1008)] {
        let mut bench = Bench::new();
        bench.write(0x16, &1_u16.to_le_bytes());
        bench.write(offset, &address.to_le_bytes());
        bench.write(0x1c, &1_u16.to_le_bytes());
        bench.write(0x16, &0_u16.to_le_bytes());
        bench.start();
        assert_eq!(bench.status(), 15 | 64, "{offset:#x} {address:#x}");
    }
}

#[test]
fn memory_is_left_alone_before_the_start_after_a_reset_and_without_bus_mastering() {
    let mut bench = Bench::new();
    bench.request(0);
    bench.start();
    bench.function.write_config(0x04, &0x0002_u16.to_le_bytes());
    bench.engine.serve();
    assert_eq!(bench.driver.answers(), 0);
    bench.function.write_config(0x04, &0x0006_u16.to_le_bytes());
    bench.engine.serve();
    assert_eq!(bench.driver.answers(), 1, "what waited is served then");
    bench.function.reset();
    bench.driver.offer(1, 0);
    bench.engine.serve();
    assert_eq!((bench.driver.answers(), bench.status()), (1, 0));
}

#[test]
fn the_bar_is_reached_through_config_space_at_the_window_that_was_set() {
    let mut bench = Bench::new();
    let mut window = |bar: u8, offset: u32, length: u32| {
        bench.function.write_config(0x90 + 4, &[bar]);
        bench.function.write_config(0x90 + 8, &offset.to_le_bytes());
        bench.function.write_config(0x90 + 12, &length.to_le_bytes());
        let mut data = [0; 4];
        bench.function.read_config(0x90 + 16, &mut data);
        u32::from_le_bytes(data)
    };
    for (bar, offset, length, value) in [
        (0, 0x100, 4, 0x0403_0201),
        (0, 0x102, 2, 0x0403),
        (0, 0x104, 1, 0x05),
        (0, 0x102, 4, 0),
        (1, 0x100, 4, 0),
        (0, 0x100, 3, 0),
        (0, 0x100, 0, 0),
        (0, u32::MAX, 1, 0),
    ] {
        assert_eq!(window(bar, offset, length), value, "{bar} {offset:#x} {length}");
    }
    window(0, 0x14, 1);
    bench.function.write_config(0x90 + 16, &[1]);
    assert_eq!(bench.status(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 128,
        rng_seed: RngSeed::Fixed(0xa110d),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_driver_that_writes_anything_anywhere_can_still_reset_the_device(
        writes in proptest::collection::vec(
            (any::<bool>(), 0_u16..0x1000, proptest::collection::vec(any::<u8>(), 1..=8)), 0..64),
    ) {
        let mut bench = Bench::new();
        bench.start();
        for (config, offset, data) in writes {
            if config {
                bench.function.write_config((offset % 256) & !3, &data[..data.len().min(4)]);
            } else {
                bench.write(offset.into(), &data);
            }
            bench.engine.serve();
        }
        bench.function.reset();
        bench.function.write_config(0x04, &0x0006_u16.to_le_bytes());
        bench.driver.write(PLACE.available, &[0; 64]);
        bench.driver.write(PLACE.used, &[0; 64]);
        bench.start();
        bench.request(0);
        assert_eq!((bench.status(), bench.driver.answers()), (15, 1));
    }
}

#[test]
fn a_rom_is_shown_with_the_id_of_the_function_and_is_not_written() {
    // One image for the device that iPXE's ROM names, of 1.5 KiB.
    let mut rom = vec![0x90; 3 * 512];
    rom[..3].copy_from_slice(&[0x55, 0xaa, 3]);
    rom[0x18..0x1a].copy_from_slice(&0x40_u16.to_le_bytes());
    rom[0x40..0x60].fill(0);
    rom[0x40..0x48].copy_from_slice(b"PCIR\xf4\x1a\x00\x10");
    rom[0x4a] = 0x18;
    rom[0x50] = 3;
    rom[0x55] = 0x80;
    let mut bench = Bench::of(Echo { rom: Some(rom.into()), ..Echo::default() });
    // The size is that of the BAR: a power of two.
    bench.function.write_config(0x30, &0xffff_f800_u32.to_le_bytes());
    let mut found = [0; 4];
    bench.function.read_config(0x30, &mut found);
    assert_eq!(u32::from_le_bytes(found), 0xffff_f800);
    bench.function.write_bar(BarIndex::ROM, 0x46, &[0; 2]);
    let mut seen = vec![0; 2048];
    bench.function.read_bar(BarIndex::ROM, 0, &mut seen);
    assert_eq!((&seen[..3], &seen[0x44..0x48]), (&[0x55, 0xaa, 3][..], &[0xf4, 0x1a, 0x6a, 0x10][..]));
    assert_eq!(seen[3 * 512..], [0xff; 512]);
    assert_eq!(seen[..3 * 512].iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)), 0);
    bench.function.read_bar(BarIndex::ROM, u64::MAX - 1, &mut seen[..2]);
    assert_eq!(seen[..2], [0xff; 2]);
    // The registers are where they were.
    let [features]: [u8; 1] = bench.read(0x14);
    assert_eq!(features, 0);
}
