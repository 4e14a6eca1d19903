//! What graphics cards need beside a group and a reset to be the first display of a seat: a ROM that has not run, with an
//! image for the seat's firmware, and for a BIOS the legacy VGA ranges.

use spec::inventory::{Finding, Function, HostInventory, KeptRom, ModuleState, Rom, RomImages, Severity};

use super::devices::title;
use super::finding::{self, command, step};

/// ROMs that show nothing in a seat.
pub(super) fn roms(inventory: &HostInventory) -> Vec<Finding> {
    let cards = inventory.functions.iter().filter(|function| function.class.is_vga());
    cards
        .filter_map(|card| match (card.own_rom, &card.kept_rom) {
            (None, None) if card.rom == Rom::Shadowed => Some(shadowed(card)),
            (None, None) => None,
            // What the guest will see: the card's own, where that was read.
            (Some(own), _) => one_kind(card, own, "its images were read from the card".to_owned()),
            (None, Some(KeptRom { x86, efi, file })) => {
                let images = RomImages { x86: *x86, efi: *efi };
                one_kind(card, images, format!("its images are those of {}", file.display()))
            }
        })
        .collect()
}

fn shadowed(card: &Function) -> Finding {
    let keep = format!("allod rom dump {} --from FILE", card.address);
    finding::new("rom-shadowed", Severity::Note)
        .about(card.address)
        .is(format!("the ROM of {} cannot be read: it is the host's boot display", title(card)))
        .because("the kernel shows the copy that the host's firmware has run and changed instead (pci_fixup_video)")
        .so("in a seat it would show nothing before the driver of the guest's system runs")
        .fix(command(keep, "keeps a clean one for seats, from a file by the card's vendor"))
        .fix(step("or start the host once with another boot display, and keep the card's own: allod rom dump ADDRESS"))
        .done()
}

fn one_kind(card: &Function, images: RomImages, because: String) -> Option<Finding> {
    let (lacks, other) = match images {
        RomImages { x86: true, efi: true } => return None,
        RomImages { efi: false, x86: true } => ("UEFI", "firmware.kind = \"bios\""),
        RomImages { x86: false, efi: true } => ("a BIOS", "firmware.kind = \"uefi\""),
        RomImages { x86: false, efi: false } => ("any firmware", "a kernel that is started without firmware"),
    };
    let finding = finding::new("rom-of-one-kind", Severity::Note)
        .about(card.address)
        .is(format!("the ROM of {} has no image for {lacks}", title(card)))
        .because(because)
        .so(format!("in a seat with {lacks} it shows nothing before the driver of the guest's system runs"))
        .fix(step(format!("give seats with this card {other}")))
        .fix(step("or look for a newer ROM at the card's vendor"))
        .done();
    Some(finding)
}

/// Kernels that keep the legacy VGA ranges for themselves.
pub(super) fn legacy_vga(inventory: &HostInventory) -> Vec<Finding> {
    let has_vga = inventory.functions.iter().any(|function| function.class.is_vga());
    let modules = &inventory.host.kernel.modules;
    let module =
        modules.iter().find(|module| module.name == "vfio_pci" && module.state == ModuleState::Present);
    let Some(module) = module.filter(|module| has_vga && !module.parameters.is_empty()) else {
        return Vec::new();
    };
    let draft = finding::new("no-legacy-vga", Severity::Note)
        .so("no card can be the first display of a seat with a BIOS; seats with UEFI need none of it");
    let draft = match module.parameters.get("disable_vga").map(String::as_str) {
        Some("Y" | "1") => draft
            .is("vfio-pci keeps the legacy VGA ranges of cards")
            .because("/sys/module/vfio_pci/parameters/disable_vga says Y")
            .fix(step("take disable_vga=1 out of /etc/modprobe.d and the kernel's command line, and load vfio-pci anew")),
        None => draft
            .is("this kernel cannot give the legacy VGA ranges of cards away")
            .because("vfio_pci has no parameter disable_vga: it was built without CONFIG_VFIO_PCI_VGA")
            .fix(step("use a kernel that has it, as Debian's do")),
        Some(_) => return Vec::new(),
    };
    vec![draft.done()]
}
