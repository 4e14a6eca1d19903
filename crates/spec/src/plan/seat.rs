//! One seat of a plan: its slots, processors, memory and the rest of what its machine will have.
//!
//! Not here: the order of doing ([`super::step`]).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::inventory::{DeviceIdentity, LinkState, PhysicalAddress, ResetMethod};
use crate::seat_file::{
    ClockTime, DiskRequest, DisplayKind, FirmwareRequest, HypervisorRequest, KernelRequest, MacAddress,
    PageSize, RomChoice,
};
use crate::{Bytes, CpuSet, PciAddress};

/// One seat as it will be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SeatPlan {
    /// Its name.
    pub name: String,
    /// The slots of its machine that hold host devices; each has its own root port.
    pub slots: Vec<PlannedSlot>,
    /// Where its picture comes from.
    pub display: DisplayKind,
    /// Its processors.
    pub cpus: PlannedCpus,
    /// Its memory.
    pub memory: PlannedMemory,
    /// The windows of guest addresses that its devices need.
    pub aperture: Aperture,
    /// What it starts from.
    pub start: SeatStart,
    /// What its system is told of the virtual machine it runs in.
    #[serde(default)]
    pub hypervisor: Option<HypervisorRequest>,
    /// Which time its clock shows.
    #[serde(default)]
    pub clock: ClockTime,
    /// Whether it has a TPM.
    #[serde(default)]
    pub tpm: bool,
    /// Whether it has a virtual source of random numbers.
    #[serde(default)]
    pub entropy: bool,
    /// Its virtual drives.
    #[serde(default)]
    pub disks: Vec<DiskRequest>,
    /// Its virtual network cards.
    #[serde(default)]
    pub networks: Vec<PlannedNetwork>,
    /// How long its guest has to power off when the seat is ended, in seconds.
    #[serde(default = "usual_power_off")]
    pub power_off_seconds: u32,
}

/// How long a guest has to power off when the file does not say, in seconds.
pub const USUAL_POWER_OFF: u32 = 60;

const fn usual_power_off() -> u32 {
    USUAL_POWER_OFF
}

/// One slot of a machine: the functions of one card stay together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedSlot {
    /// The number of its root port, from 0.
    pub port: u8,
    /// Whether it holds the machine's first display.
    pub primary_display: bool,
    /// What the root port shows as its link, not below the device's; unknown for devices without one.
    #[serde(default)]
    pub link: Option<LinkState>,
    /// The functions, 0 first.
    pub functions: Vec<PlannedFunction>,
}

/// One function in a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedFunction {
    /// Its function number in the guest.
    pub number: u8,
    /// What is behind it on the host.
    pub source: Source,
    /// What takes the place of its ROM: a file, or `none`.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub rom: Option<RomChoice>,
    /// Whether the legacy VGA ranges of the machine are its: it is the first display of a seat with a BIOS.
    #[serde(default)]
    pub legacy_vga: bool,
    /// How it is reset between owners.
    pub reset: PlannedReset,
}

/// What is behind a function of a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Source {
    /// A function of the host that is taken.
    Taken {
        /// Where it is.
        address: PciAddress,
        /// Which device it must be; execution refuses when another is there.
        identity: DeviceIdentity,
        /// Its IOMMU group.
        group: u32,
        /// The driver that has it now and gets it back.
        #[serde(default)]
        driver: Option<String>,
        /// The present content of `driver_override`, which is put back.
        #[serde(default)]
        driver_override: Option<String>,
        /// What it is, for people.
        name: String,
    },
    /// A virtual function.
    Virtual {
        /// Its physical function.
        of: PciAddress,
        /// Which device that must be.
        identity: DeviceIdentity,
        /// Its index below the physical function.
        index: u16,
        /// Its MAC address, for network cards.
        #[serde(default)]
        mac: Option<MacAddress>,
        /// Its VLAN.
        #[serde(default)]
        vlan: Option<u16>,
        /// What it is, for people.
        name: String,
    },
}

/// How a function is reset between owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "by")]
pub enum PlannedReset {
    /// Alone, by this method first.
    Alone {
        /// The first method that the kernel has for it.
        method: ResetMethod,
    },
    /// Together with all that is behind the same bridge, which all belongs to this seat.
    Together {
        /// The bridge whose secondary bus is reset.
        bridge: PciAddress,
    },
    /// Not at all.
    None,
}

/// The processors of a seat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedCpus {
    /// How many virtual processors there are.
    pub count: u32,
    /// Virtual processor `n` runs on host processor `pins[n]`, and nowhere else. Empty when the seat shares.
    pub pins: Vec<u32>,
    /// The host processors on which all virtual ones run beside others; empty when the seat has its own.
    #[serde(default)]
    pub shared: CpuSet,
    /// All host processors that are kept for the seat: whole cores, also where one thread of them stays idle.
    pub kept: CpuSet,
    /// How many threads a core of the machine shows.
    pub threads_per_core: u8,
}

/// The memory of a seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedMemory {
    /// How much.
    pub size: Bytes,
    /// The kind of pages.
    pub pages: PageSize,
    /// Whether other processes can map it.
    pub shared: bool,
    /// The node all of it comes from; none: from wherever it is free.
    #[serde(default)]
    pub node: Option<u32>,
}

/// The guest addresses that the devices of a seat need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Aperture {
    /// Below 4 GiB: registers of 32 bits, those that cannot be prefetched, and ROMs.
    pub low: Bytes,
    /// The start of the window above memory.
    pub high_start: PhysicalAddress,
    /// The size of the window above memory; 0: there is none.
    pub high: Bytes,
}

/// What a seat starts from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SeatStart {
    /// A kernel.
    Kernel(KernelRequest),
    /// Firmware.
    Firmware(FirmwareRequest),
}

/// A virtual network card; one that is plugged into neither reaches what the host reaches, by passt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedNetwork {
    /// The bridge it is plugged into.
    #[serde(default)]
    pub bridge: Option<String>,
    /// The tap interface that exists already.
    #[serde(default)]
    pub tap: Option<String>,
    /// Its MAC address.
    pub mac: MacAddress,
}
