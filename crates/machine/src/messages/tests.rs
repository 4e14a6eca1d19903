//! Which calls of KVM follow from what functions program, and that no signal is lost between them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use linux::EventFd;
use linux::kvm::{KvmError, MsiRoute};
use pci::{
    Apertures, BarIndex, Bdf, Change, FunctionId, Hierarchy, Message, MsiChange, MsiState, Msix, MsixChange,
    MsixLayout, VectorChange,
};

use super::{Controllers, GSI_LIMIT, Latest, MessageError, Messages, State, Triggers};

/// A call of KVM as the fake saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Call {
    Route(Vec<(u32, u32)>),
    Listen(u32),
    Ignore(u32),
}

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<Vec<Call>>>, Arc<Mutex<Option<u16>>>);

struct Listener(u32, Fake);

impl Fake {
    fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    fn note(&self, call: Call) {
        self.0.lock().unwrap().push(call);
    }
}

impl Controllers for Fake {
    fn route(&self, routes: &[MsiRoute]) -> Result<(), KvmError> {
        *self.1.lock().unwrap() = routes.first().and_then(|route| route.requester);
        self.note(Call::Route(routes.iter().map(|route| (route.gsi, route.data)).collect()));
        Ok(())
    }

    fn listen(&self, gsi: u32, _trigger: Arc<EventFd>) -> Result<Box<dyn Send>, KvmError> {
        self.note(Call::Listen(gsi));
        Ok(Box::new(Listener(gsi, self.clone())))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.1.note(Call::Ignore(self.0));
    }
}

struct Nobody;

impl pci::Function for Nobody {
    fn name(&self) -> &str {
        "nobody"
    }

    fn read_config(&mut self, _: u16, _: &mut [u8]) {}

    fn write_config(&mut self, _: u16, _: &[u8]) -> Vec<pci::Change> {
        Vec::new()
    }

    fn bars(&self) -> Vec<pci::BarRange> {
        Vec::new()
    }

    fn reset(&mut self) -> Vec<pci::Change> {
        Vec::new()
    }
}

/// Two identities, as only a hierarchy gives them.
fn functions() -> [FunctionId; 2] {
    let mut hierarchy = Hierarchy::new(Apertures { low: 0..0, high: 0..0, io: 0..0 });
    [1, 2].map(|device| {
        let place = pci::Place::Root { device, function: 0 };
        hierarchy.add(place, Arc::new(Mutex::new(Nobody))).unwrap().0
    })
}

fn message(data: u32) -> Option<Message> {
    Some(Message { address: 0xfee0_0000, data })
}

fn msix(vectors: &[(u16, Option<u32>)]) -> MsixChange {
    let change = |&(vector, data): &(u16, Option<u32>)| VectorChange {
        vector,
        message: data.and_then(message),
        fire: false,
    };
    MsixChange { number: 0, enabled: true, vectors: vectors.iter().map(change).collect() }
}

const OFF: MsixChange = MsixChange { number: 0, enabled: false, vectors: Vec::new() };

#[test]
fn each_change_costs_the_calls_it_needs_and_no_more() {
    let fake = Fake::default();
    let messages = Messages::new(fake.clone());
    let [one, two] = functions();
    let rows: [(FunctionId, MsixChange, Vec<Call>); 9] = [
        (one, msix(&[]), vec![]),
        (
            one,
            msix(&[(0, Some(0x31)), (5, Some(0x32))]),
            vec![Call::Route(vec![(24, 0x31), (25, 0x32)]), Call::Listen(24), Call::Listen(25)],
        ),
        (one, msix(&[(0, None)]), vec![Call::Ignore(24)]),
        // The same message again: the route is still there.
        (one, msix(&[(0, Some(0x31))]), vec![Call::Listen(24)]),
        // Another message for a vector that is listened to.
        (one, msix(&[(5, Some(0x42))]), vec![Call::Route(vec![(24, 0x31), (25, 0x42)])]),
        (
            two,
            msix(&[(0, Some(0x31))]),
            vec![Call::Route(vec![(24, 0x31), (25, 0x42), (26, 0x31)]), Call::Listen(26)],
        ),
        (one, OFF, vec![Call::Ignore(24), Call::Ignore(25)]),
        (one, OFF, vec![]),
        // A GSI that was given back serves again.
        (two, msix(&[(1, Some(0x51))]), vec![Call::Route(vec![(25, 0x51), (26, 0x31)]), Call::Listen(25)]),
    ];
    for (index, (id, change, calls)) in rows.into_iter().enumerate() {
        messages.follow_msix(id, &change, None).unwrap();
        assert_eq!(fake.calls(), calls, "row {index}");
    }
}

