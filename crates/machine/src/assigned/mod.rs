//! Assigned functions: PCI functions of the host that work in the guest as if they were plugged in there.
//!
//! What outlives a life of the machine is [`Assigned`]: open devices, what they said of themselves, and the IOMMU's map of
//! guest memory. Each life plugs the guest's ends anew, each card into a root port of its own. On the data path there is
//! nothing of ours: BARs are memory of the guest (`placement`), interrupts go from VFIO to KVM (`interrupts`), and DMA
//! reaches guest memory through the IOMMU. What is trapped is config space (`function`) and the pages of MSI-X tables.
//!
//! Opening nothing by name: the process inherits the files. Binding drivers is the host side's.

mod aperture;
mod areas;
mod attention;
mod bars;
mod config;
mod express;
mod extended;
mod function;
mod hardware;
mod health;
mod interrupts;
mod open;
mod placement;
mod quirk;
mod reach;
mod reset;
mod rom;
mod slots;
mod snapshot;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod vga;

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use linux::kvm::KvmError;
use linux::vfio::{Access, DeviceError, KernelDevice, KvmFileError};
use pci::{NoRoom, Occupied};
use spec::{AssignedReport, PciAddress};

pub use aperture::ApertureError;
pub use config::ViewError;
pub use hardware::ExamineError;
pub(crate) use open::Opening;
pub use reach::OutOfReach;
pub use rom::{GuestRom, RomLie};
pub(crate) use slots::{Plugged, Sockets};

use self::attention::Attention;
use self::hardware::Hardware;
use crate::followers::FollowError;

/// What a machine is to have assigned.
#[derive(Debug)]
pub struct Request {
    /// The open files.
    pub access: Access,
    /// Which functions, and where the guest sees them.
    pub functions: Vec<FunctionPlace>,
    /// Option ROMs, where the guest is not to see the cards' own.
    pub roms: BTreeMap<PciAddress, GuestRom>,
}

/// One function and its place in the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FunctionPlace {
    /// Its address on the host.
    pub address: PciAddress,
    /// The slot: its root port's number, below [`SLOT_LIMIT`].
    pub slot: u8,
    /// Its function number there. Every slot has a function 0.
    pub function: u8,
    /// Whether its legacy VGA ranges are the guest's. No other function of the machine has any then.
    pub legacy_vga: bool,
}

/// Slots of one machine at most: device numbers 16 to 30 of bus 0 are their root ports'.
pub const SLOT_LIMIT: u8 = 15;

