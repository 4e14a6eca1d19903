//! Hosts to plan on, built function by function: what real boards look like to the kernel.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a board that cannot be built fails its test")]

pub(crate) mod made;

use spec::inventory::{
    Bar, BarKind, Cpu, Function, FunctionKind, Hold, HoldKind, HoldStrength, HostInventory, HugepagePool,
    IommuGroup, IommuKind, NetInterface, NumaNode, ResetMethod, SlotPath, SlotStep, Virtualization,
};
use spec::plan::{Plan, Refusal, Source};
use spec::{Bytes, CpuSet, PciAddress};

/// A host under construction.
pub(crate) struct Board {
    pub(crate) inventory: HostInventory,
}

/// Reads an address with or without its domain.
pub(crate) fn at(address: &str) -> PciAddress {
    address.parse().unwrap()
}

impl Board {
    /// A host with `nodes` NUMA nodes, each with `cores` cores of two threads and `gib` GiB of memory.
    ///
    /// As on real boards the second threads are numbered after all the first ones.
    pub(crate) fn new(name: &str, nodes: u32, cores: u32, gib: u64) -> Self {
        let mut inventory = HostInventory::empty();
        inventory.host.name = Some(name.to_owned());
        inventory.host.kernel.release = Some("6.12.8-amd64".to_owned());
        inventory.iommu.kind = IommuKind::Intel;
        inventory.iommu.interrupt_remapping = Some(true);
        inventory.iommu.address_bits = Some(48);
        inventory.cpus.virtualization = Virtualization::Vmx;
        inventory.cpus.physical_bits = Some(46);
        let all = nodes * cores;
        let node_cpus = |node: u32| -> CpuSet {
            (node * cores..(node + 1) * cores).flat_map(|core| [core, core + all]).collect()
        };
        for number in 0..2 * all {
            let core = number % all;
            let node = core / cores;
            inventory.cpus.online.push(Cpu {
                number,
                package: Some(node),
                core: Some(core),
                threads: [core, core + all].into_iter().collect(),
                l3: Some(node_cpus(node)),
                node: Some(node),
                max_khz: None,
            });
        }
        for number in 0..nodes {
            inventory.memory.nodes.push(NumaNode {
                number,
                cpus: node_cpus(number),
                total: Some(Bytes::gib(gib)),
                free: Some(Bytes::gib(gib - gib / 8)),
                distances: (0..nodes).map(|other| if other == number { 10 } else { 21 }).collect(),
                hugepages: vec![HugepagePool { page_size: Bytes::mib(2), total: 0, free: 0 }],
            });
        }
        inventory.memory.total = Some(Bytes::gib(gib * u64::from(nodes)));
        inventory.memory.available = Some(Bytes::gib((gib - gib / 8) * u64::from(nodes)));
        Self { inventory }
    }

    /// Puts a function behind `parent` (none: on the root bus) into `group`.
    pub(crate) fn add(
        &mut self,
        parent: Option<&str>,
        address: &str,
        group: u32,
        ids: (&str, &str),
        what: (u32, FunctionKind, &str),
    ) -> &mut Function {
        let address = at(address);
        let parent = parent.map(at);
        let step = SlotStep { device: address.device(), function: address.function() };
        let above = parent
            .and_then(|parent| self.inventory.function(parent))
            .map(|bridge| bridge.identity.path.clone());
        let path = above.map_or_else(
            || SlotPath::new(address.domain(), address.bus(), vec![step]),
            |above| {
                let steps = above.steps().iter().copied().chain([step]).collect();
                SlotPath::new(above.root_bus().0, above.root_bus().1, steps)
            },
        );
        let (class, kind, driver) = what;
        let function = serde_json::json!({
            "address": address,
            "identity": { "vendor": ids.0, "device": ids.1, "path": path.unwrap() },
            "class": format!("{class:06x}"),
            "parent": parent,
            "group": group,
            "config": "full",
        });
        let mut function: Function = serde_json::from_value(function).unwrap();
        function.kind = kind;
        function.driver.bound = (!driver.is_empty()).then(|| driver.to_owned());
        function.reset_methods = Some(vec![ResetMethod::Flr]);
        function.numa_node = self.inventory.memory.nodes.first().map(|node| node.number);
        function.names.device = Some(name(class).to_owned());
        function.names.vendor = Some(vendor(ids.0).to_owned());
        self.join(address, group);
        self.inventory.functions.push(function);
        self.inventory.functions.last_mut().unwrap()
    }

    fn join(&mut self, address: PciAddress, number: u32) {
        let groups = &mut self.inventory.groups;
        if !groups.iter().any(|group| group.number == number) {
            let empty = serde_json::json!({ "number": number });
            groups.push(serde_json::from_value::<IommuGroup>(empty).unwrap());
            groups.sort_by_key(|group| group.number);
        }
        groups.iter_mut().find(|group| group.number == number).unwrap().functions.push(address);
    }

    /// A root port or another bridge.
    pub(crate) fn bridge(
        &mut self,
        parent: Option<&str>,
        address: &str,
        group: u32,
        kind: FunctionKind,
    ) -> &mut Function {
        self.add(parent, address, group, ("8086", "a33c"), (0x06_0400, kind, "pcieport"))
    }

