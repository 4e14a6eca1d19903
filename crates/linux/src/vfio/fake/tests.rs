//! The rules that the fake keeps. Each stands for one of the kernel's; the lab proves the kernel's side.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::EventfdFlags;
use rustix::io::Errno;
use spec::PciAddress;

use super::{FakeBar, FakeDevice, FakeIrqs, FakeReset, FakeRom, Removal, Script};
use crate::vfio::config::{Config, PowerState, ResetWays, command};
use crate::vfio::{
    Area, Cause, ConcernedFunction, Device, Holder, IrqAction, IrqIndex, Ownership, RegionIndex, ResetScope,
};

const BAR0: RegionIndex = RegionIndex(0);
const BAR1: RegionIndex = RegionIndex(1);

fn open(script: Script) -> FakeDevice {
    FakeDevice::new(script).unwrap()
}

fn eventfd() -> std::os::fd::OwnedFd {
    rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap()
}

/// How often it was signalled since last asked.
fn signals(fd: &impl AsFd) -> u64 {
    let mut count = [0; 8];
    rustix::io::read(fd, &mut count).map_or(0, |_| u64::from_ne_bytes(count))
}

/// A function with power management at 0x40 and PCIe with function-level reset at 0x48.
fn express() -> Script {
    let mut pcie = [0; 0x12];
    pcie[5] = 0x10; // device capabilities, bit 28
    Script::new(0x1b36, 0x10).with_capability(0x40, 0x01, &[0; 6]).with_capability(0x48, 0x10, &pcie)
}

#[test]
fn a_bar_reads_as_its_size_and_type() {
    let device = open(
        Script::new(1, 2)
            .with_bar(0, FakeBar::memory(0x4000))
            .with_bar(2, FakeBar::memory64(1 << 33))
            .with_bar(4, FakeBar::io(0x40)),
    );
    let config = Config(&device);
    for (register, written, read) in [
        (0x10, 0xffff_ffff, 0xffff_c000),
        (0x10, 0xfe00_1234, 0xfe00_0000),
        (0x14, 0xffff_ffff, 0),
        (0x18, 0xffff_ffff, 0x0000_000c),
        (0x1c, 0xffff_ffff, 0xffff_fffe),
        (0x20, 0xffff_ffff, 0xffff_ffc1),
        (0x24, 0xffff_ffff, 0),
        (0x30, 0xffff_ffff, 0),
    ] {
        config.write_u32(register, written).unwrap();
        assert_eq!(config.read_u32(register).unwrap(), read, "{register:#x}");
    }
}

#[test]
fn what_the_kernel_protects_cannot_be_written() {
    let device = open(express());
    let config = Config(&device);
    for register in [0x00, 0x08, 0x34, 0x40, 0x48, 0x100] {
        let before = config.read_u32(register).unwrap();
        config.write_u32(register, !before).unwrap();
        assert_eq!(config.read_u32(register).unwrap(), before, "{register:#x}");
    }
}

#[test]
fn memory_answers_only_while_decode_is_on_and_power_too() {
    let device = open(express().with_bar(0, FakeBar::memory(0x1000)).with_bar(1, FakeBar::io(0x20)));
    let config = Config(&device);
    let read = |region| device.read(region, 0, &mut [0; 4]).err().and_then(|error| error.errno());
    assert_eq!((read(BAR0), read(BAR1)), (Some(Errno::IO), None));
    config.change_command(0, command::MEMORY).unwrap();
    assert_eq!(read(BAR0), None);
    config.set_power_state(PowerState::D3hot).unwrap();
    assert_eq!(read(BAR0), Some(Errno::IO));
}

#[test]
fn mapped_memory_and_trapped_accesses_are_the_same_bytes() {
    let device = open(Script::new(1, 2).with_bar(0, FakeBar::memory(0x2000)));
    Config(&device).change_command(0, command::MEMORY).unwrap();
    let mapping = Arc::new(device.map(BAR0, Area { offset: 0x1000, size: 0x1000 }).unwrap());
    device.write(BAR0, 0x1004, &[1, 2, 3, 4]).unwrap();
    let range = crate::memory::MappingRange::new(mapping, 0..0x1000).unwrap();
    let block = crate::memory::RamBlock { guest: 0, memory: range };
    let seen: u32 = vm_memory::Bytes::read_obj(&block, vm_memory::MemoryRegionAddress(4)).unwrap();
    assert_eq!(seen, 0x0403_0201);
    let beyond = device.map(BAR0, Area { offset: 0x2000, size: 0x1000 }).unwrap_err();
    assert_eq!(beyond.cause, Cause::NotMappable);
}

