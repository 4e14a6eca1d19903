//! Which calls of KVM follow from what functions program, and that no signal is lost between them.

use std::sync::{Arc, Mutex};

use linux::EventFd;
use linux::kvm::{KvmError, MsiRoute};
use pci::{Apertures, Bdf, FunctionId, Hierarchy, Message, MsiChange, MsiState, MsixChange, VectorChange};

use super::{Controllers, GSI_LIMIT, MessageError, Messages, State, Triggers};

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
    MsixChange { enabled: true, vectors: vectors.iter().map(change).collect() }
}

const OFF: MsixChange = MsixChange { enabled: false, vectors: Vec::new() };

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
    messages.follow_msi(id, &MsiChange { state, fire: 0 }, Bdf::new(1, 2, 3)).unwrap();
    let wired = [Call::Route(vec![(24, 0x40), (25, 0x41)]), Call::Listen(24), Call::Listen(25)];
    assert_eq!(fake.calls(), wired);
    assert_eq!(*fake.1.lock().unwrap(), Some(0x0113), "the requester goes along");
    let off = MsiChange { state: MsiState { enabled: false, ..state }, fire: 0 };
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
    messages.follow_msix(id, &MsixChange { enabled: true, vectors: vec![fired] }, None).unwrap();
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
