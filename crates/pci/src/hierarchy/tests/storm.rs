//! Seeded storms of guest writes over every config space: the rules of mapping hold after each, and reset undoes all.

use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};

use super::{
    BarKind, Bdf, Effect, FunctionId, Hierarchy, HostBridge, HostBridgePreset, LOW, Lpc, LpcPreset, Mapping,
    Place, Space, add, apertures, bar, bdf, endpoint, open_port, root, root_port, shared,
};
use crate::Forwarding;
use crate::function::lock;
use crate::test_function::{TestFunction, seeded};

const ADDRESSES: [Bdf; 10] = [
    bdf_const(0, 0, 0),
    bdf_const(0, 1, 0),
    bdf_const(0, 2, 0),
    bdf_const(0, 3, 0),
    bdf_const(0, 3, 1),
    bdf_const(0, 0x1f, 0),
    bdf_const(5, 0, 0),
    bdf_const(5, 0, 1),
    bdf_const(6, 0, 0),
    bdf_const(0xff, 0, 0),
];

const fn bdf_const(bus: u8, device: u8, function: u8) -> Bdf {
    Bdf::new(bus, device, function).unwrap()
}

/// A whole machine: bridges, two ports, two functions below the first and one below the second, two on the root bus.
fn machine() -> Hierarchy {
    let mut hierarchy = Hierarchy::new(apertures());
    let bridge = HostBridge::new(&HostBridgePreset::default()).unwrap();
    add(&mut hierarchy, root(0, 0), shared(bridge));
    add(&mut hierarchy, root(0x1f, 0), shared(Lpc::new(&LpcPreset::default())));
    let first = add(&mut hierarchy, root(1, 0), root_port(1));
    let second = add(&mut hierarchy, root(2, 0), root_port(2));
    for (port, function) in [(first, 0), (first, 1), (second, 0)] {
        add(&mut hierarchy, Place::Slot { port, function }, shared(endpoint().with_vga()));
    }
    add(&mut hierarchy, root(3, 0), shared(endpoint().with_vga()));
    let large = TestFunction::new(&[bar(0, BarKind::Memory32, 1 << 30), bar(1, BarKind::Memory64, 1 << 20)]);
    add(&mut hierarchy, root(3, 1), shared(large));
    hierarchy
}

/// Everything a guest can read through the functions, whatever the bus numbers are.
fn snapshot(hierarchy: &Hierarchy) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (id, _) in hierarchy.functions() {
        let function = hierarchy.function(id).unwrap();
        for offset in (0..0x1000).step_by(4) {
            let mut data = [0; 4];
            lock(&function).read_config(offset, &mut data);
            bytes.extend(data);
        }
    }
    bytes
}

#[derive(Clone, Debug)]
struct Write {
    at: Bdf,
    offset: u16,
    data: Vec<u8>,
}

fn write() -> impl Strategy<Value = Write> {
    let at = proptest::sample::select(&ADDRESSES[..]);
    // Nonsense anywhere, of any width; and what is likely to open a window, place a BAR or switch decode.
    let nonsense = (0_u16..=0xffff, proptest::collection::vec(any::<u8>(), 0..9));
    let header = (0_u16..0x40, proptest::collection::vec(any::<u8>(), 1..5));
    let command = (Just(4), any::<u8>().prop_map(|bits| vec![bits | 3, bits & 7]));
    let registers = (4_u16..16).prop_map(|index| index * 4);
    let address = prop_oneof![
        (0_u32..4, 0_u32..8).prop_map(|(gib, page)| LOW as u32 + (gib << 28) + (page << 12)),
        (0_u32..0x10).prop_map(|kib| 0x2000 + (kib << 10)),
        Just(0),
        Just(u32::MAX),
        0_u32..0x20,
        any::<u32>(),
    ];
    let placed =
        (registers, address).prop_map(|(offset, address)| (offset, (address | 1).to_le_bytes().to_vec()));
    let plain = prop_oneof![1 => nonsense, 2 => header, 3 => command, 6 => placed];
    (at, plain).prop_map(|(at, (offset, data))| Write { at, offset, data })
}

