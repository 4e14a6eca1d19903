//! The host inventory: every fact about a host that a plan, the doctor or a person needs, as one document.
//!
//! It is written by `host::inventory`, printed by `allod devices --json`, can be saved and fed back with
//! `--inventory FILE`, and is all that the planner and the doctor look at. Facts only: what may be taken is the
//! planner's decision.
//!
//! Rules of the format: a missing or `null` value means *unknown* (not "no"), and the reason stands in
//! [`HostInventory::unread`]; an empty list means "none". Readers ignore fields they do not know, and names they
//! do not know in a list of choices read as `unknown`, so that a newer document stays readable.

mod attached;
mod finding;
mod function;
mod hold;
mod host;
mod identity;
mod number;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use attached::{BlockDevice, Connector, ConnectorState, Monitor, NetInterface, UsbDevice};
pub use finding::{DoctorReport, Finding, Remedy, Severity, Verdict};
pub use function::{
    AcsControls, Bar, BarKind, ConfigAccess, DriverState, Function, FunctionKind, KeptRom, Link, LinkState,
    Names, ResetMethod, Rom, RomImages, SrIov,
};
pub use hold::{Hold, HoldKind, HoldStrength};
pub use host::{
    BootLoader, BootMode, Cpu, CpuFacts, DeviceNode, Distribution, Firmware, HostFacts, HugepagePool,
    IommuFacts, IommuGroup, IommuKind, KernelFacts, KernelModule, LockedMemory, MemoryFacts, ModuleState,
    NumaNode, RegionKind, ReservedRegion, Virtualization,
};
pub use identity::{DeviceIdentity, ParseSlotPathError, SlotPath, SlotStep};
pub use number::{ClassCode, ParseHexError, PciId, PhysicalAddress};

use crate::PciAddress;

/// The version of the inventory format that this code writes; raised when a field changes its meaning.
pub const INVENTORY_SCHEMA_VERSION: u32 = 1;

/// One host, completely: the input of the planner and of the doctor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostInventory {
    /// The format's version, [`INVENTORY_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The machine, its firmware and its kernel.
    #[serde(default)]
    pub host: HostFacts,
    /// The processors.
    #[serde(default)]
    pub cpus: CpuFacts,
    /// The memory, per NUMA node, and how much of it may be locked.
    #[serde(default)]
    pub memory: MemoryFacts,
    /// The IOMMU and its interrupt remapping.
    #[serde(default)]
    pub iommu: IommuFacts,
    /// All IOMMU groups in rising order; empty when the kernel runs without an IOMMU.
    #[serde(default)]
    pub groups: Vec<IommuGroup>,
    /// All PCI functions in rising order of address, bridges too.
    #[serde(default)]
    pub functions: Vec<Function>,
    /// What could not be read or was not believed, and why.
    #[serde(default)]
    pub unread: Vec<Unread>,
}

/// A fact that is missing from the inventory, or that contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Unread {
    /// The file that was asked, for example `/sys/bus/pci/devices/0000:01:00.0/config`.
    pub path: String,
    /// What came back, for example `Permission denied (errno 13)`.
    pub reason: String,
}

/// The JSON schema of [`HostInventory`], to be written out.
pub fn json_schema() -> impl Serialize {
    schemars::schema_for!(HostInventory)
}

impl HostInventory {
    /// An inventory without any fact.
    pub fn empty() -> Self {
        Self {
            schema_version: INVENTORY_SCHEMA_VERSION,
            host: HostFacts::default(),
            cpus: CpuFacts::default(),
            memory: MemoryFacts::default(),
            iommu: IommuFacts::default(),
            groups: Vec::new(),
            functions: Vec::new(),
            unread: Vec::new(),
        }
    }

    /// The function at `address`.
    pub fn function(&self, address: PciAddress) -> Option<&Function> {
        self.functions.iter().find(|function| function.address == address)
    }

    /// The IOMMU group `number`.
    pub fn group(&self, number: u32) -> Option<&IommuGroup> {
        self.groups.iter().find(|group| group.number == number)
    }

    /// The bridges above `address`, the nearest first; empty on a root bus.
    pub fn bridges_above(&self, address: PciAddress) -> Vec<&Function> {
        let mut bridges: Vec<&Function> = Vec::new();
        let mut next = self.function(address).and_then(|function| function.parent);
        // A document from outside may name a loop of parents: no function is taken twice.
        while let Some(bridge) = next.and_then(|address| self.function(address)) {
            if bridges.iter().any(|seen| seen.address == bridge.address) {
                break;
            }
            bridges.push(bridge);
            next = bridge.parent;
        }
        bridges
    }
}

#[cfg(test)]
mod tests {
    use super::HostInventory;

    /// The least that a document must say, with a field, a hold and a choice of a later version.
    const FROM_LATER: &str = r#"{
        "schema_version": 2,
        "a_later_field": {"x": 1},
        "functions": [{
            "address": "0000:01:00.0",
            "identity": {"vendor": "10de", "device": "2684", "path": "0000:00/01.1/00.0"},
            "class": "030000",
            "kind": "quantum-port",
            "reset_methods": ["flr", "wave"],
            "holds": [{"strength": "eternal", "holder": "ghost", "name": "x"}]
        }]
    }"#;

    #[test]
    fn a_later_document_stays_readable_and_its_unknown_words_are_not_lost_as_harmless() {
        let inventory: HostInventory = serde_json::from_str(FROM_LATER).unwrap();
        let function = &inventory.functions[0];
        assert_eq!(function.kind, super::FunctionKind::Unknown);
        assert_eq!(function.reset_methods.as_deref().map(<[_]>::len), Some(2));
        assert!(function.holds[0].strength > super::HoldStrength::Critical);
        assert_eq!(function.sriov, None);
    }

    #[test]
    fn an_inventory_reads_back_as_it_was_written() {
        let mut inventory: HostInventory = serde_json::from_str(FROM_LATER).unwrap();
        inventory.functions[0].holds[0] = super::Hold {
            strength: super::HoldStrength::Critical,
            kind: super::HoldKind::Swap { device: "sda2".to_owned(), through: vec!["dm-1".to_owned()] },
        };
        inventory.functions[0].rom = super::Rom::Present { size: crate::Bytes(0x20000) };
        let text = serde_json::to_string(&inventory).unwrap();
        assert!(text.contains(r#""holder":"swap""#) && text.contains(r#""presence":"present""#), "{text}");
        assert_eq!(serde_json::from_str::<HostInventory>(&text).unwrap(), inventory);
    }

    #[test]
    fn a_loop_of_bridges_in_a_document_ends() {
        let mut inventory: HostInventory = serde_json::from_str(FROM_LATER).unwrap();
        let mut second = inventory.functions[0].clone();
        second.address = "0000:02:00.0".parse().unwrap();
        second.parent = Some(inventory.functions[0].address);
        inventory.functions[0].parent = Some(second.address);
        inventory.functions.push(second);
        let above = inventory.bridges_above(inventory.functions[0].address);
        assert_eq!(above.len(), 2);
    }

    #[test]
    fn the_document_has_a_json_schema_with_text_for_hexadecimal_numbers() {
        let schema = serde_json::to_value(super::json_schema()).unwrap();
        assert_eq!(schema["$defs"]["PciId"]["type"], "string");
        assert_eq!(schema["$defs"]["SlotPath"]["type"], "string");
    }
}