#[test]
fn msi_wires_the_vectors_that_were_granted() {
    let fake = Fake::default();
    let messages = Messages::new(fake.clone());
    let [id, _] = functions();
    let state = MsiState { enabled: true, vectors: 2, address: 0xfee0_0000, data: 0x40, masked: 0 };
    messages.follow_msi(id, &MsiChange { number: 0, state, fire: 0 }, Bdf::new(1, 2, 3)).unwrap();
    let wired = [Call::Route(vec![(24, 0x40), (25, 0x41)]), Call::Listen(24), Call::Listen(25)];
    assert_eq!(fake.calls(), wired);
    assert_eq!(*fake.1.lock().unwrap(), Some(0x0113), "the requester goes along");
    let off = MsiChange { number: 0, state: MsiState { enabled: false, ..state }, fire: 0 };
    messages.follow_msi(id, &off, None).unwrap();
    assert_eq!(fake.calls(), [Call::Ignore(24), Call::Ignore(25)]);
}

#[test]
fn a_signal_to_a_masked_vector_is_in_the_trigger_when_it_is_heard_again() {
    let messages = Messages::new(Fake::default());
    let [id, _] = functions();
    let triggers = Triggers::default();
    messages.plug(id, triggers.clone());
    triggers.signal(0);
    messages.follow_msix(id, &msix(&[(0, Some(0x31))]), None).unwrap();
    assert_eq!(triggers.event(0).unwrap().read().unwrap(), 1);
    messages.follow_msix(id, &msix(&[(0, None)]), None).unwrap();
    triggers.signal(0);
    messages.follow_msix(id, &msix(&[(0, Some(0x31))]), None).unwrap();
    assert!(triggers.is_pending(0));
}

#[test]
fn what_was_pending_in_the_registers_is_sent_once() {
    let messages = Messages::new(Fake::default());
    let [id, _] = functions();
    let triggers = Triggers::default();
    messages.plug(id, triggers.clone());
    let fired = VectorChange { vector: 7, message: message(0x31), fire: true };
    messages.follow_msix(id, &MsixChange { number: 0, enabled: true, vectors: vec![fired] }, None).unwrap();
    assert_eq!(triggers.event(7).unwrap().read().unwrap(), 1);
}

#[test]
fn more_vectors_than_gsis_are_refused_and_releasing_makes_room() {
    let mut state = State::default();
    let [one, two] = functions();
    let message = message(0x31).unwrap();
    for vector in 0..2048 {
        assert!(state.set_message(one, vector, message, None).unwrap());
    }
    let refused = (0..2048).find_map(|vector| state.set_message(two, vector, message, None).err());
    let error = refused.unwrap();
    assert!(matches!(error, MessageError::Full));
    assert!(error.to_string().contains(&(GSI_LIMIT - 24).to_string()));
    assert!(state.routes.keys().all(|gsi| (24..GSI_LIMIT).contains(gsi)));
    state.release(one);
    for vector in 0..2048 {
        state.set_message(two, vector, message, None).unwrap();
    }
}

/// The data of all messages that are heard after these calls.
fn heard(calls: &[Call]) -> Vec<u32> {
    let (mut routes, mut heard) = (&Vec::new(), BTreeMap::new());
    for call in calls {
        match call {
            Call::Route(all) => routes = all,
            Call::Listen(gsi) => drop(heard.insert(*gsi, ())),
            Call::Ignore(gsi) => drop(heard.remove(gsi)),
        }
    }
    let mut data: Vec<_> =
        routes.iter().filter(|(gsi, _)| heard.contains_key(gsi)).map(|(_, data)| *data).collect();
    data.sort_unstable();
    data
}

/// What is heard when `changes` are carried out in an order of these.
fn heard_in_order(changes: &[Change], order: &[usize]) -> Vec<u32> {
    let fake = Fake::default();
    let (messages, latest, [id, _]) = (Messages::new(fake.clone()), Latest::default(), functions());
    for at in order {
        latest
            .follow(id, changes[*at].clone(), |change| match change {
                Change::Msi(change) => messages.follow_msi(id, change, None),
                Change::Msix(change) => messages.follow_msix(id, change, None),
                _ => Ok(()),
            })
            .unwrap();
    }
    heard(&fake.calls())
}

