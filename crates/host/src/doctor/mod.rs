//! The doctor: is this host ready, and if not, why not and what is the exact fix.
//!
//! A pure function over an inventory, so a saved one can be examined on another machine. It follows the chain in
//! the order in which it breaks: processor, IOMMU, interrupts, modules, nodes, then devices and memory. Called by
//! `allod doctor`. Not here: who gets what (the planner), and any change.

mod boot;
mod devices;
mod display_cards;
mod finding;
mod iommu;
mod memory;
mod modules;
mod processor;

use spec::inventory::{DoctorReport, Finding, HostInventory, INVENTORY_SCHEMA_VERSION, Severity, Verdict};

/// A part of the chain that is looked at.
type Check = fn(&HostInventory) -> Vec<Finding>;

/// All checks in the order of the chain.
const CHECKS: [Check; 14] = [
    processor::virtualization,
    processor::nested,
    iommu::translation,
    iommu::interrupts,
    modules::kvm,
    modules::vfio,
    devices::groups,
    devices::reserved_ranges,
    devices::resets,
    devices::displays,
    display_cards::roms,
    display_cards::legacy_vga,
    memory::amount,
    memory::locked,
];

/// Examines a host. Findings come in falling gravity, and in the order of the chain among equals.
pub fn examine(inventory: &HostInventory) -> DoctorReport {
    let mut findings: Vec<Finding> = CHECKS.iter().flat_map(|check| check(inventory)).collect();
    findings.extend(reading(inventory));
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let blocked = findings.iter().any(|finding| finding.severity == Severity::Blocker);
    let verdict = if blocked { Verdict::Blocked } else { Verdict::Ready };
    DoctorReport { schema_version: INVENTORY_SCHEMA_VERSION, verdict, findings }
}

/// Says what the inventory could not see.
fn reading(inventory: &HostInventory) -> Option<Finding> {
    let unread = inventory.unread.len();
    let ordinary = inventory.host.read_by_uid.is_some_and(|uid| uid != 0);
    if unread == 0 && !ordinary {
        return None;
    }
    let severity = if ordinary { Severity::Warning } else { Severity::Note };
    let first = inventory.unread.first().map(|note| format!("; the first: {}: {}", note.path, note.reason));
    let finding = finding::new("facts-missing", severity)
        .is(format!("unknown facts about this host: {unread}{}", first.unwrap_or_default()))
        .because(match ordinary {
            true => "the inventory was read by an ordinary user, to whom the kernel shows less",
            false => "files were missing, could not be read, or contradicted themselves; `allod devices --json` lists them",
        })
        .so("what is not known is treated as not safe, and a finding can be missing here")
        .fix_if(ordinary, finding::command("sudo allod doctor", "reads everything; changes nothing"));
    Some(finding.done())
}

#[cfg(test)]
mod tests;
