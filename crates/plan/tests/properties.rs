//! What holds for every plan and every refusal, on hosts and wishes made by chance.

#![allow(clippy::unwrap_used, reason = "a host that cannot be built fails its test")]

mod board;

use std::collections::{BTreeMap, BTreeSet};

use board::Board;
use proptest::prelude::*;
use spec::inventory::{BarKind, Function, FunctionKind, HoldKind, HoldStrength, HostInventory, ResetMethod};
use spec::plan::{ClaimRecord, Plan, PlannedReset, Refusal, Source, StepAction};
use spec::seat_file::{
    ClockTime, ConsoleHandover, CpuRequest, DeviceRequest, MemoryRequest, PageSize, SeatFile, SeatRequest,
};
use spec::{Bytes, PciAddress};

/// One card of a host made by chance.
#[derive(Clone, Debug)]
struct Card {
    kind: CardKind,
    /// Which earlier card's group it falls into, if any.
    joins: Option<prop::sample::Index>,
    held: Option<HoldStrength>,
    resets: bool,
}

#[derive(Clone, Copy, Debug)]
enum CardKind {
    Gpu,
    Nic,
    Disk,
    /// Two functions in groups of their own on one bus.
    Usb,
}

fn card() -> impl Strategy<Value = Card> {
    let kind =
        prop_oneof![Just(CardKind::Gpu), Just(CardKind::Nic), Just(CardKind::Disk), Just(CardKind::Usb)];
    let joins = prop::option::weighted(0.2, any::<prop::sample::Index>());
    let strength = prop_oneof![
        Just(HoldStrength::Note),
        Just(HoldStrength::HandOver),
        Just(HoldStrength::InUse),
        Just(HoldStrength::Critical),
        Just(HoldStrength::Unknown),
    ];
    (kind, joins, prop::option::weighted(0.25, strength), any::<bool>())
        .prop_map(|(kind, joins, held, resets)| Card { kind, joins, held, resets })
}

/// A host with these cards, each behind its own root port.
fn host(cards: &[Card], cores: u32, gib: u64) -> HostInventory {
    let mut board = Board::new("chance", 1, cores, gib);
    let mut groups: Vec<u32> = Vec::new();
    for (number, card) in (0_u32..).zip(cards) {
        let port = format!("00:{:02x}.0", number + 1);
        board.bridge(None, &port, 100 + number, FunctionKind::RootPort);
        let slot = format!("{:02x}:00", number + 1);
        let group = card.joins.filter(|_| !groups.is_empty()).map_or(number, |joins| *joins.get(&groups));
        groups.push(group);
        let first = format!("{slot}.0");
        let end = FunctionKind::Endpoint;
        match card.kind {
            CardKind::Gpu => board.gpu(&port, &slot, group, "1002", 8),
            CardKind::Nic => {
                board.add(Some(&port), &first, group, ("8086", "1521"), (0x02_0000, end, "igb"));
            }
            CardKind::Disk => {
                board.add(Some(&port), &first, group, ("144d", "a80a"), (0x01_0802, end, "nvme"));
            }
            CardKind::Usb => {
                let second = format!("{slot}.1");
                board.add(Some(&port), &first, group, ("1b73", "1100"), (0x0c_0330, end, "xhci_hcd"));
                board.add(Some(&port), &second, 200 + number, ("1b73", "1100"), (0x0c_0330, end, "xhci_hcd"));
            }
        }
        let function = board.function(&first);
        function.reset_methods = Some(if card.resets { vec![ResetMethod::Flr] } else { Vec::new() });
        if let Some(strength) = card.held {
            board.hold(&first, strength, HoldKind::Sound { card: "card0".to_owned(), process: None });
        }
    }
    board.inventory.functions.sort_by_key(|function| function.address);
    board.inventory
}

/// A wish of a seat: how many processors, how much memory, which functions by position.
type Wish = (u32, u64, Vec<prop::sample::Index>);

