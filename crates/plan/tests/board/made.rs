//! Six hosts in the shape of real boards, with what the recorded ones lack.

use spec::Bytes;
use spec::inventory::{
    BarKind, Connector, ConnectorState, FunctionKind, HoldKind, HoldStrength, Monitor, ResetMethod, SrIov,
    UsbDevice,
};

use super::{Board, at, bar};

fn monitor(board: &mut Board, address: &str, connector: &str, name: &str) {
    let mut monitor: Monitor = serde_json::from_str("{}").unwrap();
    monitor.name = Some(name.to_owned());
    board.function(address).connectors.push(Connector {
        name: connector.to_owned(),
        state: ConnectorState::Connected,
        enabled: Some(true),
        monitor: Some(monitor),
    });
}

fn keyboard(board: &mut Board, address: &str, ids: (u16, u16), name: &str) {
    let device = serde_json::json!({
        "port": "1-1", "vendor": format!("{:04x}", ids.0), "product": format!("{:04x}", ids.1),
        "name": name, "functions": ["keyboard"],
    });
    board.function(address).usb_devices.push(serde_json::from_value::<UsbDevice>(device).unwrap());
}

fn only_route(board: &mut Board, address: &str, interface: &str) {
    board.interface(address, interface);
    let kind = HoldKind::DefaultRoute { interface: interface.to_owned(), route_interface: None, only: true };
    board.hold(address, HoldStrength::Critical, kind);
}

/// A desktop with an NVIDIA card that has the console and an AMD card behind its own switch.
pub(crate) fn desktop_two_gpus() -> Board {
    let mut board = Board::new("desk", 1, 8, 32);
    board.bridge(None, "00:01.0", 2, FunctionKind::RootPort);
    board.gpu("00:01.0", "01:00", 14, "10de", 8);
    board.console("01:00.0");
    monitor(&mut board, "01:00.0", "DP-1", "DELL U2720Q");
    board.bridge(None, "00:06.0", 3, FunctionKind::RootPort);
    board.bridge(Some("00:06.0"), "02:00.0", 15, FunctionKind::SwitchUpstream);
    board.bridge(Some("02:00.0"), "03:00.0", 16, FunctionKind::SwitchDownstream);
    board.gpu("03:00.0", "04:00", 17, "1002", 16);
    monitor(&mut board, "04:00.0", "HDMI-A-1", "LG ULTRAWIDE");
    let usb = (0x0c_0330, FunctionKind::RootComplexEndpoint, "xhci_hcd");
    board.add(None, "00:14.0", 5, ("8086", "7ae0"), usb);
    keyboard(&mut board, "00:14.0", (0x046d, 0xc31c), "Logitech Keyboard K120");
    board.add(None, "00:14.2", 5, ("8086", "7aa7"), (0x05_0000, FunctionKind::RootComplexEndpoint, ""));
    board.bridge(None, "00:1c.0", 6, FunctionKind::RootPort);
    board.add(
        Some("00:1c.0"),
        "05:00.0",
        18,
        ("1b73", "1100"),
        (0x0c_0330, FunctionKind::Endpoint, "xhci_hcd"),
    );
    keyboard(&mut board, "05:00.0", (0x04d9, 0x0141), "Cherry Stream Keyboard");
    board.function("05:00.0").reset_methods = Some(vec![ResetMethod::Bus]);
    board.bridge(None, "00:1d.0", 7, FunctionKind::RootPort);
    board.add(Some("00:1d.0"), "06:00.0", 19, ("144d", "a80a"), (0x01_0802, FunctionKind::Endpoint, "nvme"));
    board.root_disk("06:00.0", "nvme0n1");
    let chip = FunctionKind::RootComplexEndpoint;
    board.add(None, "00:1f.0", 8, ("8086", "7a84"), (0x06_0100, FunctionKind::IsaBridge, ""));
    board.add(None, "00:1f.3", 8, ("8086", "7ad0"), (0x04_0300, chip, "snd_hda_intel"));
    board.add(None, "00:1f.4", 8, ("8086", "7aa3"), (0x0c_0500, chip, "i801_smbus"));
    board.add(None, "00:1f.6", 8, ("8086", "1a1c"), (0x02_0000, chip, "e1000e"));
    only_route(&mut board, "00:1f.6", "eno1");
    board
}

