//! The types of the seat file. Their doc comments are what a reader of the schema and of the reference pages sees.
//!
//! Not here: checks and messages. Every `format` named here is known to [`super::format`], every bound is enforced by
//! [`super::shape`].

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::MacAddress;
use crate::inventory::SlotPath;
use crate::{Bytes, PciAddress};

/// The most seats that one file may describe.
pub const MAX_SEATS: usize = 64;

/// The most devices that one seat may ask for: a PCI bus has 32 slots and slot 0 belongs to the host bridge.
pub const MAX_DEVICES_PER_SEAT: usize = 31;

/// The seats of one host, and what stays with the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SeatFile {
    /// What no seat may take from the host.
    #[serde(default)]
    pub host: HostReserve,
    /// The seats, one `[[seat]]` each.
    #[serde(rename = "seat")]
    #[schemars(length(min = 1, max = 64))]
    pub seats: Vec<SeatRequest>,
}

/// What stays with the host however much the seats ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct HostReserve {
    /// Memory that stays free beside what the host uses already. Without it: a sixteenth of the host's memory, at
    /// least 1 GiB, at most 8 GiB.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "super::format::optional_bytes")]
    #[schemars(with = "Option<String>", extend("format" = "bytes"), example = &"2GiB")]
    pub memory: Option<Bytes>,
    /// Whole cores (with all their threads) that stay with the host. Without it: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024), example = 1)]
    pub cores: Option<u32>,
}

/// One seat: a desktop with its own hardware.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SeatRequest {
    /// The seat's name: letters, digits, `-` and `_`, at most 32, beginning with a letter.
    #[schemars(extend("format" = "seat-name"), example = &"anna")]
    pub name: String,
    /// Where the picture comes from. Without it: `primary` when a display card is among the devices, else `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"primary")]
    pub display: Option<DisplayKind>,
    /// What happens when a display card of this seat is the one that shows the host's console.
    #[serde(default)]
    #[schemars(example = &"give")]
    pub console: ConsoleHandover,
    /// How many CPUs the seat has, and which.
    pub cpus: CpuRequest,
    /// How much memory the seat has, and of which kind.
    pub memory: MemoryRequest,
    /// A Linux kernel that is started without firmware; excludes `firmware`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<KernelRequest>,
    /// The firmware that starts the seat. Without it, and without `kernel`: UEFI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<FirmwareRequest>,
    /// What the seat's system is told of the virtual machine it runs in. Without it: what Linux knows. A seat with it is
    /// one for Windows: its machine has nothing that Windows has no driver for unless this file asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hypervisor: Option<HypervisorRequest>,
    /// Which time the seat's clock shows when the seat starts.
    #[serde(default)]
    #[schemars(example = &"local")]
    pub clock: ClockTime,
    /// Whether the seat has a TPM 2.0 (by Debian's `swtpm`), as Windows 11 demands. What the TPM keeps is kept with the
    /// seat.
    #[serde(default)]
    #[schemars(example = true)]
    pub tpm: bool,
    /// Whether the seat has a virtual source of random numbers (virtio-rng). Without it: yes, but for a seat for Windows
    /// (`hypervisor`), which has no driver for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = false)]
    pub entropy: Option<bool>,
    /// The host's devices that belong to the seat, one `[[seat.device]]` each.
    #[serde(default, rename = "device", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 31))]
    pub devices: Vec<DeviceRequest>,
    /// SR-IOV functions that are made for the seat, one `[[seat.virtual-function]]` each.
    #[serde(default, rename = "virtual-function", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 31))]
    pub virtual_functions: Vec<VirtualFunctionRequest>,
    /// Virtual drives, one `[[seat.disk]]` each.
    #[serde(default, rename = "disk", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub disks: Vec<DiskRequest>,
    /// Virtual network cards, one `[[seat.network]]` each.
    #[serde(default, rename = "network", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub networks: Vec<NetworkRequest>,
    /// How long the seat's system has to shut down after its power button was pressed (`allod down`), in seconds; then
    /// it is ended by force. Without it: 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3600), example = 60)]
    pub power_off_seconds: Option<u32>,
}

/// Where a seat's picture comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DisplayKind {
    /// The seat's own display card is its first and only screen; no emulated card exists beside it.
    Primary,
    /// No picture: the seat is reached by its serial console and its network.
    None,
    /// An emulated display, shown by the host; display cards of the seat come second. A tablet comes with it, for a
    /// pointer that goes where the viewer's does; in a seat for Windows (`hypervisor`) a PS/2 mouse alone.
    Emulated,
}

/// What a system is told of the virtual machine it runs in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct HypervisorRequest {
    /// Whose features the system finds.
    #[schemars(example = &"hyper-v")]
    pub shows: HypervisorFeatures,
    /// The vendor that the processor names in place of Microsoft, for drivers that refuse to run where they see one they
    /// know (NVIDIA's before version 465 do).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 12), example = &"allod")]
    pub vendor: Option<String>,
}

