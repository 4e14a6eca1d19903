//! Tests of routing, of who is mapped where, and of storms of guest nonsense.

use std::sync::{Arc, Mutex};

use super::{Effect, FunctionId, Hierarchy, Occupied, Place, pieces};
use crate::register::{self, bridge_control, command};
use crate::test_function::{TestFunction, bar};
use crate::{
    Apertures, BarIndex, BarKind, Bdf, Change, Function, HostBridge, HostBridgePreset, Link, LinkSpeed, Lpc,
    LpcPreset, Mapping, Pin, RootPort, RootPortOptions, SharedFunction, Space,
};

mod storm;

const LOW: u64 = 0xc000_0000;
const HIGH: u64 = 0x10_0000_0000;

fn apertures() -> Apertures {
    Apertures { low: LOW..0xfec0_0000, high: HIGH..0x100_0000_0000, io: 0x1000..0x1_0000 }
}

fn shared(function: impl Function + 'static) -> SharedFunction {
    Arc::new(Mutex::new(function))
}

fn root_port(number: u8) -> SharedFunction {
    shared(
        RootPort::new(&RootPortOptions {
            port_number: number,
            slot_number: number.into(),
            link: Link { speed: LinkSpeed::Gen3, width: 8 },
            occupied: true,
            atomics: 0,
        })
        .unwrap(),
    )
}

fn bdf(bus: u8, device: u8, function: u8) -> Bdf {
    Bdf::new(bus, device, function).unwrap()
}

fn root(device: u8, function: u8) -> Place {
    Place::Root { device, function }
}

/// One of each kind of BAR: 0 Memory32 4 KiB, 1 Io32 32, 2-3 Memory64 8 GiB, 4 Io16 256, ROM 64 KiB.
fn endpoint() -> TestFunction {
    TestFunction::new(&[
        bar(0, BarKind::Memory32, 0x1000),
        bar(1, BarKind::Io32, 0x20),
        bar(2, BarKind::Memory64, 0x2_0000_0000),
        bar(4, BarKind::Io16, 0x100),
        bar(6, BarKind::Rom, 0x1_0000),
    ])
}

fn add(hierarchy: &mut Hierarchy, place: Place, function: SharedFunction) -> FunctionId {
    hierarchy.add(place, function).unwrap().0
}

fn read(hierarchy: &Hierarchy, bdf: Bdf, offset: u16) -> u32 {
    let mut data = [0; 4];
    hierarchy.read_config(bdf, offset, &mut data);
    u32::from_le_bytes(data)
}

/// Ranges that are mapped, as (function, BAR, start, end).
fn ranges(hierarchy: &Hierarchy) -> Vec<(FunctionId, u8, u64, u64)> {
    let mut ranges: Vec<_> = hierarchy
        .mapped()
        .iter()
        .map(|mapping| (mapping.function, mapping.bar.get(), mapping.range.start, mapping.range.end))
        .collect();
    ranges.sort_unstable();
    ranges
}

const EVERYTHING: u16 = command::IO | command::MEMORY;

/// Bus numbers 5 to 9, memory 0xc0000000-0xc01fffff, prefetchable 0x10_0000_0000-0x1f_ffff_ffff, I/O 0x2000-0x3fff.
fn open_port(hierarchy: &mut Hierarchy, port: Bdf) {
    for (offset, value) in [
        (register::PRIMARY_BUS, 0x0009_0500_u32),
        (register::MEMORY_BASE, 0xc010_c000),
        (register::PREFETCHABLE_BASE, 0xfff1_0001),
        (register::PREFETCHABLE_BASE_UPPER, 0x10),
        (register::PREFETCHABLE_LIMIT_UPPER, 0x1f),
    ] {
        hierarchy.write_config(port, offset, &value.to_le_bytes());
    }
    hierarchy.write_config(port, register::IO_BASE, &[0x20, 0x30]);
    hierarchy.write_config(port, register::COMMAND, &EVERYTHING.to_le_bytes());
}

#[test]
fn a_place_holds_one_function_and_must_exist() {
    let mut hierarchy = Hierarchy::new(apertures());
    let port = add(&mut hierarchy, root(1, 0), root_port(1));
    let slot = |port, function| Place::Slot { port, function };
    let below = add(&mut hierarchy, slot(port, 0), shared(endpoint()));
    for (place, error) in [
        (root(1, 0), Occupied::Taken(root(1, 0))),
        (slot(port, 0), Occupied::Taken(slot(port, 0))),
        (root(32, 0), Occupied::Missing(root(32, 0))),
        (root(0, 8), Occupied::Missing(root(0, 8))),
        (slot(port, 8), Occupied::Missing(slot(port, 8))),
        (slot(below, 0), Occupied::Missing(slot(below, 0))),
        (slot(FunctionId(99), 0), Occupied::Missing(slot(FunctionId(99), 0))),
    ] {
        assert_eq!(hierarchy.add(place, shared(endpoint())).unwrap_err(), error);
    }
    hierarchy.remove(port);
    assert_eq!(hierarchy.functions().count(), 0, "what is below a port leaves with it");
}

