//! One PCI function of the host, with everything known about it.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::attached::{BlockDevice, Connector, NetInterface, UsbDevice};
use super::hold::Hold;
use super::identity::DeviceIdentity;
use super::number::{ClassCode, PhysicalAddress};
use crate::{Bytes, CpuSet, PciAddress};

/// One PCI function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Function {
    /// Where it is now. Bus numbers may be others after the next start of the host: see `identity`.
    pub address: PciAddress,
    /// What it is known by over restarts.
    pub identity: DeviceIdentity,
    /// The class code.
    pub class: ClassCode,
    /// The revision id.
    #[serde(default)]
    pub revision: Option<u8>,
    /// The names of vendor, device and class.
    #[serde(default)]
    pub names: Names,
    /// The firmware's name for an on-board device, for example `Onboard LAN`.
    #[serde(default)]
    pub label: Option<String>,
    /// The name printed beside the physical slot, for example `PCIEX16_1` or `3`.
    #[serde(default)]
    pub slot: Option<String>,
    /// What kind of PCI function it is.
    #[serde(default)]
    pub kind: FunctionKind,
    /// The bridge directly above; none on a root bus.
    #[serde(default)]
    pub parent: Option<PciAddress>,
    /// The PCIe root port (or top-most bridge) above; none on a root bus.
    #[serde(default)]
    pub root_port: Option<PciAddress>,
    /// Driver now and drivers that would take it.
    #[serde(default)]
    pub driver: DriverState,
    /// Its IOMMU group; none when the kernel does not translate its DMA.
    #[serde(default)]
    pub group: Option<u32>,
    /// The NUMA node it is nearest to; unknown also where the host has one node only.
    #[serde(default)]
    pub numa_node: Option<u32>,
    /// The processors it is nearest to.
    #[serde(default)]
    pub local_cpus: Option<CpuSet>,
    /// The PCIe link; none for devices of the root complex and for conventional PCI.
    #[serde(default)]
    pub link: Option<Link>,
    /// How it can be reset, in the order the kernel tries it; empty: not at all; `null`: unknown.
    #[serde(default)]
    pub reset_methods: Option<Vec<ResetMethod>>,
    /// Whether it may be put into D3cold; off while a seat has it.
    #[serde(default)]
    pub d3cold_allowed: Option<bool>,
    /// The power state, as the kernel writes it: `D0`, `D3hot`, `D3cold`.
    #[serde(default)]
    pub power_state: Option<String>,
    /// Its Base Address Registers that decode something.
    #[serde(default)]
    pub bars: Vec<Bar>,
    /// Its expansion ROM.
    #[serde(default)]
    pub rom: Rom,
    /// Whom the images of its own ROM are for, where that was read: a display card's that no driver has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_rom: Option<RomImages>,
    /// The clean ROM that is kept for cards like it, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_rom: Option<KeptRom>,
    /// SR-IOV, as physical or as virtual function.
    #[serde(default)]
    pub sriov: Option<SrIov>,
    /// Access Control Services, which decide whether groups are apart here.
    #[serde(default)]
    pub acs: Option<AcsControls>,
    /// The number of MSI-X vectors; 0: none.
    #[serde(default)]
    pub msix_vectors: Option<u16>,
    /// Whether it has a legacy interrupt pin.
    #[serde(default)]
    pub interrupt_pin: Option<bool>,
    /// Whether firmware made it the boot display.
    #[serde(default)]
    pub boot_vga: Option<bool>,
    /// How much of its configuration space could be read, and whether it made sense.
    #[serde(default)]
    pub config: ConfigAccess,
    /// Who uses it now.
    #[serde(default)]
    pub holds: Vec<Hold>,
    /// Its display outputs.
    #[serde(default)]
    pub connectors: Vec<Connector>,
    /// The USB devices behind it, hubs included, when it is a USB controller.
    #[serde(default)]
    pub usb_devices: Vec<UsbDevice>,
    /// Its network interfaces.
    #[serde(default)]
    pub interfaces: Vec<NetInterface>,
    /// The disks behind it.
    #[serde(default)]
    pub disks: Vec<BlockDevice>,
}

/// The names of a function from the system's `pci.ids`; unknown ids have none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Names {
    /// The vendor, for example `NVIDIA Corporation`.
    #[serde(default)]
    pub vendor: Option<String>,
    /// The device, for example `AD102 [GeForce RTX 4090]`.
    #[serde(default)]
    pub device: Option<String>,
    /// The board.
    #[serde(default)]
    pub subsystem: Option<String>,
    /// The class, for example `VGA compatible controller`.
    #[serde(default)]
    pub class: Option<String>,
}

/// The kind of a PCI function: device/port type of the PCIe capability, else the header type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FunctionKind {
    /// A PCIe endpoint (legacy endpoints too).
    Endpoint,
    /// An endpoint inside the root complex.
    RootComplexEndpoint,
    /// A conventional PCI device.
    ConventionalDevice,
    /// A PCIe root port.
    RootPort,
    /// The upstream port of a switch.
    SwitchUpstream,
    /// A downstream port of a switch.
    SwitchDownstream,
    /// A bridge from PCIe to conventional PCI or back: all behind it share one requester id.
    PcieToPciBridge,
    /// A bridge between conventional buses.
    ConventionalBridge,
    /// A host bridge.
    HostBridge,
    /// An ISA or LPC bridge.
    IsaBridge,
    /// Configuration space did not tell.
    #[default]
    #[serde(other)]
    Unknown,
}

