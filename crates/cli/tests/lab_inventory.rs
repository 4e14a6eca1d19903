//! `allod devices` and `allod doctor` on a real kernel: what the fake trees claim of sysfs is asked of sysfs here.
//!
//! Each scenario boots a host of the lab, makes something happen in it with ordinary tools, and looks whether the
//! inventory says so.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario says what it expects")]

mod bench;

use bench::Bench;
use spec::PciAddress;
use spec::inventory::{
    ConfigAccess, Function, Hold, HoldKind, HoldStrength, HostInventory, IommuKind, ResetMethod, SrIov,
    Verdict,
};

/// Does something, and gives the holds on the one function with these ids that it brought.
fn new_holds(bench: &Bench, ids: &str, script: &str) -> Vec<Hold> {
    let before = only(&bench.inventory(), ids).holds;
    bench.does(script);
    let after = only(&bench.inventory(), ids).holds;
    after.into_iter().filter(|hold| !before.contains(hold)).collect()
}

/// The functions with these ids, by address.
fn all(inventory: &HostInventory, ids: &str) -> Vec<Function> {
    let with_ids =
        |function: &&Function| format!("{}:{}", function.identity.vendor, function.identity.device) == ids;
    inventory.functions.iter().filter(with_ids).cloned().collect()
}

/// The one function with these ids.
fn only(inventory: &HostInventory, ids: &str) -> Function {
    let mut found = all(inventory, ids);
    assert_eq!(found.len(), 1, "{ids}");
    found.remove(0)
}

fn critical(function: &Function) -> bool {
    function.holds.iter().any(|hold| hold.strength == HoldStrength::Critical)
}

const DISPLAY: &str = "1234:1111";
const NVME: &str = "1b36:0010";
const XHCI: &str = "1b36:000d";
const E1000E: &str = "8086:10d3";
const HD_AUDIO: &str = "8086:293e";
const VIRTIO_DISK: &str = "1af4:1001";

#[test]
fn the_hosts_own_console_is_told_from_the_hardware_of_two_seats() {
    let Some(bench) = Bench::boot("seats") else { return };
    let inventory = bench.inventory();
    assert_eq!(inventory.iommu.kind, IommuKind::Intel);
    assert_eq!(inventory.iommu.interrupt_remapping, Some(true));
    assert_eq!(inventory.iommu.firmware_table.as_deref(), Some("DMAR"));

    let displays = all(&inventory, DISPLAY);
    let [console, seat_a, seat_b] = displays.as_slice() else { panic!("{displays:?}") };
    assert_eq!(console.boot_vga, Some(true));
    let drawn = HoldKind::Console { device: "fb0".to_owned() };
    assert!(
        console.holds.contains(&Hold { strength: HoldStrength::HandOver, kind: drawn }),
        "{:?}",
        console.holds
    );
    for seat in [seat_a, seat_b] {
        assert!(seat.holds.is_empty(), "{:?}", seat.holds);
        assert_eq!(inventory.group(seat.group.unwrap()).unwrap().functions, [seat.address]);
        assert_eq!(seat.reset_methods.as_deref(), Some(&[ResetMethod::Bus][..]));
        let monitor = seat.connectors[0].monitor.as_ref().unwrap();
        assert_eq!(monitor.name.as_deref(), Some("QEMU Monitor"));
        assert_eq!(monitor.manufacturer.as_deref(), Some("RHT"));
    }
    for controller in all(&inventory, XHCI) {
        let names: Vec<&str> =
            controller.usb_devices.iter().filter_map(|device| device.name.as_deref()).collect();
        assert_eq!(names, ["QEMU USB Keyboard", "QEMU USB Tablet"]);
        assert_eq!(controller.root_port, controller.parent);
    }
    assert!(critical(&only(&inventory, VIRTIO_DISK)));
    assert_eq!(
        inventory.unread.len(),
        1,
        "only what lies below the overlay is unknown: {:?}",
        inventory.unread
    );

    let (status, report) = bench.doctor();
    assert_eq!((status, report.verdict), (0, Verdict::Ready), "{report:?}");
    bench.does("modprobe -r vfio_pci");
    let (status, report) = bench.doctor();
    assert_eq!(status, 0, "the first claim loads it: {report:?}");
    assert!(report.findings.iter().any(|finding| finding.code == "vfio-pci-not-loaded"), "{report:?}");

    bench.does("allod devices --json > /tmp/host.json");
    let again = bench.does("allod devices --json --inventory /tmp/host.json | diff - /tmp/host.json");
    assert_eq!(again.stdout, "");
    let unknown = bench.run("allod devices 7f:00.0");
    assert_eq!(unknown.status, 2, "{unknown:?}");
}