#[test]
fn config_accesses_follow_the_bus_numbers() {
    let mut hierarchy = Hierarchy::new(apertures());
    let port = add(&mut hierarchy, root(3, 0), root_port(1));
    let below = add(&mut hierarchy, Place::Slot { port, function: 0 }, shared(endpoint()));
    let present = 0x5678_1234;
    for (numbers, bus, answer, guest) in [
        ([0, 0, 0], 0, u32::MAX, None),
        ([0, 1, 1], 1, present, Some(bdf(1, 0, 0))),
        ([7, 1, 1], 1, present, Some(bdf(1, 0, 0))),
        ([0, 0x20, 0xff], 0x20, present, Some(bdf(0x20, 0, 0))),
        ([0, 0x20, 0xff], 0x21, u32::MAX, Some(bdf(0x20, 0, 0))),
        ([0, 0xff, 0], 0xff, u32::MAX, None),
        ([0, 0xff, 0xff], 0xff, present, Some(bdf(0xff, 0, 0))),
    ] {
        hierarchy.write_config(bdf(0, 3, 0), register::PRIMARY_BUS, &numbers);
        assert_eq!(read(&hierarchy, bdf(bus, 0, 0), 0), answer, "{numbers:x?} {bus:#x}");
        assert_eq!(hierarchy.bdf(below), guest);
    }
    for absent in [bdf(0xff, 1, 0), bdf(0xff, 0, 1), bdf(0, 0, 0), bdf(0, 3, 1), bdf(1, 0, 0)] {
        assert_eq!(read(&hierarchy, absent, 0), u32::MAX, "{absent}");
        assert_eq!(hierarchy.write_config(absent, 4, &[0xff; 4]), []);
    }
    assert_eq!(hierarchy.bdf(port), Some(bdf(0, 3, 0)));
}

#[test]
fn of_two_ports_with_one_bus_number_the_lower_device_answers() {
    let mut hierarchy = Hierarchy::new(apertures());
    let second = add(&mut hierarchy, root(4, 0), root_port(1));
    let first = add(&mut hierarchy, root(3, 0), root_port(2));
    let behind_second = add(&mut hierarchy, Place::Slot { port: second, function: 0 }, shared(endpoint()));
    let behind_first = add(&mut hierarchy, Place::Slot { port: first, function: 0 }, shared(endpoint()));
    for device in [3, 4] {
        hierarchy.write_config(bdf(0, device, 0), register::PRIMARY_BUS, &[0, 1, 1]);
    }
    assert_eq!(hierarchy.bdf(behind_first), Some(bdf(1, 0, 0)));
    assert_eq!(hierarchy.bdf(behind_second), None);
    hierarchy.write_config(bdf(0, 3, 0), register::PRIMARY_BUS, &[0, 0, 9]);
    assert_eq!(hierarchy.bdf(behind_second), Some(bdf(1, 0, 0)), "secondary bus 0 is not programmed yet");
}

#[test]
fn the_multifunction_bit_says_whether_the_slot_has_more() {
    let mut hierarchy = Hierarchy::new(apertures());
    add(&mut hierarchy, root(2, 0), shared(endpoint()));
    let header = |hierarchy: &Hierarchy, function, offset: u16, len: usize| {
        let mut data = vec![0; len];
        hierarchy.read_config(bdf(0, 2, function), offset, &mut data);
        data[usize::from(register::HEADER_TYPE - offset)]
    };
    assert_eq!(header(&hierarchy, 0, 0xe, 1), 0x00);
    let other = add(&mut hierarchy, root(2, 5), shared(endpoint()));
    for (function, offset, len) in [(0, 0xe, 1), (0, 0xc, 4), (0, 0xe, 2), (0, 0xb, 8), (5, 0xe, 1)] {
        assert_eq!(header(&hierarchy, function, offset, len), 0x80, "{function} {offset:#x}+{len}");
    }
    hierarchy.remove(other);
    assert_eq!(header(&hierarchy, 0, 0xe, 1), 0x00);
}

