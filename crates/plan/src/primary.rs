//! The first display of a seat that shows its own card, and whether a BIOS can write to it.
//!
//! A BIOS knows VGA only: the legacy ranges at fixed addresses, which the kernel gives for functions of that class
//! (`drivers/vfio/pci/vfio_pci_core.c`, vfio_pci_is_vga). UEFI has drivers for cards and needs none of it.

use spec::PciAddress;
use spec::inventory::{Function, ModuleState};
use spec::plan::ReasonCode;
use spec::seat_file::{DisplayKind, FirmwareKind, SeatRequest};

use crate::findings::{Findings, Subject};
use crate::ground::{Ground, name};
use crate::slot::display;
use crate::wish::{Piece, Wishes};

/// The first display of a seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Primary {
    address: PciAddress,
    /// Whether the legacy VGA ranges are the seat's.
    pub(crate) legacy_vga: bool,
}

impl Primary {
    /// Whether it is this one.
    pub(crate) fn is(&self, piece: &Piece<'_>) -> bool {
        piece.function().is_some_and(|function| function.address == self.address)
    }
}

/// The card that is the first display of the seat at `index`: with a BIOS the first VGA, else the first of all.
pub(crate) fn card(seat: &SeatRequest, wishes: &Wishes<'_>, index: usize) -> Option<Primary> {
    if display(seat, wishes, index) != DisplayKind::Primary {
        return None;
    }
    let legacy_vga = starts_by_bios(seat);
    let mut displays = displays(wishes, index);
    let first = if legacy_vga { displays.find(|card| card.class.is_vga()) } else { displays.next() };
    first.map(|card| Primary { address: card.address, legacy_vga })
}

/// Refuses first displays that a BIOS cannot write to.
pub(crate) fn check(ground: &Ground<'_>, wishes: &Wishes<'_>, findings: &mut Findings) {
    for (index, seat) in ground.file.seats.iter().enumerate() {
        if !starts_by_bios(seat) || display(seat, wishes, index) != DisplayKind::Primary {
            continue;
        }
        let Some(first) = displays(wishes, index).next() else { continue };
        let about = Subject::seat(index, &seat.name, "display").at(first);
        let uefi = "set `firmware.kind = \"uefi\"`, which needs none";
        if card(seat, wishes, index).is_none() {
            let sentence = format!(
                "a BIOS can show itself on a VGA only (class 0300), and {} ({}) is of class {:04x}",
                first.address,
                name(first),
                first.class.base_and_sub()
            );
            let remedy = format!("{uefi}, or give the seat a VGA, or `display = \"emulated\"`");
            findings.refuse(&about, ReasonCode::NoLegacyVga, sentence, remedy);
        } else if let Some((why, remedy)) = kept_back(ground) {
            let sentence =
                format!("the kernel does not give the legacy VGA ranges, which a BIOS writes to: {why}");
            findings.refuse(&about, ReasonCode::NoLegacyVga, sentence, format!("{remedy}, or {uefi}"));
        }
    }
}

/// Why no card's legacy ranges can be had, and what to do; nothing while it is not known.
fn kept_back(ground: &Ground<'_>) -> Option<(&'static str, &'static str)> {
    let modules = &ground.inventory.host.kernel.modules;
    let module =
        modules.iter().find(|module| module.name == "vfio_pci" && module.state == ModuleState::Present)?;
    match module.parameters.get("disable_vga").map(String::as_str) {
        Some("Y" | "1") => Some((
            "vfio-pci was loaded with disable_vga=1",
            "take that out of /etc/modprobe.d or the kernel's command line and load the module anew",
        )),
        // A kernel that can has the parameter beside its others.
        None if !module.parameters.is_empty() => {
            Some(("it was built without CONFIG_VFIO_PCI_VGA", "use a kernel that has it, as Debian's do"))
        }
        _ => None,
    }
}

fn displays<'a>(wishes: &Wishes<'a>, index: usize) -> impl Iterator<Item = &'a Function> {
    wishes.of_seat(index).filter_map(|piece| piece.function()).filter(|function| function.class.is_display())
}

fn starts_by_bios(seat: &SeatRequest) -> bool {
    seat.firmware.as_ref().is_some_and(|firmware| firmware.kind == FirmwareKind::Bios)
}
