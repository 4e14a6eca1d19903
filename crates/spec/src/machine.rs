//! The machine spec that `allod-vmm` is started with, and the report it leaves.

use serde::{Deserialize, Serialize};

use crate::seat_file::{BootFirst, FirmwareKind};
use crate::seat_file::{DiskFormat, DiskKind, MacAddress};
use crate::{AssignedReport, AssignedSpec, Bytes};

/// A file descriptor that the process inherits: the proof that it may use what is behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InheritedFd(pub i32);

/// One virtual machine, complete: what `allod-vmm` reads from the fd named on its command line.
///
/// `allod-vmm` opens nothing: whatever the machine uses is an fd that its starter has opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineSpec {
    /// The name shown in messages.
    pub name: String,
    /// The host's `/dev/kvm`.
    pub kvm: InheritedFd,
    /// Number of virtual CPUs, at least 1.
    pub cpus: u32,
    /// The host processors that virtual CPUs 0, 1 and so on run on and nowhere else; those past its end run anywhere.
    #[serde(default)]
    pub pins: Vec<u32>,
    /// The guest's memory.
    pub memory: MemorySpec,
    /// The kernel to start without firmware; there is either this or `firmware`.
    #[serde(default)]
    pub kernel: Option<KernelSpec>,
    /// The firmware that starts the machine.
    #[serde(default)]
    pub firmware: Option<FirmwareSpec>,
    /// Whether the machine has an entropy device (virtio-rng).
    #[serde(default = "present")]
    pub rng: bool,
    /// Disks (virtio-blk), in the order in which the guest finds them.
    #[serde(default)]
    pub disks: Vec<DiskSpec>,
    /// The discs in its optical drives, in the order in which the guest finds them; they are only read.
    #[serde(default)]
    pub cdroms: Vec<InheritedFd>,
    /// What it shows of Hyper-V, which Windows looks for; nothing without it.
    #[serde(default)]
    pub hyperv: Option<HypervSpec>,
    /// How many seconds its clock is ahead of universal time when it starts: the host's zone for systems that keep local
    /// time there, as Windows does.
    #[serde(default)]
    pub utc_offset_s: i32,
    /// Network cards (virtio-net), in the order in which the guest finds them.
    #[serde(default)]
    pub networks: Vec<NetworkSpec>,
    /// The emulated graphics card, if it has one.
    #[serde(default)]
    pub display: Option<DisplaySpec>,
    /// The control socket of the swtpm that is its TPM 2.0.
    #[serde(default)]
    pub tpm: Option<InheritedFd>,
    /// Functions of the host that it has as its own.
    #[serde(default)]
    pub assigned: Option<AssignedSpec>,
    /// Where the serial console goes.
    #[serde(default)]
    pub console: ConsoleSpec,
    /// A listening unix socket for [`crate::ControlRequest`]s.
    #[serde(default)]
    pub control: Option<InheritedFd>,
    /// Where the [`ExitReport`] is written at the end.
    #[serde(default)]
    pub report: Option<InheritedFd>,
    /// Whether a reset asked for by the guest ends the machine instead of starting it anew.
    #[serde(default)]
    pub end_on_reset: bool,
    /// Whether the process shuts itself into its sandbox before it touches anything of the guest's.
    #[serde(default)]
    pub confined: bool,
    /// The process that has started it, without which it ends.
    #[serde(default)]
    pub starter: Option<u32>,
}

/// What a device is that is there unless the spec says otherwise.
const fn present() -> bool {
    true
}

/// A disk of a machine: its bytes are in a file or block device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskSpec {
    /// What its owner calls it, for messages: its path.
    #[serde(default)]
    pub name: String,
    /// The file or block device, open for what the guest may do.
    pub file: InheritedFd,
    /// How its bytes are the disk's.
    #[serde(default)]
    pub format: DiskFormat,
    /// What the guest finds.
    #[serde(default)]
    pub shown: DiskKind,
    /// Whether the guest may only read it.
    #[serde(default)]
    pub read_only: bool,
}

/// What a machine shows of Hyper-V: the features that this host's KVM has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HypervSpec {
    /// The vendor that CPUID names, twelve characters at most; Microsoft's own without it.
    #[serde(default)]
    pub vendor: Option<String>,
    /// Whether KVM's own leaves are there as well, behind Microsoft's.
    #[serde(default = "present")]
    pub kvm_leaves: bool,
}

