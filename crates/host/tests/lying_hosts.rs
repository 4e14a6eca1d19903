//! Hosts whose files are missing, wrong or hostile: the inventory stays whole but for what is really unknown.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a host that cannot be built fails its test")]

use host::{doctor, fixtures, inventory};
use linux::sysfs::{FakeTree, Fault, Tree};
use proptest::prelude::*;
use spec::PciAddress;
use spec::inventory::{ConfigAccess, Function, HoldStrength, HostInventory, Rom};

const CARD: &str = "0000:01:00.0";
const DISK: &str = "0000:0b:00.0";

fn address(text: &str) -> PciAddress {
    text.parse().unwrap()
}

/// All files below a directory, links not followed.
fn files_below(tree: &FakeTree, directory: &str) -> Vec<String> {
    let mut files = Vec::new();
    for name in tree.list(directory).unwrap() {
        let path = format!("{directory}/{name}");
        if tree.read_link(&path).is_ok() {
            continue;
        }
        match tree.list(&path) {
            Ok(_) => files.extend(files_below(tree, &path)),
            Err(_) => files.push(path),
        }
    }
    files
}

/// The inventory without the functions at `addresses` and without notes.
fn others(inventory: &HostInventory, but: &str) -> Vec<Function> {
    inventory.functions.iter().filter(|function| function.address != address(but)).cloned().collect()
}

#[test]
fn a_failing_read_of_any_attribute_of_a_card_costs_at_most_that_card() {
    let whole = inventory::read(&fixtures::desktop_with_two_gpus());
    let directory = format!("/sys/bus/pci/devices/{CARD}");
    let names = fixtures::desktop_with_two_gpus().list(&directory).unwrap();
    let mut noted = 0;
    for name in names {
        for errno in [5, 13] {
            let tree = fixtures::desktop_with_two_gpus();
            tree.add_fault(Fault::FailReadsOf { path: format!("{directory}/{name}"), errno });
            let read = inventory::read(&tree);
            assert_eq!(others(&read, CARD), others(&whole, CARD), "{name}");
            let kept = read.function(address(CARD)).is_some();
            assert_eq!(kept, !["class", "vendor", "device"].contains(&name.as_str()), "{name}");
            let changed = read.function(address(CARD)) != whole.function(address(CARD));
            let said = read.unread.iter().any(|note| note.path.ends_with(&name));
            assert!(said || !changed, "a fact is gone, and nobody says that {name} could not be read");
            noted += usize::from(said);
        }
    }
    assert!(noted > 30, "{noted} failures were noted");
}

#[test]
fn a_host_whose_tables_cannot_be_read_is_not_taken_for_an_idle_one() {
    for path in ["/proc/self/mountinfo", "/proc/cpuinfo", "/proc/meminfo", "/proc/interrupts", "/proc/swaps"]
    {
        let tree = fixtures::desktop_with_two_gpus();
        tree.add_fault(Fault::FailReadsOf { path: path.to_owned(), errno: 5 });
        let read = inventory::read(&tree);
        assert_eq!(read.functions.len(), inventory::read(&fixtures::desktop_with_two_gpus()).functions.len());
        assert!(read.unread.iter().any(|note| note.path == path), "{path}: {:?}", read.unread);
        let _ = doctor::examine(&read);
    }
}

#[test]
fn with_an_unknown_root_every_disk_with_a_file_system_counts_as_it() {
    let tree = fixtures::desktop_with_two_gpus();
    tree.edit(|nodes| {
        nodes.put_file(
            "/proc/self/mountinfo",
            "30 1 0:25 / / rw - overlay overlay rw,lowerdir=/image\n31 1 259:9 / /mnt/games rw - ext4 /dev/nvme1n1p1 rw\n",
        );
        nodes.put_file("/sys/fs/ext4/nvme0n1p2/lifetime_write_kbytes", "1\n");
    });
    let read = inventory::read(&tree);
    let strongest = |at: &str| read.function(address(at)).unwrap().holds[0].strength;
    assert_eq!(strongest(DISK), HoldStrength::Critical);
    assert_eq!(strongest("0000:07:00.0"), HoldStrength::Critical);
    assert!(read.unread.iter().any(|note| note.path == "/"));
}

