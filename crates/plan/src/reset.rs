//! How each function is reset between owners, and what trials have shown of it.
//!
//! Not here: resetting. The ladder itself is the machine's; this part only knows which rungs are there.

use std::collections::BTreeMap;

use spec::PciAddress;
use spec::inventory::{Function, ResetMethod};
use spec::plan::{NoticeCode, PlannedReset, ReasonCode, TrialRecord, TrialVerdict};

use crate::findings::Findings;
use crate::ground::{Ground, name};
use crate::wish::{Piece, Wishes};

/// Finds the reset of every function that is asked for.
pub(crate) fn find(
    ground: &Ground<'_>,
    wishes: &Wishes<'_>,
    findings: &mut Findings,
) -> BTreeMap<PciAddress, PlannedReset> {
    let mut resets = BTreeMap::new();
    let mut untried: Vec<(&Piece<'_>, Vec<PciAddress>)> = Vec::new();
    for (piece, function) in wishes.functions() {
        if !tried(ground, piece, function, findings) {
            match untried
                .last_mut()
                .filter(|(known, _)| known.seat == piece.seat && known.about.part == piece.about.part)
            {
                Some((_, functions)) => functions.push(function.address),
                None => untried.push((piece, vec![function.address])),
            }
        }
        let reset = match alone(ground, function) {
            Some(method) => PlannedReset::Alone { method },
            None => together(ground, wishes, piece, function, findings),
        };
        resets.insert(function.address, reset);
    }
    for (piece, functions) in untried {
        // One wish, one notice: a card is tried whole.
        let names: Vec<String> = functions.iter().map(PciAddress::to_string).collect();
        let verb = if names.len() == 1 { "survives" } else { "survive" };
        let sentence =
            format!("nothing has shown yet that {} {verb} being taken and given back", names.join(" and "));
        let remedy = format!("let it be shown: allod trial {}", names.first().map_or("", String::as_str));
        findings.notice(&piece.about, NoticeCode::NoTrial, sentence, remedy);
    }
    resets
}

/// The first method that reaches this function only.
///
/// The kernel lists `bus` only for a function that is alone on its bus (`pci_parent_bus_reset`, drivers/pci/pci.c);
/// lists have been wrong before, and a bus reset that reaches a neighbour is never harmless.
fn alone(ground: &Ground<'_>, function: &Function) -> Option<ResetMethod> {
    let single = || function.parent.is_some_and(|bridge| ground.behind(bridge).len() == 1);
    let reaches_only_this = |method: &ResetMethod| match method {
        ResetMethod::Bus | ResetMethod::CxlBus => single(),
        ResetMethod::Unknown => false,
        _ => true,
    };
    function.reset_methods.as_deref().unwrap_or_default().iter().copied().find(reaches_only_this)
}

/// A reset of the bus above needs everything behind it in one hand.
fn together(
    ground: &Ground<'_>,
    wishes: &Wishes<'_>,
    piece: &Piece<'_>,
    function: &Function,
    findings: &mut Findings,
) -> PlannedReset {
    let reached = function.parent.map(|bridge| (bridge, ground.behind(bridge)));
    let at = format!("{} ({})", function.address, name(function));
    let Some((bridge, reached)) = reached else {
        no_reset(ground, piece, function, "there is no bridge above it whose bus could be reset", findings);
        return PlannedReset::None;
    };
    let mut of_host: Vec<&Function> = Vec::new();
    let mut shared = false;
    for other in reached {
        let owner = wishes.at(other.address);
        if owner.is_some_and(|owner| owner.seat == piece.seat) {
            continue;
        }
        let stands = ground.claimed_by(other.address).map(|claim| claim.seat.as_str());
        let seat =
            owner.and_then(|owner| owner.about.seat.as_ref()).map(|(_, name)| name.as_str()).or(stands);
        let Some(seat) = seat else {
            of_host.push(other);
            continue;
        };
        shared = true;
        let sentence = format!(
            "{at} can be reset only together with {} ({}), which seat `{seat}` has",
            other.address,
            name(other)
        );
        let remedy = "give both to one seat, or put one of the cards into another slot".to_owned();
        findings.refuse(&piece.about, ReasonCode::ResetShared, sentence, remedy);
    }
    if let Some(other) = of_host.first() {
        let why = format!("a reset of its bus would reach {} ({}) of the host", other.address, name(other));
        no_reset(ground, piece, function, &why, findings);
    }
    if shared || !of_host.is_empty() { PlannedReset::None } else { PlannedReset::Together { bridge } }
}

fn no_reset(ground: &Ground<'_>, piece: &Piece<'_>, function: &Function, why: &str, findings: &mut Findings) {
    if trials_of(ground, function).any(|trial| trial.verdict == TrialVerdict::Passed) {
        return;
    }
    let known =
        if function.reset_methods.is_some() { "has no reset of its own" } else { "has no known reset" };
    let sentence = format!(
        "{} ({}) {known}, and {why}: after the seat it may not work before a restart of the host",
        function.address,
        name(function)
    );
    let remedy = format!("try it before it matters: allod trial {}", function.address);
    findings.notice(&piece.about, NoticeCode::NoReset, sentence, remedy);
}

fn trials_of<'t>(ground: &Ground<'t>, function: &'t Function) -> impl Iterator<Item = &'t TrialRecord> {
    ground.trials.iter().filter(|trial| trial.identity.agrees_with(&function.identity))
}

/// Weighs the last trial of a function; without one the answer is no.
fn tried(ground: &Ground<'_>, piece: &Piece<'_>, function: &Function, findings: &mut Findings) -> bool {
    let Some(trial) = trials_of(ground, function).last() else { return false };
    let at = format!("{} ({})", function.address, name(function));
    let again = format!("allod trial {}", function.address);
    if let TrialVerdict::Failed { why } = &trial.verdict {
        let sentence = format!("a trial of {at} failed: {why}");
        let remedy = format!("choose another card; after a change of kernel or firmware try again: {again}");
        findings.refuse(&piece.about, ReasonCode::TrialFailed, sentence, remedy);
        return true;
    }
    let host = &ground.inventory.host;
    let differs =
        |then: &Option<String>, now: &Option<String>| then.is_some() && now.is_some() && then != now;
    if differs(&trial.kernel, &host.kernel.release) || differs(&trial.firmware, &host.firmware.version) {
        let sentence = format!("the trial of {at} was under another kernel or firmware");
        findings.notice(&piece.about, NoticeCode::OldTrial, sentence, format!("try again: {again}"));
    }
    true
}
