//! The disks behind functions, and which of them the host lives on: mounted, swapped to, part of something.
//!
//! A file system may lie on a disk through partitions, device-mapper and md arrays: the way down is followed
//! through sysfs (`slaves`, the parent of a partition) until a device that has a PCI function above it.

use std::collections::BTreeSet;

use linux::sysfs::NodeKind;
use spec::inventory::{BlockDevice, Function, HoldKind, HoldStrength};
use spec::{Bytes, PciAddress};

use super::holders::Holders;
use super::mounts::{self, Mount};
use super::reader::{Reader, last_function};
use super::shared_folders;

const BLOCKS: &str = "/sys/class/block";
/// The most layers between a file system and its disk that are followed.
const MOST_LAYERS: usize = 32;
/// Sectors of sysfs are 512 bytes, whatever the disk's own are (Linux `include/linux/blk_types.h`).
const SECTOR_BYTES: u64 = 512;

/// The block devices and file systems of the host.
pub(super) struct Storage<'a> {
    reader: &'a Reader<'a>,
    names: Vec<String>,
    mounts: Vec<Mount>,
    /// The disks and partitions for which a hold was found.
    held: BTreeSet<String>,
}

/// Where a file system or swap area really lies: a disk or partition with a function above it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bottom {
    device: String,
    through: Vec<String>,
    functions: Vec<PciAddress>,
}

/// Something of the host that comes from a server on the network.
pub(super) struct Remote {
    pub(super) server: String,
    pub(super) used_for: String,
    pub(super) strength: HoldStrength,
}

impl<'a> Storage<'a> {
    pub(super) fn read(reader: &'a Reader<'a>) -> Self {
        Self { reader, names: reader.list(BLOCKS), mounts: mounts::mounts(reader), held: BTreeSet::new() }
    }

    /// Tells each function its disks.
    pub(super) fn name_disks(&self, functions: &mut [Function]) {
        for name in &self.names {
            // A hidden one is a path of a multi-path disk, which is there under its own name.
            let hidden = self.reader.flag(&format!("{BLOCKS}/{name}/hidden")) == Some(true);
            if hidden || self.reader.tree().exists(&format!("{BLOCKS}/{name}/partition")) {
                continue;
            }
            let owners = self.functions(name);
            for function in functions.iter_mut().filter(|function| owners.contains(&function.address)) {
                function.disks.push(self.disk(name));
            }
        }
    }

    fn disk(&self, name: &str) -> BlockDevice {
        let attribute = |file: &str| self.reader.text(&format!("{BLOCKS}/{name}/{file}"));
        let sectors = self.reader.parsed::<u64>(&format!("{BLOCKS}/{name}/size"));
        BlockDevice {
            name: name.to_owned(),
            size: sectors.and_then(|sectors| sectors.checked_mul(SECTOR_BYTES)).map(Bytes),
            model: attribute("device/model"),
            serial: attribute("device/serial").or_else(|| attribute("serial")),
        }
    }

    /// Adds the holds of file systems, swap and storage pools; gives what comes over the network.
    pub(super) fn hold(&mut self, holders: &mut Holders) -> Vec<Remote> {
        let root_known = self.root_is_known();
        if !root_known {
            self.reader
                .note("/", "what the root file system lies on is not known: every mounted disk counts as it");
        }
        let strength = |system: bool| match system || !root_known {
            true => HoldStrength::Critical,
            false => HoldStrength::InUse,
        };
        let mut remotes = Vec::new();
        for mount in self.mounts.clone() {
            let strength = strength(mounts::is_system(&mount.mount_point));
            if let Some(server) = server(&mount) {
                remotes.push(Remote { server, used_for: mount.mount_point.clone(), strength });
            }
            if let Some(function) = shared_folders::function(self.reader, &mount) {
                let kind = HoldKind::FileSystem {
                    device: mount.source.clone(),
                    mount_point: Some(mount.mount_point.clone()),
                    file_system: Some(mount.file_system.clone()),
                    through: Vec::new(),
                };
                holders.add(function, strength, kind);
            }
            for block in self.blocks_of(&mount) {
                remotes.extend(self.remote_disk(&block, strength));
                self.hold_bottoms(holders, &block, strength, |bottom| HoldKind::FileSystem {
                    device: bottom.device.clone(),
                    mount_point: Some(mount.mount_point.clone()),
                    file_system: Some(mount.file_system.clone()),
                    through: bottom.through.clone(),
                });
            }
        }
        self.hold_unseen_file_systems(holders, strength(false));
        self.hold_swaps(holders);
        self.hold_members(holders);
        remotes
    }

    fn root_is_known(&self) -> bool {
        let root = self.mounts.iter().rfind(|mount| mount.mount_point == "/");
        root.is_some_and(|root| {
            let bottoms = |block: &String| !self.bottoms(block).is_empty() || self.session(block).is_some();
            let shared = shared_folders::function(self.reader, root).is_some();
            shared || server(root).is_some() || self.blocks_of(root).iter().any(bottoms)
        })
    }

