//! Reads the made-up hosts and holds the result against what people would say about those boards.
//!
//! The same inventories lie as JSON beside the planner's tests. `ALLOD_WRITE_INVENTORIES=1 cargo test -p host --test
//! recorded` writes them anew.
#![forbid(unsafe_code)]

use std::fs;
use std::path::PathBuf;

use host::{fixtures, inventory};
use linux::sysfs::FakeTree;
use spec::inventory::{HoldKind, HoldStrength, HostInventory};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../plan/tests/inventories")
}

#[test]
fn saved_inventories_are_what_the_made_up_hosts_give() {
    for (name, make) in fixtures::all() {
        let read = inventory::read(&make());
        let path = folder().join(format!("{name}.json"));
        let text = serde_json::to_string_pretty(&read).unwrap() + "\n";
        if std::env::var_os("ALLOD_WRITE_INVENTORIES").is_some() {
            fs::create_dir_all(folder()).unwrap();
            fs::write(&path, &text).unwrap();
        }
        let saved = fs::read_to_string(&path).unwrap_or_default();
        assert!(saved == text, "{} differs; write it anew and look at the difference", path.display());
        let back: HostInventory = serde_json::from_str(&saved).unwrap();
        assert_eq!(back, read, "{name}");
    }
}

/// The strongest hold of a function on a made-up host.
fn strongest(make: fn() -> FakeTree, at: &str) -> Option<(HoldStrength, HoldKind)> {
    let read = inventory::read(&make());
    let function = at.parse().ok().and_then(|address| read.function(address).cloned())?;
    function.holds.into_iter().next().map(|hold| (hold.strength, hold.kind))
}

#[test]
fn the_host_is_seen_to_live_where_it_lives() {
    let route = |interface: &str, above: Option<&str>, only| HoldKind::DefaultRoute {
        interface: interface.to_owned(),
        route_interface: above.map(str::to_owned),
        only,
    };
    let root = |device: &str, file_system: &str, through: &[&str]| HoldKind::FileSystem {
        device: device.to_owned(),
        mount_point: Some("/".to_owned()),
        file_system: Some(file_system.to_owned()),
        through: through.iter().map(|name| (*name).to_owned()).collect(),
    };
    let mirror = ["md0", "dm-0 (pve-root)"];
    for (make, at, strength, kind) in [
        (
            fixtures::server_with_four_gpus as fn() -> FakeTree,
            "0000:42:00.0",
            HoldStrength::Critical,
            root("nvme1n1p2", "ext4", &mirror),
        ),
        // Either of two ports below a bond can go while the other carries the route.
        (
            fixtures::server_with_four_gpus,
            "0000:43:00.1",
            HoldStrength::InUse,
            route("eno2", Some("vmbr0"), false),
        ),
        (
            fixtures::host_with_nvme_root,
            "0000:04:00.0",
            HoldStrength::Critical,
            route("enp4s0", Some("br0"), true),
        ),
        (
            fixtures::desktop_with_two_gpus,
            "0000:08:00.0",
            HoldStrength::Critical,
            route("enp8s0", None, true),
        ),
        (
            fixtures::desktop_with_two_gpus,
            "0000:0b:00.0",
            HoldStrength::Critical,
            root("nvme0n1p2", "ext4", &[]),
        ),
    ] {
        assert_eq!(strongest(make, at), Some((strength, kind)), "{at}");
    }
    let diskless = inventory::read(&fixtures::host_booted_over_the_nic());
    let served = HoldKind::NetworkStorage {
        interface: "enp2s0".to_owned(),
        server: "10.0.0.1".to_owned(),
        used_for: "/".to_owned(),
    };
    let holders =
        diskless.functions.iter().filter(|function| function.holds.iter().any(|hold| hold.kind == served));
    assert_eq!(holders.map(|function| function.address.to_string()).collect::<Vec<_>>(), ["0000:02:00.0"]);
}

#[test]
fn interrupts_count_as_remapped_only_when_their_chips_say_so() {
    let tree = fixtures::desktop_with_two_gpus();
    assert_eq!(inventory::read(&tree).iommu.interrupt_remapping, Some(true));
    tree.edit(|nodes| nodes.put_file("/proc/interrupts", "  1:  9  IO-APIC  1-edge  i8042\n"));
    assert_eq!(inventory::read(&tree).iommu.interrupt_remapping, Some(false));
}

#[test]
fn a_virtual_function_is_named_below_its_physical_one() {
    let read = inventory::read(&fixtures::server_with_four_gpus());
    let paths: Vec<String> = read
        .functions
        .iter()
        .filter(|function| function.address.to_string().starts_with("0000:05:00"))
        .map(|function| function.identity.path.to_string())
        .collect();
    let port = "0000:00/01.0/00.0/08.0/00";
    let named = [".0", ".1", ".0/vf0", ".0/vf1", ".0/vf2", ".0/vf3"].map(|end| format!("{port}{end}"));
    assert_eq!(paths, named);
}
