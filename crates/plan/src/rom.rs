//! The option ROMs of cards: when a kept one takes the place of the card's own, and what a first display lacks.
//!
//! By its ROM a card shows a picture before any driver of the guest's system runs. Not here: what is in a ROM; the
//! inventory tells, for those that are kept.

use std::path::PathBuf;

use spec::inventory::{Function, KeptRom, Rom, RomImages};
use spec::plan::NoticeCode;
use spec::seat_file::FirmwareKind;

use crate::findings::Findings;
use crate::ground::{Ground, name};
use crate::primary;
use crate::wish::{Piece, Wishes};

/// The kept ROM that takes the place of a card's own: when the card has none, or what the kernel shows of it has run.
pub(crate) fn kept(piece: &Piece<'_>) -> Option<PathBuf> {
    let function = piece.function()?;
    let lacks = matches!(function.rom, Rom::Shadowed | Rom::Absent);
    function.kept_rom.as_ref().filter(|_| lacks).map(|kept| kept.file.clone())
}

/// Tells of first displays that stay dark until the guest's system has its driver.
pub(crate) fn check(ground: &Ground<'_>, wishes: &Wishes<'_>, findings: &mut Findings) {
    for (index, seat) in ground.file.seats.iter().enumerate() {
        let Some(primary) = primary::card(seat, wishes, index).filter(|_| seat.kernel.is_none()) else {
            continue;
        };
        let Some(piece) = wishes.of_seat(index).find(|piece| primary.is(piece)) else { continue };
        // What the seat names in its place is its owner's business.
        let (Some(function), None) = (piece.function(), &piece.rom) else { continue };
        let kind = seat.firmware.as_ref().map_or(FirmwareKind::Uefi, |firmware| firmware.kind);
        let title = format!("{} ({})", function.address, name(function));
        match (images(function), kind) {
            (None, _) if function.rom == Rom::Shadowed => findings.notice(
                &piece.about,
                NoticeCode::RomShadowed,
                format!(
                    "what the kernel shows of the ROM of {title} is the copy that the host's firmware has run, and it shows nothing in a seat"
                ),
                format!("keep a clean one: allod rom dump {} --from FILE", function.address),
            ),
            (Some(images), FirmwareKind::Bios) if !images.x86 => findings.notice(
                &piece.about,
                NoticeCode::RomOfOtherKind,
                format!("the ROM of {title} has no image for a BIOS, so the seat shows nothing before its driver runs"),
                "set `firmware.kind = \"uefi\"`".to_owned(),
            ),
            (Some(images), FirmwareKind::Uefi) if !images.efi => findings.notice(
                &piece.about,
                NoticeCode::RomOfOtherKind,
                format!(
                    "the ROM of {title} has no image for UEFI, so the seat shows nothing before its driver runs, unless UEFI itself knows the card"
                ),
                "set `firmware.kind = \"bios\"`, or look for a newer ROM at the card's vendor".to_owned(),
            ),
            _ => {}
        }
    }
}

/// Whom the ROM that the guest will see is for: the card's own where that was read, else the one that is kept.
fn images(function: &Function) -> Option<RomImages> {
    let own = function.own_rom.filter(|_| matches!(function.rom, Rom::Present { .. }));
    own.or(function.kept_rom.as_ref().map(|KeptRom { x86, efi, .. }| RomImages { x86: *x86, efi: *efi }))
}