    /// Adds a hold on every disk that `block` lies on.
    fn hold_bottoms(
        &mut self,
        holders: &mut Holders,
        block: &str,
        strength: HoldStrength,
        kind: impl Fn(&Bottom) -> HoldKind,
    ) {
        for bottom in self.bottoms(block) {
            bottom.functions.iter().for_each(|function| holders.add(*function, strength, kind(&bottom)));
            self.held.insert(bottom.device);
        }
    }

    /// File systems that are mounted, but not in this mount namespace: the file system drivers list them too.
    fn hold_unseen_file_systems(&mut self, holders: &mut Holders, strength: HoldStrength) {
        let mut seen: BTreeSet<String> = self.mounts.iter().flat_map(|mount| self.blocks_of(mount)).collect();
        for driver in ["ext4", "xfs", "f2fs", "bcachefs"] {
            for block in self.reader.list(&format!("/sys/fs/{driver}")) {
                if self.names.contains(&block) && seen.insert(block.clone()) {
                    self.hold_unseen(holders, &block, driver, strength);
                }
            }
        }
        for volume in self.reader.list("/sys/fs/btrfs") {
            for block in self.reader.list(&format!("/sys/fs/btrfs/{volume}/devices")) {
                if seen.insert(block.clone()) {
                    self.hold_unseen(holders, &block, "btrfs", strength);
                }
            }
        }
    }

    fn hold_unseen(&mut self, holders: &mut Holders, block: &str, driver: &str, strength: HoldStrength) {
        self.hold_bottoms(holders, block, strength, |bottom| HoldKind::FileSystem {
            device: bottom.device.clone(),
            mount_point: None,
            file_system: Some(driver.to_owned()),
            through: bottom.through.clone(),
        });
    }

    fn hold_swaps(&mut self, holders: &mut Holders) {
        for swap in mounts::swaps(self.reader) {
            let blocks = match swap.is_file {
                true => mounts::mount_of(&self.mounts, &swap.path).map(|mount| self.blocks_of(mount)),
                false => self.block_of_node(&swap.path).map(|block| vec![block]),
            };
            for block in blocks.unwrap_or_default() {
                self.hold_bottoms(holders, &block, HoldStrength::InUse, |bottom| HoldKind::Swap {
                    device: bottom.device.clone(),
                    through: bottom.through.clone(),
                });
            }
        }
    }

    /// Disks that an array or a volume has open, though nothing on it is mounted.
    fn hold_members(&self, holders: &mut Holders) {
        for name in &self.names {
            let users = self.reader.list(&format!("{BLOCKS}/{name}/holders"));
            let functions = self.functions(name);
            if self.held.contains(name) || functions.is_empty() {
                continue;
            }
            for user in users {
                let kind = HoldKind::StorageMember { device: name.clone(), part_of: self.title(&user) };
                functions.iter().for_each(|at| holders.add(*at, HoldStrength::InUse, kind.clone()));
            }
        }
    }

    /// The block devices that a mount lies on.
    fn blocks_of(&self, mount: &Mount) -> Vec<String> {
        if mount.file_system == "zfs" {
            return self.pool_members(mount.source.split('/').next().unwrap_or_default());
        }
        if !mount.device.starts_with("0:") {
            return self.block_of_number(&mount.device).into_iter().collect();
        }
        // btrfs and bcachefs span devices and have a device number of their own.
        let named = mount.source.split(':').filter(|source| source.starts_with("/dev/"));
        let mut blocks: Vec<String> = named.filter_map(|source| self.block_of_node(source)).collect();
        if mount.file_system == "btrfs" {
            let volumes = self.reader.list("/sys/fs/btrfs");
            let volumes =
                volumes.iter().map(|volume| self.reader.list(&format!("/sys/fs/btrfs/{volume}/devices")));
            let of_this = volumes.filter(|devices| devices.iter().any(|device| blocks.contains(device)));
            blocks = of_this.flatten().chain(blocks.clone()).collect();
        }
        blocks.sort();
        blocks.dedup();
        blocks
    }

    /// The members of a ZFS pool: the kernel names them nowhere, but udev has looked at their labels.
    fn pool_members(&self, pool: &str) -> Vec<String> {
        let member = |name: &&String| {
            let number = self.reader.text(&format!("{BLOCKS}/{name}/dev"));
            let facts = number.and_then(|number| self.reader.table(&format!("/run/udev/data/b{number}")));
            let facts = facts.unwrap_or_default();
            let has = |entry: &str| facts.lines().any(|line| line == entry);
            has("E:ID_FS_TYPE=zfs_member") && has(&format!("E:ID_FS_LABEL={pool}"))
        };
        self.names.iter().filter(member).cloned().collect()
    }

    fn block_of_number(&self, number: &str) -> Option<String> {
        let canonical =
            self.reader.known(self.reader.tree().canonical(&format!("/sys/dev/block/{number}")))?;
        canonical.rsplit('/').next().map(str::to_owned)
    }

