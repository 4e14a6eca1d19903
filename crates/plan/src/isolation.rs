//! Whether the hardware keeps a seat's devices apart from everything else: IOMMU, groups, fixed maps.
//!
//! Not here: who uses a device ([`crate::hold`]) and how it is reset ([`crate::reset`]).

use std::collections::BTreeMap;

use spec::inventory::{
    Function, FunctionKind, HoldStrength, IommuKind, ModuleState, RegionKind, Virtualization,
};
use spec::plan::{Candidate, NoticeCode, ReasonCode};

use crate::findings::{Findings, Subject};
use crate::ground::{Ground, candidate, is_device, name};
use crate::wish::{Piece, Wishes};

/// Checks the host as a whole, then every group that a seat touches.
pub(crate) fn check(ground: &Ground<'_>, wishes: &Wishes<'_>, findings: &mut Findings) {
    virtualization(ground, findings);
    if wishes.pieces.is_empty() {
        return;
    }
    let facts = &ground.inventory.iommu;
    let unknown_and_no_groups = facts.kind == IommuKind::Unknown
        && ground.inventory.groups.is_empty()
        && ground.functions().all(|function| function.group.is_none());
    if facts.kind == IommuKind::None || unknown_and_no_groups {
        findings.refuse(
            &Subject::host("iommu"),
            ReasonCode::NoIommu,
            "the host's kernel uses no IOMMU, so a device could reach all memory".to_owned(),
            "switch VT-d or AMD-Vi on in the firmware setup; on Intel add intel_iommu=on to the kernel's command \
             line; `allod doctor` says which"
                .to_owned(),
        );
        return;
    }
    interrupts(ground, findings);
    forced(ground, findings);
    for (piece, function) in wishes.functions() {
        match function.group {
            None => {
                let sentence = format!("{} ({}) is in no IOMMU group", function.address, name(function));
                let remedy = "put the card into a slot behind the IOMMU".to_owned();
                findings.refuse(&piece.about, ReasonCode::NoGroup, sentence, remedy);
            }
            Some(number) => fixed_map(ground, number, piece, function, findings),
        }
    }
    let mut groups: BTreeMap<u32, Vec<&Piece<'_>>> = BTreeMap::new();
    for (piece, function) in wishes.functions() {
        if let Some(number) = function.group {
            groups.entry(number).or_default().push(piece);
        }
    }
    for (number, pieces) in groups {
        group(ground, wishes, number, &pieces, findings);
    }
}

fn virtualization(ground: &Ground<'_>, findings: &mut Findings) {
    if ground.inventory.cpus.virtualization == Virtualization::None {
        findings.refuse(
            &Subject::host("cpus"),
            ReasonCode::NoVirtualization,
            "the processor offers no virtualisation".to_owned(),
            "switch VT-x or SVM on in the host's firmware setup".to_owned(),
        );
    }
    let mut modules = ground.inventory.host.kernel.modules.iter();
    if modules.any(|module| module.name == "vfio_pci" && module.state == ModuleState::Missing) {
        findings.refuse(
            &Subject::host("kernel"),
            ReasonCode::NoVfio,
            "the host's kernel has no vfio-pci driver".to_owned(),
            "install the kernel's extra modules, or a kernel built with CONFIG_VFIO_PCI".to_owned(),
        );
    }
}

/// Without interrupt remapping the kernel refuses, unless it was told to allow it (vfio_iommu_type1.c).
fn interrupts(ground: &Ground<'_>, findings: &mut Findings) {
    if ground.inventory.iommu.interrupt_remapping != Some(false) {
        return;
    }
    let mut modules = ground.inventory.host.kernel.modules.iter();
    let allowed = modules.any(|module| {
        let parameter = module.parameters.get("allow_unsafe_interrupts");
        module.name == "vfio_iommu_type1" && parameter.is_some_and(|value| value == "Y" || value == "1")
    });
    let about = Subject::host("iommu");
    if allowed {
        findings.notice(
            &about,
            NoticeCode::UnsafeInterruptsAllowed,
            "interrupts are not remapped and the kernel was told to allow it: a seat could forge interrupts"
                .to_owned(),
            "switch interrupt remapping (x2APIC) on in the firmware setup".to_owned(),
        );
    } else {
        findings.refuse(
            &about,
            ReasonCode::UnsafeInterrupts,
            "interrupts are not remapped, so a device could forge another's".to_owned(),
            "switch interrupt remapping (x2APIC) on in the firmware setup; remove nointremap from the kernel's \
             command line"
                .to_owned(),
        );
    }
}

fn forced(ground: &Ground<'_>, findings: &mut Findings) {
    let command_line = ground.inventory.host.kernel.command_line.as_deref().unwrap_or("");
    if command_line.contains("pcie_acs_override") {
        findings.notice(
            &Subject::host("iommu"),
            NoticeCode::GroupsForced,
            "pcie_acs_override makes groups that the hardware does not keep apart: devices of different seats may \
             reach each other"
                .to_owned(),
            "remove pcie_acs_override and put the cards into slots with their own root ports".to_owned(),
        );
    }
}

