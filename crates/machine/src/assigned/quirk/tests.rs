//! Makers' cards on a fake device: what a guest finds by their ways around config space, and what the hardware sees of it.

use linux::vfio::fake::{FakeBar, FakeIrqs, Script};
use linux::vfio::{Device, RegionIndex};
use pci::BarIndex;

use super::super::testing::Bench;

const BAR0: BarIndex = BarIndex::bar(0).unwrap();
const BAR2: BarIndex = BarIndex::bar(2).unwrap();
const BAR4: BarIndex = BarIndex::bar(4).unwrap();

const MSI_AT: u16 = 0x68;
const MIRROR: u64 = 0x8_8000;

/// A card of NVIDIA's: registers in BAR 0, memory in BAR 2, MSI.
fn nvidia() -> Script {
    Script::new(0x10de, 0x1b80)
        .with_config(0x08, &[0xa1, 0, 0, 3])
        .with_capability(0x60, 0x01, &[3, 0, 0, 0, 0, 0])
        .with_capability(MSI_AT as u8, 0x05, &[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        .with_bar(0, FakeBar::memory(16 << 20))
        .with_bar(2, FakeBar::memory64(256 << 20))
        .with_irqs(FakeIrqs { intx: true, msi: 1, ..FakeIrqs::default() })
}

fn enabled(script: Script) -> Bench {
    let mut bench = Bench::new(script);
    bench.write(0x10, &0x9000_0000_u32.to_le_bytes());
    bench.write(0x18, &0xa000_0000_u32.to_le_bytes());
    bench.write(0x1c, &[0; 4]);
    bench.write(0x04, &[0x07, 0]);
    bench
}

fn register(bench: &Bench, bar: u32, offset: u64) -> u32 {
    let mut bytes = [0; 4];
    bench.device.read(RegionIndex(bar), offset, &mut bytes).unwrap();
    u32::from_le_bytes(bytes)
}

#[test]
fn a_mirror_shows_the_guests_addresses_and_its_page_is_trapped() {
    let mut bench = enabled(nvidia());
    assert_eq!(bench.read_bar(BAR0, MIRROR), 0x1b80_10de);
    assert_eq!(bench.read_bar(BAR0, MIRROR + 0x10), 0x9000_0000);
    let (below, above) = (MIRROR, (16 << 20) - MIRROR - 0x1000);
    let card = [(0x9000_0000, below), (0x9000_0000 + MIRROR + 0x1000, above), (0xa000_0000, 256 << 20)];
    assert_eq!(bench.shown(), card);
    // Beside it are the card's own registers.
    bench.write_bar(BAR0, MIRROR - 4, &7_u32.to_le_bytes());
    assert_eq!((register(&bench, 0, MIRROR - 4), bench.read_bar(BAR0, MIRROR - 4)), (7, 7));
}

#[test]
fn a_bar_moved_by_the_mirror_has_moved() {
    let mut bench = enabled(nvidia());
    bench.write_bar(BAR0, MIRROR + 0x10, &0xb000_0000_u32.to_le_bytes());
    assert_eq!(bench.read(0x10), 0xb000_0000);
    assert_eq!(bench.shown().first(), Some(&(0xa000_0000, 256 << 20)));
    assert_eq!(register(&bench, 0, MIRROR + 0x10), 0, "no register of the hardware's was written");
    bench.write_bar(BAR0, MIRROR + 0x04, &[0, 0, 0, 0]);
    assert_eq!(bench.shown(), [], "decode is off");
}

#[test]
fn an_acknowledged_message_reaches_the_hardware() {
    let mut bench = enabled(nvidia());
    let header = MIRROR + u64::from(MSI_AT);
    bench.write_bar(BAR0, header, &[0xff]);
    assert_eq!(register(&bench, 0, header) & 0xff, 0xff);
    assert_eq!(bench.read(MSI_AT) & 0xff, 0x05, "config space keeps the capability");
}

#[test]
fn a_write_that_is_repeated_is_left_to_the_kernel() {
    let mut bench = enabled(nvidia());
    let acknowledge = MIRROR + 0x704;
    let other = MIRROR + 0x04;
    for _ in 0..20 {
        bench.write_bar(BAR0, other, &0x0000_0007_u32.to_le_bytes());
    }
    assert!(!bench.bells.ring(0x9000_0000 + other, 7), "a register of ours stays trapped");
    for count in 1..=10 {
        assert!(!bench.bells.ring(0x9000_0000 + acknowledge, 0), "{count}");
        bench.write_bar(BAR0, acknowledge, &[0; 4]);
    }
    assert!(bench.bells.ring(0x9000_0000 + acknowledge, 0));
    assert_eq!(bench.device.write_for_events(), [(RegionIndex(0), acknowledge, 0)]);
    assert!(!bench.bells.ring(0x9000_0000 + acknowledge, 1), "another value is trapped");
    // It moves with its BAR, and is gone while that is nowhere.
    bench.write(0x10, &0xb000_0000_u32.to_le_bytes());
    assert!(
        !bench.bells.ring(0x9000_0000 + acknowledge, 0) && bench.bells.ring(0xb000_0000 + acknowledge, 0)
    );
    bench.write(0x04, &[0, 0]);
    assert!(!bench.bells.ring(0xb000_0000 + acknowledge, 0));
    bench.write(0x04, &[0x07, 0]);
    assert!(bench.bells.ring(0xb000_0000 + acknowledge, 0));
    assert_eq!(bench.device.write_for_events().len(), 1);
    // A reset forgets it, for the kernel too, so that it can be had again.
    pci::Function::reset(&mut *bench.function.lock().unwrap());
    bench.write(0x10, &0xb000_0000_u32.to_le_bytes());
    bench.write(0x04, &[0x07, 0]);
    assert!(!bench.bells.ring(0xb000_0000 + acknowledge, 0));
    for _ in 0..10 {
        bench.write_bar(BAR0, acknowledge, &[0; 4]);
    }
    assert!(bench.bells.ring(0xb000_0000 + acknowledge, 0));
    assert_eq!(bench.device.write_for_events().len(), 1);
}

#[test]
fn ports_of_the_first_display_lead_to_the_guests_config_space() {
    let script = Script { vga: true, rom: super::super::testing::rom_of(0), ..Script::new(0x1002, 0x68f9) }
        .with_config(0x08, &[0, 0, 0, 3])
        .with_bar(0, FakeBar::memory64(256 << 20))
        .with_bar(2, FakeBar::memory64(256 << 10))
        .with_bar(4, FakeBar::io(0x100));
    let mut bench = Bench::new(script);
    bench.write(0x20, &0xe000_u32.to_le_bytes());
    bench.write_bar(BAR4, 0, &0x4020_u32.to_le_bytes());
    assert_eq!(bench.read_bar(BAR4, 4), 0xe001);
    assert_eq!(bench.read_bar(BAR2, 0x4000), 0x68f9_1002);
    let mut byte = [0];
    let port = BarIndex::VGA_PORTS_COLOR;
    pci::Function::read_bar(&mut *bench.function.lock().unwrap(), port, 3, &mut byte);
    assert_eq!(byte, [0xe0]);
}

#[test]
fn the_pair_of_an_rtl8168_programs_the_guests_table() {
    let script = Script::new(0x10ec, 0x8168)
        .with_capability(0x70, 0x11, &[1, 0, 0x04, 0, 0, 0, 0x04, 0x08, 0, 0])
        .with_bar(2, FakeBar::memory64(0x1000))
        .with_bar(4, FakeBar::memory64(0x4000))
        .with_irqs(FakeIrqs { msix: 2, growable: true, ..FakeIrqs::default() });
    let mut bench = Bench::new(script);
    bench.write(0x04, &[0x06, 0]);
    bench.write_bar(BAR2, 0x70, &0xfee0_1000_u32.to_le_bytes());
    bench.write_bar(BAR2, 0x74, &0x8001_f010_u32.to_le_bytes());
    assert_eq!(bench.read_bar(BAR4, 0x10), 0xfee0_1000, "the second vector's address");
    assert_eq!(register(&bench, 2, 0x74), 0, "the hardware's table was left alone");
    bench.write_bar(BAR2, 0x74, &0x0001_f010_u32.to_le_bytes());
    assert_eq!((bench.read_bar(BAR2, 0x74), bench.read_bar(BAR2, 0x70)), (0x8001_f010, 0xfee0_1000));
}

#[test]
fn a_rom_that_hangs_is_hidden() {
    let script = Script { rom: super::super::testing::rom_of(0), ..Script::new(0x14e4, 0x168e) };
    let bench = Bench::new(script.clone());
    assert_eq!(bench.hardware.view.config.clone().bars().iter().find(|bar| bar.index == BarIndex::ROM), None);
    let other = Bench::new(Script { rom: script.rom.clone(), ..Script::new(0x14e4, 0x1650) });
    assert!(other.hardware.view.config.bars().iter().any(|bar| bar.index == BarIndex::ROM));
}
