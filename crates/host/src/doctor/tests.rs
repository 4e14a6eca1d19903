//! Each finding on a host that has it, and the made-up hosts as a whole.

use spec::inventory::{
    BootLoader, FunctionKind, HoldKind, HostInventory, IommuKind, KeptRom, ModuleState, Remedy, Rom,
    RomImages, Severity, Verdict, Virtualization,
};
use spec::{Bytes, PciAddress};

use super::examine;
use crate::{fixtures, inventory};

fn desktop() -> HostInventory {
    inventory::read(&fixtures::desktop_with_two_gpus())
}

/// The codes of all findings of at least `least` gravity, in order.
fn codes(inventory: &HostInventory, least: Severity) -> Vec<String> {
    let grave = examine(inventory).findings.into_iter().filter(|finding| finding.severity >= least);
    grave.map(|finding| finding.code).collect()
}

#[test]
fn a_good_desktop_is_ready_and_every_link_of_the_chain_is_named() {
    let report = examine(&desktop());
    assert_eq!(report.verdict, Verdict::Ready);
    let good: Vec<&str> = report
        .findings
        .iter()
        .filter(|finding| finding.severity == Severity::Good)
        .map(|finding| finding.code.as_str())
        .collect();
    assert_eq!(
        good,
        [
            "cpu-virtualization",
            "iommu",
            "interrupt-remapping",
            "kvm",
            "vfio",
            "groups",
            "displays",
            "memory",
            "locked-memory"
        ]
    );
}

#[test]
fn a_card_that_would_stay_dark_in_a_seat_is_told_of() {
    let found =
        |rom: Rom, kept: Option<(bool, bool)>, disable_vga: Option<&str>, own: Option<(bool, bool)>| {
            let mut host = desktop();
            let card = host.functions.iter_mut().find(|function| function.class.is_vga()).unwrap();
            card.rom = rom;
            card.own_rom = own.map(|(x86, efi)| RomImages { x86, efi });
            card.kept_rom = kept.map(|(x86, efi)| KeptRom { file: "/kept.rom".into(), x86, efi });
            let vfio = host.host.kernel.modules.iter_mut().find(|module| module.name == "vfio_pci").unwrap();
            vfio.state = ModuleState::Present;
            vfio.parameters = [("enable_sriov".to_owned(), "N".to_owned())].into();
            vfio.parameters.extend(disable_vga.map(|value| ("disable_vga".to_owned(), value.to_owned())));
            let mut codes = codes(&host, Severity::Note);
            codes.retain(|code| code.starts_with("rom") || code == "no-legacy-vga");
            codes
        };
    let own = Rom::Present { size: Bytes(1 << 17) };
    for (rom, kept, disable_vga, expected) in [
        (own.clone(), None, Some("N"), &[][..]),
        (own.clone(), Some((true, true)), Some("N"), &[]),
        (own.clone(), Some((true, false)), Some("N"), &["rom-of-one-kind"]),
        (Rom::Shadowed, None, Some("N"), &["rom-shadowed"]),
        (Rom::Shadowed, Some((true, true)), Some("N"), &[]),
        (own.clone(), None, Some("Y"), &["no-legacy-vga"]),
        (own, None, None, &["no-legacy-vga"]),
    ] {
        assert_eq!(found(rom.clone(), kept, disable_vga, None), expected, "{rom:?} {kept:?} {disable_vga:?}");
    }
    // What was read from the card goes before what is kept for it.
    let own = Rom::Present { size: Bytes(1 << 17) };
    for (read, kept, expected) in [
        ((true, true), Some((true, false)), &[][..]),
        ((true, false), None, &["rom-of-one-kind"]),
        ((false, true), Some((true, true)), &["rom-of-one-kind"]),
    ] {
        assert_eq!(found(own.clone(), kept, Some("N"), Some(read)), expected, "{read:?} {kept:?}");
    }
}

#[test]
fn a_driver_that_the_first_claim_loads_blocks_nothing() {
    let mut host = desktop();
    module(&mut host, "vfio_pci", ModuleState::Loadable);
    assert_eq!(examine(&host).verdict, Verdict::Ready);
    assert!(codes(&host, Severity::Warning).contains(&"vfio-pci-not-loaded".to_owned()));
}

