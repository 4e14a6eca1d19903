//! Taking and giving back on made-up hosts: with a failure at each step in turn, and with the process killed at each.

mod standing;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use linux::sysfs::{FakeTree, Fault, Nodes};
use spec::inventory::{Function, HostInventory, SrIov};
use spec::ledger::Keeper;
use spec::plan::{ClaimKind, ClaimedFunction, StepAction};
use spec::{Bytes, CpuSet, PciAddress};

use super::*;
use crate::fixtures::{self, MadeUpSystem};
use crate::ledger::Journal;
use crate::{inventory, recovery};

/// A journal in memory that stops taking lines when its process is dead, or dies itself after some lines.
#[derive(Clone, Debug, Default)]
struct Paper(Arc<Mutex<String>>);

struct Pen {
    paper: Paper,
    system: Arc<MadeUpSystem>,
    dies_after: Option<usize>,
}

impl std::fmt::Debug for Pen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pen")
    }
}

impl Paper {
    fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

impl Journal for Pen {
    fn append(&mut self, line: &str) -> Result<(), LedgerError> {
        let dead = || LedgerError::Busy { holder: "death".to_owned() };
        if self.system.tree.is_crashed() {
            return Err(dead());
        }
        let mut text = self.paper.0.lock().unwrap();
        match self.dies_after {
            // The last line is torn.
            Some(0) => text.push_str(&line[..line.len() / 2]),
            _ => text.push_str(line),
        }
        if let Some(left) = &mut self.dies_after {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.system.tree.crash();
            }
        }
        Ok(())
    }

    fn replace(&mut self, text: &str) -> Result<(), LedgerError> {
        *self.paper.0.lock().unwrap() = text.to_owned();
        Ok(())
    }
}

struct Bench {
    system: Arc<MadeUpSystem>,
    paper: Paper,
    before: BTreeMap<String, String>,
}

impl Bench {
    fn new(tree: FakeTree) -> Self {
        let system = MadeUpSystem::new(tree);
        let before = contents(&system);
        Self { system: Arc::new(system), paper: Paper::default(), before }
    }

    /// Opens the ledger, as a process does at its start.
    fn ledger(&self, dies_after: Option<usize>) -> Ledger {
        let text = self.paper.text();
        // As the journal's file is treated when it is opened.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        self.paper.0.lock().unwrap().truncate(whole);
        let pen = Pen { paper: self.paper.clone(), system: self.system.clone(), dies_after };
        Ledger::over(Box::new(pen), &text, Path::new("ledger")).unwrap()
    }

    fn take(&self, request: &TakeRequest) -> Result<Claim, TakeError> {
        take(&*self.system, &mut self.ledger(None), request, &mut ())
    }

    fn release(&self, name: &str) -> Result<(), ReleaseError> {
        release(&*self.system, &mut self.ledger(None), name, &mut ())
    }

    fn recover(&self) -> recovery::Recovered {
        recovery::recover(&*self.system, &mut self.ledger(None), &mut ()).unwrap()
    }

    fn is_whole(&self) -> bool {
        contents(&self.system) == self.before
    }

    /// What differs from before, for messages.
    fn difference(&self) -> Vec<String> {
        let now = contents(&self.system);
        let all: std::collections::BTreeSet<&String> = now.keys().chain(self.before.keys()).collect();
        let differs = all.into_iter().filter(|path| now.get(*path) != self.before.get(*path));
        differs.map(|path| format!("{path}: {:?} was {:?}", now.get(path), self.before.get(path))).collect()
    }
}

/// The tree without its processes, which come and go, and without what only the fake keeps.
fn contents(system: &MadeUpSystem) -> BTreeMap<String, String> {
    let mut contents = system.tree.edit(|nodes| nodes.contents());
    contents.retain(|path, _| !path.starts_with("/proc/4") && !path.ends_with("reset_method.all"));
    contents
}

fn address(text: &str) -> PciAddress {
    text.parse().unwrap()
}

/// A request for whole functions, with the steps in the planner's order.
fn request(host: &HostInventory, name: &str, functions: &[&str]) -> TakeRequest {
    let mut steps = Vec::new();
    let mut claimed = Vec::new();
    for text in functions {
        let function = host.function(address(text)).unwrap();
        let at = function.address;
        let driver = "vfio-pci".to_owned();
        if function.class.is_display() {
            steps.push(StepAction::HandOverConsole { function: at });
        }
        steps.push(StepAction::KeepPowered { function: at, d3cold_allowed: function.d3cold_allowed });
        if let Some(old) = function.driver.bound.clone() {
            steps.push(StepAction::Unbind { function: at, driver: old });
        }
        steps.push(StepAction::Override { function: at, driver: driver.clone(), from: None });
        steps.push(StepAction::Bind { function: at, driver });
        claimed.push(ClaimedFunction {
            address: at,
            identity: function.identity.clone(),
            group: function.group,
            former_driver: function.driver.bound.clone(),
        });
    }
    TakeRequest {
        name: name.to_owned(),
        kind: ClaimKind::Hand,
        keeper: Keeper::Process(fixtures::PROCESS),
        functions: claimed,
        cpus: CpuSet::default(),
        steps,
        rests_on: None,
    }
}