fn wish() -> impl Strategy<Value = Wish> {
    (1_u32..6, 1_u64..8, prop::collection::vec(any::<prop::sample::Index>(), 0..3))
}

/// A file with these seats, each asking for functions by their addresses.
fn file(inventory: &HostInventory, wishes: &[Wish]) -> SeatFile {
    let devices: Vec<&Function> =
        inventory.functions.iter().filter(|function| !function.kind.forwards()).collect();
    let seats = wishes.iter().enumerate().map(|(index, (count, gib, picks))| {
        let picks = picks.iter().filter(|_| !devices.is_empty()).map(|pick| pick.get(&devices).address);
        let devices =
            picks.map(|address| DeviceRequest { address: Some(address), ..DeviceRequest::default() });
        seat(&format!("seat{index}"), *count, *gib, devices.collect())
    });
    SeatFile { seats: seats.collect(), ..SeatFile::default() }
}

fn seat(name: &str, count: u32, gib: u64, devices: Vec<DeviceRequest>) -> SeatRequest {
    let size = Bytes::gib(gib);
    SeatRequest {
        name: name.to_owned(),
        display: None,
        console: ConsoleHandover::Give,
        cpus: CpuRequest { count: Some(count), pin: None, shared: false },
        memory: MemoryRequest { size, pages: PageSize::Transparent, shared: false, node: None },
        kernel: None,
        firmware: None,
        hypervisor: None,
        clock: ClockTime::Utc,
        tpm: false,
        entropy: None,
        devices,
        virtual_functions: Vec::new(),
        disks: Vec::new(),
        networks: Vec::new(),
        power_off_seconds: None,
    }
}

fn answer(inventory: &HostInventory, file: &SeatFile) -> Result<Plan, Refusal> {
    plan::plan(inventory, file, &[], &[])
}

/// Which seat takes which function.
fn taken(plan: &Plan) -> Vec<(usize, PciAddress)> {
    let functions = plan.seats.iter().enumerate().flat_map(|(index, seat)| {
        seat.slots.iter().flat_map(|slot| &slot.functions).map(move |function| (index, function))
    });
    let taken = functions.filter_map(|(index, function)| match function.source {
        Source::Taken { address, .. } => Some((index, address)),
        Source::Virtual { .. } => None,
    });
    taken.collect()
}

/// Everything that must be true of a plan, whatever the host and the file.
fn is_sound(inventory: &HostInventory, file: &SeatFile, plan: &Plan) {
    let taken = taken(plan);
    let owner: BTreeMap<PciAddress, usize> = taken.iter().map(|(seat, address)| (*address, *seat)).collect();
    assert_eq!(owner.len(), taken.len(), "a function is in two places");
    for (seat, address) in &taken {
        let function = inventory.function(*address).unwrap();
        assert!(function.holds.iter().all(|hold| hold.strength <= HoldStrength::HandOver), "held: {address}");
        for member in inventory.functions.iter().filter(|member| member.group == function.group) {
            let whole = member.kind.forwards() || owner.get(&member.address) == Some(seat);
            assert!(whole, "{address} without {} of its group", member.address);
        }
    }
    for slot in plan.seats.iter().flat_map(|seat| &seat.slots) {
        for function in &slot.functions {
            let (Source::Taken { address, .. }, PlannedReset::Together { bridge }) =
                (&function.source, function.reset)
            else {
                continue;
            };
            let reached = inventory.functions.iter().filter(|other| other.parent == Some(bridge));
            for other in reached {
                assert_eq!(
                    owner.get(&other.address),
                    owner.get(address),
                    "a reset reaches {}",
                    other.address
                );
            }
        }
    }
    let names: Vec<&String> = plan.seats.iter().map(|seat| &seat.name).collect();
    let asked: Vec<&String> = file.seats.iter().map(|seat| &seat.name).collect();
    assert_eq!(names, asked, "a seat is missing");
    for (index, seat) in file.seats.iter().enumerate() {
        for device in &seat.devices {
            assert_eq!(owner.get(&device.address.unwrap()), Some(&index), "a device is missing");
        }
        assert_eq!(plan.seats[index].cpus.pins.len(), seat.cpus.count.unwrap() as usize);
    }
    let mut cpus = BTreeSet::new();
    for cpu in plan.seats.iter().flat_map(|seat| seat.cpus.kept.iter()) {
        assert!(cpus.insert(cpu), "processor {cpu} is in two seats");
        assert!(!plan.kept.cpus.contains(cpu), "processor {cpu} stays with the host too");
    }
    assert!(!plan.kept.cpus.is_empty(), "no processor stays with the host");
    let bound = plan.steps.iter().filter(|step| matches!(step.action, StepAction::Bind { .. })).count();
    assert_eq!(bound, taken.len(), "a function is taken without a step");
}