/// A laptop whose only display is inside the processor.
pub(crate) fn laptop_single_gpu() -> Board {
    let mut board = Board::new("lap", 1, 4, 16);
    board.inventory.cpus.physical_bits = Some(39);
    board.inventory.iommu.address_bits = Some(39);
    let inside = FunctionKind::RootComplexEndpoint;
    let card = board.add(None, "00:02.0", 0, ("8086", "9a49"), (0x03_0000, inside, "i915"));
    card.bars = vec![
        bar(0, BarKind::Memory64, false, Bytes::mib(16)),
        bar(2, BarKind::Memory64, true, Bytes::mib(256)),
    ];
    board.console("00:02.0");
    monitor(&mut board, "00:02.0", "eDP-1", "Panel");
    board.add(None, "00:14.0", 4, ("8086", "a0ed"), (0x0c_0330, inside, "xhci_hcd"));
    keyboard(&mut board, "00:14.0", (0x046d, 0xc31c), "Logitech Keyboard K120");
    board.add(None, "00:14.2", 4, ("8086", "a0ef"), (0x05_0000, inside, ""));
    board.bridge(None, "00:1d.0", 8, FunctionKind::RootPort);
    board.add(Some("00:1d.0"), "01:00.0", 12, ("144d", "a809"), (0x01_0802, FunctionKind::Endpoint, "nvme"));
    board.root_disk("01:00.0", "nvme0n1");
    board.bridge(None, "00:1c.0", 7, FunctionKind::RootPort);
    board.add(
        Some("00:1c.0"),
        "02:00.0",
        13,
        ("8086", "2725"),
        (0x02_8000, FunctionKind::Endpoint, "iwlwifi"),
    );
    only_route(&mut board, "02:00.0", "wlp2s0");
    board
}

/// A server with two processors, two cards behind a switch on each, a network card with SR-IOV and a console of its own.
pub(crate) fn server_four_gpus() -> Board {
    let mut board = Board::new("rack", 2, 32, 256);
    for (node, root, gpus) in [(0, "16:00.0", ["19:00", "1a:00"]), (1, "96:00.0", ["99:00", "9a:00"])] {
        let bus = u8::from_str_radix(&root[..2], 16).unwrap();
        let group = 20 + node * 20;
        board.bridge(None, root, group, FunctionKind::RootPort);
        let up = format!("{:02x}:00.0", bus + 1);
        board.bridge(Some(root), &up, group + 1, FunctionKind::SwitchUpstream);
        for (number, gpu) in (0_u32..).zip(gpus) {
            let down = format!("{:02x}:{:02x}.0", bus + 2, number);
            board.bridge(Some(&up), &down, group + 2 + number, FunctionKind::SwitchDownstream);
            let what = (0x03_0200, FunctionKind::Endpoint, "nvidia");
            let card =
                board.add(Some(&down), &format!("{gpu}.0"), group + 8 + number, ("10de", "20b5"), what);
            card.numa_node = Some(node);
            card.bars = vec![
                bar(0, BarKind::Memory32, false, Bytes::mib(16)),
                bar(1, BarKind::Memory64, true, Bytes::gib(128)),
                bar(3, BarKind::Memory64, true, Bytes::mib(32)),
            ];
        }
    }
    board.bridge(None, "00:1c.0", 1, FunctionKind::RootPort);
    board.add(Some("00:1c.0"), "03:00.0", 60, ("1a03", "2000"), (0x03_0000, FunctionKind::Endpoint, "ast"));
    board.console("03:00.0");
    board.bridge(None, "00:1d.0", 2, FunctionKind::RootPort);
    board.add(Some("00:1d.0"), "5e:00.0", 61, ("8086", "1572"), (0x02_0000, FunctionKind::Endpoint, "i40e"));
    board.function("5e:00.0").sriov =
        Some(SrIov::Physical { total: 64, functions: Vec::new(), drivers_autoprobe: Some(true) });
    board.interface("5e:00.0", "ens1f0");
    board.hold("5e:00.0", HoldStrength::Note, HoldKind::NetworkUp { interface: "ens1f0".to_owned() });
    board.bridge(None, "00:1e.0", 3, FunctionKind::RootPort);
    board.add(Some("00:1e.0"), "04:00.0", 62, ("8086", "1521"), (0x02_0000, FunctionKind::Endpoint, "igb"));
    board.function("04:00.0").sriov =
        Some(SrIov::Physical { total: 1, functions: Vec::new(), drivers_autoprobe: None });
    only_route(&mut board, "04:00.0", "eno1");
    let login = HoldKind::Login { interface: "eno1".to_owned(), peer: "10.0.0.7".to_owned() };
    board.hold("04:00.0", HoldStrength::Critical, login);
    for node in &mut board.inventory.memory.nodes {
        node.hugepages.push(spec::inventory::HugepagePool { page_size: Bytes::gib(1), total: 96, free: 96 });
    }
    board
}

