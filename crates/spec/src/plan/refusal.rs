//! A "no" with all its reasons, and notices: what does not stand in the way but should be known.
//!
//! Not here: finding them. The codes are for programs and never change their meaning; the sentences may.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::PciAddress;
use crate::inventory::SlotPath;

/// Why the seats of a file cannot run on this host: every reason, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Refusal {
    /// The format's version.
    pub schema_version: u32,
    /// The reasons; at least one.
    pub reasons: Vec<Reason>,
    /// What should be known besides.
    #[serde(default)]
    pub notices: Vec<Notice>,
}

/// One reason why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reason {
    /// The stable name.
    pub code: ReasonCode,
    /// The seat it is about; none when it is about the host.
    #[serde(default)]
    pub seat: Option<String>,
    /// What it is about: the device as the seat file asks for it, `memory`, `cpus`.
    pub subject: String,
    /// The function it is about.
    #[serde(default)]
    pub function: Option<PciAddress>,
    /// What stands in the way, one sentence.
    pub sentence: String,
    /// The cheapest thing to do about it.
    pub remedy: String,
    /// What else could be meant, or who else is concerned.
    #[serde(default)]
    pub candidates: Vec<Candidate>,
}

/// A function that a reason names besides its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Candidate {
    /// Where it is now.
    pub address: PciAddress,
    /// Where it is plugged in.
    pub path: SlotPath,
    /// What it is, and who has it.
    pub name: String,
}

/// Something that does not stand in the way but should be known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Notice {
    /// The stable name.
    pub code: NoticeCode,
    /// The seat it is about; none when it is about the host.
    #[serde(default)]
    pub seat: Option<String>,
    /// What it is about.
    pub subject: String,
    /// What is the case and what may follow from it.
    pub sentence: String,
    /// What can be done.
    pub remedy: String,
}

