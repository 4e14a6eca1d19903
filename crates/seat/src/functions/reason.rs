//! What stands in the way of assigning functions, each with its remedy. Only the words; finding them is `functions`.

use std::path::PathBuf;

use rustix::io::Errno;
use spec::{Bytes, PciAddress};

use super::SLOT_LIMIT;
use crate::rom_file::RomFileUnfit;

/// Everything that stands in the way of assigning the functions.
#[derive(Debug, thiserror::Error)]
#[error("the functions cannot be assigned:\n{}", .0.iter().map(|reason| format!("  - {reason}")).collect::<Vec<_>>().join("\n"))]
pub struct CannotAssign(pub Vec<Reason>);

/// One thing that stands in the way, with its remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Named twice.
    #[error("{0} is named twice; name each function once")]
    Twice(PciAddress),
    /// Not there.
    #[error("there is no PCI function {0} on this host; `allod devices` lists those there are")]
    Missing(PciAddress),
    /// No endpoint.
    #[error("{0} is a bridge, and only endpoints can be assigned; name the functions behind it instead")]
    Bridge(PciAddress),
    /// No IOMMU.
    #[error(
        "{0} has no IOMMU group, so its DMA could reach all memory; switch the IOMMU on (VT-d or AMD-Vi in the firmware setup, on Intel also `intel_iommu=on` on the kernel command line)"
    )]
    NoGroup(PciAddress),
    /// At a host driver, or none.
    #[error("{address} is {}, not at vfio-pci; as root: `allod claim {address}` hands it over, and `allod release {address}` gives it back", at(driver.as_deref()))]
    NotBound {
        /// The function.
        address: PciAddress,
        /// The driver that has it.
        driver: Option<String>,
    },
    /// Another function of the group is at a host driver.
    #[error(
        "IOMMU group {group} of {address} cannot be split, and the host still uses {}; hand those over too (as root, with `allod claim`); a bridge is freed from its driver, for it needs none",
        list(members)
    )]
    NotViable {
        /// The function.
        address: PciAddress,
        /// Its group.
        group: u32,
        /// Who holds the others.
        members: Vec<(PciAddress, String)>,
    },
    /// Open elsewhere.
    #[error(
        "{path} is in use: {} has it; end that first", who(holder.as_ref())
    )]
    Busy {
        /// The file.
        path: String,
        /// Who has it, where this process may know.
        holder: Option<Holder>,
    },
    /// For others.
    #[error("this user may not open {path}; as root: `chown $USER {path}`, or run as root")]
    Denied {
        /// The file.
        path: String,
    },
    /// A file cannot be opened.
    #[error("open {path}: {errno}; is the module vfio-pci loaded (`modprobe vfio-pci`)?")]
    Open {
        /// The file.
        path: String,
        /// What the kernel said.
        errno: Errno,
    },
    /// The file of an option ROM cannot be used.
    #[error(transparent)]
    Rom(#[from] RomFileUnfit),
    /// The ROM of the first display of a machine with a BIOS shows nothing.
    #[error("the option ROM {} has no image for a BIOS, so the primary display would show nothing; use another file (`allod rom show {}` tells what is in one), or start the machine by UEFI", path.display(), path.display())]
    RomWithoutBios {
        /// The file.
        path: PathBuf,
    },
    /// No first display for a BIOS.
    #[error("{address} cannot be the primary display: {}", no_vga(why))]
    NoLegacyVga {
        /// The function.
        address: PciAddress,
        /// Why it has no legacy VGA ranges.
        why: NoLegacyVga,
    },
    /// More than a machine has places for.
    #[error("{wanted} slots are needed and a machine has {SLOT_LIMIT}; assign fewer cards")]
    Slots {
        /// Slots needed.
        wanted: usize,
    },
    /// Memory may not be locked.
    #[error("all {need} of the guest's memory must be locked for DMA, and this user may lock {limit}{}; raise the limit (`ulimit -l {}` as root before, or `LimitMEMLOCK=` in a service), or give the machine less memory", besides(*held), (need.0 + held.0).div_ceil(1024))]
    LockedMemory {
        /// Bytes of guest memory.
        need: Bytes,
        /// The limit.
        limit: Bytes,
        /// What other processes of the user have locked of it.
        held: Bytes,
    },
    /// The host has less.
    #[error(
        "all {need} of the guest's memory must be in the host's for DMA, and the host can give {there} now; give the machine less memory, or end what uses it"
    )]
    HostMemory {
        /// Bytes of guest memory.
        need: Bytes,
        /// Bytes that the host can free.
        there: Bytes,
    },
}

/// A process that has a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its number.
    pub process: u32,
    /// Its name.
    pub name: String,
}

fn who(holder: Option<&Holder>) -> String {
    holder.map_or_else(
        || "another process, most likely another machine,".to_owned(),
        |Holder { process, name }| format!("process {process} ({name})"),
    )
}

fn besides(held: Bytes) -> String {
    if held.0 == 0 { String::new() } else { format!(", of which its other machines have {held}") }
}

/// Why a function has no legacy VGA ranges to give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoLegacyVga {
    /// It is no VGA by its class.
    Class(String),
    /// The module was told to keep them.
    SwitchedOff,
    /// The kernel cannot.
    Kernel,
}

fn no_vga(why: &NoLegacyVga) -> String {
    match why {
        NoLegacyVga::Class(class) => format!(
            "its class is {class}, and only a VGA (0x030000) has the legacy ranges that a BIOS writes to; start the machine by UEFI, which needs none, and name the card with --device"
        ),
        NoLegacyVga::SwitchedOff => "vfio-pci was loaded with disable_vga=1; take that out of /etc/modprobe.d or the kernel command line and load the module anew (`modprobe -r vfio-pci; modprobe vfio-pci`)".to_owned(),
        NoLegacyVga::Kernel => "this kernel was built without CONFIG_VFIO_PCI_VGA; use one that has it (Debian's do), or start the machine by UEFI and name the card with --device".to_owned(),
    }
}

fn at(driver: Option<&str>) -> String {
    driver.map_or_else(|| "at no driver".to_owned(), |driver| format!("at the driver {driver}"))
}

fn list(members: &[(PciAddress, String)]) -> String {
    let members: Vec<_> =
        members.iter().map(|(address, driver)| format!("{address} (driver {driver})")).collect();
    members.join(", ")
}
