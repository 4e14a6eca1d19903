//! Claims that stand, meet others, are in use, are told to stop; and any order of all that.

use proptest::prelude::*;
use spec::ledger::ProcessMark;
use spec::plan::TrialVerdict;

use super::*;
use crate::trial;

const CARD: &str = "0000:01:00.0";
const SOUND: &str = "0000:01:00.1";

fn desktop() -> (Bench, TakeRequest) {
    let bench = Bench::new(fixtures::desktop_with_two_gpus());
    let host = inventory::read(&bench.system.tree);
    let card = request(&host, "card", &[CARD, SOUND]);
    (bench, card)
}

#[test]
fn a_claim_by_hand_outlives_its_process_but_not_the_host() {
    let (bench, mut card) = desktop();
    card.keeper = Keeper::Hand;
    take_all(&bench, &[card]).unwrap();
    bench.system.restart_process();
    assert_eq!(bench.recover(), recovery::Recovered::default());
    assert_eq!(bench.system.driver(CARD).as_deref(), Some("vfio-pci"));

    bench.system.tree.edit(|nodes| nodes.put_file("/proc/sys/kernel/random/boot_id", "second"));
    let writes = bench.system.tree.writes().len();
    assert_eq!(bench.recover().forgotten, ["card"]);
    assert_eq!(bench.system.tree.writes().len(), writes, "the new kernel is as it wants to be");
    assert_eq!(bench.ledger(None).book().claims().count(), 0);
}

#[test]
fn a_claim_goes_with_its_keeper_and_not_with_its_taker() {
    let (bench, card) = desktop();
    let claim = bench.take(&card).unwrap();
    let machine = ProcessMark { pid: 4900, start: 77 };
    bench.system.start_process(machine);
    claim.keep(&*bench.system, &mut bench.ledger(None), Keeper::Process(machine)).unwrap();
    bench.system.restart_process();
    assert_eq!(bench.recover(), recovery::Recovered::default());
    // Another process with the number of the keeper is not the keeper.
    bench.system.start_process(ProcessMark { start: 78, ..machine });
    assert_eq!(bench.recover().released, ["card"]);
    assert!(bench.is_whole(), "{:#?}", bench.difference());
}

#[test]
fn an_open_device_is_owed_until_its_user_is_gone() {
    let (bench, card) = desktop();
    let group = inventory::read(&bench.system.tree).function(address(CARD)).unwrap().group.unwrap();
    take_all(&bench, &[card]).unwrap();
    bench.system.tree.edit(|nodes| {
        nodes.put_file("/proc/4950/comm", "allod-vmm\n");
        nodes.put_link("/proc/4950/fd/7", &format!("/dev/vfio/{group}"));
    });
    let error = bench.release("card").unwrap_err().to_string();
    assert!(error.contains("allod-vmm (4950) has it open"), "{error}");
    let unbinds = |write: &linux::sysfs::Write| write.path.ends_with("vfio-pci/unbind");
    assert!(!bench.system.tree.writes().iter().any(unbinds), "the kernel would wait without an end");
    bench.system.tree.edit(|nodes| nodes.remove("/proc/4950"));
    assert_eq!(bench.recover().released, ["card"]);
    assert!(bench.is_whole(), "{:#?}", bench.difference());
}

