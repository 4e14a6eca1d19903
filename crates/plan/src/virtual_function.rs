//! SR-IOV: which virtual functions the seats get, and how many have to be made.
//!
//! Not here: making them. Called by [`crate::wish`] after all whole devices are known.

use std::collections::BTreeMap;

use spec::PciAddress;
use spec::inventory::{Function, HoldStrength, SrIov};
use spec::plan::ReasonCode;
use spec::seat_file::{MacAddress, VirtualFunctionRequest};

use crate::findings::{Findings, Subject};
use crate::ground::{Ground, end_of, name};
use crate::selector;
use crate::wish::{MadeOf, Piece, What, Wishes, add};

/// One request with the physical function it means.
struct Asked<'a> {
    seat: usize,
    number: usize,
    request: &'a VirtualFunctionRequest,
    about: Subject,
}

/// Adds the virtual functions that the seats ask for to `wishes`.
pub(crate) fn gather<'a>(ground: &Ground<'a>, wishes: &mut Wishes<'a>, findings: &mut Findings) {
    let mut of: BTreeMap<PciAddress, (&Function, Vec<Asked<'_>>)> = BTreeMap::new();
    for (seat, plan) in ground.file.seats.iter().enumerate() {
        for (number, request) in plan.virtual_functions.iter().enumerate() {
            let part =
                format!("virtual function {} (of {})", number + 1, selector::describe(ground, &request.of));
            let about = Subject::seat(seat, &plan.name, &part);
            let found = selector::find(ground, &request.of, &about, findings).unwrap_or_default();
            if let Some(physical) = physical(ground, wishes, &found, request, &about, findings) {
                let (_, asked) = of.entry(physical.address).or_insert((physical, Vec::new()));
                asked.push(Asked { seat, number, request, about });
            }
        }
    }
    for (physical, asked) in of.into_values() {
        let indices = indices(ground, physical, asked.len(), wishes);
        match indices {
            Ok((indices, made)) => {
                if made > 0 {
                    wishes.made.push((physical, made));
                }
                for (asked, index) in asked.into_iter().zip(indices) {
                    let piece = piece(ground, physical, &asked, index);
                    add(wishes, piece, findings);
                }
            }
            Err((sentence, remedy)) => {
                for asked in asked {
                    let about = asked.about.at(physical);
                    let code = ReasonCode::VirtualFunctionsShort;
                    findings.refuse(&about, code, sentence.clone(), remedy.clone());
                }
            }
        }
    }
}

/// The physical function that a request means, if virtual functions can be made of it.
fn physical<'a>(
    ground: &Ground<'a>,
    wishes: &Wishes<'a>,
    found: &[&'a Function],
    request: &VirtualFunctionRequest,
    about: &Subject,
    findings: &mut Findings,
) -> Option<&'a Function> {
    let able = |function: &&&Function| matches!(function.sriov, Some(SrIov::Physical { .. }));
    let first = found.first()?;
    let Some(physical) = found.iter().find(able) else {
        let sentence = format!("{} ({}) cannot make virtual functions", first.address, name(first));
        let remedy = "choose a card with SR-IOV, or switch SR-IOV on in the host's firmware setup".to_owned();
        findings.refuse(&about.at(first), ReasonCode::NoVirtualFunctions, sentence, remedy);
        return None;
    };
    let about = about.at(physical);
    let mut good = true;
    if let Some(taker) = wishes.at(physical.address) {
        let seat = taker.about.seat.as_ref().map_or("", |(_, name)| name.as_str());
        let sentence = format!("seat `{seat}` takes {} itself as {}", physical.address, taker.about.part);
        let remedy =
            "leave the physical function with the host, or ask for no virtual function of it".to_owned();
        findings.refuse(&about, ReasonCode::PhysicalFunctionTaken, sentence, remedy);
        good = false;
    }
    if let Some(claim) = ground.claimed_by(physical.address) {
        let sentence = format!("{} belongs to seat `{}`, which has it whole", physical.address, claim.seat);
        let remedy = format!("end that first: {}", end_of(claim));
        findings.refuse(&about, ReasonCode::Claimed, sentence, remedy);
        good = false;
    }
    if !physical.class.is_network() && (request.mac.is_some() || request.vlan.is_some()) {
        let sentence = format!("{} ({}) is no network card", physical.address, name(physical));
        let remedy = "remove `mac` and `vlan` from this virtual function".to_owned();
        findings.refuse(&about, ReasonCode::NotANetworkCard, sentence, remedy);
        good = false;
    }
    good.then_some(physical)
}