/// A host, and the claims that are made on it in this order.
struct Case {
    name: &'static str,
    nodes: Nodes,
    requests: Vec<TakeRequest>,
}

impl Case {
    fn new(
        name: &'static str,
        tree: FakeTree,
        requests: impl FnOnce(&HostInventory) -> Vec<TakeRequest>,
    ) -> Self {
        let nodes = tree.edit(|nodes| nodes.clone());
        Self { name, nodes, requests: requests(&inventory::read(&tree)) }
    }

    fn bench(&self) -> Bench {
        Bench::new(FakeTree::of(self.nodes.clone()))
    }
}

fn cases() -> Vec<Case> {
    vec![
        Case::new("a card with its sound", fixtures::desktop_with_two_gpus(), |host| {
            vec![request(host, "card", &["0000:01:00.0", "0000:01:00.1"])]
        }),
        Case::new("the only display", fixtures::laptop_with_one_gpu(), |host| {
            vec![request(host, "screen", &["0000:00:02.0"])]
        }),
        Case::new("virtual functions and huge pages", fixtures::server_with_four_gpus(), virtual_functions),
        Case::new("a display with firmware's framebuffer", fixtures::host_booted_over_the_nic(), |host| {
            vec![request(host, "generic", &["0000:01:00.0"])]
        }),
    ]
}

/// Tries every place of every case in turn, until one that nothing comes to any more.
fn at_every_place(strike: impl Fn(&Case, usize) -> bool) {
    for case in cases() {
        let places = (0..200).take_while(|place| strike(&case, *place)).count();
        assert!((5..200).contains(&places), "{}: {places}", case.name);
    }
}

/// A seat with two virtual functions, and what it stands on.
fn virtual_functions(host: &HostInventory) -> Vec<TakeRequest> {
    let makes_none = |function: &&Function| matches!(&function.sriov, Some(SrIov::Physical { functions, .. }) if functions.is_empty());
    let card = host.functions.iter().find(makes_none).unwrap().address;
    let mut shared = request(host, "+seat", &[]);
    shared.kind = ClaimKind::Shared;
    shared.steps = vec![
        StepAction::ReserveHugepages { node: Some(0), page_size: Bytes(2 << 20), from: 0, to: 512 },
        StepAction::CreateVirtualFunctions { of: card, count: 2 },
    ];
    let mut seat = request(host, "seat", &[]);
    seat.rests_on = Some("+seat".to_owned());
    let bind = |index| StepAction::BindVirtualFunction { of: card, index, driver: "vfio-pci".to_owned() };
    seat.steps = vec![bind(0), bind(1)];
    vec![shared, seat]
}

fn take_all(bench: &Bench, requests: &[TakeRequest]) -> Result<(), TakeError> {
    for request in requests {
        let _standing = bench.take(request)?;
    }
    Ok(())
}

/// Gives back the last claim, and with it what it stands on.
fn release_all(bench: &Bench, requests: &[TakeRequest]) -> Result<(), ReleaseError> {
    bench.release(&requests.last().unwrap().name)
}

#[test]
fn what_was_taken_is_at_vfio_pci_and_comes_back_as_it_was() {
    for case in cases() {
        let (name, bench) = (case.name, case.bench());
        take_all(&bench, &case.requests).unwrap();
        let claim = Claim::standing(&bench.ledger(None), &case.requests.last().unwrap().name).unwrap();
        assert!(!claim.addresses().is_empty(), "{name}");
        for address in claim.addresses() {
            assert_eq!(bench.system.driver(&address.to_string()).as_deref(), Some("vfio-pci"), "{name}");
        }
        release_all(&bench, &case.requests).unwrap();
        assert!(bench.is_whole(), "{name}: {:#?}", bench.difference());
        assert_eq!(bench.ledger(None).book().claims().count(), 0, "{name}");
    }
}

#[test]
fn a_failure_at_any_step_of_taking_leaves_nothing_behind() {
    at_every_place(|case, index| {
        let (name, bench) = (case.name, case.bench());
        bench.system.tree.add_fault(Fault::FailWrite { index, errno: EIO });
        if take_all(&bench, &case.requests).is_ok() {
            return false;
        }
        // Of several claims the first may stand; its taker gives it back.
        for request in case.requests.iter().rev() {
            let _ = bench.release(&request.name);
        }
        assert!(bench.is_whole(), "{name}, write {index}: {:#?}", bench.difference());
        assert_eq!(bench.ledger(None).book().claims().count(), 0, "{name}, write {index}");
        true
    });
}