/// A fault put into a host that could serve the file, and the code that must tell of it.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Mounted,
    NotAnswering,
    NoGroup,
    FixedMap,
    NoInterruptRemapping,
    ProcessorsGone,
    MemoryGone,
    AskedTwice,
    NoSuchDevice,
    Claimed,
}

const FAULTS: [(Fault, &str); 10] = [
    (Fault::Mounted, "held-by-file-system"),
    (Fault::NotAnswering, "device-gone"),
    (Fault::NoGroup, "no-group"),
    (Fault::FixedMap, "firmware-map"),
    (Fault::NoInterruptRemapping, "unsafe-interrupts"),
    (Fault::ProcessorsGone, "cpus-short"),
    (Fault::MemoryGone, "memory-short"),
    (Fault::AskedTwice, "asked-twice"),
    (Fault::NoSuchDevice, "no-match"),
    (Fault::Claimed, "claimed"),
];

/// A host with eight disks and a file in which two seats ask for one each; faults go to a disk of their own.
fn faulty(faults: &BTreeSet<usize>) -> Result<Plan, Refusal> {
    let disk = Card { kind: CardKind::Disk, joins: None, held: None, resets: true };
    let mut inventory = host(&vec![disk; 12], 8, 32);
    let address = |number: usize| -> PciAddress { format!("{:02x}:00.0", number + 1).parse().unwrap() };
    let by_address = |address| DeviceRequest { address: Some(address), ..DeviceRequest::default() };
    let mut first = seat("seat0", 2, 2, vec![by_address(address(10))]);
    let second = seat("seat1", 2, 2, vec![by_address(address(11))]);
    let mut claims: Vec<ClaimRecord> = Vec::new();
    for number in faults {
        let at = address(*number);
        let function = inventory.functions.iter_mut().find(|function| function.address == at).unwrap();
        let mut asked = at;
        match FAULTS[*number].0 {
            Fault::Mounted => {
                let root =
                    serde_json::json!({ "strength": "critical", "holder": "file-system", "device": "sda1" });
                function.holds.push(serde_json::from_value(root).unwrap());
            }
            Fault::NotAnswering => function.config = spec::inventory::ConfigAccess::AllOnes,
            Fault::NoGroup => function.group = None,
            Fault::FixedMap => {
                let region = serde_json::json!({ "start": "0x1000", "end": "0x1fff", "kind": "direct" });
                let group = function.group.unwrap();
                let group = inventory.groups.iter_mut().find(|known| known.number == group).unwrap();
                group.reserved.push(serde_json::from_value(region).unwrap());
            }
            Fault::NoInterruptRemapping => inventory.iommu.interrupt_remapping = Some(false),
            Fault::ProcessorsGone => first.cpus.count = Some(40),
            Fault::MemoryGone => first.memory.size = Bytes::gib(64),
            Fault::AskedTwice => asked = address(11),
            Fault::NoSuchDevice => asked = "77:00.0".parse().unwrap(),
            Fault::Claimed => {
                let function = serde_json::json!({ "address": at, "identity": function.identity });
                let claim = serde_json::json!({ "seat": "other", "state": "taken", "functions": [function] });
                claims.push(serde_json::from_value(claim).unwrap());
            }
        }
        first.devices.push(by_address(asked));
    }
    let file = SeatFile { seats: vec![second, first], ..SeatFile::default() };
    plan::plan(&inventory, &file, &claims, &[])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_plan_is_sound(
        cards in prop::collection::vec(card(), 1..9), wishes in prop::collection::vec(wish(), 1..4),
        cores in 2_u32..10, gib in 4_u64..48,
    ) {
        let inventory = host(&cards, cores, gib);
        let file = file(&inventory, &wishes);
        match answer(&inventory, &file) {
            Ok(plan) => is_sound(&inventory, &file, &plan),
            Err(refusal) => prop_assert!(!refusal.reasons.is_empty()),
        }
    }

    #[test]
    fn the_same_facts_give_the_same_answer_in_whatever_order(
        cards in prop::collection::vec(card(), 1..9), wishes in prop::collection::vec(wish(), 1..4),
    ) {
        let mut inventory = host(&cards, 8, 32);
        let file = file(&inventory, &wishes);
        let first = answer(&inventory, &file);
        prop_assert_eq!(&answer(&inventory, &file), &first);
        inventory.functions.reverse();
        inventory.groups.reverse();
        inventory.cpus.online.reverse();
        inventory.groups.iter_mut().for_each(|group| group.functions.reverse());
        prop_assert_eq!(&answer(&inventory, &file), &first);
    }

    #[test]
    fn a_refused_file_stays_refused_when_a_seat_is_added(
        cards in prop::collection::vec(card(), 1..9), wishes in prop::collection::vec(wish(), 2..5),
        cores in 2_u32..10, gib in 4_u64..32,
    ) {
        let inventory = host(&cards, cores, gib);
        let fewer = answer(&inventory, &file(&inventory, &wishes[1..]));
        let more = answer(&inventory, &file(&inventory, &wishes));
        prop_assert!(fewer.is_ok() || more.is_err(), "{fewer:#?}");
        let fewer = answer(&inventory, &file(&inventory, &wishes[..wishes.len() - 1]));
        prop_assert!(fewer.is_ok() || more.is_err(), "{fewer:#?}");
    }

    #[test]
    fn a_refusal_tells_every_fault(faults in prop::collection::btree_set(0..FAULTS.len(), 0..FAULTS.len())) {
        let answer = faulty(&faults);
        if faults.is_empty() {
            prop_assert!(answer.is_ok(), "{answer:#?}");
            return Ok(());
        }
        let told: BTreeSet<&str> =
            answer.as_ref().unwrap_err().reasons.iter().map(|reason| reason.code.as_str()).collect();
        let expected: BTreeSet<&str> = faults.iter().map(|fault| FAULTS[*fault].1).collect();
        prop_assert_eq!(told, expected, "{:#?}", answer);
    }

    #[test]
    fn a_document_that_lies_is_answered(
        cards in prop::collection::vec(card(), 1..5), wishes in prop::collection::vec(wish(), 1..4),
        lies in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0_u8..7, any::<u64>()), 1..6),
    ) {
        let mut inventory = host(&cards, 4, 16);
        let file = file(&inventory, &wishes);
        for (victim, other, lie, number) in lies {
            let other = other.get(&inventory.functions).address;
            let at = victim.index(inventory.functions.len());
            let function = &mut inventory.functions[at];
            match lie {
                0 => function.parent = Some(other),
                1 => function.address = other,
                2 => function.bars.push(board::bar(0, BarKind::Memory64, number & 1 == 0, Bytes(number))),
                3 => inventory.memory.total = Some(Bytes(number)),
                4 => inventory.memory.nodes[0].free = Some(Bytes(number)),
                5 => inventory.cpus.online[0].threads = [number as u32 % 8, 3].into_iter().collect(),
                _ => inventory.cpus.physical_bits = Some(number as u8),
            }
        }
        let answer = answer(&inventory, &file);
        prop_assert!(answer.is_ok_and(|plan| plan.seats.len() == file.seats.len()) || !file.seats.is_empty());
    }
}