/// A cheap AMD board: all that is behind the chipset is one group, the second card included.
pub(crate) fn amd_bad_groups() -> Board {
    let mut board = Board::new("cheap", 1, 6, 16);
    board.inventory.iommu.kind = spec::inventory::IommuKind::Amd;
    board.inventory.cpus.vendor = Some("AuthenticAMD".to_owned());
    board.inventory.cpus.physical_bits = Some(48);
    board.add(None, "00:01.0", 0, ("1022", "1482"), (0x06_0000, FunctionKind::HostBridge, ""));
    board.bridge(None, "00:01.2", 0, FunctionKind::RootPort);
    let chip = |board: &mut Board, address: &str, parent: &str, what| {
        board.add(Some(parent), address, 0, ("1022", "43ee"), what);
    };
    chip(&mut board, "02:00.0", "00:01.2", (0x0c_0330, FunctionKind::Endpoint, "xhci_hcd"));
    chip(&mut board, "02:00.1", "00:01.2", (0x01_0601, FunctionKind::Endpoint, "ahci"));
    chip(&mut board, "02:00.2", "00:01.2", (0x06_0400, FunctionKind::SwitchUpstream, "pcieport"));
    chip(&mut board, "03:00.0", "02:00.2", (0x06_0400, FunctionKind::SwitchDownstream, "pcieport"));
    chip(&mut board, "03:09.0", "02:00.2", (0x06_0400, FunctionKind::SwitchDownstream, "pcieport"));
    board.gpu("03:00.0", "04:00", 0, "1002", 4);
    board.add(Some("03:09.0"), "05:00.0", 0, ("10ec", "8168"), (0x02_0000, FunctionKind::Endpoint, "r8169"));
    only_route(&mut board, "05:00.0", "enp5s0");
    board.bridge(None, "00:03.1", 3, FunctionKind::RootPort);
    board.gpu("00:03.1", "08:00", 16, "10de", 8);
    board.console("08:00.0");
    board.bridge(None, "00:08.1", 6, FunctionKind::RootPort);
    board.add(
        Some("00:08.1"),
        "0a:00.3",
        20,
        ("1022", "149c"),
        (0x0c_0330, FunctionKind::Endpoint, "xhci_hcd"),
    );
    // The kernel's own list of broken ones (quirk_no_flr, drivers/pci/quirks.c): it has no reset.
    board.function("0a:00.3").reset_methods = Some(Vec::new());
    board.add(
        Some("00:08.1"),
        "0a:00.4",
        21,
        ("1022", "1487"),
        (0x04_0300, FunctionKind::Endpoint, "snd_hda_intel"),
    );
    board.function("0a:00.4").reset_methods = Some(Vec::new());
    board
}

/// A host that lives on one of two equal NVMe disks and swaps to a third.
pub(crate) fn nvme_root() -> Board {
    let mut board = Board::new("disks", 1, 4, 16);
    for (port, address, group) in
        [("00:1b.0", "01:00.0", 10), ("00:1c.0", "02:00.0", 11), ("00:1d.0", "03:00.0", 12)]
    {
        board.bridge(None, port, group - 8, FunctionKind::RootPort);
        board.add(Some(port), address, group, ("144d", "a80a"), (0x01_0802, FunctionKind::Endpoint, "nvme"));
    }
    board.root_disk("01:00.0", "nvme0n1");
    let swap = HoldKind::Swap { device: "nvme2n1p1".to_owned(), through: Vec::new() };
    board.hold("03:00.0", HoldStrength::InUse, swap);
    board
}

/// A host whose root file system comes over one of two network cards.
pub(crate) fn booted_over_the_nic() -> Board {
    let mut board = Board::new("thin", 1, 4, 16);
    for (port, address, group) in [("00:1b.0", "01:00.0", 10), ("00:1c.0", "02:00.0", 11)] {
        board.bridge(None, port, group - 8, FunctionKind::RootPort);
        board.add(Some(port), address, group, ("8086", "1521"), (0x02_0000, FunctionKind::Endpoint, "igb"));
    }
    only_route(&mut board, "01:00.0", "eth0");
    let root = HoldKind::NetworkStorage {
        interface: "eth0".to_owned(),
        server: "10.0.0.1".to_owned(),
        used_for: "/".to_owned(),
    };
    board.hold("01:00.0", HoldStrength::Critical, root);
    board.interface("02:00.0", "eth1");
    board.function("02:00.0").sriov = Some(SrIov::Physical {
        total: 7,
        functions: vec![at("02:10.0"), at("02:10.4")],
        drivers_autoprobe: None,
    });
    for (index, address) in [(0, "02:10.0"), (1, "02:10.4")] {
        let what = (0x02_0000, FunctionKind::Endpoint, "igbvf");
        let function = board.add(Some("00:1c.0"), address, 30 + u32::from(index), ("8086", "1520"), what);
        function.sriov = Some(SrIov::Virtual { parent: at("02:00.0"), index: Some(index) });
    }
    board
}
