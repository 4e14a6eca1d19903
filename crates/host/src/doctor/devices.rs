//! The devices themselves: are their groups apart, can they be reset, does the host draw on them.

use spec::PciAddress;
use spec::inventory::{
    Finding, Function, FunctionKind, HoldKind, HoldStrength, HostInventory, IommuGroup, RegionKind,
    ResetMethod, Severity,
};

use super::boot;
use super::finding::{self, firmware, good, step};

/// The functions that people give to seats: graphics, USB controllers, network, NVMe.
///
/// What the host itself lives on is left out: nobody may give it away, so nothing has to be said about it.
fn candidates(inventory: &HostInventory) -> impl Iterator<Item = &Function> {
    inventory.functions.iter().filter(|function| {
        let class = function.class;
        let wanted = class.is_display()
            || class.is_usb_controller()
            || class.is_network()
            || class.base_and_sub() == 0x0108;
        wanted && !is_critical(function)
    })
}

fn is_critical(function: &Function) -> bool {
    function.holds.iter().any(|hold| hold.strength >= HoldStrength::Critical)
}

pub(super) fn title(function: &Function) -> String {
    let name =
        function.names.device.as_deref().or(function.names.class.as_deref()).unwrap_or("unnamed device");
    format!("{name} ({})", function.address)
}

/// Groups that hold more than one slot.
pub(super) fn groups(inventory: &HostInventory) -> Vec<Finding> {
    if inventory.groups.is_empty() {
        return Vec::new();
    }
    let mut findings: Vec<Finding> =
        inventory.groups.iter().filter_map(|group| shared(inventory, group)).collect();
    findings.extend(overridden(inventory));
    if findings.is_empty() {
        let is = "every card has an IOMMU group of its own".to_owned();
        findings.push(good("groups", is, "no group holds functions of two slots"));
    }
    findings
}

/// A finding when a group that has a candidate holds functions of other slots too.
fn shared(inventory: &HostInventory, group: &IommuGroup) -> Option<Finding> {
    let members: Vec<&Function> = group.functions.iter().filter_map(|at| inventory.function(*at)).collect();
    // Bridges in a group stay with the host; they do not hinder (the kernel asks only for the others).
    let devices: Vec<&Function> = members.iter().copied().filter(|member| !member.kind.forwards()).collect();
    let slot = |at: PciAddress| (at.domain(), at.bus(), at.device());
    let first =
        devices.iter().find(|device| candidates(inventory).any(|known| known.address == device.address))?;
    let others: Vec<&&Function> =
        devices.iter().filter(|device| slot(device.address) != slot(first.address)).collect();
    if others.is_empty() {
        return None;
    }
    let all: Vec<String> = devices.iter().map(|device| title(device)).collect();
    let critical = devices.iter().find(|device| is_critical(device));
    let consequence = match critical {
        Some(critical) => {
            format!("none of them can be given away, because the host lives on {}", title(critical))
        }
        None => "all of them go to one seat together, or none".to_owned(),
    };
    let finding = finding::new("group-shared", Severity::Warning)
        .about(first.address)
        .is(format!("group {} holds several devices: {}", group.number, all.join(", ")))
        .because(open_bridge(inventory, &members))
        .so(consequence)
        .fix(step("move the card to a slot that hangs on the processor (most often the first long one)"))
        .fix(firmware("ACS Enable and AER Cap (often under AMD CBS > NBIO, or PCI Subsystem Settings): Enabled"))
        .fix(step("do not use a kernel with the ACS override patch: it hides that these devices can reach each other"));
    Some(finding.done())
}

/// The patch that makes the kernel claim isolation that the hardware does not have.
fn overridden(inventory: &HostInventory) -> Option<Finding> {
    let word = boot::parameters(&inventory.host).find(|word| word.starts_with("pcie_acs_override"))?;
    let finding = finding::new("acs-override", Severity::Warning)
        .is("the IOMMU groups are not what the hardware keeps apart")
        .because(format!("the kernel command line has `{word}`, and a patched kernel obeys it"))
        .so("a guest's device may reach the devices of other guests and of the host directly, past the IOMMU")
        .fix_all(boot::remove(&inventory.host, &[word]));
    Some(finding.done())
}

/// Names the bridge that lets devices behind it talk to each other.
fn open_bridge(inventory: &HostInventory, members: &[&Function]) -> String {
    let bridges = members.iter().flat_map(|member| inventory.bridges_above(member.address));
    let open = bridges.chain(members.iter().copied()).filter(|bridge| bridge.kind.forwards());
    let open = open
        .filter(|bridge| bridge.acs.is_some_and(|acs| !acs.isolates()))
        .min_by_key(|bridge| bridge.address);
    match open {
        Some(bridge)
            if matches!(bridge.kind, FunctionKind::PcieToPciBridge | FunctionKind::ConventionalBridge) =>
        {
            format!("to the IOMMU all that is behind {} looks like one device", title(bridge))
        }
        Some(bridge) => format!("{} does not isolate what is behind it (no ACS)", title(bridge)),
        None => "the kernel sees no ACS that would keep them apart".to_owned(),
    }
}