#[test]
fn what_cannot_be_begun_changes_nothing() {
    let (bench, card) = desktop();
    let mut other = card.clone();
    other.functions[0].identity.device = "1111".parse().unwrap();
    let mut homeless = card.clone();
    homeless.rests_on = Some("+nobody".to_owned());
    let mut stale = card.clone();
    stale.steps.insert(0, StepAction::Unbind { function: address(SOUND), driver: "another".to_owned() });
    for (request, says) in
        [(&other, "the cards were changed"), (&homeless, "`+nobody` does not stand"), (&stale, "plan again")]
    {
        let error = bench.take(request).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
        assert!(bench.is_whole() && bench.system.tree.writes().is_empty(), "{says}");
        assert_eq!(bench.ledger(None).book().claims().count(), 0, "{says}");
    }
    let _claim = bench.take(&card).unwrap();
    let mut second = card.clone();
    second.name = "second".to_owned();
    for (request, says) in [(&card, "`card` stands already"), (&second, "belongs to `card`")] {
        let error = bench.take(request).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    bench.release("card").unwrap();
    assert!(bench.is_whole(), "{:#?}", bench.difference());
}

#[test]
fn the_driver_is_loaded_when_it_is_missing() {
    let (bench, card) = desktop();
    bench.system.tree.edit(|nodes| nodes.remove("/sys/bus/pci/drivers/vfio-pci"));
    take_all(&bench, &[card]).unwrap();
    assert_eq!(bench.system.driver(CARD).as_deref(), Some("vfio-pci"));
    bench.release("card").unwrap();
    assert!(bench.is_whole(), "{:#?}", bench.difference());
}

/// Asks to stop after some steps.
struct Impatient(usize);

impl Watcher for Impatient {
    fn step(&mut self, _: &StepReport) {
        self.0 = self.0.saturating_sub(1);
    }

    fn is_cancelled(&self) -> bool {
        self.0 == 0
    }
}

#[test]
fn taking_stops_when_asked_and_leaves_nothing() {
    for steps in 0..8 {
        let (bench, card) = desktop();
        let mut ledger = bench.ledger(None);
        let error = take(&*bench.system, &mut ledger, &card, &mut Impatient(steps)).unwrap_err();
        assert!(matches!(&error, TakeError::Cancelled { debts } if debts.is_empty()), "{error}");
        assert!(bench.is_whole(), "{steps}: {:#?}", bench.difference());
    }
}

#[test]
fn what_several_seats_share_goes_with_the_last_of_them() {
    let case = cases().remove(2);
    let bench = case.bench();
    let [shared, one] = &case.requests[..] else { panic!() };
    let (mut one, mut two) = (one.clone(), one.clone());
    two.name = "two".to_owned();
    two.steps = vec![one.steps.pop().unwrap()];
    take_all(&bench, &[shared.clone(), one.clone(), two]).unwrap();
    assert!(matches!(bench.release("+seat"), Err(ReleaseError::Needed { .. })));
    bench.release(&one.name).unwrap();
    assert!(bench.ledger(None).book().claim("+seat").is_some());
    // Pages that somebody else has reserved meanwhile are not ours to take away.
    let pool = "/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages";
    linux::sysfs::Tree::write(&bench.system.tree, pool, b"600").unwrap();
    bench.release("two").unwrap();
    assert_eq!(bench.ledger(None).book().claims().count(), 0);
    assert_eq!(linux::sysfs::Tree::text(&bench.system.tree, pool).unwrap(), "88");
}

#[test]
fn too_few_huge_pages_are_put_back() {
    let case = cases().remove(2);
    let bench = case.bench();
    let pool = "/sys/devices/system/node/node0/hugepages/hugepages-2048kB";
    bench.system.tree.edit(|nodes| nodes.put_file(&format!("{pool}/most"), "100"));
    let error = bench.take(&case.requests[0]).unwrap_err().to_string();
    assert!(error.contains("the kernel found only 100 of 512") && error.contains("as it was"), "{error}");
    bench.system.tree.edit(|nodes| nodes.remove(&format!("{pool}/most")));
    assert!(bench.is_whole(), "{:#?}", bench.difference());
}

#[test]
fn a_trial_passes_when_every_round_ends_as_it_began() {
    let (bench, mut card) = desktop();
    card.kind = ClaimKind::Trial;
    let rounds = trial::run(&*bench.system, &mut bench.ledger(None), &card, 3, &mut ());
    let records = trial::verdicts(&card, &rounds, Some("6.12"), Some("1654"));
    assert_eq!((records.len(), &records[0].verdict, records[0].rounds), (2, &TrialVerdict::Passed, 3));
    assert!(!records[0].resets.is_empty() && records[0].resets.iter().all(|tried| tried.failed.is_none()));
    assert!(bench.is_whole(), "{:#?}", bench.difference());
}

#[test]
fn a_trial_fails_when_no_reset_works_and_owes_the_device() {
    let (bench, card) = desktop();
    let reset = format!("/sys/bus/pci/devices/{CARD}/reset");
    bench.system.tree.add_fault(Fault::FailWritesTo { path: reset, errno: EIO });
    let rounds = trial::run(&*bench.system, &mut bench.ledger(None), &card, 3, &mut ());
    let records = trial::verdicts(&card, &rounds, None, None);
    assert!(matches!(&records[0].verdict, TrialVerdict::Failed { why } if why.starts_with("in round 1")));
    assert_eq!(rounds.len(), 1);
    bench.system.restart_process();
    assert_eq!(bench.recover().debts, []);
    assert!(bench.is_whole(), "{:#?}", bench.difference());
}

/// What may happen to a host, in any order.
#[derive(Clone, Debug)]
enum Happens {
    Take(usize),
    Release(usize),
    Die(usize, usize),
    Fail(usize, usize),
    Start,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        (0..3_usize).prop_map(Happens::Take),
        (0..3_usize).prop_map(Happens::Release),
        (0..3_usize, 0..12_usize).prop_map(|(claim, place)| Happens::Die(claim, place)),
        (0..3_usize, 0..12_usize).prop_map(|(claim, place)| Happens::Fail(claim, place)),
        Just(Happens::Start),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_last_release_leaves_the_host_as_it_was(story in prop::collection::vec(happens(), 1..12)) {
        let bench = Bench::new(fixtures::desktop_with_two_gpus());
        let host = inventory::read(&bench.system.tree);
        let claims = [
            request(&host, "card", &[CARD, SOUND]),
            request(&host, "disk", &["0000:07:00.0"]),
            request(&host, "both", &[SOUND, "0000:07:00.0"]),
        ];
        for event in &story {
            match event {
                Happens::Take(which) => drop(bench.take(&claims[*which])),
                Happens::Release(which) => drop(bench.release(&claims[*which].name)),
                Happens::Start => drop(bench.recover()),
                Happens::Die(which, place) => {
                    let mut ledger = bench.dying(Death::AfterWrite(*place));
                    drop(take(&*bench.system, &mut ledger, &claims[*which], &mut ()));
                    drop(ledger);
                    bench.system.restart_process();
                }
                Happens::Fail(which, place) => {
                    let index = bench.system.tree.writes().len() + place;
                    bench.system.tree.add_fault(Fault::FailWrite { index, errno: EIO });
                    drop(bench.release(&claims[*which].name));
                    bench.system.tree.restart();
                }
            }
        }
        bench.system.restart_process();
        bench.recover();
        for claim in &claims {
            drop(bench.release(&claim.name));
        }
        prop_assert!(bench.is_whole(), "{:#?}", bench.difference());
        prop_assert_eq!(bench.ledger(None).book().claims().count(), 0);
    }
}