#[test]
fn functions_see_only_aligned_accesses_inside_their_space() {
    for (offset, len, expected) in [
        (0, 4, &[(0, 4)][..]),
        (1, 4, &[(1, 1), (2, 2), (4, 1)][..]),
        (2, 4, &[(2, 2), (4, 2)][..]),
        (3, 1, &[(3, 1)][..]),
        (0xff8, 8, &[(0xff8, 4), (0xffc, 4)][..]),
        (0xffe, 4, &[(0xffe, 2)][..]),
        (0x1000, 4, &[][..]),
        (0xffff, 2, &[][..]),
        (0, 0, &[][..]),
    ] {
        let found: Vec<_> = pieces(offset, len).map(|piece| (piece.offset, piece.len)).collect();
        assert_eq!(found, expected, "{offset:#x}+{len}");
    }
}

#[test]
fn a_bar_on_the_root_bus_is_mapped_where_it_may_be() {
    let start = |low: u32| u64::from(low);
    for (what, offset, low, high, command, expected) in [
        ("memory", 0x10, 0xc000_0000, None, 2, Some((0, start(0xc000_0000), 0x1000))),
        ("decode off", 0x10, 0xc000_0000, None, 1, None),
        ("zero", 0x10, 0, None, 2, None),
        ("all ones", 0x10, u32::MAX, None, 2, None),
        ("in RAM", 0x10, 0x1000_0000, None, 2, None),
        ("last place", 0x10, 0xfebf_f000, None, 2, Some((0, start(0xfebf_f000), 0x1000))),
        ("past the aperture", 0x10, 0xfec0_0000, None, 2, None),
        ("ports", 0x14, 0xff01, None, 1, Some((1, 0xff00, 0x20))),
        ("the board's ports", 0x14, 0x3f8, None, 1, None),
        ("past the ports", 0x14, 0x1_0000, None, 1, None),
        ("all ports", 0x14, u32::MAX, None, 1, None),
        ("16-bit ports", 0x20, 0xabcd_1000, None, 1, Some((4, 0x1000, 0x100))),
        ("16-bit all ones", 0x20, u32::MAX, None, 1, None),
        ("64-bit", 0x18, 0, Some(0x10), 2, Some((2, HIGH, 0x2_0000_0000))),
        ("64-bit low half ones", 0x18, u32::MAX, Some(0), 2, None),
        ("64-bit all ones", 0x18, u32::MAX, Some(u32::MAX), 2, None),
        ("64-bit too high", 0x18, 0, Some(0x100), 2, None),
        ("64-bit runs out", 0x18, 0, Some(0xff), 2, Some((2, 0xfe_0000_0000, 0x2_0000_0000))),
        ("ROM off", 0x30, 0xc000_0000, None, 2, None),
        ("ROM on", 0x30, 0xc000_0001, None, 2, Some((6, start(0xc000_0000), 0x1_0000))),
        ("ROM on, decode off", 0x30, 0xc000_0001, None, 1, None),
    ] {
        let mut hierarchy = Hierarchy::new(apertures());
        let id = add(&mut hierarchy, root(2, 0), shared(endpoint()));
        hierarchy.write_config(bdf(0, 2, 0), 4, &[command, 0]);
        // The upper half first: so that the lower never shows below 4 GiB on its way.
        if let Some(high) = high {
            hierarchy.write_config(bdf(0, 2, 0), offset + 4, &high.to_le_bytes());
        }
        let low: u32 = low;
        hierarchy.write_config(bdf(0, 2, 0), offset, &low.to_le_bytes());
        let expected: Vec<_> =
            expected.into_iter().map(|(bar, start, size)| (id, bar, start, start + size)).collect();
        assert_eq!(ranges(&hierarchy), expected, "{what}");
    }
}

#[test]
fn a_moved_bar_leaves_before_it_comes() {
    let mut hierarchy = Hierarchy::new(apertures());
    let id = add(&mut hierarchy, root(2, 0), shared(endpoint()));
    let at = |start| Mapping {
        function: id,
        bar: BarIndex::bar(0).unwrap(),
        space: Space::Memory,
        range: start..start + 0x1000,
    };
    let device = bdf(0, 2, 0);
    assert_eq!(hierarchy.write_config(device, 0x10, &0xc000_0000_u32.to_le_bytes()), []);
    assert_eq!(hierarchy.write_config(device, 4, &[2, 0]), [Effect::Map(at(0xc000_0000))]);
    assert_eq!(hierarchy.write_config(device, 4, &[6, 0]), [], "nothing moved");
    assert_eq!(
        hierarchy.write_config(device, 0x10, &0xd000_0000_u32.to_le_bytes()),
        [Effect::Unmap(at(0xc000_0000)), Effect::Map(at(0xd000_0000))]
    );
    assert_eq!(hierarchy.write_config(device, 0x10, &[0xff; 4]), [Effect::Unmap(at(0xd000_0000))]);
    hierarchy.write_config(device, 0x10, &0xd000_0000_u32.to_le_bytes());
    assert_eq!(hierarchy.remove(id), [Effect::Unmap(at(0xd000_0000))]);
}