/// Which indices `count` new users get, and how many functions have to be made; else why it cannot be.
///
/// The kernel changes the number of virtual functions only from zero and to zero (`sriov_numvfs_store` in
/// drivers/pci/iov.c), so those that exist already are used as they are.
fn indices(
    ground: &Ground<'_>,
    physical: &Function,
    count: usize,
    wishes: &Wishes<'_>,
) -> Result<(Vec<u16>, u16), (String, String)> {
    let Some(SrIov::Physical { total, functions, .. }) = &physical.sriov else { return Ok((Vec::new(), 0)) };
    let at = physical.address;
    if functions.is_empty() {
        let wanted = u16::try_from(count).ok().filter(|wanted| wanted <= total);
        return wanted.map(|wanted| ((0..wanted).collect(), wanted)).ok_or_else(|| {
            let sentence =
                format!("the seats ask for {count} virtual functions of {at}, but it makes at most {total}");
            (sentence, "ask for fewer, or of another card too".to_owned())
        });
    }
    let free: Vec<u16> = (0..)
        .zip(functions)
        .filter(|(_, address)| is_free(ground, **address, wishes))
        .map(|(index, _)| index)
        .collect();
    if free.len() < count {
        let sentence = format!(
            "the seats ask for {count} virtual functions of {at}, but of the {} that exist {} are free, and their \
             number cannot be changed while one exists",
            functions.len(),
            free.len()
        );
        let remedy = format!("let the planner make them: echo 0 > /sys/bus/pci/devices/{at}/sriov_numvfs");
        return Err((sentence, remedy));
    }
    Ok((free.into_iter().take(count).collect(), 0))
}

/// Whether the virtual function at `address` is used by nobody.
fn is_free(ground: &Ground<'_>, address: PciAddress, wishes: &Wishes<'_>) -> bool {
    let holds = ground.function(address).map(|function| &function.holds);
    let unused = holds.is_some_and(|holds| holds.iter().all(|hold| hold.strength <= HoldStrength::HandOver));
    unused && ground.claimed_by(address).is_none() && wishes.at(address).is_none()
}

fn piece<'a>(ground: &Ground<'a>, physical: &'a Function, asked: &Asked<'_>, index: u16) -> Piece<'a> {
    let existing = match &physical.sriov {
        Some(SrIov::Physical { functions, .. }) => functions.get(usize::from(index)).copied(),
        _ => None,
    };
    let existing = existing.and_then(|address| ground.function(address));
    let seat = asked.about.seat.as_ref().map_or("", |(_, name)| name.as_str());
    let made =
        physical.class.is_network().then(|| mac(ground, seat, &format!("virtual function {}", asked.number)));
    let mac = asked.request.mac.or(made);
    Piece {
        seat: asked.seat,
        about: asked.about.at(physical),
        asked: true,
        what: What::Virtual(MadeOf { physical, index, existing, mac, vlan: asked.request.vlan }),
        rom: None,
    }
}

/// A MAC address that is the same at every start: made from the names of host, seat and card.
pub(crate) fn mac(ground: &Ground<'_>, seat: &str, card: &str) -> MacAddress {
    let host = ground.inventory.host.name.as_deref().unwrap_or("");
    // FNV-1a, 64 bits: short, well spread, and no other program has to compute the same.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in [host, "\0", seat, "\0", card].into_iter().flat_map(str::bytes) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    MacAddress::locally_administered(hash)
}