/// Assigned functions do not work.
#[derive(Debug, thiserror::Error)]
pub enum AssignError {
    /// A place that does not exist, or is taken.
    #[error(
        "function {address} cannot have slot {slot}, function {function}: there are {SLOT_LIMIT} slots of 8 functions, each once, and each used slot has a function 0"
    )]
    Place {
        /// The function.
        address: PciAddress,
        /// The slot.
        slot: u8,
        /// The function number.
        function: u8,
    },
    /// A machine has one set of legacy VGA ranges.
    #[error(
        "{0} and another display want the legacy VGA ranges, which one card of a machine can have; make one of them the primary display"
    )]
    TwoPrimary(PciAddress),
    /// A thread could not be made.
    #[error("make a thread to open an assigned function")]
    Thread(#[source] std::io::Error),
    /// The opening thread ended early; its message is on standard error.
    #[error("opening the assigned function {address} failed in an unforeseen way")]
    Panicked {
        /// The function.
        address: PciAddress,
    },
    /// The kernel does not give the function.
    #[error("the assigned function {address} cannot be opened")]
    Open {
        /// The function.
        address: PciAddress,
        /// What the kernel said.
        #[source]
        error: DeviceError,
    },
    /// The function is not fit for a guest.
    #[error("the assigned function {address} cannot be used")]
    Examine {
        /// The function.
        address: PciAddress,
        /// Why.
        #[source]
        error: ExamineError,
    },
    /// The host's reports cannot be listened to.
    #[error("listen to the error reports of the assigned function {address}: {errno}")]
    Watch {
        /// The function.
        address: PciAddress,
        /// What the kernel said.
        errno: std::io::Error,
    },
    /// The function's IOMMU does not show it the guest's memory.
    #[error(
        "the assigned function {address} cannot reach the guest's memory: addresses where that lies are reserved for the function (/sys/bus/pci/devices/{address}/iommu_group/reserved_regions), or its IOMMU has too few address bits; give the machine less memory"
    )]
    Attach {
        /// The function.
        address: PciAddress,
        /// What the kernel said.
        #[source]
        error: DeviceError,
    },
    /// Another process has the function.
    #[error(
        "the assigned function {address} is in use: another process, most likely another machine, has it; `fuser -v /dev/vfio/* /dev/vfio/devices/*` as root names it; end that first"
    )]
    Busy {
        /// The function.
        address: PciAddress,
    },
    /// Devices cannot reach where the guest's memory lies.
    #[error(transparent)]
    Reach(#[from] OutOfReach),
    /// The IOMMU does not take the guest's memory, and it is no matter of locking it.
    #[error(
        "the guest's memory ({bytes} bytes) cannot be opened to assigned functions: the host's IOMMU does not take it"
    )]
    Map {
        /// Bytes of guest memory.
        bytes: u64,
        /// What the kernel said.
        #[source]
        error: FollowError,
    },
    /// The guest's memory cannot be locked.
    #[error(
        "the guest's memory ({bytes} bytes) cannot be opened to assigned functions; all of it has to be locked, so check the limit of locked memory (`ulimit -l`) and the host's free memory"
    )]
    Memory {
        /// Bytes of guest memory.
        bytes: u64,
        /// What the kernel said.
        #[source]
        error: FollowError,
    },
    /// The BARs do not fit.
    #[error(transparent)]
    Aperture(#[from] ApertureError),
    /// KVM refused a call.
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// KVM does not take a VFIO file.
    #[error(transparent)]
    KvmFile(#[from] KvmFileError),
    /// A root port does not fit together.
    #[error(transparent)]
    Port(#[from] NoRoom),
    /// A place on the PCI bus is taken.
    #[error(transparent)]
    Slot(#[from] Occupied),
    /// The hardware does not take a write.
    #[error("switch the assigned function {address} off before the guest starts")]
    Quiet {
        /// The function.
        address: PciAddress,
        /// What failed.
        #[source]
        error: DeviceError,
    },
    /// A reset does not come back.
    #[error(
        "the reset of the assigned function {address} does not end; the function hangs, and the host may need a restart to have it back"
    )]
    ResetHangs {
        /// The function.
        address: PciAddress,
    },
}

/// The assigned functions of a machine, over all its lives.
pub(crate) struct Assigned {
    access: Arc<Access>,
    devices: Vec<Arc<KernelDevice>>,
    // By slot and function number.
    functions: Vec<Function>,
    attention: Attention,
}

/// One of them.
struct Function {
    place: FunctionPlace,
    hardware: Arc<Hardware>,
}

impl Request {
    /// Checks that the places exist and that each is wanted once.
    pub(crate) fn check(&self) -> Result<(), AssignError> {
        for (index, place) in self.functions.iter().enumerate() {
            let same = |other: &&FunctionPlace| (other.slot, other.function) == (place.slot, place.function);
            let exists = place.slot < SLOT_LIMIT && place.function < pci::FUNCTIONS;
            let rooted = self.functions.iter().any(|other| other.slot == place.slot && other.function == 0);
            let once = !self
                .functions
                .iter()
                .skip(index + 1)
                .any(|other| same(&other) || other.address == place.address);
            if !exists || !rooted || !once {
                let FunctionPlace { address, slot, function, .. } = *place;
                return Err(AssignError::Place { address, slot, function });
            }
        }
        let mut primary = self.functions.iter().filter(|place| place.legacy_vga);
        match (primary.next(), primary.next()) {
            (Some(_), Some(second)) => Err(AssignError::TwoPrimary(second.address)),
            _ => Ok(()),
        }
    }
}

impl Drop for Assigned {
    /// Closes the functions, all at once: the kernel resets each one then, and waits 100 ms for it.
    fn drop(&mut self) {
        self.attention = Attention::default();
        self.devices.clear();
        std::thread::scope(|scope| {
            for function in self.functions.drain(..) {
                // Without a thread it is closed here.
                let _ = std::thread::Builder::new().spawn_scoped(scope, move || drop(function));
            }
        });
    }
}

impl Assigned {
    /// Whether a function has the legacy VGA ranges, so that firmware writes its messages there.
    pub(crate) fn has_primary_display(&self) -> bool {
        self.functions.iter().any(|function| function.place.legacy_vga)
    }

    /// What became of the functions so far.
    pub(crate) fn reports(&self) -> impl Iterator<Item = AssignedReport> {
        self.functions.iter().map(|function| function.hardware.report())
    }

    /// Each is readable when the host tells something of a function.
    pub(crate) fn attention_fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.attention.fds()
    }

    /// Acts on what the host tells.
    pub(crate) fn attend(&self) {
        self.attention.attend();
    }
}
