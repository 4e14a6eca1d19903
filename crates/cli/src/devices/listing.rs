//! The list of devices.

use host::standing::{Standing, standing};
use spec::inventory::{ConnectorState, Function, HoldKind, HoldStrength, HostInventory, IommuKind};

use super::hold;
use crate::print::Table;

/// The list: one line of facts about the host, then a table.
pub(super) fn text(inventory: &HostInventory, all: bool) -> String {
    let mut table = Table::new(&["ADDRESS", "GROUP", "TAKE", "DRIVER", "DEVICE"]);
    let mut hidden = 0;
    for function in &inventory.functions {
        let standing = standing(inventory, function);
        if !all && standing == Standing::Stays && (function.class.is_bridge() || function.kind.forwards()) {
            hidden += 1;
            continue;
        }
        table.row(
            vec![
                function.address.to_string(),
                function.group.map_or("-".to_owned(), |group| group.to_string()),
                standing.word().to_owned(),
                function.driver.bound.clone().unwrap_or_else(|| "-".to_owned()),
                name(function),
            ],
            below(function, &standing),
        );
    }
    let mut text = format!("{}\n\n{}", host_line(inventory), table.text());
    if hidden > 0 {
        text.push_str(&format!("\n{hidden} bridges are left out; --all shows them.\n"));
    }
    if inventory.groups.is_empty() {
        text.push_str("\nThere are no IOMMU groups: nothing can be taken. `allod doctor` says why.\n");
    }
    if !inventory.unread.is_empty() {
        let facts = match inventory.unread.len() {
            1 => "1 fact".to_owned(),
            count => format!("{count} facts"),
        };
        text.push_str(&format!("\n{facts} could not be read; see `unread` in --json.\n"));
    }
    text
}

/// A device's name: maker and device, else its class and ids.
pub(super) fn name(function: &Function) -> String {
    let ids = format!("{}:{}", function.identity.vendor, function.identity.device);
    match (&function.names.vendor, &function.names.device, &function.names.class) {
        (Some(vendor), Some(device), _) => format!("{} {device}", short(vendor)),
        (Some(vendor), None, Some(class)) => format!("{} {class} [{ids}]", short(vendor)),
        (_, _, Some(class)) => format!("{class} [{ids}]"),
        _ => format!("[{ids}]"),
    }
}

/// The short form of a maker's name: what stands in brackets, else the part before the first comma or "Corp".
fn short(vendor: &str) -> &str {
    if let Some((_, inner)) = vendor.split_once('[') {
        return inner.trim_end_matches(']');
    }
    let end = [", ", " Corp", " Inc", " Co.", " Technology", " Semiconductor", " Electronics"];
    let cut = end.iter().filter_map(|word| vendor.find(word)).min();
    vendor.get(..cut.unwrap_or(vendor.len())).unwrap_or(vendor)
}

fn host_line(inventory: &HostInventory) -> String {
    let host = &inventory.host;
    let unknown = "unknown";
    let iommu = match inventory.iommu.kind {
        IommuKind::Intel => "Intel VT-d",
        IommuKind::Amd => "AMD-Vi",
        IommuKind::Virtio => "virtio-iommu",
        IommuKind::None => "no IOMMU",
        IommuKind::Unknown => "IOMMU unknown",
    };
    format!(
        "{}: {}, {}, {} processors, {}, kernel {}, {iommu}",
        host.name.as_deref().unwrap_or("host"),
        host.board.as_deref().or(host.product.as_deref()).unwrap_or("unknown board"),
        inventory.cpus.model.as_deref().unwrap_or("unknown processor"),
        inventory.cpus.online.len(),
        inventory
            .memory
            .total
            .map_or(unknown.to_owned(), |total| format!("{} GiB", (total.0 + (1 << 29)) >> 30)),
        host.kernel.release.as_deref().unwrap_or(unknown),
    )
}

/// What belongs below a device: why it cannot be taken, and what is plugged into it.
fn below(function: &Function, standing: &Standing<'_>) -> Vec<String> {
    let mut lines: Vec<String> = function
        .holds
        .iter()
        .filter(|hold| hold.strength > HoldStrength::Note || matches!(hold.kind, HoldKind::BootVga))
        .map(hold::words)
        .collect();
    if let Standing::Never(other, held) | Standing::InUse(other, held) | Standing::HandOver(other, held) =
        standing
        && other.address != function.address
    {
        lines.push(format!("in one group with {}: {}", other.address, hold::words(held)));
    }
    for connector in
        function.connectors.iter().filter(|connector| connector.state == ConnectorState::Connected)
    {
        let monitor = connector.monitor.as_ref().and_then(|monitor| monitor.name.as_deref());
        lines.push(format!("{}: {}", connector.name, monitor.unwrap_or("a monitor without a name")));
    }
    let devices =
        function.usb_devices.iter().filter(|device| !device.functions.iter().any(|word| word == "hub"));
    lines.extend(devices.map(|device| {
        let words = device.functions.join(", ");
        format!("USB {}: {} ({words})", device.port, device.name.as_deref().unwrap_or("unnamed"))
    }));
    lines.extend(function.disks.iter().map(|disk| {
        // Disks are sold by powers of ten.
        let size = disk.size.map_or(String::new(), |size| match size.0 / 1_000_000 {
            megabytes @ 0..10_000 => format!(", {megabytes} MB"),
            megabytes => format!(", {} GB", megabytes / 1000),
        });
        format!("{}: {}{size}", disk.name, disk.model.as_deref().unwrap_or("disk"))
    }));
    lines
}

#[cfg(test)]
mod tests {
    use host::{fixtures, inventory};

    use super::*;

    #[test]
    fn the_list_says_what_can_be_taken_and_what_never_and_why() {
        let host = inventory::read(&fixtures::amd_board_with_bad_groups());
        let text = text(&host, false);
        for line in [
            "clay: Micro-Star International Co., Ltd. B450 TOMAHAWK MAX (MS-7C02), AMD Ryzen 5 2600 Six-Core Processor, \
             12 processors, 16 GiB, kernel 6.8.0-85-generic, AMD-Vi",
            "0000:10:00.0  16     hand over  nouveau        NVIDIA GP104 [GeForce GTX 1080]",
            "0000:05:00.0  14     never      amdgpu         AMD/ATI Ellesmere [Radeon RX 470/480/570/570X/580/580X/590]",
            "ext4 mounted at / from sda2",
            "your login from 192.168.1.20 came in through enp3s0",
            "HDMI-A-1: BenQ GW2480",
            "USB 3-1: USB Keyboard (keyboard)",
            "8 bridges are left out; --all shows them.",
        ] {
            assert!(text.lines().any(|shown| shown.trim() == line), "{line}\n{text}");
        }
        assert!(!text.contains("0000:00:01.3") && super::text(&host, true).contains("0000:00:01.3"));
    }

    #[test]
    fn makers_are_named_as_people_name_them() {
        for (vendor, name) in [
            ("Advanced Micro Devices, Inc. [AMD/ATI]", "AMD/ATI"),
            ("NVIDIA Corporation", "NVIDIA"),
            ("Realtek Semiconductor Co., Ltd.", "Realtek"),
            ("Samsung Electronics Co Ltd", "Samsung"),
            ("Sandisk Corp", "Sandisk"),
            ("Red Hat, Inc.", "Red Hat"),
        ] {
            assert_eq!(short(vendor), name);
        }
    }
}