/// A network card of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkSpec {
    /// What its frames go through.
    pub file: InheritedFd,
    /// How they do.
    pub link: LinkKind,
    /// Its address.
    pub mac: MacAddress,
    /// The option ROM by which firmware starts a system through it.
    #[serde(default)]
    pub rom: Option<InheritedFd>,
}

/// How frames go through a network card's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkKind {
    /// A tap interface: a frame a read and a write.
    Tap,
    /// A stream socket: each frame after its length, 32 bits, highest byte first (passt).
    Stream,
}

/// An emulated graphics card: a VGA with the Bochs display interface, for machines without a card of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DisplaySpec {
    /// Width of the picture that the monitor prefers, in pixels.
    pub width: u16,
    /// Height of it.
    pub height: u16,
    /// Whether a tablet (virtio-input) comes with it, beside the mouse that always does.
    pub tablet: bool,
    /// The card's BIOS, which firmware needs to show anything.
    #[serde(default)]
    pub rom: Option<InheritedFd>,
}

/// A Linux kernel (bzImage, or ELF with a PVH entry) with what goes with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelSpec {
    /// The kernel file.
    pub image: InheritedFd,
    /// The initial RAM disk.
    #[serde(default)]
    pub initrd: Option<InheritedFd>,
    /// The kernel command line.
    #[serde(default)]
    pub command_line: String,
}

/// The firmware of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirmwareSpec {
    /// Which of the two.
    pub kind: FirmwareKind,
    /// The file with its code: SeaBIOS's `bios-256k.bin`, OVMF's `OVMF_CODE_4M.fd`.
    pub image: InheritedFd,
    /// The file that keeps UEFI variables, open for reading and writing; a machine of kind `bios` has none.
    #[serde(default)]
    pub variables: Option<InheritedFd>,
    /// Where what the firmware writes to its debug port goes.
    #[serde(default)]
    pub log: Option<InheritedFd>,
    /// What it tries to start from first.
    #[serde(default)]
    pub boot: BootFirst,
}

/// The two ends of the serial console.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsoleSpec {
    /// What is typed into it.
    #[serde(default)]
    pub input: Option<InheritedFd>,
    /// Where its output goes.
    #[serde(default)]
    pub output: Option<InheritedFd>,
    /// Whether a person sits at `input`: Ctrl-A is then the escape (`x` ends the machine).
    #[serde(default)]
    pub escape: bool,
}

/// How much memory a machine has and what backs it on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemorySpec {
    /// Guest RAM.
    pub size: Bytes,
    /// The kind of host pages behind it.
    #[serde(default)]
    pub backing: MemoryBacking,
    /// Whether other processes can map it (a shared memfd instead of private memory).
    #[serde(default)]
    pub shared: bool,
    /// Whether all of it is touched before the guest runs.
    #[serde(default)]
    pub prefault: bool,
}

/// The host pages behind guest memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemoryBacking {
    /// Transparent huge pages where the host has them.
    #[default]
    Transparent,
    /// 4 KiB pages only.
    Small,
    /// 2 MiB pages from the host's reserved pool.
    Huge2M,
    /// 1 GiB pages from the host's reserved pool.
    Huge1G,
}

/// Why a machine ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "cause")]
pub enum ExitCause {
    /// The guest powered itself off (ACPI S5).
    PowerOff,
    /// The guest asked for a reset and the spec says that this ends the machine.
    Reset {
        /// The path the guest took, for example `acpi-reset-register`.
        path: String,
    },
    /// The control socket or a signal told the machine to end.
    Quit,
    /// The machine could not start or go on.
    Fault {
        /// What was tried and what came back, one paragraph with the remedy.
        message: String,
    },
}

/// Exit status for a command line or spec that makes no sense.
pub const EXIT_USAGE: u8 = 2;

impl ExitCause {
    /// The exit status of `allod-vmm` and `allod run`: 0 the guest powered off, 1 fault, 3 reset, 4 told to end.
    pub const fn code(&self) -> u8 {
        match self {
            Self::PowerOff => 0,
            Self::Fault { .. } => 1,
            Self::Reset { .. } => 3,
            Self::Quit => 4,
        }
    }
}

/// What `allod-vmm` leaves behind: why it ended and what it did, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitReport {
    /// The machine's name.
    pub name: String,
    /// Why it ended.
    #[serde(flatten)]
    pub exit: ExitCause,
    /// How often the machine was reset.
    pub resets: u32,
    /// Exits to user space over all vCPUs and lives.
    pub exits: u64,
    /// Wall time from the start of the process, in milliseconds.
    pub wall_ms: u64,
    /// What became of its assigned functions.
    #[serde(default)]
    pub assigned: Vec<AssignedReport>,
}
