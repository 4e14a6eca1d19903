//! The host itself: machine, firmware, kernel, processors, memory, IOMMU.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::number::PhysicalAddress;
use crate::{Bytes, CpuSet, PciAddress};

/// The machine, its firmware, its system and its kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostFacts {
    /// The host's name.
    #[serde(default)]
    pub name: Option<String>,
    /// The maker and product of the machine, for example `ASUS ROG Strix`.
    #[serde(default)]
    pub product: Option<String>,
    /// The maker and product of the board.
    #[serde(default)]
    pub board: Option<String>,
    /// The firmware.
    #[serde(default)]
    pub firmware: Firmware,
    /// The distribution.
    #[serde(default)]
    pub distribution: Distribution,
    /// What starts the kernel, hence where its command line is set.
    #[serde(default)]
    pub boot_loader: BootLoader,
    /// The kernel.
    #[serde(default)]
    pub kernel: KernelFacts,
    /// The hypervisor when the host is itself a virtual machine, for example `KVM` or `VMware`.
    #[serde(default)]
    pub hypervisor: Option<String>,
    /// The user who read the inventory; an ordinary user sees less.
    #[serde(default)]
    pub read_by_uid: Option<u32>,
    /// The device nodes that the chain needs.
    #[serde(default)]
    pub device_nodes: Vec<DeviceNode>,
}

/// The host's firmware.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Firmware {
    /// The maker.
    #[serde(default)]
    pub vendor: Option<String>,
    /// The version.
    #[serde(default)]
    pub version: Option<String>,
    /// The date as the firmware writes it.
    #[serde(default)]
    pub date: Option<String>,
    /// How the host was started.
    #[serde(default)]
    pub boot_mode: BootMode,
    /// Whether UEFI Secure Boot is on.
    #[serde(default)]
    pub secure_boot: Option<bool>,
}

/// How the host was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BootMode {
    /// By UEFI.
    Uefi,
    /// By a legacy BIOS or a compatibility module.
    Bios,
    /// Not known.
    #[default]
    #[serde(other)]
    Unknown,
}

/// The distribution, from `os-release`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Distribution {
    /// Its short name, for example `debian`.
    #[serde(default)]
    pub id: Option<String>,
    /// The distributions it is like, for example `rhel fedora`.
    #[serde(default)]
    pub like: Option<String>,
    /// Its name for people.
    #[serde(default)]
    pub name: Option<String>,
}

/// What starts the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BootLoader {
    /// GNU GRUB.
    Grub,
    /// systemd-boot.
    SystemdBoot,
    /// Proxmox VE's own boot tool with systemd-boot.
    ProxmoxBootTool,
    /// rpm-ostree keeps the command line.
    RpmOstree,
    /// Not known.
    #[default]
    #[serde(other)]
    Unknown,
}

/// The running kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KernelFacts {
    /// Its release, for example `6.12.8-amd64`.
    #[serde(default)]
    pub release: Option<String>,
    /// Its command line.
    #[serde(default)]
    pub command_line: Option<String>,
    /// Its lockdown mode: `none`, `integrity`, `confidentiality`.
    #[serde(default)]
    pub lockdown: Option<String>,
    /// The modules that the chain needs.
    #[serde(default)]
    pub modules: Vec<KernelModule>,
}

/// A kernel module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KernelModule {
    /// Its name with underscores, for example `vfio_pci`.
    pub name: String,
    /// Whether it is there.
    #[serde(default)]
    pub state: ModuleState,
    /// Its parameters, as far as they can be read.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
}

/// Whether a module is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ModuleState {
    /// Loaded, or built into the kernel.
    Present,
    /// On disk, not loaded.
    Loadable,
    /// Neither loaded nor on disk.
    Missing,
    /// Not known.
    #[default]
    #[serde(other)]
    Unknown,
}

/// A device node that the chain needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceNode {
    /// Its path, for example `/dev/kvm`.
    pub path: String,
    /// Whether it exists.
    pub exists: bool,
    /// Whether the reader of the inventory may open it for reading and writing.
    pub accessible: bool,
}

/// The processors of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CpuFacts {
    /// The vendor as CPUID tells it, for example `GenuineIntel`.
    #[serde(default)]
    pub vendor: Option<String>,
    /// The model's name.
    #[serde(default)]
    pub model: Option<String>,
    /// The number of physical address bits.
    #[serde(default)]
    pub physical_bits: Option<u8>,
    /// The virtualisation extension that the kernel shows.
    #[serde(default)]
    pub virtualization: Virtualization,
    /// Whether two threads share a core, and both are in use.
    #[serde(default)]
    pub smt: Option<bool>,
    /// Processors that the kernel command line keeps free of other work (`isolcpus`).
    #[serde(default)]
    pub isolated: CpuSet,
    /// The processors that are online, in rising order.
    #[serde(default)]
    pub online: Vec<Cpu>,
}

/// The virtualisation extension of the processors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Virtualization {
    /// Intel VT-x.
    Vmx,
    /// AMD-V.
    Svm,
    /// None, or switched off by firmware.
    None,
    /// Not known.
    #[default]
    #[serde(other)]
    Unknown,
}

