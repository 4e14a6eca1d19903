//! Everything about one device.

use host::standing::standing;
use spec::Bytes;
use spec::inventory::{BarKind, Function, HostInventory, Link, LinkState, ResetMethod, Rom, SrIov};

use super::hold;
use super::listing::name;

/// Facts as `name: value` lines.
pub(super) fn text(inventory: &HostInventory, function: &Function) -> String {
    let mut facts = Facts::default();
    let identity = &function.identity;
    facts.add("class", function.names.class.clone());
    let board =
        identity.subsystem_vendor.zip(identity.subsystem_device).map(|(vendor, id)| format!("{vendor}:{id}"));
    let board_name = function.names.subsystem.as_deref().map_or(String::new(), |name| format!(" {name}"));
    facts.add("ids", Some(format!("{}:{}", identity.vendor, identity.device)));
    facts.add("board", board.map(|ids| ids + &board_name));
    facts.add("serial", identity.serial.clone());
    facts.add("slot path", Some(identity.path.to_string()));
    facts.add("slot", function.slot.clone().or_else(|| function.label.clone()));
    facts.add("root port", function.root_port.map(|port| port.to_string()));
    facts.add("group", function.group.map(|number| group(inventory, function, number)));
    facts.add("driver", Some(drivers(function)));
    facts.add("take", Some(standing(inventory, function).word().to_owned()));
    function.holds.iter().for_each(|held| facts.add("held by", Some(hold::words(held))));
    facts.add("NUMA node", function.numa_node.map(|node| node.to_string()));
    facts.add("link", function.link.as_ref().map(link));
    facts.add("reset", Some(resets(function.reset_methods.as_deref())));
    for bar in &function.bars {
        facts.add(
            &format!("BAR {}", bar.index),
            Some(format!("{} {}", bar.size, space(bar.kind, bar.prefetchable))),
        );
    }
    facts.add("ROM", Some(rom(&function.rom)));
    facts.add("MSI-X vectors", function.msix_vectors.map(|count| count.to_string()));
    facts.add("SR-IOV", function.sriov.as_ref().map(sriov));
    facts.add("power", function.power_state.clone());
    for interface in &function.interfaces {
        let mac = interface.mac.as_deref().unwrap_or("no address");
        facts.add("interface", Some(format!("{} {mac}", interface.name)));
    }
    format!("{} {}\n{}", function.address, name(function), facts.0)
}

#[derive(Default)]
struct Facts(String);

impl Facts {
    fn add(&mut self, name: &str, value: Option<String>) {
        if let Some(value) = value {
            self.0.push_str(&format!("  {name:<14} {value}\n"));
        }
    }
}

fn group(inventory: &HostInventory, function: &Function, number: u32) -> String {
    let others = inventory.group(number).map(|group| group.functions.clone()).unwrap_or_default();
    let others: Vec<String> =
        others.iter().filter(|at| **at != function.address).map(ToString::to_string).collect();
    if others.is_empty() {
        format!("{number}, alone")
    } else {
        format!("{number}, with {}", others.join(", "))
    }
}

fn drivers(function: &Function) -> String {
    let bound = function.driver.bound.as_deref().unwrap_or("none");
    match function.driver.candidates.as_slice() {
        [] => bound.to_owned(),
        candidates => format!("{bound} (would take it: {})", candidates.join(", ")),
    }
}

fn link(link: &Link) -> String {
    let state = |state: LinkState| {
        let (whole, tenth) = (state.speed_mts / 1000, state.speed_mts % 1000 / 100);
        format!("x{} at {whole}.{tenth} GT/s", state.width)
    };
    match (link.current, link.maximum) {
        (Some(now), Some(most)) if now != most => format!("{}, could do {}", state(now), state(most)),
        (Some(now), _) => state(now),
        (None, Some(most)) => format!("unknown, could do {}", state(most)),
        (None, None) => "unknown".to_owned(),
    }
}

fn resets(methods: Option<&[ResetMethod]>) -> String {
    let word = |method: &ResetMethod| match method {
        ResetMethod::DeviceSpecific => "device-specific",
        ResetMethod::Acpi => "ACPI",
        ResetMethod::Flr => "FLR",
        ResetMethod::AfFlr => "AF FLR",
        ResetMethod::Pm => "power management",
        ResetMethod::Bus => "bus",
        ResetMethod::CxlBus => "CXL bus",
        ResetMethod::Unknown => "some way",
    };
    match methods {
        None => "unknown".to_owned(),
        Some([]) => "none".to_owned(),
        Some(methods) => methods.iter().map(word).collect::<Vec<_>>().join(", "),
    }
}

fn space(kind: BarKind, prefetchable: bool) -> &'static str {
    match (kind, prefetchable) {
        (BarKind::Io, _) => "I/O ports",
        (BarKind::Memory32, false) => "memory, 32-bit",
        (BarKind::Memory32, true) => "memory, 32-bit prefetchable",
        (BarKind::Memory64, false) => "memory, 64-bit",
        (BarKind::Memory64, true) => "memory, 64-bit prefetchable",
        (BarKind::Unknown, _) => "of an unknown kind",
    }
}

fn rom(rom: &Rom) -> String {
    match rom {
        Rom::Absent => "none".to_owned(),
        Rom::Present { size: Bytes(size) } => Bytes(*size).to_string(),
        Rom::Shadowed => "only the copy that firmware already ran".to_owned(),
        Rom::Unknown => "unknown".to_owned(),
    }
}

fn sriov(sriov: &SrIov) -> String {
    match sriov {
        SrIov::Physical { total, functions, .. } => {
            format!("{} of {total} virtual functions exist", functions.len())
        }
        SrIov::Virtual { parent, index } => {
            let index = index.map_or("a".to_owned(), |index| format!("number {index}"));
            format!("{index} virtual function of {parent}")
        }
        SrIov::Unknown => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use host::{fixtures, inventory};

    use super::*;

    #[test]
    fn a_device_is_shown_with_all_that_a_person_needs_to_name_it() {
        let host = inventory::read(&fixtures::server_with_four_gpus());
        let text = |address: &str| text(&host, host.function(address.parse().unwrap()).unwrap());
        for (address, line) in [
            ("0000:03:00.0", "slot path      0000:00/01.0/00.0/00.0/00.0"),
            ("0000:03:00.0", "serial         00-48-b0-2d-00-00-00-17"),
            ("0000:03:00.0", "BAR 1          64GiB memory, 64-bit prefetchable"),
            ("0000:03:00.0", "link           x16 at 16.0 GT/s"),
            ("0000:03:00.0", "reset          FLR, bus"),
            ("0000:03:00.0", "NUMA node      0"),
            ("0000:05:00.3", "SR-IOV         number 1 virtual function of 0000:05:00.0"),
            ("0000:05:00.0", "SR-IOV         4 of 8 virtual functions exist"),
            ("0000:45:00.0", "group          48, with 0000:44:00.0"),
            ("0000:41:00.0", "held by        ext4 mounted at / from nvme0n1p2 through md0, dm-0 (pve-root)"),
        ] {
            assert!(text(address).lines().any(|shown| shown.trim() == line), "{line}\n{}", text(address));
        }
    }
}