/// Whose features a system finds in its virtual machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HypervisorFeatures {
    /// Hyper-V's, which Windows needs to run well, and KVM's behind them.
    Both,
    /// Hyper-V's only.
    HyperV,
}

/// Which time a seat's clock shows when the seat starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClockTime {
    /// Universal time, as Linux expects.
    #[default]
    Utc,
    /// The host's local time, as Windows expects.
    Local,
}

/// What happens when a display card of a seat is the one that shows the host's console.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ConsoleHandover {
    /// The card is refused: the host keeps its console.
    #[default]
    Keep,
    /// The host goes without a picture while the seat runs and gets the card back afterwards.
    Give,
}

/// The CPUs of a seat: a number of them, or exactly these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CpuRequest {
    /// How many CPUs (threads) the seat has; the planner chooses whole cores near the seat's devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 254), example = 4)]
    pub count: Option<u32>,
    /// Host CPUs by number: the seat's first CPU runs on the first of them, and so on. Excludes `count`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 254), inner(range(min = 0, max = 8191)), extend("examples" = [[2, 10, 3, 11]]))]
    pub pin: Option<Vec<u32>>,
    /// Whether the seat's CPUs run wherever the host has time for them, beside the host and other seats that share,
    /// instead of on processors of their own. For hosts with few cores, and for seats that idle. Goes with `count`.
    #[serde(default)]
    #[schemars(example = true)]
    pub shared: bool,
}

/// The memory of a seat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MemoryRequest {
    /// How much, in whole MiB: `8GiB`, `6144MiB`.
    #[serde(with = "super::format::bytes")]
    #[schemars(with = "String", extend("format" = "guest-memory"), example = &"8GiB")]
    pub size: Bytes,
    /// The kind of host pages behind it.
    #[serde(default)]
    #[schemars(example = &"2MiB")]
    pub pages: PageSize,
    /// Whether other processes of the host can map it (needed for vhost-user devices).
    #[serde(default)]
    #[schemars(example = true)]
    pub shared: bool,
    /// The NUMA node it comes from. Without it: the node of the seat's devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1023), example = 0)]
    pub node: Option<u32>,
}

/// The host pages behind a seat's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PageSize {
    /// Transparent huge pages where the host has them.
    #[default]
    #[serde(rename = "transparent")]
    Transparent,
    /// 4 KiB pages only.
    #[serde(rename = "4KiB")]
    Small,
    /// 2 MiB pages from the host's reserved pool.
    #[serde(rename = "2MiB")]
    Huge2M,
    /// 1 GiB pages from the host's reserved pool.
    #[serde(rename = "1GiB")]
    Huge1G,
}

/// A Linux kernel that is started without firmware.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct KernelRequest {
    /// The kernel file: a bzImage, or an ELF file with a PVH entry.
    #[schemars(with = "String", extend("format" = "absolute-path"), example = &"/boot/vmlinuz")]
    pub image: PathBuf,
    /// The initial RAM disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "absolute-path"), example = &"/boot/initrd.img")]
    pub initrd: Option<PathBuf>,
    /// The kernel's command line.
    #[serde(default)]
    #[schemars(length(max = 2047), example = &"root=/dev/vda1")]
    pub cmdline: String,
}

/// The firmware that starts a seat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FirmwareRequest {
    /// Which firmware.
    #[schemars(example = &"uefi")]
    pub kind: FirmwareKind,
    /// The file that keeps the seat's UEFI variables; made when it is missing. Without it: one under the state directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "absolute-path"), example = &"/var/lib/allod/anna.vars")]
    pub variables: Option<PathBuf>,
    /// What it tries to start from first.
    #[serde(default)]
    #[schemars(example = &"network")]
    pub boot: BootFirst,
}

/// What firmware tries to start from first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BootFirst {
    /// The seat's disks, then its discs.
    #[default]
    Disks,
    /// The seat's discs, then its disks: to install a system anew, or to mend one.
    Cdrom,
    /// A server on the network, through the seat's network cards, its own and the virtual ones; then the disks.
    Network,
}

/// The two kinds of firmware.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FirmwareKind {
    /// OVMF; for every system of today.
    #[default]
    Uefi,
    /// SeaBIOS; for Windows 7 and other systems that start from a master boot record.
    Bios,
}