#[test]
fn whoever_uses_a_device_is_named_as_its_holder() {
    let Some(bench) = Bench::boot("cards") else { return };
    let in_use = |kind| Hold { strength: HoldStrength::InUse, kind };

    // The root lies on an overlay, so whatever is mounted may be what is below it.
    let through = vec!["dm-0 (vault)".to_owned()];
    let mounted = new_holds(
        &bench,
        NVME,
        "sectors=$(blockdev --getsz /dev/nvme0n1); dmsetup create vault --table \"0 $sectors linear /dev/nvme0n1 0\" && \
         mke2fs /dev/dm-0 && mkdir -p '/mnt/my disk' && mount -t ext4 /dev/dm-0 '/mnt/my disk'",
    );
    let kind = HoldKind::FileSystem {
        device: "nvme0n1".to_owned(),
        mount_point: Some("/mnt/my disk".to_owned()),
        file_system: Some("ext4".to_owned()),
        through: through.clone(),
    };
    assert_eq!(mounted, [Hold { strength: HoldStrength::Critical, kind }]);
    let unmounted = new_holds(&bench, NVME, "umount '/mnt/my disk'");
    let part_of = "dm-0 (vault)".to_owned();
    assert_eq!(unmounted, [in_use(HoldKind::StorageMember { device: "nvme0n1".to_owned(), part_of })]);
    let swapped = new_holds(&bench, NVME, "mkswap -q /dev/dm-0 && swapon /dev/dm-0");
    assert_eq!(swapped, [in_use(HoldKind::Swap { device: "nvme0n1".to_owned(), through })]);
    bench.does("swapoff -a && dmsetup remove vault");
    let open = new_holds(&bench, NVME, "sleep 300 < /dev/nvme0 > /dev/null 2>&1 & echo $! > /run/sleeper");
    let pid = bench.does("cat /run/sleeper").stdout;
    let process = format!("sleep ({})", pid.trim());
    assert_eq!(open, [in_use(HoldKind::Open { node: "/dev/nvme0".to_owned(), process })]);

    holders_of_the_network_card(&bench);
    holders_of_display_and_sound(&bench);
    an_ordinary_user_sees_the_same_devices(&bench);
}

fn holders_of_the_network_card(bench: &Bench) {
    let name = only(&bench.inventory(), E1000E).interfaces[0].name.clone();
    let routed = new_holds(
        bench,
        E1000E,
        &format!(
            "ip link set {name} up && ip address add 192.0.2.2/24 dev {name} && ip route add default via 192.0.2.1"
        ),
    );
    let default = HoldKind::DefaultRoute { interface: name.clone(), route_interface: None, only: true };
    assert!(routed.contains(&Hold { strength: HoldStrength::Critical, kind: default }), "{routed:?}");

    let bridged = new_holds(
        bench,
        E1000E,
        &format!(
            "ip link add br0 type bridge && ip link set {name} master br0 && ip link set br0 up && \
             ip route replace default dev br0"
        ),
    );
    let above = HoldKind::DefaultRoute {
        interface: name.clone(),
        route_interface: Some("br0".to_owned()),
        only: true,
    };
    assert!(bridged.contains(&Hold { strength: HoldStrength::Critical, kind: above }), "{bridged:?}");

    // As `sudo` does, a shell in between loses the variable; its parent still has it.
    let login = bench.does(
        "SSH_CONNECTION='198.51.100.7 50022 192.0.2.2 22' sh -c 'env -u SSH_CONNECTION allod devices --json; true'",
    );
    let inventory: HostInventory = serde_json::from_str(&login.stdout).unwrap();
    let kind = HoldKind::Login { interface: name, peer: "198.51.100.7".to_owned() };
    let holds = only(&inventory, E1000E).holds;
    assert!(holds.contains(&Hold { strength: HoldStrength::Critical, kind }), "{holds:?}");
}

