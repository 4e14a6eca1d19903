//! The assigned functions of a machine: the open files by which it has them, and where its guest sees them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{InheritedFd, PciAddress};

/// Functions of the host that a machine has as its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AssignedSpec {
    /// The files that prove it.
    pub files: VfioFiles,
    /// The functions.
    pub functions: Vec<AssignedFunctionSpec>,
}

/// The open files of VFIO, in one of the two ways that kernels have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum VfioFiles {
    /// A container and the files of IOMMU groups.
    Groups {
        /// `/dev/vfio/vfio`.
        container: InheritedFd,
        /// `/dev/vfio/N` of each group.
        groups: Vec<VfioGroupFile>,
    },
    /// The control file of iommufd; each function has a file of its own.
    Iommufd {
        /// `/dev/iommu`.
        control: InheritedFd,
    },
}

/// The open file of an IOMMU group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VfioGroupFile {
    /// The group's number.
    pub id: u32,
    /// Its file.
    pub file: InheritedFd,
}

/// One assigned function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AssignedFunctionSpec {
    /// Its address on the host.
    pub address: PciAddress,
    /// The IOMMU group it is in.
    pub group: u32,
    /// Its own file, with iommufd.
    #[serde(default)]
    pub file: Option<InheritedFd>,
    /// The slot in which the guest sees it, counted from 0; each has a root port of its own.
    pub slot: u8,
    /// Its function number there, 0 to 7. Every slot in use has a function 0.
    pub function: u8,
    /// A file with the option ROM that the guest is to see instead of the card's own.
    #[serde(default)]
    pub rom: Option<InheritedFd>,
    /// Whether the guest is to see no option ROM, whatever the card has.
    #[serde(default)]
    pub no_rom: bool,
    /// Whether its legacy VGA ranges are the guest's: it is the first display of a machine that has no other VGA.
    #[serde(default)]
    pub legacy_vga: bool,
}

/// A way to reset a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResetWay {
    /// The function alone, by the kernel's best way (device-specific, function-level reset).
    Function,
    /// Its whole slot or bus.
    Slot,
    /// The function alone, by its power states.
    Power,
}

impl fmt::Display for ResetWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Function => "function reset",
            Self::Slot => "slot or bus reset",
            Self::Power => "reset by power state",
        })
    }
}

/// What became of an assigned function while its machine had it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignedReport {
    /// Its address on the host.
    pub address: PciAddress,
    /// How often its machine had it reset, beside the kernel's own resets at the start and the end.
    pub resets: u32,
    /// The way that worked when it was last tried; none worked without it, or none was tried.
    pub last_reset: Option<ResetWay>,
}

#[cfg(test)]
mod tests {
    use super::{AssignedFunctionSpec, AssignedSpec, VfioFiles, VfioGroupFile};
    use crate::{InheritedFd, PciAddress};

    #[test]
    fn both_ways_are_read_as_they_are_written() {
        let address = PciAddress::new(0, 3, 0, 0).unwrap();
        let function = AssignedFunctionSpec {
            address,
            group: 7,
            file: None,
            slot: 0,
            function: 0,
            rom: None,
            no_rom: false,
            legacy_vga: true,
        };
        let groups = vec![VfioGroupFile { id: 7, file: InheritedFd(5) }];
        for (files, function, text) in [
            (VfioFiles::Groups { container: InheritedFd(4), groups }, function, r#""groups":{"container":4"#),
            (
                VfioFiles::Iommufd { control: InheritedFd(4) },
                AssignedFunctionSpec { file: Some(InheritedFd(6)), ..function },
                r#""iommufd":{"control":4"#,
            ),
        ] {
            let spec = AssignedSpec { files, functions: vec![function] };
            let written = serde_json::to_string(&spec).unwrap();
            assert!(written.contains(text), "{written}");
            assert_eq!(serde_json::from_str::<AssignedSpec>(&written).unwrap(), spec);
        }
    }
}