/// One device of the host: by `address`, by `path`, or by what is true of it; all keys given must hold for exactly one
/// device. The sound function of a display card comes with the card.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DeviceRequest {
    /// The PCI address. It may change when another card is put in: `path` does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "pci-address"), example = &"0000:03:00.0")]
    pub address: Option<PciAddress>,
    /// The slot path, as `allod devices` prints it: the way from the root bus to the device, or to the bridge above it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "slot-path"), example = &"0000:00/01.1/00.0")]
    pub path: Option<SlotPath>,
    /// What kind of device it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"display")]
    pub class: Option<DeviceClass>,
    /// The vendor: a part of its name in any case, or its four hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), example = &"amd")]
    pub vendor: Option<String>,
    /// A part of the device's name, in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), example = &"RX 6600")]
    pub model: Option<String>,
    /// The name of one of its connectors that has a monitor, for example `HDMI-A-1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), example = &"HDMI-A-1")]
    pub connector: Option<String>,
    /// A part of the name of a monitor connected to it, in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), example = &"DELL U2720Q")]
    pub monitor: Option<String>,
    /// A USB device behind it (so it is the controller that this device is on): `vendor:product`, or a part of its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), example = &"046d:c31c")]
    pub usb: Option<String>,
    /// The host's network interface on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "interface-name"), example = &"enp5s0")]
    pub interface: Option<String>,
    /// A file that takes the place of the card's own ROM, or `none`: the guest sees no ROM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "rom-choice"), example = &"/var/lib/allod/rom/card.rom")]
    pub rom: Option<RomChoice>,
}

/// What a guest sees in place of a card's own ROM; in text `none`, or the path of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum RomChoice {
    /// No ROM.
    None,
    /// What is in this file.
    File(PathBuf),
}

impl From<String> for RomChoice {
    fn from(text: String) -> Self {
        if text == "none" { Self::None } else { Self::File(text.into()) }
    }
}

impl From<RomChoice> for String {
    fn from(choice: RomChoice) -> Self {
        match choice {
            RomChoice::None => "none".to_owned(),
            RomChoice::File(path) => path.to_string_lossy().into_owned(),
        }
    }
}

/// The kinds of device that a selector can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceClass {
    /// A display card.
    Display,
    /// A sound device; that of a display card comes with the card.
    Audio,
    /// A USB controller with everything plugged into it.
    Usb,
    /// A network card.
    Network,
    /// An NVMe disk.
    Nvme,
    /// Any other storage controller.
    Storage,
    /// A serial port card.
    Serial,
}

/// An SR-IOV function that is made when the seat starts and is gone when it has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct VirtualFunctionRequest {
    /// The physical function it is made of; it stays with the host.
    pub of: DeviceRequest,
    /// Its MAC address. Without it: one made from the names of host and seat, the same at every start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "mac-address"), example = &"52:54:00:12:34:56")]
    pub mac: Option<MacAddress>,
    /// The VLAN that its frames are put into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4094), example = 30)]
    pub vlan: Option<u16>,
}

/// A virtual drive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DiskRequest {
    /// The file or block device behind it.
    #[schemars(with = "String", extend("format" = "absolute-path"), example = &"/var/lib/allod/anna.img")]
    pub path: PathBuf,
    /// Whether the seat may only read it.
    #[serde(default)]
    #[schemars(example = true)]
    pub read_only: bool,
    /// What the seat sees.
    #[serde(default)]
    #[schemars(example = &"cdrom")]
    pub media: DiskMedia,
    /// How the file's bytes are the disk's. Without it: `qcow2` when both the file's name and its first bytes say so, else
    /// `raw`; a file whose name and bytes say different things is refused until this is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"qcow2")]
    pub format: Option<DiskFormat>,
    /// The kind of disk that the seat's system finds. Without it: `virtio`, but `nvme` in a seat for Windows
    /// (`hypervisor`).
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"nvme")]
    pub kind: Option<DiskKind>,
}

/// How a file's bytes are a disk's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DiskFormat {
    /// One to one.
    #[default]
    Raw,
    /// QEMU's format: a file that grows with what is written. It stands alone: without a backing file or snapshots.
    Qcow2,
}

/// The kinds of disk that there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DiskKind {
    /// A virtio disk: the fastest, for systems that have its driver (Linux has, Windows has not).
    #[default]
    Virtio,
    /// An NVMe disk, which all systems of today have a driver for. Windows 7 has none unless
    /// update KB2990941 is among what it is installed from.
    Nvme,
}

/// What a seat sees of a virtual drive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DiskMedia {
    /// A disk.
    #[default]
    Disk,
    /// A disc that can only be read, for installation.
    Cdrom,
}

/// A virtual network card. Without `bridge` and `tap` it is behind an address of the host's own: the seat reaches what the
/// host reaches, by passt, but nothing that listens on the host's loopback interface, and nobody reaches the seat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct NetworkRequest {
    /// A bridge of the host that the card is plugged into. Excludes `tap`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "interface-name"), example = &"br0")]
    pub bridge: Option<String>,
    /// A tap interface of the host that exists already. Excludes `bridge`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "interface-name"), example = &"tap0")]
    pub tap: Option<String>,
    /// Its MAC address. Without it: one made from the names of host and seat, the same at every start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "mac-address"), example = &"52:54:00:12:34:56")]
    pub mac: Option<MacAddress>,
}