#[test]
fn the_first_at_an_address_keeps_it_and_the_next_inherits() {
    let mut hierarchy = Hierarchy::new(apertures());
    let first = add(&mut hierarchy, root(2, 0), shared(endpoint()));
    let second = add(&mut hierarchy, root(3, 0), shared(endpoint()));
    for device in [3, 2] {
        hierarchy.write_config(bdf(0, device, 0), 0x10, &0xc000_0000_u32.to_le_bytes());
        hierarchy.write_config(bdf(0, device, 0), 4, &[2, 0]);
    }
    assert_eq!(ranges(&hierarchy), [(second, 0, LOW, LOW + 0x1000)]);
    // A range of another space at the same number is no neighbour.
    hierarchy.write_config(bdf(0, 2, 0), 0x14, &0x1001_u32.to_le_bytes());
    hierarchy.write_config(bdf(0, 3, 0), 4, &[0, 0]);
    assert_eq!(ranges(&hierarchy), [(first, 0, LOW, LOW + 0x1000)]);
    hierarchy.write_config(bdf(0, 3, 0), 4, &[2, 0]);
    assert_eq!(ranges(&hierarchy), [(first, 0, LOW, LOW + 0x1000)]);
    // Partly on the neighbour is as bad as wholly: the ROM of 64 KiB lies over BAR 0.
    hierarchy.write_config(bdf(0, 3, 0), 0x30, &0xc000_0001_u32.to_le_bytes());
    assert_eq!(ranges(&hierarchy), [(first, 0, LOW, LOW + 0x1000)]);
    hierarchy.remove(first);
    assert_eq!(ranges(&hierarchy), [(second, 0, LOW, LOW + 0x1000)]);
}

#[test]
fn a_bar_below_a_port_needs_an_open_window_above() {
    for (what, offset, value, mapped) in [
        ("all open", 0x4, 0x3_u32, &[0, 1, 2][..]),
        ("memory decode off", 0x4, 0x1, &[1][..]),
        ("I/O decode off", 0x4, 0x2, &[0, 2][..]),
        ("memory window closed", 0x20, 0xc000_c010, &[1, 2][..]),
        ("memory window elsewhere", 0x20, 0xd010_d000, &[1, 2][..]),
        ("prefetchable window too small", 0x2c, 0x10, &[0, 1][..]),
        ("prefetchable window above it all", 0x28, 0x11, &[0, 1][..]),
        ("I/O window elsewhere", 0x1c, 0x5040, &[0, 2][..]),
        ("bus numbers do not count", 0x18, 0, &[0, 1, 2][..]),
        ("ISA mode lets the first 256 ports of a KiB pass", 0x3c, 0x0004_0000, &[0, 1, 2][..]),
    ] {
        let mut hierarchy = Hierarchy::new(apertures());
        let port = add(&mut hierarchy, root(1, 0), root_port(1));
        let below = add(&mut hierarchy, Place::Slot { port, function: 0 }, shared(endpoint()));
        open_port(&mut hierarchy, bdf(0, 1, 0));
        let device = hierarchy.bdf(below).unwrap();
        for (offset, value) in [(0x1c, 0x10_u32), (0x10, 0xc000_0000), (0x14, 0x2001), (0x4, 3)] {
            hierarchy.write_config(device, offset, &value.to_le_bytes());
        }
        hierarchy.write_config(bdf(0, 1, 0), offset, &value.to_le_bytes());
        let found: Vec<_> = ranges(&hierarchy).iter().map(|range| range.1).collect();
        assert_eq!(found, mapped, "{what}");
    }
}

#[test]
fn isa_mode_keeps_the_rest_of_each_kib_from_passing() {
    let mut hierarchy = Hierarchy::new(apertures());
    let port = add(&mut hierarchy, root(1, 0), root_port(1));
    let below = add(&mut hierarchy, Place::Slot { port, function: 0 }, shared(endpoint()));
    open_port(&mut hierarchy, bdf(0, 1, 0));
    hierarchy.write_config(bdf(0, 1, 0), register::BRIDGE_CONTROL, &bridge_control::ISA.to_le_bytes());
    let device = hierarchy.bdf(below).unwrap();
    hierarchy.write_config(device, 4, &[1, 0]);
    for (address, passes) in
        [(0x2000_u32, true), (0x20e0, true), (0x2100, false), (0x23e0, false), (0x2400, true)]
    {
        hierarchy.write_config(device, 0x14, &address.to_le_bytes());
        assert_eq!(!ranges(&hierarchy).is_empty(), passes, "{address:#x}");
    }
}