/// A direct region (RMRR, IVMD) must stay mapped one to one, so the kernel gives the device to nobody
/// (`iommu_get_resv_regions`, drivers/vfio/vfio_iommu_type1.c).
fn fixed_map(
    ground: &Ground<'_>,
    number: u32,
    piece: &Piece<'_>,
    function: &Function,
    findings: &mut Findings,
) {
    let direct = ground
        .inventory
        .group(number)
        .and_then(|group| group.reserved.iter().find(|region| region.kind == RegionKind::Direct));
    if let Some(region) = direct {
        let sentence = format!(
            "firmware demands a fixed map of {} to {} for {} ({}), so it cannot be given away",
            region.start,
            region.end,
            function.address,
            name(function)
        );
        let remedy =
            "update the firmware or switch its legacy and management use of this device off".to_owned();
        findings.refuse(&piece.about, ReasonCode::FirmwareMap, sentence, remedy);
    }
}

/// A group is whole: all members that count belong to one seat.
fn group(
    ground: &Ground<'_>,
    wishes: &Wishes<'_>,
    number: u32,
    pieces: &[&Piece<'_>],
    findings: &mut Findings,
) {
    let Some(first) = pieces.first() else { return };
    if let Some(other) = pieces.iter().find(|piece| piece.seat != first.seat) {
        let seat = first.about.seat.as_ref().map_or("", |(_, name)| name.as_str());
        let sentence = format!(
            "{} is in IOMMU group {number} together with {} of seat `{seat}`, so the hardware cannot keep the seats apart",
            at(other),
            at(first)
        );
        let remedy = "put one of the cards into another slot, or give both to one seat".to_owned();
        findings.refuse(&other.about, ReasonCode::GroupShared, sentence, remedy);
    }
    let rest: Vec<&Function> = ground
        .group_members(number)
        .into_iter()
        .filter(|member| counts(member) && wishes.at(member.address).is_none())
        .collect();
    let others = ground.inventory.group(number).map_or(&[][..], |group| group.others.as_slice());
    if rest.is_empty() && others.is_empty() {
        return;
    }
    let count = match rest.len() + others.len() {
        1 => "one member that the seat does not ask for".to_owned(),
        count => format!("{count} members that the seat does not ask for"),
    };
    let strangers =
        if others.is_empty() { String::new() } else { format!(", {} among them", others.join(" and ")) };
    let sentence = format!("IOMMU group {number} can only be taken whole, and has {count}{strangers}");
    let remedy = remedy(ground, &rest, others);
    let listed: Vec<Candidate> =
        rest.iter().map(|member| candidate(member, Some(holder(ground, member)))).collect();
    findings.refuse_among(&first.about, ReasonCode::GroupNotWhole, sentence, remedy, listed);
}

/// Whether a member stands in the way of its group: the kernel overlooks bridges, and what has no driver
/// (`vfio_dev_viable`, drivers/vfio/group.c); of the latter only host bridges are sure never to get one.
fn counts(member: &Function) -> bool {
    let host_bridge = member.kind == FunctionKind::HostBridge && member.driver.bound.is_none();
    !(member.kind.forwards() || host_bridge)
}

/// Who has a member of a group now.
fn holder(ground: &Ground<'_>, member: &Function) -> String {
    match (ground.claimed_by(member.address), &member.driver.bound) {
        (Some(claim), _) => format!("held by seat `{}`", claim.seat),
        (None, Some(driver)) => format!("held by the host's {driver}"),
        (None, None) => "held by nobody".to_owned(),
    }
}

/// To give the others too is cheapest, unless the host needs them or they are a part of its board.
fn remedy(ground: &Ground<'_>, rest: &[&Function], others: &[String]) -> String {
    let can_go = |member: &&&Function| {
        // SMBus (PCI Code and ID Assignment, section 1.13): memory sizes, fans and clocks of the board.
        let board = !is_device(member) || member.class.base_and_sub() == 0x0c05;
        let needed = member.holds.iter().any(|hold| hold.strength > HoldStrength::HandOver);
        !board && !needed && ground.claimed_by(member.address).is_none()
    };
    if !others.is_empty() || rest.iter().filter(can_go).count() < rest.len() {
        return "put the card into another slot, best one directly at the processor; `allod devices` shows the groups"
            .to_owned();
    }
    let paths: Vec<String> =
        rest.iter().map(|member| format!("`path = \"{}\"`", member.identity.path)).collect();
    format!(
        "give the seat a `[[seat.device]]` with {} too, or put the card into another slot",
        paths.join(" and one with ")
    )
}

fn at(piece: &Piece<'_>) -> String {
    piece.function().map_or(String::new(), |function| format!("{} ({})", function.address, name(function)))
}