/// One processor (hardware thread) and what it shares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cpu {
    /// Its Linux number.
    pub number: u32,
    /// The package (socket).
    #[serde(default)]
    pub package: Option<u32>,
    /// The core's number, unique within its package.
    #[serde(default)]
    pub core: Option<u32>,
    /// The threads of its core, itself included.
    #[serde(default)]
    pub threads: CpuSet,
    /// The processors that share its last-level (L3) cache, itself included; `null` when there is none.
    #[serde(default)]
    pub l3: Option<CpuSet>,
    /// Its NUMA node.
    #[serde(default)]
    pub node: Option<u32>,
    /// The highest clock in kHz: tells performance from efficiency cores.
    #[serde(default)]
    pub max_khz: Option<u32>,
}

/// The memory of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryFacts {
    /// All of it.
    #[serde(default)]
    pub total: Option<Bytes>,
    /// What the kernel could give away without swapping.
    #[serde(default)]
    pub available: Option<Bytes>,
    /// The mode of transparent huge pages: `always`, `madvise`, `never`.
    #[serde(default)]
    pub transparent_hugepages: Option<String>,
    /// How much the reader of the inventory may lock.
    #[serde(default)]
    pub locked: LockedMemory,
    /// The NUMA nodes; one on ordinary desktops.
    #[serde(default)]
    pub nodes: Vec<NumaNode>,
}

/// The limit on locked memory (`RLIMIT_MEMLOCK`). VFIO pins a guest's whole memory against it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LockedMemory {
    /// The soft limit; `null`: unlimited when `known`.
    #[serde(default)]
    pub soft: Option<Bytes>,
    /// The hard limit; `null`: unlimited when `known`.
    #[serde(default)]
    pub hard: Option<Bytes>,
    /// Whether the limits could be read.
    #[serde(default)]
    pub known: bool,
    /// Whether the limit does not count, because the process has `CAP_IPC_LOCK`.
    #[serde(default)]
    pub exempt: bool,
}

/// One NUMA node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NumaNode {
    /// Its number.
    pub number: u32,
    /// Its processors.
    #[serde(default)]
    pub cpus: CpuSet,
    /// Its memory.
    #[serde(default)]
    pub total: Option<Bytes>,
    /// What of it is free.
    #[serde(default)]
    pub free: Option<Bytes>,
    /// The distance to each node in rising order of number; 10 is itself.
    #[serde(default)]
    pub distances: Vec<u32>,
    /// The reserved huge pages.
    #[serde(default)]
    pub hugepages: Vec<HugepagePool>,
}

/// The reserved huge pages of one size on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HugepagePool {
    /// The size of a page.
    pub page_size: Bytes,
    /// How many there are.
    #[serde(default)]
    pub total: u64,
    /// How many are free.
    #[serde(default)]
    pub free: u64,
}

/// The IOMMU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IommuFacts {
    /// The kind in use by the kernel.
    #[serde(default)]
    pub kind: IommuKind,
    /// The units by the kernel's names, for example `dmar0`.
    #[serde(default)]
    pub units: Vec<String>,
    /// The firmware table that announces one: `DMAR`, `IVRS`, `VIOT`; none when firmware keeps it off.
    #[serde(default)]
    pub firmware_table: Option<String>,
    /// Whether firmware tables could be looked at.
    #[serde(default)]
    pub firmware_tables_read: bool,
    /// Whether interrupts are remapped, so that a device cannot forge another's.
    #[serde(default)]
    pub interrupt_remapping: Option<bool>,
    /// The width of the addresses that a device can use.
    #[serde(default)]
    pub address_bits: Option<u8>,
}

/// The kind of IOMMU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum IommuKind {
    /// Intel VT-d.
    Intel,
    /// AMD-Vi.
    Amd,
    /// virtio-iommu, in a virtual machine.
    Virtio,
    /// The kernel uses none.
    None,
    /// Not known.
    #[default]
    #[serde(other)]
    Unknown,
}

/// One IOMMU group: what can be given away only together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IommuGroup {
    /// Its number; may be another after the next start of the host.
    pub number: u32,
    /// The kernel's domain type for it: `DMA`, `DMA-FQ`, `identity`, ...
    #[serde(default)]
    pub domain_type: Option<String>,
    /// Its functions in rising order.
    #[serde(default)]
    pub functions: Vec<PciAddress>,
    /// Members that are no PCI functions, by sysfs name.
    #[serde(default)]
    pub others: Vec<String>,
    /// The address ranges that are not free for a guest's memory.
    #[serde(default)]
    pub reserved: Vec<ReservedRegion>,
}

/// A range of DMA addresses with a fixed use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReservedRegion {
    /// The first address.
    pub start: PhysicalAddress,
    /// The last address.
    pub end: PhysicalAddress,
    /// The use.
    pub kind: RegionKind,
}

/// The use of a reserved range (`reserved_regions`, Linux Documentation/ABI/testing/sysfs-kernel-iommu_groups).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RegionKind {
    /// Firmware demands a one-to-one map for it (RMRR, IVMD): the function cannot be given away.
    Direct,
    /// The same, but the kernel lets go of it for assignment (USB legacy, graphics).
    DirectRelaxable,
    /// Never mapped, for example below a bridge's own windows.
    Reserved,
    /// Message-signalled interrupts.
    Msi,
    /// Not known.
    #[default]
    #[serde(other)]
    Unknown,
}
