//! Assigned functions on a fake device: what the guest sees of hostile hardware, what the hardware sees of a hostile guest.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use linux::iommu::fake::FakeAddressSpace;
use linux::vfio::fake::{FakeBar, FakeDevice, FakeIrqs, FakeReset, Removal, Script};
use linux::vfio::{Device, Errno, IrqIndex, Operation, RegionIndex};
use pci::{BarIndex, Bdf, Change, ConfigAddress, Function, Mapping, Place, Space};
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};
use proptest::test_runner::RngSeed;

use super::hardware::Hardware;
use super::interrupts::{PinWire, WireError};
use super::placement::{BarPlaces, Placement};
use super::slots::Plugged;
use super::testing::{self, APERTURES, Bench};
use crate::bus::Bus;
use crate::events::Event;
use crate::followers::Dma;
use crate::messages::Latest;
use crate::pci_host::{BarFollower, PciHost};

const BAR0: pci::BarIndex = pci::BarIndex::bar(0).unwrap();
const MSIX_AT: u16 = 0x70;

/// Power management, PCIe, MSI, MSI-X with its table in the third page of BAR 0, a ROM-less card with three BARs.
fn card() -> Script {
    let mut pcie = [0; 0x3a];
    pcie[0] = 0x02;
    pcie[5] = 0x10;
    let msix = [7, 0, 0x00, 0x20, 0, 0, 0x00, 0x30, 0, 0];
    Script::new(0x1b36, 0x10)
        .with_capability(0x40, 0x01, &[3, 0, 0, 0, 0, 0])
        .with_capability(0x48, 0x05, &[0x84, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        .with_capability(0x70, 0x11, &msix)
        .with_capability(0x80, 0x10, &pcie)
        .with_bar(0, FakeBar::memory64(0x8000))
        .with_bar(2, FakeBar::memory(0x1000))
        .with_bar(4, FakeBar::io(0x40))
        .with_irqs(FakeIrqs { intx: true, msi: 4, msix: 8, growable: true, ..FakeIrqs::default() })
}

/// BAR 0 and 2 at their places, decode on.
fn enable(bench: &mut Bench) {
    bench.write(0x10, &0x9000_0000_u32.to_le_bytes());
    bench.write(0x14, &[0; 4]);
    bench.write(0x18, &0x9100_0000_u32.to_le_bytes());
    bench.write(0x04, &[0x07, 0]);
}

#[test]
fn a_life_that_ends_leaves_no_bar_in_the_iommu() {
    let space = Arc::new(FakeAddressSpace::default());
    let bench = Bench::new(card());
    let places =
        Arc::new(BarPlaces::new(Arc::clone(&bench.hardware), vec![Box::new(Dma(Arc::clone(&space) as _))]));
    let mapping =
        Mapping { function: bench.id, bar: BAR0, space: Space::Memory, range: 0x9000_0000..0x9000_8000 };
    let plugged = Plugged::at(vec![Arc::clone(&places)]);
    Placement(places).map(&mapping);
    assert_eq!(space.maps().len(), 2, "what lies before and behind the MSI-X table and its pending bits");
    plugged.stop();
    assert_eq!(space.maps(), []);
}

#[test]
fn capabilities_stay_where_the_device_has_them() {
    let bench = Bench::new(card());
    assert_eq!(bench.standard(), [(1, 0x40), (5, 0x48), (0x11, 0x70), (0x10, 0x80)]);
    assert_eq!(bench.read(0x70) >> 16, 7, "eight vectors");
}

#[test]
fn hostile_chains_give_the_guest_a_sound_one() {
    let loops = card().with_config(0x81, &[0x40]);
    let into_header = card().with_config(0x49, &[0x10]);
    let ones = card().with_config(0x49, &[0xf0]).with_config(0xf0, &[0xff, 0xff]);
    let overlapping = card().with_config(0x41, &[0x44]).with_config(0x44, &[0x05, 0x48]);
    let two_of_a_kind = card().with_capability(0xc4, 0x11, &[7, 0, 0, 0x20, 0, 0, 0, 0x30, 0, 0]);
    let pending_outside = card().with_config(0x78, &[0x00, 0x80, 0, 0]);
    let table_outside = card().with_config(0x74, &[0x00, 0x80, 0, 0]);
    let table_nowhere = card().with_config(0x74, &[0x06, 0x20, 0, 0]);
    let table_in_ports = card().with_config(0x74, &[0x04, 0, 0, 0]);
    for (name, script, expected) in [
        ("loop", loops, vec![(1, 0x40), (5, 0x48), (0x11, 0x70), (0x10, 0x80)]),
        ("into the header", into_header, vec![(1, 0x40), (5, 0x48)]),
        ("all-ones", ones, vec![(1, 0x40), (5, 0x48)]),
        ("overlap", overlapping, vec![(5, 0x48), (0x11, 0x70), (0x10, 0x80)]),
        ("two MSI-X", two_of_a_kind, vec![(1, 0x40), (5, 0x48), (0x11, 0x70), (0x10, 0x80)]),
        (
            "pending bits outside their BAR",
            pending_outside,
            vec![(1, 0x40), (5, 0x48), (0x11, 0x70), (0x10, 0x80)],
        ),
        ("table outside its BAR", table_outside, vec![(1, 0x40), (5, 0x48), (0x10, 0x80)]),
        ("table in no BAR", table_nowhere, vec![(1, 0x40), (5, 0x48), (0x10, 0x80)]),
        ("table in ports", table_in_ports, vec![(1, 0x40), (5, 0x48), (0x10, 0x80)]),
    ] {
        assert_eq!(Bench::new(script).standard(), expected, "{name}");
    }
}

#[test]
fn pending_bits_outside_their_bar_are_shown_behind_the_table() {
    let mut bench = Bench::new(card().with_config(0x78, &[0x00, 0x80, 0, 0]));
    enable(&mut bench);
    assert_eq!((bench.read(0x74), bench.read(0x78)), (0x2000, 0x2080));
    assert_eq!(bench.shown(), [(0x9000_0000, 0x2000), (0x9000_3000, 0x5000), (0x9100_0000, 0x1000)]);
    bench.write(MSIX_AT + 2, &[0x07, 0x80]);
    bench.write_bar(BAR0, 0x2000 + 12, &[0; 4]);
    bench.write_bar(BAR0, 0x2000 + 12, &[1, 0, 0, 0]);
    assert!(bench.device.raise(IrqIndex::Msix, 0));
    assert_eq!(bench.read_bar(BAR0, 0x2080), 1);
}

#[test]
fn a_bar_below_a_page_is_shown_while_it_is_alone_in_its_page() {
    let (ports, memory) = (Arc::new(Bus::default()), Arc::new(Bus::default()));
    let host = PciHost::new(APERTURES, &ports, &memory);
    let mut shown = Vec::new();
    for device in [3, 4] {
        let bench = Bench::new(Script::new(1, 2).with_bar(0, FakeBar::memory(0x100)));
        let Bench { function, followers: [placement, _], shown: memory, .. } = bench;
        let id = host.add(Place::Root { device, function: 0 }, function).unwrap();
        host.follow_bars(id, placement);
        shown.push(memory);
    }
    let move_to = |device, address: u32| {
        let at = |offset, len| ConfigAddress { bdf: Bdf::new(0, device, 0).unwrap(), offset, len };
        host.write_config(at(0x04, 2), &[0, 0]);
        host.write_config(at(0x10, 4), &address.to_le_bytes());
        host.write_config(at(0x04, 2), &[2, 0]);
    };
    for (device, address, expected) in [
        (3, 0x9000_0000, [Some(0x9000_0000), None]),
        (4, 0x9000_1000, [Some(0x9000_0000), Some(0x9000_1000)]),
        // Not where a page begins: trapped, and in nobody's way.
        (4, 0x9000_2100, [Some(0x9000_0000), None]),
        // In the other's page: neither is shown, each is trapped.
        (4, 0x9000_0800, [None, None]),
        (3, 0x9000_3000, [Some(0x9000_3000), None]),
        (3, 0x9000_0000, [None, None]),
        (4, 0x9000_4000, [Some(0x9000_0000), Some(0x9000_4000)]),
        (4, 0, [Some(0x9000_0000), None]),
    ] {
        move_to(device, address);
        for (shown, expected) in shown.iter().zip(expected) {
            let shown: Vec<_> = shown.lock().unwrap().iter().map(|(at, len)| (*at, *len)).collect();
            let page: Vec<_> = expected.map(|at| (at, 0x1000)).into_iter().collect();
            assert_eq!(shown, page, "{device} to {address:#x}");
        }
    }
}

#[test]
fn extended_capabilities_that_are_not_the_guests_are_left_out() {
    let rebar = |size: u8| {
        let [control, ..] = (1_u32 << 5).to_le_bytes();
        [0xf0, 0xff, 0xff, 0, control, size, 0, 0]
    };
    let all = |first: u16, size: u8| {
        Script::new(1, 2)
            .with_extended_capability(0x100, first, 1, &[])
            .with_extended_capability(0x140, 0x10, 1, &[])
            .with_extended_capability(0x180, 0x15, 1, &rebar(size))
            .with_extended_capability(0x1c0, 0x0f, 1, &[])
            .with_extended_capability(0x200, 0x03, 1, &[])
    };
    for (script, expected) in [
        (all(0x01, 8), vec![(0x01, 0x100), (0x15, 0x180), (0x03, 0x200)]),
        (all(0x0e, 8), vec![(0, 0x100), (0x15, 0x180), (0x03, 0x200)]),
        (all(0x01, 20), vec![(0x01, 0x100), (0x03, 0x200)]),
        (Script::new(1, 2).with_extended_capability(0x100, 0x10, 1, &[]), vec![]),
        (Script::new(1, 2).conventional(), vec![]),
    ] {
        assert_eq!(Bench::new(script).extended(), expected);
    }
    let mut bench = Bench::new(all(0x01, 8));
    bench.write(0x188, &[0xff; 4]);
    assert_eq!((bench.read(0x184), bench.read(0x188)), (1 << 12, 0x820), "only the present size, and fixed");
}

#[test]
fn an_integrated_function_becomes_an_endpoint_with_a_slow_link() {
    let mut pcie = [0; 0x3a];
    pcie[0] = 0x92;
    let bench = Bench::new(Script::new(1, 2).with_capability(0x40, 0x10, &pcie));
    assert_eq!((bench.read(0x40) >> 16, bench.read(0x4c), bench.read(0x50) >> 16), (0x02, 0x11, 0x11));
    // A version of 0 becomes 1, a type that sits in no slot is left out.
    pcie[0] = 0x00;
    assert_eq!(Bench::new(Script::new(1, 2).with_capability(0x40, 0x10, &pcie)).read(0x40) >> 16, 1);
    pcie[0] = 0x42;
    assert_eq!(Bench::new(Script::new(1, 2).with_capability(0x40, 0x10, &pcie)).standard(), []);
}

#[test]
fn bars_are_shown_around_the_msix_pages_while_they_decode() {
    let mut bench = Bench::new(card());
    enable(&mut bench);
    let all = [(0x9000_0000, 0x2000), (0x9000_4000, 0x4000), (0x9100_0000, 0x1000)];
    assert_eq!(bench.shown(), all);
    bench.write(0x04, &[0x05, 0]);
    assert_eq!(bench.shown(), []);
    bench.write(0x04, &[0x07, 0]);
    assert_eq!(bench.shown(), all);
    bench.write(0x10, &0xa000_0000_u32.to_le_bytes());
    assert_eq!(bench.shown()[1..], [(0xa000_0000, 0x2000), (0xa000_4000, 0x4000)]);
    for address in [0, u32::MAX, 0x1000_0000, 0xfec0_0000] {
        bench.write(0x18, &address.to_le_bytes());
        assert_eq!(bench.shown().len(), 2, "{address:#x} is no place");
    }
    bench.write(0x18, &0x9100_0000_u32.to_le_bytes());
    assert_eq!(bench.shown().len(), 3);
}

#[test]
fn a_sleeping_function_is_hidden_and_one_that_does_not_sleep_is_not() {
    let mut bench = Bench::new(card());
    enable(&mut bench);
    bench.write(0x44, &[0x03, 0]);
    assert_eq!(bench.shown(), []);
    bench.write(0x44, &[0x00, 0]);
    assert_eq!(bench.shown().len(), 3);

    let stuck = Script { stuck_in: Some(linux::vfio::config::PowerState::D0), ..card() };
    let mut bench = Bench::new(stuck);
    enable(&mut bench);
    bench.write(0x44, &[0x03, 0]);
    assert_eq!(bench.shown().len(), 3, "it stayed awake");
}

#[test]
fn what_cannot_be_shown_is_trapped() {
    let mut bench = Bench::with(card(), true);
    enable(&mut bench);
    assert_eq!(bench.shown(), []);
    let mut function = bench.function.lock().unwrap();
    function.write_bar(BAR0, 0x1004, &[1, 2, 3, 4]);
    let mut data = [0; 4];
    function.read_bar(BAR0, 0x1004, &mut data);
    assert_eq!(data, [1, 2, 3, 4]);
    assert_eq!(bench.events.take(), None);
}

#[test]
fn vectors_are_armed_as_the_guest_lets_them_speak_and_the_pin_comes_back() {
    let mut bench = Bench::new(card());
    enable(&mut bench);
    for vector in [1_u64, 5] {
        bench.write_bar(BAR0, 0x2000 + vector * 16, &0xfee0_0000_u64.to_le_bytes());
        bench.write_bar(BAR0, 0x2008 + vector * 16, &0x31_u64.to_le_bytes());
    }
    bench.write(MSIX_AT + 2, &[0x07, 0x80]);
    assert_eq!(
        (bench.device.enabled(), bench.device.armed(IrqIndex::Msix)),
        (Some(IrqIndex::Msix), vec![1, 5])
    );
    bench.write_bar(BAR0, 0x2000 + 12, &[0; 4]);
    assert_eq!(bench.device.armed(IrqIndex::Msix), [0, 1, 5]);
    // Masked: still armed, what comes waits in the trigger and shows as pending.
    bench.write_bar(BAR0, 0x2000 + 16 + 12, &[1, 0, 0, 0]);
    assert!(bench.device.raise(IrqIndex::Msix, 1) && bench.triggers.is_pending(1));
    let mut pending = [0; 8];
    bench.function.lock().unwrap().read_bar(BAR0, 0x3000, &mut pending);
    assert_eq!(pending, [0x02, 0, 0, 0, 0, 0, 0, 0]);
    bench.write(MSIX_AT + 2, &[0x07, 0]);
    assert_eq!(bench.device.enabled(), None, "this bench has no wire for the pin");
    assert_eq!(bench.events.take(), None);
}

#[test]
fn vectors_that_could_not_be_had_are_armed_with_the_next() {
    let mut bench = Bench::new(card());
    enable(&mut bench);
    bench.write_bar(BAR0, 0x2000 + 12, &[0; 4]);
    // The kernel is asked how many vectors there are, and then for them.
    bench.device.fail_after(1, Errno::NOMEM);
    bench.write(MSIX_AT + 2, &[0x07, 0x80]);
    assert_eq!(bench.device.enabled(), None);
    assert!(matches!(bench.events.take(), Some(Event::Note(_))));
    bench.write_bar(BAR0, 0x2000 + 16 + 12, &[0; 4]);
    assert_eq!(bench.device.armed(IrqIndex::Msix), [0, 1]);
}

#[test]
fn a_reset_that_the_driver_orders_is_watched_and_leaves_config_space() {
    let without = card().with_config(0x84, &[0; 4]);
    let advanced = Script::new(1, 2)
        .with_capability(0x80, 0x13, &[6, 0b11, 0, 0])
        .with_bar(0, FakeBar::memory64(0x8000));
    for (script, order, data, rest) in [
        (card(), 0x88, [0x10, 0x80], [0x10, 0x00]),
        (card(), 0x88, [0x10, 0x00], [0x10, 0x00]),
        // It says that it has no such reset, and so the bit means nothing.
        (without, 0x88, [0x10, 0x80], [0x10, 0x80]),
        (advanced, 0x84, [1, 0], [0, 0]),
    ] {
        let resets = u32::from(data != rest);
        let mut bench = Bench::new(script);
        bench.write(0x10, &0x9000_0000_u32.to_le_bytes());
        bench.write(0x14, &[0; 4]);
        bench.write(0x04, &[0x06, 0]);
        let shown = bench.shown();
        assert!(!shown.is_empty());
        bench.write(order, &data);
        assert_eq!((bench.device.resets(), bench.hardware.report().resets), (resets, resets));
        assert_eq!((bench.shown(), bench.read(0x10) & !0xf), (shown, 0x9000_0000));
        let mut seen = Vec::new();
        for call in bench.device.calls() {
            if let Operation::Write { region: RegionIndex::CONFIG, offset, len } = call {
                seen.push((offset, len));
            }
        }
        assert!(seen.contains(&(order.into(), 2)), "the rest of the register is the hardware's: {seen:x?}");
        let mut bytes = [0; 2];
        bench.device.read(RegionIndex::CONFIG, order.into(), &mut bytes).unwrap();
        assert_eq!(bytes[0] & 0x10, rest[0] & 0x10);
    }
    let mut bench = Bench::new(Script { reset: FakeReset::Fails(Errno::NOTTY), ..card() });
    bench.write(0x88, &[0, 0x80]);
    assert!(matches!(bench.events.take(), Some(Event::Note(text)) if text.contains("failed")));
}

#[test]
fn the_pin_is_wired_when_the_guest_first_lets_the_function_decode_and_once() {
    let irqs = FakeIrqs { intx: true, msi: 4, ..FakeIrqs::default() };
    let mut bench = Bench::new(card().with_irqs(irqs));
    let wires = Arc::new(AtomicU32::new(0));
    let made = Arc::clone(&wires);
    bench.interrupts.connect_pin(Box::new(move || {
        made.fetch_add(1, Ordering::Relaxed);
        let event = || linux::event::new_event().map(Arc::new).map_err(WireError::Event);
        Ok(PinWire { trigger: event()?, resample: event()?, _listener: Box::new(()) })
    }));
    let messages = |bench: &mut Bench, on: bool| bench.write(0x4a, &[u8::from(on), 0]);
    assert_eq!((bench.device.enabled(), wires.load(Ordering::Relaxed)), (None, 0));
    messages(&mut bench, true);
    messages(&mut bench, false);
    assert_eq!(bench.device.enabled(), None, "nobody can use it yet");
    enable(&mut bench);
    assert_eq!(bench.device.enabled(), Some(IrqIndex::Intx));
    messages(&mut bench, true);
    assert_eq!(bench.device.enabled(), Some(IrqIndex::Msi));
    messages(&mut bench, false);
    assert_eq!(bench.device.enabled(), Some(IrqIndex::Intx));
    bench.function.lock().unwrap().reset();
    assert_eq!(bench.device.enabled(), None);
    enable(&mut bench);
    assert_eq!((bench.device.enabled(), wires.load(Ordering::Relaxed)), (Some(IrqIndex::Intx), 1));
    assert_eq!(bench.events.take(), None);
}

#[test]
fn msi_has_the_vectors_that_were_granted_and_that_the_host_has() {
    for (given, armed) in [(None, vec![0, 1, 2, 3]), (Some(2), vec![0, 1])] {
        let irqs = FakeIrqs { msi: 4, given, ..FakeIrqs::default() };
        let mut bench = Bench::new(card().with_irqs(irqs));
        bench.write(0x4c, &0xfee0_0000_u32.to_le_bytes());
        bench.write(0x4a, &[0x21, 0]);
        assert_eq!((bench.device.enabled(), bench.device.armed(IrqIndex::Msi)), (Some(IrqIndex::Msi), armed));
        bench.write(0x4a, &[0x20, 0]);
        assert_eq!(bench.device.enabled(), None);
    }
}

#[test]
fn switching_on_that_comes_after_switching_off_leaves_it_off() {
    let mut bench = Bench::new(card());
    enable(&mut bench);
    bench.write_bar(BAR0, 0x2000 + 12, &[0; 4]);
    let control = |high| bench.function.lock().unwrap().write_config(MSIX_AT + 2, &[0x07, high]);
    let mut changes = [control(0x80), control(0)].concat();
    assert_eq!(changes.len(), 2);
    let latest = Latest::default();
    changes.reverse();
    for change in changes {
        latest.follow(bench.id, change, |change| bench.interrupts.follow(change));
    }
    assert_eq!(bench.device.enabled(), None);
}

#[test]
fn a_reset_of_the_slot_resets_the_hardware_and_forgets_what_was_programmed() {
    let mut bench = Bench::new(card());
    enable(&mut bench);
    bench.write_bar(BAR0, 0x2000 + 12, &[0; 4]);
    bench.write(MSIX_AT + 2, &[0x07, 0x80]);
    let changes = bench.function.lock().unwrap().reset();
    assert!(changes.iter().any(|change| matches!(change, Change::Msix(change) if !change.enabled)));
    let before = (bench.device.resets(), bench.device.enabled(), bench.shown().len());
    assert_eq!(before, (1, None, 0));
    assert_eq!((bench.read(0x04) & 0x7, bench.read(0x10), bench.read(0x70) >> 31), (0, 0xc, 0));
}

#[test]
fn a_function_that_is_gone_ends_the_machine_once() {
    let mut bench = Bench::new(card());
    enable(&mut bench);
    bench.device.remove(Removal::AllOnes);
    for _ in 0..3 {
        assert_eq!(bench.read(0x08), u32::MAX);
    }
    let Some(Event::Fault(text)) = bench.events.take() else { panic!("no fault") };
    assert!(text.contains("0000:03:00.0") && text.contains("no longer answers"), "{text}");
    assert_eq!(bench.events.take(), None);
}

#[test]
fn removal_at_any_call_of_the_examination_is_an_error_and_no_more() {
    let calls = {
        let device = Arc::new(FakeDevice::new(card()).unwrap());
        testing::hardware(&device);
        device.calls().len()
    };
    for after in 0..calls {
        for how in [Removal::Fails(Errno::NODEV), Removal::AllOnes] {
            let device = Arc::new(FakeDevice::new(card()).unwrap());
            device.remove_after(after, how);
            // Either outcome will do; a panic or an endless walk will not.
            let _ = testing::examine(&device);
        }
    }
    let bridge = Arc::new(FakeDevice::new(card().with_config(0x0e, &[0x01])).unwrap());
    assert!(testing::examine(&bridge).is_err_and(|error| error.to_string().contains("bridge")));
}

#[test]
fn a_bar_that_cannot_be_mapped_is_a_refusal_that_names_it() {
    let device = Arc::new(FakeDevice::new(card()).unwrap());
    testing::hardware(&device);
    let calls = device.calls();
    let maps: Vec<_> = (0..calls.len()).filter(|at| matches!(calls[*at], Operation::Map { .. })).collect();
    assert!(!maps.is_empty(), "the BARs are mapped before the guest runs");
    for at in maps {
        let Operation::Map { region, .. } = calls[at] else { continue };
        let device = Arc::new(FakeDevice::new(card()).unwrap());
        device.fail_after(at, Errno::BUSY);
        let text = testing::examine(&device).err().unwrap().to_string();
        assert!(text.contains(&format!("BAR {} cannot be mapped", region.0)), "{text}");
        assert!(text.contains("/proc/iomem"), "{text}");
    }
}

/// What a hostile guest does.
#[derive(Clone, Debug)]
enum Deed {
    Config(u16, Vec<u8>),
    Table(u64, Vec<u8>),
    Look(u16),
    Reset,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let bytes = || proptest::collection::vec(prop_oneof![Just(0), Just(0xff), any::<u8>()], 1..=4);
    let offset = prop_oneof![4 => Just(0x04), 2 => 0x10..0x28_u16, 2 => 0x40..0xc0_u16, 1 => 0..0x1000_u16];
    let deed = prop_oneof![
        8 => (offset, bytes()).prop_map(|(offset, data)| Deed::Config(offset, data)),
        4 => (0x1f00..0x3100_u64, bytes()).prop_map(|(offset, data)| Deed::Table(offset, data)),
        2 => (0..0x1000_u16).prop_map(Deed::Look),
        1 => Just(Deed::Reset),
    ];
    proptest::collection::vec(deed, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 96,
        rng_seed: RngSeed::Fixed(0xa110d),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn storms_leave_what_is_shown_where_the_hierarchy_says(deeds in deeds()) {
        let mut bench = Bench::new(card());
        for deed in deeds {
            match deed {
                Deed::Config(offset, data) => bench.write(offset, &data),
                Deed::Table(offset, data) => bench.write_bar(BAR0, offset, &data),
                Deed::Look(offset) => drop(bench.read(offset)),
                // As the guest's bridge would: the hierarchy learns of it afterwards.
                Deed::Reset => {
                    let changes = bench.function.lock().unwrap().reset();
                    changes.iter().for_each(|change| bench.interrupts.follow(change));
                    for effect in bench.hierarchy.refresh(bench.id) {
                        if let pci::Effect::Unmap(mapping) = effect {
                            bench.followers[0].unmap(&mapping);
                        }
                    }
                }
            }
            let mut expected: Vec<_> = bench.hierarchy.mapped().iter().flat_map(|at| parts(&bench.hardware, at)).collect();
            expected.sort_unstable();
            assert_eq!(bench.shown(), expected);
        }
        assert!(bench.events.take().is_none_or(|event| matches!(event, Event::Note(_))), "the machine goes on");
        assert!(bench.device.calls().len() < 4000, "no storm of calls");
        // After all that, the function works again.
        bench.function.lock().unwrap().reset();
        for effect in bench.hierarchy.refresh(bench.id) {
            if let pci::Effect::Unmap(mapping) = effect {
                bench.followers[0].unmap(&mapping);
            }
        }
        enable(&mut bench);
        assert_eq!(bench.shown().len(), 3);
    }

    #[test]
    fn hardware_of_random_bytes_is_refused_or_gives_sound_chains(config in proptest::collection::vec(any::<u8>(), 0xfc0)) {
        let script = card().with_config(0x34, &config[..12]).with_config(0x40, &config[12..]);
        let device = Arc::new(FakeDevice::new(script.clone()).unwrap());
        if testing::examine(&device).is_ok() {
            let bench = Bench::new(script);
            bench.standard();
            bench.extended();
        }
    }
}

/// The parts of a mapping that need no trap.
fn parts(hardware: &Hardware, mapping: &Mapping) -> Vec<(u64, u64)> {
    if mapping.space == Space::Io {
        return Vec::new();
    }
    let areas = hardware.mappable(mapping.bar).iter();
    areas.map(|area| (mapping.range.start + area.offset, area.size)).collect()
}

#[test]
fn config_space_of_ours_costs_the_hardware_no_call() {
    let mut bench = Bench::new(card());
    let calls = |bench: &Bench| {
        let touches = |call: &&Operation| matches!(call, Operation::Read { .. } | Operation::Write { .. });
        bench.device.calls().iter().filter(touches).count()
    };
    let before = calls(&bench);
    bench.write(0x10, &[0xff; 4]);
    for offset in [0x10, 0x14, 0x30, 0x70, 0x74] {
        bench.read(offset);
    }
    assert_eq!(calls(&bench), before);
    bench.read(0x00);
    assert_eq!(calls(&bench), before + 1);
}

#[test]
fn legacy_vga_reaches_the_card_where_bridges_and_command_let_it() {
    let mut bench = Bench::new(Script { vga: true, rom: testing::rom_of(0), ..Script::new(0x1013, 0xb8) });
    let ranges = |bench: &Bench| -> Vec<_> {
        bench.hierarchy.mapped().iter().map(|mapping| (mapping.space, mapping.range.clone())).collect()
    };
    assert_eq!(ranges(&bench), []);
    let (memory, mono, color) =
        ((Space::Memory, 0xa_0000..0xc_0000), (Space::Io, 0x3b0..0x3bc), (Space::Io, 0x3c0..0x3e0));
    bench.write(4, &[1, 0]);
    assert_eq!(ranges(&bench), [mono.clone(), color.clone()]);
    bench.write(4, &[3, 0]);
    let mut found = ranges(&bench);
    found.sort_by_key(|(_, range)| range.start);
    assert_eq!(found, [mono, color, memory]);
    // Each at its own address in the kernel's region.
    let mut function = bench.function.lock().unwrap();
    for (range, offset, at) in [
        (BarIndex::VGA_MEMORY, 0x1_8000, 0xb_8000),
        (BarIndex::VGA_PORTS_MONO, 4, 0x3b4),
        (BarIndex::VGA_PORTS_COLOR, 0x14, 0x3d4),
    ] {
        function.write_bar(range, offset, &[0x41, 0x07]);
        let mut seen = [0; 2];
        bench.device.read(RegionIndex::VGA, at, &mut seen).unwrap();
        assert_eq!(seen, [0x41, 0x07], "{range}");
        let mut read = [0; 2];
        function.read_bar(range, offset, &mut read);
        assert_eq!(read, seen, "{range}");
    }
}