#[test]
fn the_msix_table_is_the_kernels() {
    // Two vectors in BAR 0 from 0x800 on.
    let table = Script::new(1, 2).with_capability(0x40, 0x11, &[1, 0, 0, 8, 0, 0]);
    let device = open(table.with_bar(0, FakeBar::memory(0x1000)));
    let mut inside = [0; 8];
    device.read(BAR0, 0x81c, &mut inside[..4]).unwrap();
    assert_eq!(inside[..4], [0xff; 4], "decode does not matter");
    assert!(device.read(BAR0, 0x81c, &mut inside).is_err(), "it does beyond");
    Config(&device).change_command(0, command::MEMORY).unwrap();
    device.write(BAR0, 0x7fc, &[1; 8]).unwrap();
    device.write(BAR0, 0x81c, &[2; 8]).unwrap();
    let mut whole = [0; 0x28];
    device.read(BAR0, 0x7fc, &mut whole).unwrap();
    let expected = [&[1; 4][..], &[0xff; 0x20], &[2; 4]].concat();
    assert_eq!(whole[..], expected);
}

#[test]
fn a_short_region_says_how_much_moved() {
    let bar = FakeBar { answers: 0x802, ..FakeBar::io(0x1000) };
    let device = open(Script::new(1, 2).with_bar(1, bar));
    assert!(device.read(BAR1, 0x7fc, &mut [0; 4]).is_ok());
    assert_eq!(device.read(BAR1, 0x800, &mut [0; 4]).unwrap_err().cause, Cause::Short { done: 2, wanted: 4 });
    assert_eq!(device.write(BAR1, 0x900, &[0; 4]).unwrap_err().cause, Cause::Short { done: 0, wanted: 4 });
    assert_eq!(device.read(BAR1, 0xffe, &mut [0; 4]).unwrap_err().cause, Cause::Outside { size: 0x1000 });
}

#[test]
fn a_reset_ends_as_scripted() {
    for (reset, errno, resets, byte) in [
        (FakeReset::Works, None, 1, 0),
        (FakeReset::Lies, None, 0, 7),
        (FakeReset::Absent, Some(Errno::INVAL), 0, 7),
        (FakeReset::Fails(Errno::NOTTY), Some(Errno::NOTTY), 0, 7),
        (FakeReset::Hangs(Duration::from_millis(1)), Some(Errno::NOTTY), 0, 7),
    ] {
        let device = open(Script { reset, ..express().with_bar(0, FakeBar::memory(0x1000)) });
        assert_eq!(device.info().resettable, reset != FakeReset::Absent);
        Config(&device).change_command(0, command::MEMORY).unwrap();
        device.write(BAR0, 0, &[7]).unwrap();
        assert_eq!(device.reset().err().and_then(|error| error.errno()), errno, "{reset:?}");
        let mut seen = [0];
        device.read(BAR0, 0, &mut seen).unwrap();
        assert_eq!((device.resets(), seen[0]), (resets, byte), "{reset:?}");
    }
}

#[test]
fn a_hanging_reset_leaves_the_rest_reachable_until_let_go() {
    let device = open(Script { reset: FakeReset::Hangs(Duration::from_secs(60)), ..express() });
    std::thread::scope(|scope| {
        let reset = scope.spawn(|| device.reset());
        assert_eq!(Config(&device).read_u16(0).unwrap(), 0x1b36);
        device.let_go();
        assert_eq!(reset.join().unwrap().unwrap_err().errno(), Some(Errno::NOTTY));
    });
}

#[test]
fn the_reset_bit_of_the_express_capability_resets() {
    let device = open(express());
    assert_eq!(Config(&device).reset_ways().unwrap(), ResetWays { function_level: true, power: true });
    Config(&device).write_u16(0x50, 1 << 15).unwrap();
    assert_eq!((device.resets(), Config(&device).read_u16(0x50).unwrap()), (1, 0));
}

#[test]
fn power_follows_unless_stuck() {
    let device = open(express());
    let config = Config(&device);
    config.set_power_state(PowerState::D3hot).unwrap();
    assert_eq!(config.power_state().unwrap(), PowerState::D3hot);
    device.reset().unwrap();
    assert_eq!(config.power_state().unwrap(), PowerState::D0);

    let stuck = open(Script { stuck_in: Some(PowerState::D3hot), ..express() });
    let refused = Config(&stuck).set_power_state(PowerState::D0).unwrap_err();
    assert_eq!(refused.cause, Cause::Stuck(PowerState::D3hot));
    stuck.reset().unwrap();
    assert_eq!(Config(&stuck).power_state().unwrap(), PowerState::D3hot);
}

