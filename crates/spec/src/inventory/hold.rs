//! Who uses a function now, and how much that stands in the way of taking it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One reason why a function is not free.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Hold {
    /// How much it stands in the way.
    pub strength: HoldStrength,
    /// What it is.
    #[serde(flatten)]
    pub kind: HoldKind,
}

/// How much a hold stands in the way of taking the function.
///
/// The order is of rising strength.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HoldStrength {
    /// Worth knowing; does not stand in the way.
    Note,
    /// Allod itself moves it away at the claim and brings it back: generic framebuffer, text console.
    HandOver,
    /// Its user has to let go first: an open device, a playing sound card, a mounted data disk, a desktop.
    InUse,
    /// The host or the present login lives on it: never taken, there is no force.
    Critical,
    /// A newer document's strength: to be treated like critical.
    #[default]
    #[serde(other)]
    Unknown,
}

/// What holds a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "holder")]
pub enum HoldKind {
    /// A mounted file system is on a disk behind it.
    FileSystem {
        /// The disk or partition behind this function, for example `nvme0n1p2`.
        device: String,
        /// Where it is mounted; none when it is mounted, but not in this mount namespace.
        #[serde(default)]
        mount_point: Option<String>,
        /// The kind of file system, for example `ext4`.
        #[serde(default)]
        file_system: Option<String>,
        /// The devices between disk and file system from below: partitions, `md0`, `dm-0 (vg-root)`.
        #[serde(default)]
        through: Vec<String>,
    },
    /// The host swaps to a disk behind it.
    Swap {
        /// The disk or partition behind this function.
        device: String,
        /// The devices between disk and swap area.
        #[serde(default)]
        through: Vec<String>,
    },
    /// A disk behind it is part of something that is not mounted: a volume group, an array, a pool.
    StorageMember {
        /// The disk or partition.
        device: String,
        /// What it is a part of.
        part_of: String,
    },
    /// The default route leads through it.
    DefaultRoute {
        /// The interface of this function.
        interface: String,
        /// The interface the route names, when it is a bridge, bond or VLAN above.
        #[serde(default)]
        route_interface: Option<String>,
        /// Whether no other function carries a default route.
        only: bool,
    },
    /// The session that asks came in through it.
    Login {
        /// The interface.
        interface: String,
        /// The address of the other end.
        peer: String,
    },
    /// A file system of the host, or its root disk, comes over the network through it.
    NetworkStorage {
        /// The interface.
        interface: String,
        /// The server's address.
        server: String,
        /// What depends on it: a mount point or a disk.
        used_for: String,
    },
    /// A network interface of it is up (with no default route).
    NetworkUp {
        /// The interface.
        interface: String,
    },
    /// Firmware made it the boot display: its legacy VGA ranges and ROM are in use.
    BootVga,
    /// A framebuffer of the firmware (efifb, vesafb, simpledrm) lies in one of its BARs.
    Framebuffer {
        /// The owner by /proc/iomem, for example `BOOTFB` or `efifb`.
        owner: String,
    },
    /// The text console is drawn on it.
    Console {
        /// The framebuffer, for example `fb0`, or the serial port, for example `ttyS4`.
        device: String,
    },
    /// A process draws on it as DRM master: a desktop or display server runs.
    DrmMaster {
        /// The node, for example `card0`.
        node: String,
        /// The process, when known.
        #[serde(default)]
        process: Option<String>,
    },
    /// Sound plays or is recorded.
    Sound {
        /// The card, for example `card1`.
        card: String,
        /// The process, when known.
        #[serde(default)]
        process: Option<String>,
    },
    /// A process has one of its device nodes open.
    Open {
        /// The node, for example `/dev/dri/renderD128` or `/dev/vfio/12`.
        node: String,
        /// The process as `name (pid)`.
        process: String,
    },
    /// Virtual functions of it exist.
    VirtualFunctions {
        /// How many.
        count: u16,
    },
    /// A keyboard, mouse or other input device of the host is behind it.
    Input {
        /// What it calls itself.
        device: String,
    },
    /// A hold that a newer document knows.
    #[serde(other)]
    Unknown,
}