/// Declares a choice of codes whose text form is written once.
macro_rules! codes {
    ($(#[$of:meta])* $name:ident { $($(#[$doc:meta])* $code:ident = $text:literal,)+ }) => {
        $(#[$of])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
        )]
        pub enum $name {
            $($(#[$doc])* #[serde(rename = $text)] $code,)+
        }

        impl $name {
            /// Every code, for tables and tests.
            pub const ALL: &[Self] = &[$(Self::$code,)+];

            /// The text form, as in documents.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$code => $text,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

codes! {
    /// The stable names of reasons. The order is that in which the reasons of one subject are told.
    ReasonCode {
        /// The host uses no IOMMU.
        NoIommu = "no-iommu",
        /// The processor offers no virtualisation.
        NoVirtualization = "no-virtualization",
        /// The kernel has no vfio-pci driver.
        NoVfio = "no-vfio",
        /// Interrupts are not remapped: a device could forge another's.
        UnsafeInterrupts = "unsafe-interrupts",
        /// A seat of this name runs already.
        SeatRuns = "seat-runs",
        /// A file that the seat needs cannot be used.
        FileUnfit = "file-unfit",
        /// Another machine has a file that the seat needs.
        FileInUse = "file-in-use",
        /// No device matches.
        NoMatch = "no-match",
        /// Several devices match.
        SeveralMatch = "several-match",
        /// What was found is no device that can be given away: a bridge.
        NotADevice = "not-a-device",
        /// Two requests mean the same function.
        AskedTwice = "asked-twice",
        /// It belongs to another seat that stands.
        Claimed = "claimed",
        /// The device does not answer.
        DeviceGone = "device-gone",
        /// A mounted file system is on it.
        HeldByFileSystem = "held-by-file-system",
        /// The host swaps to it.
        HeldBySwap = "held-by-swap",
        /// A volume group, array or pool has a part on it.
        HeldByStorage = "held-by-storage",
        /// The host's only way to the network leads through it.
        HeldByRoute = "held-by-route",
        /// The session that asks came in through it.
        HeldByLogin = "held-by-login",
        /// The host's disk or a file system comes over the network through it.
        HeldByNetworkStorage = "held-by-network-storage",
        /// Its network interface is in use.
        HeldByNetwork = "held-by-network",
        /// A desktop draws on it.
        HeldByDesktop = "held-by-desktop",
        /// Sound is playing.
        HeldBySound = "held-by-sound",
        /// A process has it open.
        HeldByProcess = "held-by-process",
        /// It has virtual functions.
        HeldByVirtualFunctions = "held-by-virtual-functions",
        /// The host's keyboard or another input device is behind it.
        HeldByInput = "held-by-input",
        /// The host's text console is on it, and it is no display.
        HeldByConsole = "held-by-console",
        /// Something holds it that this version does not know.
        HeldByUnknown = "held-by-unknown",
        /// It is the only display of the host's console.
        OnlyConsole = "only-console",
        /// Together the seats would take every way to the network.
        LastNetwork = "last-network",
        /// It is in no IOMMU group.
        NoGroup = "no-group",
        /// Its group has members that the seat does not ask for.
        GroupNotWhole = "group-not-whole",
        /// Two seats would share a group.
        GroupShared = "group-shared",
        /// Firmware demands a fixed map for it.
        FirmwareMap = "firmware-map",
        /// Two seats would share a reset.
        ResetShared = "reset-shared",
        /// A trial has failed.
        TrialFailed = "trial-failed",
        /// A `primary` display is asked for, but no display card.
        NoDisplayCard = "no-display-card",
        /// A BIOS could not show itself on the `primary` display.
        NoLegacyVga = "no-legacy-vga",
        /// The physical function cannot make virtual ones.
        NoVirtualFunctions = "no-virtual-functions",
        /// The physical function cannot make so many.
        VirtualFunctionsShort = "virtual-functions-short",
        /// A MAC address or a VLAN is asked for, but it is no network card.
        NotANetworkCard = "not-a-network-card",
        /// The physical function itself is taken.
        PhysicalFunctionTaken = "physical-function-taken",
        /// More devices than slots.
        SlotsShort = "slots-short",
        /// No such processor.
        CpuUnknown = "cpu-unknown",
        /// The processor belongs to a seat that stands.
        CpuTaken = "cpu-taken",
        /// Not enough processors.
        CpusShort = "cpus-short",
        /// No such NUMA node.
        NodeUnknown = "node-unknown",
        /// Not enough memory.
        MemoryShort = "memory-short",
        /// Not enough memory on the node asked for.
        NodeMemoryShort = "node-memory-short",
        /// Not enough huge pages, and no memory to make more of.
        HugepagesShort = "hugepages-short",
        /// The 32-bit registers of the devices do not fit below 4 GiB.
        LowApertureShort = "low-aperture-short",
        /// Memory and device registers do not fit into the guest's physical addresses.
        HighApertureShort = "high-aperture-short",
    }
}

codes! {
    /// The stable names of notices.
    NoticeCode {
        /// The inventory does not tell something that the plan would check.
        NotKnown = "not-known",
        /// No way of resetting the device is known: after the seat it may need a restart of the host.
        NoReset = "no-reset",
        /// No trial of the device has been passed.
        NoTrial = "no-trial",
        /// The trial was under another kernel or firmware.
        OldTrial = "old-trial",
        /// The ROM of the first display is the copy that firmware has run, and no clean one is known.
        RomShadowed = "rom-shadowed",
        /// The ROM of the first display has nothing that the seat's firmware runs.
        RomOfOtherKind = "rom-of-other-kind",
        /// The console moves to another display.
        ConsoleMoves = "console-moves",
        /// The host goes without a picture.
        ConsoleGoes = "console-goes",
        /// The host's last keyboard goes.
        KeyboardGoes = "keyboard-goes",
        /// The seat's devices are on different NUMA nodes.
        SeveralNodes = "several-nodes",
        /// Processors are far from the devices.
        CpusFar = "cpus-far",
        /// Memory is far from the processors.
        MemoryFar = "memory-far",
        /// A core is shared with the host or another seat.
        CoreShared = "core-shared",
        /// Huge pages have to be found at start, which may fail.
        HugepagesAtStart = "hugepages-at-start",
        /// Groups are kept apart by a kernel option, not by the hardware.
        GroupsForced = "groups-forced",
        /// Interrupts are not remapped and the kernel was told to allow it.
        UnsafeInterruptsAllowed = "unsafe-interrupts-allowed",
    }
}

#[cfg(test)]
mod tests {
    use super::{NoticeCode, ReasonCode};

    #[test]
    fn codes_are_written_in_documents_as_they_are_shown() {
        for code in ReasonCode::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.to_string());
        }
        for code in NoticeCode::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.to_string());
        }
        let texts: std::collections::BTreeSet<_> = ReasonCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(texts.len(), ReasonCode::ALL.len());
    }
}