/// All orders of the numbers below `len`.
fn orders(len: usize) -> Vec<Vec<usize>> {
    let Some(last) = len.checked_sub(1) else { return vec![Vec::new()] };
    let put_in = |order: &Vec<usize>, at: usize| [&order[..at], &[last], &order[at..]].concat();
    orders(last).iter().flat_map(|order| (0..len).map(|at| put_in(order, at))).collect()
}

#[test]
fn changes_that_overtake_each_other_end_where_the_last_one_leads() {
    const ON: u16 = 1 << 15;
    const ON_AND_MASKED: u16 = 3 << 14;
    let mut msix = Msix::new(MsixLayout::own_bar(BarIndex::bar(0).unwrap(), 2).0);
    for (vector, data) in [(0, 0x31_u32), (16, 0x32)] {
        msix.write_table(vector + 8, &data.to_le_bytes());
        msix.write_table(vector + 12, &[0]);
    }
    // One processor writes the function's control word and the other its table.
    let msix_changes = [
        msix.set_control(ON),
        msix.write_table(12, &[1]),
        msix.write_table(8, &[0x41]).or_else(|| msix.write_table(12, &[0])),
        msix.set_control(ON_AND_MASKED),
        msix.set_control(ON),
        msix.set_control(0),
    ];
    let msix_changes = msix_changes.map(|change| Change::Msix(change.unwrap()));
    let msi = |(number, enabled, data)| {
        let state = MsiState { enabled, vectors: 1, address: 0xfee0_0000, data, masked: 0 };
        Change::Msi(MsiChange { number, state, fire: 0 })
    };
    let msi_changes = [(1, true, 0x31), (2, true, 0x41), (3, false, 0x41), (4, true, 0x51)].map(msi);
    for (changes, ends) in [
        (&msix_changes[..1], &[0x31, 0x32][..]),
        (&msix_changes[..2], &[0x32]),
        (&msix_changes[..3], &[0x32, 0x41]),
        (&msix_changes[..4], &[]),
        (&msix_changes[..5], &[0x32, 0x41]),
        (&msix_changes[..6], &[]),
        (&msi_changes[..2], &[0x41]),
        (&msi_changes[..3], &[]),
        (&msi_changes[..4], &[0x51]),
    ] {
        for order in orders(changes.len()) {
            assert_eq!(heard_in_order(changes, &order), ends, "{changes:?} in the order {order:?}");
        }
    }
}

#[test]
fn what_was_pending_is_sent_by_the_message_that_its_vector_has_by_then() {
    let messages = Messages::new(Fake::default());
    let (latest, [id, _], triggers) = (Latest::default(), functions(), Triggers::default());
    messages.plug(id, triggers.clone());
    let change = |number, data, fire| {
        let vectors = vec![VectorChange { vector: 0, message: message(data), fire }];
        Change::Msix(MsixChange { number, enabled: true, vectors })
    };
    for change in [change(2, 0x41, false), change(1, 0x31, true)] {
        latest.follow(id, change, |change| match change {
            Change::Msix(change) => messages.follow_msix(id, change, None).unwrap(),
            _ => panic!("another kind"),
        });
    }
    assert_eq!(triggers.event(0).unwrap().read().unwrap(), 1);
    assert_eq!(messages.lock().routes.values().map(|route| route.data).collect::<Vec<_>>(), [0x41]);
}

#[test]
fn a_later_change_of_a_function_waits_for_the_one_that_is_followed() {
    let (latest, [id, other]) = (Latest::default(), functions());
    let (told, done) = mpsc::channel();
    std::thread::scope(|scope| {
        latest.follow(id, Change::Msix(OFF), |_| {
            let (latest, told) = (&latest, told.clone());
            scope.spawn(move || latest.follow(id, Change::Msix(OFF), |_| told.send("same").unwrap()));
            // Another function's goes on, and it alone.
            latest.follow(other, Change::Msix(OFF), |_| ());
            assert!(done.recv_timeout(Duration::from_millis(50)).is_err());
        });
    });
    assert_eq!(done.recv(), Ok("same"));
}