#[test]
fn a_removed_function_answers_all_ones_or_errors() {
    let device = open(express().with_bar(0, FakeBar::memory(0x1000)));
    let config = Config(&device);
    assert!(config.is_present());
    device.remove(Removal::AllOnes);
    assert!(!config.is_present());
    assert_eq!(config.read_u16(0).unwrap(), 0x1b36, "the kernel's own copy stays");
    let mut seen = [0; 2];
    device.read(BAR0, 0, &mut seen).unwrap();
    assert_eq!(seen, [0xff; 2]);
    assert_eq!(device.reset().unwrap_err().errno(), Some(Errno::NOTTY));

    device.remove(Removal::Fails(Errno::IO));
    assert_eq!(config.read_u16(0).unwrap_err().errno(), Some(Errno::IO));
}

#[test]
fn removal_and_failure_come_at_the_call_they_are_set_to() {
    let device = open(express());
    device.remove_after(2, Removal::Fails(Errno::NODEV));
    let outcomes: Vec<_> = (0..4).map(|_| Config(&device).read_u8(8).is_ok()).collect();
    assert_eq!(outcomes, [true, true, false, false]);

    let device = open(express());
    device.fail_after(1, Errno::INTR);
    let outcomes: Vec<_> = (0..3).map(|_| Config(&device).read_u8(8).is_ok()).collect();
    assert_eq!(outcomes, [true, false, true]);
}

#[test]
fn capability_chains_that_loop_or_point_into_the_header_are_refused() {
    let looping = express().with_config(0x49, &[0x40]);
    let low = express().with_config(0x49, &[0x10]);
    let looping_extended = Script::new(1, 2)
        .with_extended_capability(0x100, 1, 2, &[])
        .with_config(0x100, &0x1002_0001_u32.to_le_bytes());
    for script in [looping, low] {
        let device = open(script);
        assert!(Config(&device).capability(0x11).is_err());
        assert!(Config(&device).capability(0x10).is_ok_and(|found| found == Some(0x48)), "before the loop");
    }
    assert!(Config(&open(looping_extended)).extended_capability(0x10).is_err());
}

#[test]
fn extended_capabilities_are_found_where_there_are_any() {
    let script = Script::new(1, 2)
        .with_extended_capability(0x100, 1, 2, &[])
        .with_extended_capability(0x140, 0x10, 1, &[])
        .with_extended_capability(0x180, 0x15, 1, &[]);
    let found = Config(&open(script.clone())).extended_capability(0x15).unwrap();
    assert_eq!(found, Some(0x180));
    assert_eq!(Config(&open(script.clone())).extended_capability(0x16).unwrap(), None);
    assert_eq!(Config(&open(script.conventional())).extended_capability(0x15).unwrap(), None);
}

#[test]
fn only_one_kind_of_interrupt_is_enabled() {
    let irqs = FakeIrqs { intx: true, msi: 1, msix: 4, ..FakeIrqs::default() };
    let device = open(Script::new(1, 2).with_irqs(irqs));
    let fd = eventfd();
    let signal = |irq| device.set_irqs(irq, IrqAction::Signal { start: 0, fds: &[Some(fd.as_fd())] });
    signal(IrqIndex::Msi).unwrap();
    assert_eq!(signal(IrqIndex::Msix).unwrap_err().errno(), Some(Errno::INVAL));
    assert_eq!(signal(IrqIndex::Intx).unwrap_err().errno(), Some(Errno::INVAL));
    device.set_irqs(IrqIndex::Msi, IrqAction::Disable).unwrap();
    let again = device.set_irqs(IrqIndex::Msi, IrqAction::Disable).unwrap_err();
    assert_eq!(again.errno(), Some(Errno::INVAL), "what is not enabled cannot be disabled");
    signal(IrqIndex::Msix).unwrap();
    assert_eq!(device.enabled(), Some(IrqIndex::Msix));
}

#[test]
fn vectors_signal_their_own_eventfd() {
    let irqs = FakeIrqs { msix: 4, growable: true, ..FakeIrqs::default() };
    let device = open(Script::new(1, 2).with_irqs(irqs));
    let (first, last) = (eventfd(), eventfd());
    let fds = [Some(first.as_fd()), None, Some(last.as_fd())];
    device.set_irqs(IrqIndex::Msix, IrqAction::Signal { start: 0, fds: &fds }).unwrap();
    assert_eq!(device.armed(IrqIndex::Msix), [0, 2]);
    let raised: Vec<_> = (0..4).map(|vector| device.raise(IrqIndex::Msix, vector)).collect();
    assert_eq!(raised, [true, false, true, false]);
    device.set_irqs(IrqIndex::Msix, IrqAction::Fire { start: 0, count: 3 }).unwrap();
    assert_eq!((signals(&first), signals(&last)), (2, 2));
}