fn holders_of_display_and_sound(bench: &Bench) {
    let card =
        bench.does("basename /sys/bus/pci/devices/*/drm/card* | sort | head -1").stdout.trim().to_owned();
    // The first to open a card is its master.
    bench.does(&format!("sleep 300 < /dev/dri/{card} > /dev/null 2>&1 & sleep 1"));
    let inventory = bench.inventory();
    let master = |hold: &Hold| {
        matches!(&hold.kind, HoldKind::DrmMaster { node, process: Some(process) }
            if *node == card && process.starts_with("sleep"))
    };
    assert_eq!(inventory.functions.iter().filter(|function| function.holds.iter().any(master)).count(), 1);

    let playing = new_holds(
        bench,
        HD_AUDIO,
        "aplay -q -D hw:0 -t raw -f S16_LE -r 48000 -c 2 /dev/zero > /dev/null 2>&1 & sleep 2",
    );
    let sounds = playing.iter().any(|hold| {
        hold.strength == HoldStrength::InUse
            && matches!(&hold.kind, HoldKind::Sound { process: Some(process), .. } if process.starts_with("aplay"))
    });
    assert!(sounds, "{playing:?}");
}

fn an_ordinary_user_sees_the_same_devices(bench: &Bench) {
    let root = bench.inventory();
    let output = bench.does("setpriv --reuid 65534 --regid 65534 --clear-groups allod devices --json");
    let ordinary: HostInventory = serde_json::from_str(&output.stdout).unwrap();
    let addresses = |inventory: &HostInventory| -> Vec<PciAddress> {
        inventory.functions.iter().map(|function| function.address).collect()
    };
    assert_eq!(addresses(&ordinary), addresses(&root));
    assert_eq!(ordinary.groups, root.groups);
    assert_eq!((root.host.read_by_uid, ordinary.host.read_by_uid), (Some(0), Some(65534)));
    assert!(ordinary.functions.iter().all(|function| function.config == ConfigAccess::HeaderOnly));
    assert!(root.functions.iter().all(|function| function.config == ConfigAccess::Full));
}

#[test]
fn virtual_functions_are_named_below_their_physical_one() {
    let Some(bench) = Bench::boot("sriov") else { return };
    bench.does("for d in /sys/bus/pci/devices/*; do [ -e $d/sriov_totalvfs ] && echo 2 > $d/sriov_numvfs; done; true");
    let inventory = bench.inventory();
    for ids in ["8086:10c9", NVME] {
        let physical = all(&inventory, ids).remove(0);
        let Some(SrIov::Physical { functions, total, .. }) = &physical.sriov else { panic!("{physical:?}") };
        assert!(functions.len() == 2 && *total >= 2, "{physical:?}");
        let held = Hold { strength: HoldStrength::InUse, kind: HoldKind::VirtualFunctions { count: 2 } };
        assert!(physical.holds.contains(&held), "{:?}", physical.holds);
        for (index, address) in functions.iter().enumerate() {
            let function = inventory.function(*address).unwrap();
            let path = format!("{}/vf{index}", physical.identity.path);
            assert_eq!(function.identity.path.to_string(), path);
            assert_ne!(function.group, physical.group);
        }
    }
    // The disk has several paths to it; the one that people know is listed.
    let disk = all(&inventory, NVME).remove(0);
    let names: Vec<&str> = disk.disks.iter().map(|disk| disk.name.as_str()).collect();
    assert_eq!(names, ["nvme0n1"]);
}

#[test]
fn groups_are_as_the_kernel_made_them() {
    let Some(bench) = Bench::boot("groups") else { return };
    let inventory = bench.inventory();
    let twins: Vec<Function> = inventory
        .functions
        .iter()
        .filter(|function| function.address.function() == 1 && !function.class.is_bridge())
        .cloned()
        .collect();
    let twin = twins.iter().find(|twin| twin.class.is_usb_controller()).unwrap();
    let group = inventory.group(twin.group.unwrap()).unwrap();
    assert_eq!(group.functions.len(), 2);
    let edu = only(&inventory, "1234:11e8");
    let behind = inventory.group(edu.group.unwrap()).unwrap();
    assert_eq!(behind.functions.len(), 3, "the bridge and two functions: {behind:?}");
    let (_, report) = bench.doctor();
    let shared = report.findings.iter().find(|finding| finding.code == "group-shared").unwrap();
    assert!(shared.reason.contains("looks like one device"), "{shared:?}");
}

#[test]
fn an_amd_host_is_ready_too() {
    let Some(bench) = Bench::boot("amd") else { return };
    let inventory = bench.inventory();
    assert_eq!(inventory.iommu.kind, IommuKind::Amd);
    assert_eq!(inventory.iommu.firmware_table.as_deref(), Some("IVRS"));
    assert_eq!(inventory.iommu.interrupt_remapping, Some(true));
    let (status, report) = bench.doctor();
    assert_eq!((status, report.verdict), (0, Verdict::Ready), "{report:?}");
}