/// Ranges that firmware keeps for itself in the address space of a device (RMRR, IVMD).
pub(super) fn reserved_ranges(inventory: &HostInventory) -> Vec<Finding> {
    let direct = |group: &&IommuGroup| group.reserved.iter().any(|region| region.kind == RegionKind::Direct);
    let groups = inventory.groups.iter().filter(direct);
    let findings = groups.filter_map(|group| {
        let function = candidates(inventory).find(|function| group.functions.contains(&function.address))?;
        let range = group.reserved.iter().find(|region| region.kind == RegionKind::Direct)?;
        let finding = finding::new("reserved-range", Severity::Warning)
            .about(function.address)
            .is(format!("firmware demands a fixed map for {} ({} to {})", title(function), range.start, range.end))
            .because(format!("/sys/kernel/iommu_groups/{}/reserved_regions says `direct` (RMRR)", group.number))
            .so("the kernel refuses to give group members away: firmware may write there behind everyone's back")
            .fix(firmware("for USB: Legacy USB Support: Disabled; for network: its boot ROM and remote management off"))
            .fix(step("update the board's firmware; some servers have a per-slot setting for shared memory"));
        Some(finding.done())
    });
    findings.collect()
}

/// Devices that cannot be brought back to a known state.
pub(super) fn resets(inventory: &HostInventory) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut able = 0;
    for function in candidates(inventory) {
        match function.reset_methods.as_deref() {
            Some([]) => findings.push(no_reset(function)),
            Some([ResetMethod::Bus]) if crowd(inventory, function) > 0 => {
                findings.push(bus_reset(inventory, function))
            }
            Some(_) => able += 1,
            None => {}
        }
    }
    if findings.is_empty() && able > 0 {
        findings.push(good(
            "reset",
            format!("all {able} devices for seats can be reset"),
            "their reset_method",
        ));
    }
    findings
}

fn no_reset(function: &Function) -> Finding {
    finding::new("no-reset", Severity::Warning)
        .about(function.address)
        .is(format!("{} cannot be reset", title(function)))
        .because("the kernel offers no reset method for it (no reset_method in sysfs)")
        .so("it keeps the state that its last owner left; it may work once for each start of the host")
        .fix(step(format!("prove it by doing: `allod trial {}`", function.address)))
        .fix(step("plug it into a slot of its own below a root port: a bus reset may become possible"))
        .done()
}

/// How many functions of other groups sit on the same bus, and would be reset with it.
fn crowd(inventory: &HostInventory, function: &Function) -> usize {
    let same_bus = |other: &&Function| {
        (other.address.domain(), other.address.bus()) == (function.address.domain(), function.address.bus())
            && other.group != function.group
            && !matches!(other.sriov, Some(spec::inventory::SrIov::Virtual { .. }))
    };
    inventory.functions.iter().filter(same_bus).count()
}

fn bus_reset(inventory: &HostInventory, function: &Function) -> Finding {
    let others = crowd(inventory, function);
    finding::new("reset-needs-neighbours", Severity::Note)
        .about(function.address)
        .is(format!("{} is reset only together with {others} other functions on its bus", title(function)))
        .because("its one reset method is `bus`, and its neighbours are in other groups")
        .so("it can be reset only while one seat has all of them")
        .fix(step("give all functions of the card to the same seat"))
        .done()
}

/// What the host shows on the graphics cards.
pub(super) fn displays(inventory: &HostInventory) -> Vec<Finding> {
    let cards: Vec<&Function> =
        inventory.functions.iter().filter(|function| function.class.is_display()).collect();
    let mut findings: Vec<Finding> = cards.iter().filter_map(|card| framebuffer(inventory, card)).collect();
    match cards.as_slice() {
        [] => {
            let finding = finding::new("no-graphics", Severity::Note)
                .is("this host has no graphics function")
                .because("no function has the class of a display controller")
                .so("seats can have other devices, but no monitor of their own");
            findings.push(finding.done());
        }
        [only] => {
            let finding = finding::new("only-display", Severity::Warning)
                .about(only.address)
                .is(format!("{} is the only graphics function", title(only)))
                .because("no other function has the class of a display controller")
                .so("while a seat has it the host has no screen: a seat can have it only if you can reach the host otherwise")
                .fix(step("add a second card, or switch on the processor's own graphics in firmware"))
                .fix(step("have a way in that needs no screen: SSH from another machine, or a serial console"));
            findings.push(finding.done());
        }
        _ if findings.is_empty() => {
            let is = format!(
                "{} graphics functions, and no firmware framebuffer lies on one of them",
                cards.len()
            );
            findings.push(good("displays", is, "/proc/iomem"));
        }
        _ => {}
    }
    findings
}

/// The framebuffer that firmware left in a card's BAR.
fn framebuffer(inventory: &HostInventory, card: &Function) -> Option<Finding> {
    let owner = card.holds.iter().find_map(|hold| match &hold.kind {
        HoldKind::Framebuffer { owner } => Some(owner),
        _ => None,
    })?;
    let finding = finding::new("boot-framebuffer", Severity::Warning)
        .about(card.address)
        .is(format!("the host's boot screen is drawn into a BAR of {}", title(card)))
        .because(format!("/proc/iomem shows `{owner}` inside its range"))
        .so("Allod lets go of it when it takes the card, and the host's boot screen does not come back before the next start; \
             a kernel that holds the range fast makes the guest's driver fail (`BAR can't reserve`)")
        .fix(firmware("Primary Display, Initial Display Output: another card, or the processor's own graphics"))
        .fix_all(boot::add(&inventory.host, "initcall_blacklist=sysfb_init"));
    Some(finding.done())
}
