//! The slots of a seat's machine: the functions of one card stay functions of one slot.
//!
//! Not here: addresses in the guest, which its machine gives out.

use std::collections::BTreeMap;

use spec::PciAddress;
use spec::inventory::{LinkState, ResetMethod};
use spec::plan::{PlannedFunction, PlannedReset, PlannedSlot, ReasonCode, Source};
use spec::seat_file::{DisplayKind, RomChoice, SeatRequest};

use crate::findings::{Findings, Subject};
use crate::ground::{Ground, name, slot};
use crate::primary::{self, Primary};
use crate::rom;
use crate::wish::{Piece, What, Wishes};

/// The slots of the root bus that are free for root ports and virtual devices: all but the host bridge's and that of
/// the board's own devices.
const ROOT_BUS_SLOTS: usize = 30;

/// The virtual devices that every machine has: the source of randomness and the console.
const BOARD_DEVICES: usize = 2;

/// Lays the functions of the seat at `index` into slots.
pub(crate) fn lay(
    ground: &Ground<'_>,
    wishes: &Wishes<'_>,
    resets: &BTreeMap<PciAddress, PlannedReset>,
    index: usize,
    findings: &mut Findings,
) -> Vec<PlannedSlot> {
    let Some(seat) = ground.file.seats.get(index) else { return Vec::new() };
    let mut cards: Vec<Vec<&Piece<'_>>> = Vec::new();
    for piece in wishes.of_seat(index) {
        let place = |piece: &Piece<'_>| match &piece.what {
            What::Function(function) => Some(slot(function.address)),
            // Virtual functions are cards of their own: on the host they may share a slot with strangers.
            What::Virtual(_) => None,
        };
        let own = place(piece);
        match cards
            .iter_mut()
            .find(|card| own.is_some() && card.first().is_some_and(|first| place(first) == own))
        {
            Some(card) => card.push(piece),
            None => cards.push(vec![piece]),
        }
    }
    enough(index, seat, cards.len(), findings);
    let primary = primary::card(seat, wishes, index);
    let mut slots = Vec::new();
    for (port, mut card) in (0_u8..).zip(cards) {
        card.sort_by_key(|piece| piece.function().map(|function| function.address));
        let shown = |piece: &&Piece<'_>| primary.is_some_and(|primary| primary.is(piece));
        let primary_display = card.iter().any(shown);
        slots.push(PlannedSlot {
            port,
            primary_display,
            link: link(&card),
            functions: functions(&card, resets, primary),
        });
    }
    slots
}

/// Where the seat's picture comes from: as the file says, else from its card if it has one.
pub(crate) fn display(seat: &SeatRequest, wishes: &Wishes<'_>, index: usize) -> DisplayKind {
    let has_card = wishes
        .of_seat(index)
        .filter_map(|piece| piece.function())
        .any(|function| function.class.is_display());
    seat.display.unwrap_or(if has_card { DisplayKind::Primary } else { DisplayKind::None })
}

fn enough(index: usize, seat: &SeatRequest, cards: usize, findings: &mut Findings) {
    let emulated = usize::from(seat.display == Some(DisplayKind::Emulated));
    let used = BOARD_DEVICES + emulated + seat.disks.len() + seat.networks.len();
    let room = ROOT_BUS_SLOTS.saturating_sub(used);
    if cards > room {
        let sentence = format!("the seat's {cards} cards need a slot each, but its machine has {room} left");
        let remedy = "give the seat fewer devices, virtual drives or network cards".to_owned();
        findings.refuse(
            &Subject::seat(index, &seat.name, "devices"),
            ReasonCode::SlotsShort,
            sentence,
            remedy,
        );
    }
}

/// The widest and fastest link that any function of a card can have.
fn link(card: &[&Piece<'_>]) -> Option<LinkState> {
    let ends = card.iter().filter_map(|piece| piece.hardware().link.as_ref());
    let states = ends.flat_map(|link| [link.maximum, link.current]).flatten();
    states.reduce(|best, state| LinkState {
        speed_mts: best.speed_mts.max(state.speed_mts),
        width: best.width.max(state.width),
    })
}

/// The functions of a slot, by their own numbers when function 0 is among them: a slot without one is empty to every
/// guest (PCI Local Bus Specification 3.0, section 3.2.2.3.4).
fn functions(
    card: &[&Piece<'_>],
    resets: &BTreeMap<PciAddress, PlannedReset>,
    primary: Option<Primary>,
) -> Vec<PlannedFunction> {
    let own = |piece: &Piece<'_>| match &piece.what {
        What::Function(function) => Some(function.address.function()),
        What::Virtual(_) => None,
    };
    let keep = card.iter().any(|piece| own(piece) == Some(0));
    (0_u8..)
        .zip(card)
        .map(|(position, piece)| PlannedFunction {
            number: own(piece).filter(|_| keep).unwrap_or(position),
            source: source(piece),
            rom: piece.rom.clone().or_else(|| rom::kept(piece).map(RomChoice::File)),
            legacy_vga: primary.is_some_and(|primary| primary.legacy_vga && primary.is(piece)),
            reset: reset(piece, resets),
        })
        .collect()
}

fn reset(piece: &Piece<'_>, resets: &BTreeMap<PciAddress, PlannedReset>) -> PlannedReset {
    match piece.function() {
        Some(function) => resets.get(&function.address).copied().unwrap_or(PlannedReset::None),
        // Every virtual function has it (Single Root I/O Virtualization 1.1, section 2.2.2).
        None => PlannedReset::Alone { method: ResetMethod::Flr },
    }
}

fn source(piece: &Piece<'_>) -> Source {
    match &piece.what {
        What::Virtual(made_of) => Source::Virtual {
            of: made_of.physical.address,
            identity: made_of.physical.identity.clone(),
            index: made_of.index,
            mac: made_of.mac,
            vlan: made_of.vlan,
            name: format!("virtual function {} of {}", made_of.index, name(made_of.physical)),
        },
        What::Function(function) => Source::Taken {
            address: function.address,
            identity: function.identity.clone(),
            // Without a group there is a reason why not, and no plan.
            group: function.group.unwrap_or_default(),
            driver: function.driver.bound.clone(),
            driver_override: function.driver.driver_override.clone(),
            name: name(function),
        },
    }
}
