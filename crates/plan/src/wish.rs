//! All functions that the seats of a file ask for, each once, with whom it is for.
//!
//! Not here: whether they may be taken. Every later part of the planner works on this list.

use spec::PciAddress;
use spec::inventory::Function;
use spec::plan::ReasonCode;
use spec::seat_file::{DisplayKind, MacAddress, RomChoice, SeatRequest};

use crate::findings::{Findings, Subject};
use crate::ground::{Ground, name, same_slot};
use crate::{selector, virtual_function};

/// One function that a seat will have.
#[derive(Clone)]
pub(crate) struct Piece<'a> {
    /// The position of the seat in the file.
    pub(crate) seat: usize,
    /// What asks for it.
    pub(crate) about: Subject,
    /// Whether the file asks for it; else it only goes along with its card.
    pub(crate) asked: bool,
    /// What it is.
    pub(crate) what: What<'a>,
    /// The file in place of its ROM.
    pub(crate) rom: Option<RomChoice>,
}

/// What a piece is on the host.
#[derive(Clone)]
pub(crate) enum What<'a> {
    /// A function, whole.
    Function(&'a Function),
    /// A virtual function of a physical one.
    Virtual(MadeOf<'a>),
}

/// A virtual function.
#[derive(Clone)]
pub(crate) struct MadeOf<'a> {
    /// The physical function.
    pub(crate) physical: &'a Function,
    /// The index.
    pub(crate) index: u16,
    /// The function itself, when it exists already.
    pub(crate) existing: Option<&'a Function>,
    /// The MAC address; network cards only.
    pub(crate) mac: Option<MacAddress>,
    /// The VLAN.
    pub(crate) vlan: Option<u16>,
}

impl<'a> Piece<'a> {
    /// The function; none when it is a virtual one that is still to be made.
    pub(crate) fn function(&self) -> Option<&'a Function> {
        match &self.what {
            What::Function(function) => Some(function),
            What::Virtual(made_of) => made_of.existing,
        }
    }

    /// The function that is there in any case: itself, or the physical one.
    pub(crate) fn hardware(&self) -> &'a Function {
        match &self.what {
            What::Function(function) => function,
            What::Virtual(made_of) => made_of.existing.unwrap_or(made_of.physical),
        }
    }
}

/// What all seats ask for.
pub(crate) struct Wishes<'a> {
    /// The functions in the order of the file.
    pub(crate) pieces: Vec<Piece<'a>>,
    /// The virtual functions that are still to be made: of which, and how many.
    pub(crate) made: Vec<(&'a Function, u16)>,
}

impl<'a> Wishes<'a> {
    /// The pieces of the seat at `index` of the file.
    pub(crate) fn of_seat(&self, index: usize) -> impl Iterator<Item = &Piece<'a>> {
        self.pieces.iter().filter(move |piece| piece.seat == index)
    }

    /// The piece that is the function at `address`.
    pub(crate) fn at(&self, address: PciAddress) -> Option<&Piece<'a>> {
        self.pieces.iter().find(|piece| piece.function().is_some_and(|function| function.address == address))
    }

    /// The functions that exist, with their pieces.
    pub(crate) fn functions(&self) -> impl Iterator<Item = (&Piece<'a>, &'a Function)> {
        self.pieces.iter().filter_map(|piece| Some((piece, piece.function()?)))
    }
}

/// Finds everything that the seats ask for; what cannot be found goes to `findings`.
pub(crate) fn gather<'a>(ground: &Ground<'a>, findings: &mut Findings) -> Wishes<'a> {
    let mut wishes = Wishes { pieces: Vec::new(), made: Vec::new() };
    for (index, seat) in ground.file.seats.iter().enumerate() {
        for (number, request) in seat.devices.iter().enumerate() {
            let part = format!("device {} ({})", number + 1, selector::describe(ground, request));
            let about = Subject::seat(index, &seat.name, &part);
            let found = selector::find(ground, request, &about, findings).unwrap_or_default();
            for function in with_companions(ground, &found) {
                let asked = found.iter().any(|asked| asked.address == function.address);
                let rom = request
                    .rom
                    .clone()
                    .filter(|_| found.first().is_some_and(|first| first.address == function.address));
                let about = about.at(function);
                let piece = Piece { seat: index, about, asked, what: What::Function(function), rom };
                add(&mut wishes, piece, findings);
            }
        }
        display(&wishes, index, seat, findings);
    }
    virtual_function::gather(ground, &mut wishes, findings);
    wishes
}

/// The functions found and those that go along with display cards among them.
fn with_companions<'a>(ground: &Ground<'a>, found: &[&'a Function]) -> Vec<&'a Function> {
    let mut all = found.to_vec();
    for card in found.iter().filter(|function| function.class.is_display()) {
        let along = ground.functions().filter(|other| {
            let one_group = card.group.is_some() && card.group == other.group;
            selector::is_companion(ground, card, other) || one_group && same_slot(card.address, other.address)
        });
        for other in along {
            if !all.iter().any(|known| known.address == other.address) {
                all.push(other);
            }
        }
    }
    all
}

/// Adds `piece` unless its function is there already.
pub(crate) fn add<'a>(wishes: &mut Wishes<'a>, piece: Piece<'a>, findings: &mut Findings) {
    let known = piece.function().and_then(|function| wishes.at(function.address));
    let Some((known, function)) = known.zip(piece.function()) else {
        wishes.pieces.push(piece);
        return;
    };
    // A function that came along with its card and is named by itself too is one wish said in two ways.
    if known.seat == piece.seat && !(known.asked && piece.asked) {
        return;
    }
    let by = known.about.seat.as_ref().map_or("", |(_, seat)| seat.as_str());
    let sentence = format!(
        "{} ({}) is asked for twice: seat `{by}` has it as {}",
        function.address,
        name(function),
        known.about.part
    );
    let remedy = "remove one of the two, or ask for another device".to_owned();
    findings.refuse(&piece.about, ReasonCode::AskedTwice, sentence, remedy);
}

/// A seat whose display is its own card must have one.
fn display(wishes: &Wishes<'_>, index: usize, seat: &SeatRequest, findings: &mut Findings) {
    let has_card = wishes
        .of_seat(index)
        .filter_map(|piece| piece.function())
        .any(|function| function.class.is_display());
    if seat.display == Some(DisplayKind::Primary) && !has_card {
        findings.refuse(
            &Subject::seat(index, &seat.name, "display"),
            ReasonCode::NoDisplayCard,
            "`display = \"primary\"` needs a display card, and none is among the seat's devices".to_owned(),
            "add a `[[seat.device]]` with `class = \"display\"`, or set `display = \"emulated\"`".to_owned(),
        );
    }
}