#[test]
fn legacy_vga_passes_a_port_only_with_its_vga_bit() {
    let mut hierarchy = Hierarchy::new(apertures());
    let port = add(&mut hierarchy, root(1, 0), root_port(1));
    let below = add(&mut hierarchy, Place::Slot { port, function: 0 }, shared(endpoint().with_vga()));
    open_port(&mut hierarchy, bdf(0, 1, 0));
    let device = hierarchy.bdf(below).unwrap();
    hierarchy.write_config(device, 4, &[3, 0]);
    assert_eq!(ranges(&hierarchy), []);
    hierarchy.write_config(bdf(0, 1, 0), register::BRIDGE_CONTROL, &bridge_control::VGA.to_le_bytes());
    let all = [(below, 8, 0xa_0000, 0xc_0000), (below, 9, 0x3b0, 0x3bc), (below, 10, 0x3c0, 0x3e0)];
    assert_eq!(ranges(&hierarchy), all);
    hierarchy.write_config(bdf(0, 1, 0), 4, &[2, 0]);
    assert_eq!(ranges(&hierarchy), all[..1]);
    hierarchy.write_config(device, 4, &[1, 0]);
    assert_eq!(ranges(&hierarchy), []);
}

#[test]
fn a_secondary_bus_reset_resets_the_slot_and_no_other() {
    let mut hierarchy = Hierarchy::new(apertures());
    let port = add(&mut hierarchy, root(1, 0), root_port(1));
    let below = add(&mut hierarchy, Place::Slot { port, function: 0 }, shared(endpoint()));
    let beside = add(&mut hierarchy, root(2, 0), shared(endpoint()));
    open_port(&mut hierarchy, bdf(0, 1, 0));
    for (device, address) in [(bdf(5, 0, 0), 0xc000_0000_u32), (bdf(0, 2, 0), 0xd000_0000)] {
        hierarchy.write_config(device, 0x10, &address.to_le_bytes());
        hierarchy.write_config(device, 4, &[2, 0]);
    }
    assert_eq!(ranges(&hierarchy).len(), 2);
    let effects = hierarchy.write_config(bdf(0, 1, 0), register::BRIDGE_CONTROL, &[0x40, 0]);
    assert!(effects.contains(&Effect::Changed(port, Change::SecondaryBusReset)));
    let left = |effect: &Effect| matches!(effect, Effect::Unmap(mapping) if mapping.function == below);
    assert!(effects.iter().any(left));
    assert_eq!(ranges(&hierarchy), [(beside, 0, 0xd000_0000, 0xd000_1000)]);
    assert_eq!(read(&hierarchy, bdf(5, 0, 0), 4) & 0xffff, 0);
    assert_eq!(hierarchy.bdf(below), Some(bdf(5, 0, 0)), "the port keeps its numbers");
}

#[test]
fn pins_leave_by_the_root_port_unchanged() {
    let mut hierarchy = Hierarchy::new(apertures());
    let port = add(&mut hierarchy, root(6, 1), root_port(1));
    let below = add(&mut hierarchy, Place::Slot { port, function: 1 }, shared(endpoint()));
    assert_eq!(hierarchy.root_pin(below, Pin::B), Some((6, Pin::B)));
    assert_eq!(hierarchy.root_pin(port, Pin::A), Some((6, Pin::A)));
    assert_eq!(hierarchy.root_pin(FunctionId(99), Pin::A), None);
}

#[test]
fn a_function_that_moves_its_own_bars_is_followed_on_request() {
    let mut hierarchy = Hierarchy::new(apertures());
    let function = Arc::new(Mutex::new(endpoint()));
    let id = add(&mut hierarchy, root(2, 0), function.clone());
    {
        let mut function = function.lock().unwrap();
        function.config.write(0x10, &0xc000_0000_u32.to_le_bytes());
        function.config.write(4, &[2, 0]);
    }
    assert_eq!(hierarchy.mapped(), []);
    assert_eq!(hierarchy.refresh(id).len(), 1);
    assert_eq!(hierarchy.refresh(id), []);
    assert_eq!(ranges(&hierarchy), [(id, 0, LOW, LOW + 0x1000)]);
}