    /// A display card with its sound function behind `parent`, in one group, without FLR.
    pub(crate) fn gpu(&mut self, parent: &str, slot: &str, group: u32, vendor: &str, gib: u64) {
        let (card, sound) = (format!("{slot}.0"), format!("{slot}.1"));
        let driver = if vendor == "10de" { "nouveau" } else { "amdgpu" };
        let function = self.add(
            Some(parent),
            &card,
            group,
            (vendor, "73ff"),
            (0x03_0000, FunctionKind::Endpoint, driver),
        );
        function.reset_methods = Some(Vec::new());
        function.bars = vec![
            bar(0, BarKind::Memory64, true, Bytes::gib(gib)),
            bar(2, BarKind::Memory64, true, Bytes::mib(2)),
            bar(5, BarKind::Memory32, false, Bytes::mib(1)),
        ];
        let what = (0x04_0300, FunctionKind::Endpoint, "snd_hda_intel");
        let function = self.add(Some(parent), &sound, group, (vendor, "ab28"), what);
        function.reset_methods = Some(Vec::new());
        function.bars = vec![bar(0, BarKind::Memory32, false, Bytes(0x4000))];
    }

    /// The function at `address`, to be changed.
    pub(crate) fn function(&mut self, address: &str) -> &mut Function {
        let address = at(address);
        self.inventory.functions.iter_mut().find(|function| function.address == address).unwrap()
    }

    /// Lets something hold the function at `address`.
    pub(crate) fn hold(&mut self, address: &str, strength: HoldStrength, kind: HoldKind) {
        self.function(address).holds.push(Hold { strength, kind });
    }

    /// Gives the function at `address` a network interface.
    pub(crate) fn interface(&mut self, address: &str, name: &str) {
        let interface = serde_json::json!({ "name": name, "up": true });
        self.function(address).interfaces.push(serde_json::from_value::<NetInterface>(interface).unwrap());
    }

    /// Puts the file system `/` onto the disk `disk` behind `address`.
    pub(crate) fn root_disk(&mut self, address: &str, disk: &str) {
        let kind = HoldKind::FileSystem {
            device: format!("{disk}p2"),
            mount_point: Some("/".to_owned()),
            file_system: Some("ext4".to_owned()),
            through: Vec::new(),
        };
        self.hold(address, HoldStrength::Critical, kind);
    }

    /// Makes the card at `address` the one that firmware and console use.
    pub(crate) fn console(&mut self, address: &str) {
        self.function(address).boot_vga = Some(true);
        self.hold(address, HoldStrength::Note, HoldKind::BootVga);
        self.hold(address, HoldStrength::HandOver, HoldKind::Console { device: "fb0".to_owned() });
    }
}

/// A register.
pub(crate) fn bar(index: u8, kind: BarKind, prefetchable: bool, size: Bytes) -> Bar {
    Bar { index, kind, prefetchable, start: None, size, resizable: Vec::new() }
}

fn name(class: u32) -> &'static str {
    match class >> 8 {
        0x0300 | 0x0302 => "Display [Card]",
        0x0403 => "HDMI Audio",
        0x0c03 => "xHCI Controller",
        0x0200 => "Ethernet",
        0x0108 => "NVMe SSD",
        0x0604 => "PCIe Port",
        _ => "Device",
    }
}

fn vendor(id: &str) -> &'static str {
    match id {
        "10de" => "NVIDIA Corporation",
        "1002" => "Advanced Micro Devices, Inc. [AMD/ATI]",
        "1022" => "Advanced Micro Devices, Inc. [AMD]",
        "8086" => "Intel Corporation",
        "144d" => "Samsung Electronics Co Ltd",
        "1a03" => "ASPEED Technology, Inc.",
        _ => "Somebody",
    }
}

/// `04:00.0+04:00.1 05:00.0`: the cards of each seat, or the codes of the reasons with their functions.
pub(crate) fn told(answer: &Result<Plan, Refusal>) -> String {
    let short = |text: String| text.strip_prefix("0000:").map(str::to_owned).unwrap_or(text);
    let reasons = |refusal: &Refusal| {
        let reasons = refusal.reasons.iter().map(|reason| match reason.function {
            Some(function) => format!("{}@{}", reason.code, short(function.to_string())),
            None => reason.code.to_string(),
        });
        format!("no: {}", reasons.collect::<Vec<_>>().join(" "))
    };
    let source = |source: &Source| match source {
        Source::Taken { address, .. } => short(address.to_string()),
        Source::Virtual { of, index, .. } => format!("{}/vf{index}", short(of.to_string())),
    };
    let plan = match answer {
        Ok(plan) => plan,
        Err(refusal) => return reasons(refusal),
    };
    let seats = plan.seats.iter().map(|seat| {
        let cards = seat.slots.iter().map(|slot| {
            let functions: Vec<String> =
                slot.functions.iter().map(|function| source(&function.source)).collect();
            functions.join("+")
        });
        format!("{}: {}", seat.name, cards.collect::<Vec<_>>().join(" "))
    });
    seats.collect::<Vec<_>>().join("; ")
}