#[test]
fn each_broken_link_blocks_with_its_own_code() {
    type Break = fn(&mut HostInventory);
    let rows: [(Break, &str); 9] = [
        (without_iommu, "iommu-off-kernel"),
        (
            |host| {
                without_iommu(host);
                host.iommu.firmware_table = None;
            },
            "iommu-off-firmware",
        ),
        (
            |host| {
                without_iommu(host);
                host.host.kernel.command_line = Some("quiet amd_iommu=off".to_owned());
            },
            "iommu-off-kernel",
        ),
        (|host| host.iommu.interrupt_remapping = Some(false), "interrupt-remapping-off"),
        (|host| node(host, "/dev/kvm", false, false), "kvm-amd-not-loaded"),
        (|host| node(host, "/dev/kvm", true, false), "kvm-no-access"),
        (|host| module(host, "vfio_pci", ModuleState::Missing), "vfio-pci-not-loaded"),
        (|host| module(host, "vfio_iommu_type1", ModuleState::Missing), "vfio-iommu-type1-not-loaded"),
        (|host| node(host, "/dev/vfio/vfio", false, false), "vfio-no-node"),
    ];
    for (change, code) in rows {
        let mut host = desktop();
        change(&mut host);
        let report = examine(&host);
        assert_eq!(report.verdict, Verdict::Blocked, "{code}");
        assert_eq!(codes(&host, Severity::Blocker), [code]);
        let finding = &report.findings[0];
        assert!(!finding.remedies.is_empty() && !finding.reason.is_empty(), "{finding:?}");
    }
}

fn without_iommu(host: &mut HostInventory) {
    host.groups.clear();
    host.iommu.kind = IommuKind::None;
    host.iommu.interrupt_remapping = Some(false);
}

fn node(host: &mut HostInventory, path: &str, exists: bool, accessible: bool) {
    let node = host.host.device_nodes.iter_mut().find(|node| node.path == path).unwrap();
    (node.exists, node.accessible) = (exists, accessible);
}

fn module(host: &mut HostInventory, name: &str, state: ModuleState) {
    host.host.kernel.modules.iter_mut().find(|module| module.name == name).unwrap().state = state;
}

#[test]
fn a_processor_without_the_extension_blocks_unless_kvm_works_all_the_same() {
    let mut host = desktop();
    host.cpus.virtualization = Virtualization::None;
    assert_eq!(examine(&host).verdict, Verdict::Ready);
    assert!(codes(&host, Severity::Note).contains(&"cpu-virtualization-hidden".to_owned()));
    node(&mut host, "/dev/kvm", false, false);
    assert!(codes(&host, Severity::Blocker).contains(&"cpu-virtualization-off".to_owned()));
}

#[test]
fn unsafe_interrupts_that_were_allowed_warn_but_do_not_block() {
    let mut host = desktop();
    host.iommu.interrupt_remapping = Some(false);
    let type1 = host.host.kernel.modules.iter_mut().find(|module| module.name == "vfio_iommu_type1").unwrap();
    type1.parameters.insert("allow_unsafe_interrupts".to_owned(), "Y".to_owned());
    assert_eq!(examine(&host).verdict, Verdict::Ready);
    assert!(codes(&host, Severity::Warning).contains(&"interrupt-remapping-off".to_owned()));
}

#[test]
fn the_remedy_for_the_kernel_fits_processor_and_boot_loader() {
    let mut host = desktop();
    without_iommu(&mut host);
    let remedy = |host: &HostInventory| match &examine(host).findings[0].remedies[0] {
        Remedy::Command { command, .. } => command.clone(),
        other => panic!("{other:?}"),
    };
    assert!(
        remedy(&host).contains("amd_iommu=on") && remedy(&host).contains("update-grub"),
        "{}",
        remedy(&host)
    );
    host.cpus.vendor = Some("GenuineIntel".to_owned());
    host.iommu.firmware_table = Some("DMAR".to_owned());
    host.host.boot_loader = BootLoader::ProxmoxBootTool;
    assert!(remedy(&host).contains("intel_iommu=on") && remedy(&host).contains("proxmox-boot-tool"));
}