    /// The block device of a node like `/dev/mapper/vg-root`.
    fn block_of_node(&self, node: &str) -> Option<String> {
        if let Ok(NodeKind::BlockDevice { major, minor }) = self.reader.tree().kind(node) {
            let block = self.block_of_number(&format!("{major}:{minor}"));
            if block.is_some() {
                return block;
            }
        }
        let canonical = self.reader.tree().canonical(node).unwrap_or_else(|_| node.to_owned());
        let name = canonical.rsplit('/').next()?;
        self.names.iter().any(|known| known == name).then(|| name.to_owned())
    }

    /// Follows a block device down to the disks with a function above them.
    fn bottoms(&self, block: &str) -> Vec<Bottom> {
        let mut found: Vec<Bottom> = Vec::new();
        let mut seen = BTreeSet::new();
        let mut open = vec![(block.to_owned(), Vec::new())];
        while let Some((name, above)) = open.pop() {
            if !seen.insert(name.clone()) || above.len() > MOST_LAYERS {
                continue;
            }
            let functions = self.functions(&name);
            if !functions.is_empty() {
                let through = above.into_iter().rev().collect();
                found.push(Bottom { device: name, through, functions });
                continue;
            }
            let mut path = above;
            path.push(self.title(&name));
            open.extend(self.below(&name).into_iter().map(|lower| (lower, path.clone())));
        }
        found.sort_by(|a, b| a.device.cmp(&b.device));
        found
    }

    /// The devices one layer down: what it is made of, else the disk it is a partition of, else its file's mount.
    fn below(&self, name: &str) -> Vec<String> {
        let slaves = self.reader.list(&format!("{BLOCKS}/{name}/slaves"));
        if !slaves.is_empty() {
            return slaves;
        }
        if let Some(file) = self.reader.text(&format!("{BLOCKS}/{name}/loop/backing_file")) {
            return mounts::mount_of(&self.mounts, &file)
                .map(|mount| self.blocks_of(mount))
                .unwrap_or_default();
        }
        let canonical = self.reader.known(self.reader.tree().canonical(&format!("{BLOCKS}/{name}")));
        let parent = canonical.as_deref().and_then(|path| path.rsplit('/').nth(1));
        parent
            .filter(|parent| self.names.iter().any(|known| known == parent))
            .map(str::to_owned)
            .into_iter()
            .collect()
    }

    /// The functions directly above a block device; several for a multi-path NVMe disk.
    fn functions(&self, name: &str) -> Vec<PciAddress> {
        let Ok(canonical) = self.reader.tree().canonical(&format!("{BLOCKS}/{name}")) else {
            return Vec::new();
        };
        if let Some(function) = last_function(&canonical) {
            return vec![function];
        }
        let Some(subsystem) = up_to_name_after(&canonical, "/nvme-subsystem/") else { return Vec::new() };
        let controllers = self.reader.list(subsystem).into_iter().filter(|entry| is_nvme_controller(entry));
        let mut functions: Vec<PciAddress> = controllers
            .filter_map(|entry| self.reader.function_of(&format!("{subsystem}/{entry}")))
            .collect();
        functions.sort();
        functions.dedup();
        functions
    }

    /// `dm-0 (vg-root)`, or just the name.
    fn title(&self, name: &str) -> String {
        match self.reader.text(&format!("{BLOCKS}/{name}/dm/name")) {
            Some(mapped) => format!("{name} ({mapped})"),
            None => name.to_owned(),
        }
    }

    fn remote_disk(&self, block: &str, strength: HoldStrength) -> Option<Remote> {
        let server = self.session(block)?;
        Some(Remote { server, used_for: block.to_owned(), strength })
    }

    /// The server of an iSCSI disk, whose place in sysfs names its session.
    fn session(&self, block: &str) -> Option<String> {
        let canonical = self.reader.tree().canonical(&format!("{BLOCKS}/{block}")).ok()?;
        let session =
            canonical.split('/').find_map(|name| name.strip_prefix("session")?.parse::<u32>().ok())?;
        let connections = "/sys/class/iscsi_connection";
        let prefix = format!("connection{session}:");
        let connection = self.reader.list(connections).into_iter().find(|name| name.starts_with(&prefix))?;
        self.reader.text(&format!("{connections}/{connection}/address"))
    }
}

/// The server of a network file system.
fn server(mount: &Mount) -> Option<String> {
    let over_network = ["nfs", "nfs4", "cifs", "smb3", "ceph"].contains(&mount.file_system.as_str());
    over_network.then_some(())?;
    let address = mount.super_options.split(',').find_map(|option| option.strip_prefix("addr="));
    Some(address.unwrap_or(&mount.source).to_owned())
}

/// The part of a path that ends with the name behind `marker`.
fn up_to_name_after<'p>(path: &'p str, marker: &str) -> Option<&'p str> {
    let start = path.find(marker)? + marker.len();
    let end = path.get(start..)?.find('/').map_or(path.len(), |length| start + length);
    path.get(..end)
}

/// `nvme0`, but not `nvme0n1` or `nvme0c0n1`.
fn is_nvme_controller(name: &str) -> bool {
    name.strip_prefix("nvme")
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
}