#[test]
fn groups_of_the_unsafe_mode_are_no_groups() {
    let tree = fixtures::desktop_with_two_gpus();
    tree.edit(|nodes| nodes.put_file("/sys/kernel/iommu_groups/12/name", "vfio-noiommu\n"));
    let read = inventory::read(&tree);
    assert_eq!(read.group(12), None);
    assert_eq!(read.function(address(CARD)).unwrap().group, None);
    assert!(read.unread.iter().any(|note| note.path.ends_with("/12/name")));
}

#[test]
fn dead_devices_and_looping_links_leave_unknown_facts_behind() {
    let tree = fixtures::desktop_with_two_gpus();
    let card = tree.canonical(&format!("/sys/bus/pci/devices/{CARD}")).unwrap();
    let audio = tree.canonical("/sys/bus/pci/devices/0000:01:00.1").unwrap();
    tree.edit(|nodes| {
        nodes.put_file(&format!("{card}/config"), vec![0xff; 4096]);
        nodes.put_file(&format!("{card}/resource"), "what\n0x1 0x0 0x200\n0x0 0xffffffffffffffff 0x140204\n");
        nodes.put_file(&format!("{card}/current_link_width"), "4294967296\n");
        nodes.put_link(&format!("{card}/driver"), "../loop");
        nodes.put_link("/sys/bus/pci/devices/0000:99:00.0", "0000:99:00.0");
        nodes.put_link("/sys/bus/pci/devices/10000:e1:00.0", "../../../devices/pci0000:00");
        nodes.put_link("/sys/class/block/dm-9", "../../devices/virtual/block/dm-9");
        nodes.put_link("/sys/devices/virtual/block/dm-9/slaves/dm-9", "/sys/class/block/dm-9");
        nodes.put_link("/sys/class/net/lo0", "../../devices/virtual/net/lo0");
        nodes.put_link("/sys/devices/virtual/net/lo0/lower_lo0", "/sys/class/net/lo0");
        nodes.put_link("/sys/dev/block/253:9", "../../devices/virtual/block/dm-9");
        nodes.put_link(&format!("{audio}/physfn"), "../0000:01:00.1");
    });
    let mounts = tree.table("/proc/self/mountinfo").unwrap();
    let looping = format!("{mounts}40 1 253:9 / /mnt/loop rw - ext4 /dev/dm-9 rw\n");
    let routes = tree.table("/proc/net/route").unwrap();
    tree.edit(|nodes| {
        nodes.put_file("/proc/self/mountinfo", looping);
        nodes.put_file("/proc/net/route", format!("{routes}lo0\t00000000\t0\t0001\t0\t0\t0\t00000000\n"));
    });
    let read = inventory::read(&tree);
    let dead = read.function(address(CARD)).unwrap();
    assert_eq!((dead.config, dead.acs, &dead.rom), (ConfigAccess::AllOnes, None, &Rom::Unknown));
    assert!(dead.bars.is_empty() && dead.link.as_ref().unwrap().current.is_none());
    for path in ["0000:99:00.0", "10000:e1:00.0", "/config", "/net/lo0"] {
        assert!(read.unread.iter().any(|note| note.path.contains(path)), "{path}: {:?}", read.unread);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn garbage_in_any_files_never_stops_the_reader(
        picks in proptest::collection::vec((any::<prop::sample::Index>(), proptest::collection::vec(any::<u8>(), 0..200)), 1..40),
    ) {
        let tree = fixtures::laptop_with_one_gpu();
        let files: Vec<String> =
            ["/sys", "/proc", "/etc", "/lib"].iter().flat_map(|top| files_below(&tree, top)).collect();
        for (pick, garbage) in picks {
            let path = pick.get(&files).clone();
            tree.edit(|nodes| nodes.put_file(&path, garbage));
        }
        let read = inventory::read(&tree);
        let _ = doctor::examine(&read);
        let text = serde_json::to_string(&read).unwrap();
        prop_assert_eq!(serde_json::from_str::<HostInventory>(&text).unwrap(), read);
    }
}