#[test]
fn the_pin_masks_itself_until_unmasked() {
    let device = open(Script::new(1, 2).with_irqs(FakeIrqs { intx: true, ..FakeIrqs::default() }));
    let (fd, resample) = (eventfd(), eventfd());
    let set = |action: IrqAction<'_>| device.set_irqs(IrqIndex::Intx, action);
    set(IrqAction::Signal { start: 0, fds: &[Some(fd.as_fd())] }).unwrap();
    set(IrqAction::UnmaskOn(Some(resample.as_fd()))).unwrap();
    assert!(device.raise(IrqIndex::Intx, 0));
    assert!(device.is_masked());
    assert!(!device.raise(IrqIndex::Intx, 0), "still masked");
    assert_eq!(signals(&fd), 1);
    rustix::io::write(&resample, &1_u64.to_ne_bytes()).unwrap();
    assert!(device.is_masked(), "what was pending has fired again");
    assert_eq!(signals(&fd), 1);
    set(IrqAction::Unmask).unwrap();
    assert!(!device.is_masked());

    Config(&device).change_command(0, command::INTX_DISABLE).unwrap();
    assert!(!device.raise(IrqIndex::Intx, 0), "the pin is off");
}

#[test]
fn errors_and_requests_are_told() {
    let device = open(Script::new(1, 2).with_irqs(FakeIrqs { error: true, ..FakeIrqs::default() }));
    let fd = eventfd();
    for irq in [IrqIndex::Error, IrqIndex::Request] {
        assert!(!device.raise(irq, 0), "nobody listens");
        device.set_irqs(irq, IrqAction::Signal { start: 0, fds: &[Some(fd.as_fd())] }).unwrap();
        assert!(device.raise(irq, 0));
        device.set_irqs(irq, IrqAction::Disable).unwrap();
        assert!(device.armed(irq).is_empty());
    }
    assert_eq!(signals(&fd), 2);
    let silent = open(Script::new(1, 2));
    let refused = silent.set_irqs(IrqIndex::Error, IrqAction::Signal { start: 0, fds: &[None] });
    assert_eq!(refused.unwrap_err().errno(), Some(Errno::INVAL));
}

#[test]
fn the_guests_msi_enable_bit_stays_only_when_the_kernel_has_msi_set_up() {
    let script = Script::new(1, 2).with_capability(0x50, 0x05, &[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let device = open(script.with_irqs(FakeIrqs { msi: 1, ..FakeIrqs::default() }));
    let config = Config(&device);
    config.write_u16(0x52, 1).unwrap();
    assert_eq!(config.read_u16(0x52).unwrap() & 1, 0);
    device.set_irqs(IrqIndex::Msi, IrqAction::Signal { start: 0, fds: &[None] }).unwrap();
    config.write_u16(0x52, 1).unwrap();
    assert_eq!(config.read_u16(0x52).unwrap() & 1, 1);
}

#[test]
fn a_hot_reset_needs_every_function_concerned() {
    let function = |number, group| ConcernedFunction {
        address: PciAddress::new(0, 3, 0, number).unwrap(),
        holder: Holder::Group(group),
    };
    let scope = ResetScope { functions: vec![function(0, 7), function(1, 8)], all_owned: false };
    let device = open(Script { scope: Some(scope), ..Script::new(1, 2) });
    let fd = eventfd();
    let (one, both) = ([(7, fd.as_fd())], [(7, fd.as_fd()), (8, fd.as_fd())]);
    let refused = device.hot_reset(Ownership::Groups(&one)).unwrap_err();
    assert_eq!((refused.cause, device.resets()), (Cause::NotOwned(1), 0));
    device.hot_reset(Ownership::Groups(&both)).unwrap();
    assert_eq!(device.resets(), 1);
    assert!(open(Script::new(1, 2)).reset_scope().is_err(), "no slot or bus reset");
}

#[test]
fn a_rom_region_can_lie_about_its_size_and_fail() {
    let lying = FakeRom { region_size: 0x2_0000, ..FakeRom::honest(vec![0x55; 0x1000]) };
    let device = open(Script { rom: lying, ..Script::new(1, 2) });
    assert_eq!(device.region(RegionIndex::ROM).unwrap().size, 0x2_0000);
    let short = device.read(RegionIndex::ROM, 0xfff, &mut [0; 4]).unwrap_err();
    assert_eq!(short.cause, Cause::Short { done: 1, wanted: 4 });
    let failing = FakeRom { fails: Some(Errno::IO), ..FakeRom::honest(vec![0x55; 0x1000]) };
    let device = open(Script { rom: failing, ..Script::new(1, 2) });
    assert_eq!(device.read(RegionIndex::ROM, 0, &mut [0; 4]).unwrap_err().errno(), Some(Errno::IO));
}