/// Carries effects out as a machine would: it may never find a place taken or a mapping missing.
fn carry_out(carried: &mut Vec<Mapping>, effects: Vec<Effect>) {
    for effect in effects {
        match effect {
            Effect::Map(mapping) => {
                for present in carried.iter().filter(|present| present.space == mapping.space) {
                    let apart =
                        present.range.end <= mapping.range.start || mapping.range.end <= present.range.start;
                    assert!(apart, "{mapping:x?} meets {present:x?}");
                }
                carried.push(mapping);
            }
            Effect::Unmap(mapping) => {
                let index = carried.iter().position(|present| *present == mapping).unwrap();
                carried.remove(index);
            }
            Effect::Changed(..) => {}
        }
    }
}

fn forwarding(hierarchy: &Hierarchy, id: FunctionId) -> Option<Forwarding> {
    let (_, place) = hierarchy.functions().find(|(present, _)| *present == id).unwrap();
    let Place::Slot { port, .. } = place else { return None };
    lock(&hierarchy.function(port).unwrap()).forwarding()
}

/// Says each rule anew, from what the functions themselves say now.
fn check(hierarchy: &Hierarchy) {
    let within = |outer: &std::ops::Range<u64>, inner: &std::ops::Range<u64>| {
        outer.start <= inner.start && inner.end <= outer.end
    };
    for mapping in hierarchy.mapped() {
        let bars = lock(&hierarchy.function(mapping.function).unwrap()).bars();
        let bar = bars.iter().find(|bar| bar.index == mapping.bar).unwrap();
        let range = mapping.range.clone();
        assert!(bar.decode && bar.address != 0 && range == (bar.address..bar.address + bar.size));
        let port = forwarding(hierarchy, mapping.function);
        if bar.kind.is_vga() {
            assert!(port.is_none_or(|port| port.vga_memory || port.vga_ports));
            continue;
        }
        let open = |window: &Option<std::ops::Range<u64>>| {
            window.as_ref().is_some_and(|window| within(window, &range))
        };
        match mapping.space {
            Space::Io => {
                assert!(within(&apertures().io, &range));
                assert!(port.is_none_or(|port| open(&port.io)));
            }
            Space::Memory => {
                assert!(within(&apertures().low, &range) || within(&apertures().high, &range));
                assert!(port.is_none_or(|port| open(&port.memory) || open(&port.prefetchable)));
            }
        }
    }
}

proptest! {
    #![proptest_config(seeded(96))]

    #[test]
    fn storms_break_no_rule_and_reset_restores_everything(
        ports_open in any::<bool>(),
        writes in proptest::collection::vec(write(), 0..300),
    ) {
        let mut hierarchy = machine();
        let before = snapshot(&hierarchy);
        if ports_open {
            open_port(&mut hierarchy, bdf(0, 1, 0));
            open_port(&mut hierarchy, bdf(0, 2, 0));
            hierarchy.write_config(bdf(0, 2, 0), 0x18, &[0, 6, 6]);
        }
        let mut carried = hierarchy.mapped().to_vec();
        for write in writes {
            let effects = hierarchy.write_config(write.at, write.offset, &write.data);
            carry_out(&mut carried, effects);
            check(&hierarchy);
            let mut data = write.data;
            hierarchy.read_config(write.at, write.offset, &mut data);
        }
        let effects = hierarchy.reset();
        carry_out(&mut carried, effects);
        assert_eq!(carried, []);
        assert_eq!(hierarchy.mapped(), []);
        assert!(snapshot(&hierarchy) == before, "a register kept what the guest wrote");
    }
}

#[test]
fn a_storm_maps_something() {
    // Keeps the storm honest: writes such as it makes do get BARs mapped below a port and beside it.
    let mut hierarchy = machine();
    open_port(&mut hierarchy, bdf(0, 1, 0));
    for at in [bdf(5, 0, 0), bdf(5, 0, 1), bdf(0, 3, 0)] {
        let address = if at.bus() == 5 { LOW as u32 + (u32::from(at.function()) << 12) } else { 0xd000_0000 };
        hierarchy.write_config(at, 0x10, &(address | 1).to_le_bytes());
        hierarchy.write_config(at, 4, &[3, 0]);
    }
    let memory = hierarchy.mapped().iter().filter(|mapping| mapping.bar.get() == 0).count();
    assert_eq!(memory, 3);
}
