//! The machine spec that `allod-vmm` is started with, the state it reports, and the report it leaves.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Bytes, PciAddress};

/// One virtual machine, complete: what `allod-vmm` reads from the fd it inherits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineSpec {
    /// The name shown in messages and in the guest's SMBIOS.
    pub name: String,
    /// Number of virtual CPUs, at least 1.
    pub cpus: u32,
    /// The guest's memory.
    pub memory: MemorySpec,
    /// The kernel to start, without firmware.
    pub kernel: KernelImage,
    /// Host functions that belong to this machine.
    #[serde(default)]
    pub devices: Vec<PciAddress>,
    /// Where the control socket is made; none when the machine needs no control.
    #[serde(default)]
    pub control_socket: Option<PathBuf>,
    /// Whether a reset asked for by the guest ends the machine instead of starting it anew.
    #[serde(default)]
    pub end_on_reset: bool,
}

/// A Linux kernel (bzImage, or ELF with a PVH entry) with what goes with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelImage {
    /// The kernel file.
    pub kernel: PathBuf,
    /// The initial RAM disk.
    #[serde(default)]
    pub initrd: Option<PathBuf>,
    /// The kernel command line.
    #[serde(default)]
    pub command_line: String,
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

/// What a machine is doing, as the control socket's `status` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MachineState {
    /// The vCPUs run.
    Running,
    /// The vCPUs stand still and can go on.
    Paused,
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

/// What `allod-vmm` leaves behind: why it ended and what it did, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitReport {
    /// The machine's name.
    pub name: String,
    /// Why it ended.
    #[serde(flatten)]
    pub exit: ExitCause,
    /// How often the guest reset the machine.
    pub resets: u32,
    /// Exits to user space over all vCPUs and lives.
    pub exits: u64,
    /// Wall time from the start of the process, in milliseconds.
    pub wall_ms: u64,
}