impl FunctionKind {
    /// Whether other functions can be behind it.
    pub const fn forwards(self) -> bool {
        matches!(
            self,
            Self::RootPort
                | Self::SwitchUpstream
                | Self::SwitchDownstream
                | Self::PcieToPciBridge
                | Self::ConventionalBridge
        )
    }
}

/// Which driver has a function and which would like it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DriverState {
    /// The driver bound now.
    #[serde(default)]
    pub bound: Option<String>,
    /// The content of `driver_override`.
    #[serde(default)]
    pub driver_override: Option<String>,
    /// The kernel modules whose aliases match, from `modules.alias`, sorted; `vfio_pci` is not among them.
    #[serde(default)]
    pub candidates: Vec<String>,
}

/// A PCIe link: what it runs at and what both ends could do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Link {
    /// What it runs at now; GPUs slow their link down when idle.
    #[serde(default)]
    pub current: Option<LinkState>,
    /// What this end can do.
    #[serde(default)]
    pub maximum: Option<LinkState>,
}

/// Speed and width of a PCIe link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LinkState {
    /// Mega-transfers per second and lane: 2500, 5000, 8000, 16000, 32000, 64000.
    pub speed_mts: u32,
    /// Lanes.
    pub width: u8,
}

/// A way to reset a function, by the kernel's names (`reset_method` in sysfs).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResetMethod {
    /// A method the kernel knows for this very device.
    DeviceSpecific,
    /// An ACPI `_RST` method.
    Acpi,
    /// Function Level Reset.
    Flr,
    /// Function Level Reset of conventional Advanced Features.
    AfFlr,
    /// Power state D3hot and back.
    Pm,
    /// Secondary bus reset of the bridge above: resets everything on that bus.
    Bus,
    /// The same on a CXL port.
    CxlBus,
    /// A method of a newer kernel.
    #[serde(other)]
    Unknown,
}

/// One Base Address Register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Bar {
    /// Its number, 0..=5.
    pub index: u8,
    /// What it decodes.
    pub kind: BarKind,
    /// Whether reads have no side effects.
    #[serde(default)]
    pub prefetchable: bool,
    /// Where firmware or kernel put it; `null`: not assigned.
    #[serde(default)]
    pub start: Option<PhysicalAddress>,
    /// Its size.
    pub size: Bytes,
    /// The sizes that Resizable BAR offers; empty when it cannot be resized.
    #[serde(default)]
    pub resizable: Vec<Bytes>,
}

/// The address space of a BAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BarKind {
    /// I/O ports.
    Io,
    /// Memory below 4 GiB.
    Memory32,
    /// Memory anywhere.
    Memory64,
    /// A newer document's kind.
    #[serde(other)]
    Unknown,
}

/// The expansion ROM of a function.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "presence")]
pub enum Rom {
    /// It has none.
    Absent,
    /// It has a ROM BAR.
    Present {
        /// The size of the BAR; the image in it may be smaller.
        size: Bytes,
    },
    /// What the kernel shows is the copy that firmware left at 0xC0000, already run and changed by it.
    Shadowed,
    /// Not known.
    #[default]
    #[serde(other)]
    Unknown,
}

/// Whom the images of an option ROM are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RomImages {
    /// Whether there is one for a BIOS.
    pub x86: bool,
    /// Whether there is one for UEFI on this processor.
    pub efi: bool,
}

/// A clean option ROM that is kept on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeptRom {
    /// The file.
    pub file: PathBuf,
    /// Whether it has an image for a BIOS.
    pub x86: bool,
    /// Whether it has an image for UEFI on this processor.
    pub efi: bool,
}

/// SR-IOV facts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "role")]
pub enum SrIov {
    /// A physical function that can make virtual ones.
    Physical {
        /// How many at most (the device's and the driver's limit).
        total: u16,
        /// The virtual functions that exist now, by index.
        #[serde(default)]
        functions: Vec<PciAddress>,
        /// Whether the kernel would probe drivers for new ones (`sriov_drivers_autoprobe`).
        #[serde(default)]
        drivers_autoprobe: Option<bool>,
    },
    /// A virtual function.
    Virtual {
        /// Its physical function.
        parent: PciAddress,
        /// Its index below the physical function.
        #[serde(default)]
        index: Option<u16>,
    },
    /// A newer document's role.
    #[serde(other)]
    Unknown,
}

/// Access Control Services of a function (PCIe 6.0, section 7.7.11): which requests must go up to the root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AcsControls {
    /// Whether it has the capability at all.
    pub present: bool,
    /// The capability register.
    #[serde(default)]
    pub capable: u16,
    /// The control register.
    #[serde(default)]
    pub enabled: u16,
}

impl AcsControls {
    /// Source validation, request and completion redirect, upstream forwarding: what Linux asks of a port before
    /// it keeps apart what is behind it (`REQ_ACS_FLAGS` in the kernel's IOMMU core).
    pub const ISOLATING: u16 = 0b0001_1101;

    /// Whether a port with these controls keeps groups apart.
    pub const fn isolates(self) -> bool {
        self.present && self.enabled & Self::ISOLATING == Self::ISOLATING
    }
}

/// How far the configuration space could be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ConfigAccess {
    /// All of it.
    Full,
    /// The first 64 bytes, all that the kernel shows to ordinary users.
    HeaderOnly,
    /// All ones: the device is gone, in D3cold, or hung.
    AllOnes,
    /// Not at all.
    #[default]
    #[serde(other)]
    Unknown,
}