#[test]
fn bad_groups_name_the_open_bridge_and_why_nothing_can_be_given_away() {
    let host = inventory::read(&fixtures::amd_board_with_bad_groups());
    let report = examine(&host);
    let shared: Vec<_> = report.findings.iter().filter(|finding| finding.code == "group-shared").collect();
    assert_eq!(shared.len(), 1);
    assert!(shared[0].finding.starts_with("group 14 holds several devices"), "{}", shared[0].finding);
    assert!(
        shared[0].reason.contains("0000:01:00.2") && shared[0].reason.contains("no ACS"),
        "{}",
        shared[0].reason
    );
    assert!(shared[0].consequence.contains("0000:01:00.1"), "{}", shared[0].consequence);
}

#[test]
fn groups_that_a_patched_kernel_only_claims_are_told() {
    let mut host = desktop();
    host.host.kernel.command_line = Some("quiet pcie_acs_override=downstream,multifunction".to_owned());
    assert!(codes(&host, Severity::Warning).contains(&"acs-override".to_owned()));
}

#[test]
fn findings_about_devices_name_the_device() {
    for (make, code, address) in [
        (fixtures::host_booted_over_the_nic as fn() -> _, "reserved-range", "0000:00:14.0"),
        (fixtures::host_booted_over_the_nic, "boot-framebuffer", "0000:01:00.0"),
        (fixtures::host_booted_over_the_nic, "only-display", "0000:01:00.0"),
        (fixtures::laptop_with_one_gpu, "only-display", "0000:00:02.0"),
        (fixtures::server_with_four_gpus, "no-reset", "0000:45:00.0"),
        (fixtures::desktop_with_two_gpus, "reset-needs-neighbours", "0000:04:00.0"),
    ] {
        let host = inventory::read(&make());
        let address: PciAddress = address.parse().unwrap();
        let report = examine(&host);
        let found = report.findings.iter().any(|f| f.code == code && f.function == Some(address));
        assert!(found, "{code} {address}: {:?}", codes(&host, Severity::Good));
    }
}

#[test]
fn memory_limits_pages_and_missing_facts_are_said() {
    let mut host = desktop();
    host.memory.available = Some(Bytes::gib(1));
    host.memory.transparent_hugepages = Some("never".to_owned());
    host.memory.locked.exempt = false;
    host.host.read_by_uid = Some(1000);
    host.host.hypervisor = Some("QEMU".to_owned());
    let warnings = codes(&host, Severity::Warning);
    // The integrated graphics of this board cannot be reset.
    assert_eq!(
        warnings,
        ["no-reset", "memory-little", "no-hugepages", "locked-memory-limit", "facts-missing"]
    );
    assert!(codes(&host, Severity::Note).contains(&"virtual-host".to_owned()));
}

#[test]
fn an_empty_inventory_is_blocked_and_does_not_stop_the_doctor() {
    let report = examine(&HostInventory::empty());
    assert_eq!(report.verdict, Verdict::Blocked);
}

#[test]
fn a_bridge_in_a_group_does_not_make_it_shared() {
    let mut host = desktop();
    for function in &mut host.functions {
        if function.kind == FunctionKind::RootPort && function.address.to_string() == "0000:00:01.1" {
            function.group = Some(12);
        }
    }
    host.groups.retain(|group| group.number != 1);
    host.groups
        .iter_mut()
        .find(|group| group.number == 12)
        .unwrap()
        .functions
        .push("0000:00:01.1".parse().unwrap());
    assert!(!codes(&host, Severity::Good).contains(&"group-shared".to_owned()));
}

#[test]
fn what_the_host_lives_on_is_no_candidate() {
    let host = inventory::read(&fixtures::host_with_nvme_root());
    let root = host.functions.iter().find(|f| {
        f.holds.iter().any(
            |hold| matches!(&hold.kind, HoldKind::FileSystem { mount_point: Some(point), .. } if point == "/"),
        )
    });
    let root = root.unwrap().address;
    assert!(examine(&host).findings.iter().all(|finding| finding.function != Some(root)));
}