#[test]
fn a_failure_at_any_step_of_release_is_a_debt_that_the_next_start_pays() {
    at_every_place(|case, after| {
        let (name, bench) = (case.name, case.bench());
        take_all(&bench, &case.requests).unwrap();
        let index = bench.system.tree.writes().len() + after;
        bench.system.tree.add_fault(Fault::FailWrite { index, errno: EIO });
        match release_all(&bench, &case.requests) {
            Ok(()) => return false,
            Err(ReleaseError::Debts { debts }) => assert_eq!(debts.len(), 1, "{name}, write {after}"),
            Err(error) => panic!("{name}: {error}"),
        }
        assert_eq!(bench.ledger(None).book().debts().len(), 1, "{name}, write {after}");
        assert_eq!(bench.recover().debts, [], "{name}, write {after}");
        assert!(bench.is_whole(), "{name}, write {after}: {:#?}", bench.difference());
        assert_eq!(bench.ledger(None).book().claims().count(), 0, "{name}, write {after}");
        true
    });
}

#[test]
fn a_device_that_fails_holds_back_no_other() {
    let bench = Bench::new(fixtures::desktop_with_two_gpus());
    let host = inventory::read(&bench.system.tree);
    let card = request(&host, "card", &["0000:01:00.0", "0000:01:00.1"]);
    take_all(&bench, std::slice::from_ref(&card)).unwrap();
    let reset = "/sys/bus/pci/devices/0000:01:00.0/reset".to_owned();
    bench.system.tree.edit(|nodes| nodes.put_file(&nodes.canonical(&reset).unwrap_or(reset.clone()), ""));
    bench.system.tree.add_fault(Fault::FailWritesTo { path: reset, errno: EIO });
    let error = bench.release("card").unwrap_err();
    assert!(error.to_string().contains("reset 0000:01:00.0"), "{error}");
    // What a guest has left in it cannot be cleared, so the host does not get it; its neighbour is back.
    assert_eq!(bench.system.driver("0000:01:00.0").as_deref(), Some("vfio-pci"));
    assert_eq!(bench.system.driver("0000:01:00.1").as_deref(), Some("snd_hda_intel"));
    assert_eq!(bench.recover().debts.len(), 1);
    bench.system.tree.restart();
    assert_eq!(bench.recover().released, ["card"]);
}

/// Where the process is killed.
#[derive(Clone, Copy, Debug)]
enum Death {
    BeforeWrite(usize),
    AfterWrite(usize),
    AfterLine(usize),
}

impl Bench {
    /// Lets the process die, and gives the ledger it writes until then.
    fn dying(&self, death: Death) -> Ledger {
        let written = self.system.tree.writes().len();
        let ledger = match death {
            Death::AfterLine(lines) => self.ledger(Some(lines)),
            _ => self.ledger(None),
        };
        match death {
            Death::BeforeWrite(index) => {
                self.system.tree.add_fault(Fault::CrashBefore { index: written + index })
            }
            Death::AfterWrite(index) => {
                self.system.tree.add_fault(Fault::CrashAfter { index: written + index })
            }
            Death::AfterLine(0) => self.system.tree.crash(),
            Death::AfterLine(_) => {}
        }
        ledger
    }
}

/// The next start after a death: everything is back, and the ledger is empty.
fn next_start(bench: &Bench, name: &str, death: Death) {
    bench.system.restart_process();
    let recovered = bench.recover();
    assert_eq!(recovered.debts, [], "{name}, {death:?}");
    assert!(bench.is_whole(), "{name}, {death:?}: {:#?}", bench.difference());
    assert_eq!(bench.ledger(None).book().claims().count(), 0, "{name}, {death:?}");
    assert_eq!(bench.recover(), recovery::Recovered::default(), "{name}, {death:?}: nothing is left to do");
}

#[test]
fn a_process_killed_anywhere_while_taking_leaves_nothing_after_the_next_start() {
    for make in [Death::BeforeWrite, Death::AfterWrite, Death::AfterLine] {
        at_every_place(|case, place| {
            let (bench, death) = (case.bench(), make(place));
            let mut ledger = bench.dying(death);
            let mut all = case.requests.iter();
            let died = all.any(|request| take(&*bench.system, &mut ledger, request, &mut ()).is_err());
            let struck = died || bench.system.tree.is_crashed();
            next_start(&bench, case.name, death);
            struck
        });
    }
}

#[test]
fn a_process_killed_anywhere_while_releasing_leaves_nothing_after_the_next_start() {
    for make in [Death::BeforeWrite, Death::AfterWrite, Death::AfterLine] {
        at_every_place(|case, place| {
            let (bench, death) = (case.bench(), make(place));
            take_all(&bench, &case.requests).unwrap();
            let mut ledger = bench.dying(death);
            let name = &case.requests.last().unwrap().name;
            let released = release(&*bench.system, &mut ledger, name, &mut ());
            let struck = released.is_err() || bench.system.tree.is_crashed();
            next_start(&bench, case.name, death);
            struck
        });
    }
}

/// What a dying card makes of everything.
const EIO: i32 = 5;
