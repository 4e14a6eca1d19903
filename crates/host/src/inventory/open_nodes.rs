//! Which processes have a device node of a function open, from the descriptors in `/proc`.

use std::collections::BTreeMap;

use linux::sysfs::{NodeKind, Tree};
use spec::PciAddress;
use spec::inventory::{HoldKind, HoldStrength};

use super::holders::Holders;
use super::reader::{Reader, full_address};

/// The most descriptors that are looked at over all processes.
const MOST_DESCRIPTORS: usize = 1 << 20;
/// The most processes that are named for one node.
const MOST_PROCESSES: usize = 8;

/// Adds a hold for every node of a function that a process has open.
pub(super) fn hold(reader: &Reader<'_>, holders: &mut Holders) {
    let (open, hidden) = descriptors(reader);
    if hidden > 0 {
        let reason = format!("the open files of {hidden} processes cannot be seen by this user");
        reader.note("/proc", reason);
    }
    for (node, processes) in open {
        for function in functions_of(reader, &node) {
            for process in processes.iter().take(MOST_PROCESSES) {
                let process = process_name(reader.tree(), process);
                let kind = HoldKind::Open { node: node.clone(), process };
                holders.add(function, strength(&node), kind);
            }
        }
    }
}

/// A process that has one of these nodes open, as `name (pid)`; `None` also when its files cannot be seen.
pub(crate) fn process_with(tree: &dyn Tree, nodes: &[String]) -> Option<String> {
    let processes = tree.list("/proc").unwrap_or_default();
    let mut numbers = processes.iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    let has_open = |process: &&String| {
        let directory = format!("/proc/{process}/fd");
        let descriptors = tree.list(&directory).unwrap_or_default();
        descriptors.iter().take(MOST_DESCRIPTORS).any(|descriptor| {
            tree.read_link(&format!("{directory}/{descriptor}")).is_ok_and(|target| nodes.contains(&target))
        })
    };
    numbers.find(has_open).map(|process| process_name(tree, process))
}

/// How much an open node stands in the way. Sound servers keep every card's control node open and desktops every
/// input device: both let go when the device goes.
fn strength(node: &str) -> HoldStrength {
    let lets_go =
        ["/dev/snd/control", "/dev/snd/seq", "/dev/snd/timer", "/dev/input/", "/dev/hidraw", "/dev/bus/usb/"];
    match lets_go.iter().any(|start| node.starts_with(start)) {
        true => HoldStrength::Note,
        false => HoldStrength::InUse,
    }
}

/// The open nodes below `/dev` with the processes that have them, and how many processes hide theirs.
fn descriptors(reader: &Reader<'_>) -> (BTreeMap<String, Vec<String>>, usize) {
    let tree = reader.tree();
    let mut open: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let (mut hidden, mut left) = (0, MOST_DESCRIPTORS);
    let processes = tree.list("/proc").unwrap_or_default();
    for process in processes.into_iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) {
        let directory = format!("/proc/{process}/fd");
        let descriptors = match tree.list(&directory) {
            Ok(descriptors) => descriptors,
            Err(error) => {
                // A process that ended meanwhile is no secret.
                hidden += usize::from(error.errno.is_refused());
                continue;
            }
        };
        for descriptor in descriptors {
            left -= 1;
            if left == 0 {
                reader.note(
                    "/proc",
                    format!("more than {MOST_DESCRIPTORS} open files: the rest was not looked at"),
                );
                return (open, hidden);
            }
            let Ok(target) = tree.read_link(&format!("{directory}/{descriptor}")) else { continue };
            if is_device(&target) {
                let users = open.entry(target).or_default();
                if users.last() != Some(&process) {
                    users.push(process.clone());
                }
            }
        }
    }
    (open, hidden)
}

/// Nodes that every process has and that belong to no function are left out early.
fn is_device(target: &str) -> bool {
    let common =
        ["/dev/pts/", "/dev/null", "/dev/zero", "/dev/urandom", "/dev/random", "/dev/tty", "/dev/shm/"];
    target.starts_with("/dev/") && !common.iter().any(|start| target.starts_with(start))
}

/// The functions behind a node: through its device number, its IOMMU group, or NVIDIA's own list.
fn functions_of(reader: &Reader<'_>, node: &str) -> Vec<PciAddress> {
    let tree = reader.tree();
    if let Some(group) = node.strip_prefix("/dev/vfio/").filter(|name| name.parse::<u32>().is_ok()) {
        let members = tree.list(&format!("/sys/kernel/iommu_groups/{group}/devices")).unwrap_or_default();
        return members.iter().filter_map(|name| full_address(name)).collect();
    }
    if let Some(number) = node.strip_prefix("/dev/nvidia").and_then(|rest| rest.parse::<u32>().ok()) {
        return nvidia_function(tree, number).into_iter().collect();
    }
    let path = match tree.kind(node) {
        Ok(NodeKind::CharacterDevice { major, minor }) => format!("/sys/dev/char/{major}:{minor}"),
        Ok(NodeKind::BlockDevice { major, minor }) => format!("/sys/dev/block/{major}:{minor}"),
        _ => return Vec::new(),
    };
    let canonical = tree.canonical(&path).ok();
    canonical.and_then(|path| super::reader::last_function(&path)).into_iter().collect()
}

/// The proprietary driver registers its nodes nowhere in sysfs, but lists its cards.
fn nvidia_function(tree: &dyn Tree, number: u32) -> Option<PciAddress> {
    let cards = "/proc/driver/nvidia/gpus";
    let of_number = |card: &&String| {
        let facts = tree.table(&format!("{cards}/{card}/information")).unwrap_or_default();
        let minor = facts.lines().find_map(|line| line.strip_prefix("Device Minor:"));
        minor.and_then(|minor| minor.trim().parse::<u32>().ok()) == Some(number)
    };
    tree.list(cards).ok()?.iter().find(of_number).and_then(|card| full_address(card))
}

/// A process as `name (pid)`.
pub(super) fn process_name(tree: &dyn Tree, process: &str) -> String {
    let name = tree.text(&format!("/proc/{process}/comm")).unwrap_or_else(|_| "process".to_owned());
    let name: String = name.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    format!("{name} ({process})")
}
