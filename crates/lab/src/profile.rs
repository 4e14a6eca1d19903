//! Profiles: the hardware of a virtual host as data. Which IOMMU, how much memory, which cards on which ports.
//!
//! Only the description; [`crate::machine`] turns it into QEMU's words. Built-in profiles are the files of
//! `profiles/`; a user's own is named by its path.

use crate::lying_rom::LyingRom;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The built-in profiles by name.
const BUILT_IN: &[(&str, &str)] = &[
    ("plain", include_str!("../profiles/plain.toml")),
    ("amd", include_str!("../profiles/amd.toml")),
    ("cards", include_str!("../profiles/cards.toml")),
    ("cdev", include_str!("../profiles/cdev.toml")),
    ("groups", include_str!("../profiles/groups.toml")),
    ("screens", include_str!("../profiles/screens.toml")),
    ("seats", include_str!("../profiles/seats.toml")),
    ("bench", include_str!("../profiles/bench.toml")),
    ("bench-firmware", include_str!("../profiles/bench-firmware.toml")),
    ("sriov", include_str!("../profiles/sriov.toml")),
    ("desk", include_str!("../profiles/desk.toml")),
    ("vga", include_str!("../profiles/vga.toml")),
    ("cores", include_str!("../profiles/cores.toml")),
    ("gl", include_str!("../profiles/gl.toml")),
    ("pairs", include_str!("../profiles/pairs.toml")),
    ("crowded", include_str!("../profiles/crowded.toml")),
];

/// Why there is no such profile.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// No built-in profile has this name.
    #[error("no profile `{name}`; there are {known}, or give the path of a file ending in .toml")]
    Unknown {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// The file cannot be read.
    #[error("cannot read the profile {path}: {cause}")]
    Read {
        /// Its path.
        path: String,
        /// The system's reason.
        cause: std::io::Error,
    },
    /// It does not describe a host.
    #[error("profile {name}: {problem}")]
    Invalid {
        /// Its name.
        name: String,
        /// What is wrong.
        problem: String,
    },
}

/// The IOMMU of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Iommu {
    /// Intel VT-d with interrupt remapping.
    Intel,
    /// AMD-Vi with interrupt remapping.
    Amd,
    /// None: nothing can be assigned.
    None,
}

/// The hardware of a virtual host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The name it is asked for by; not written in the file.
    #[serde(default)]
    pub name: String,
    /// What it is for, in a line.
    pub description: String,
    /// Its IOMMU.
    pub iommu: Iommu,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Processors. More than one makes the emulator lose a timer interrupt now and then.
    #[serde(default = "one")]
    pub cpus: u32,
    /// Kernel modules loaded at start besides those its cards ask for.
    #[serde(default)]
    pub modules: Vec<String>,
    /// The set of the kernel's own modules, built with other options, that it has instead of the distribution's.
    #[serde(default)]
    pub rebuilt_modules: Option<String>,
    /// Words added to the kernel's command line.
    #[serde(default)]
    pub kernel_parameters: Vec<String>,
    /// Devices that are no PCI functions and that cards refer to (an NVMe subsystem, for example).
    #[serde(default)]
    pub parts: Vec<Part>,
    /// The cards, in the order they are plugged in.
    #[serde(default)]
    pub cards: Vec<Card>,
}

/// A PCI function of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// The name it is called by from outside.
    pub id: String,
    /// QEMU's name of the device.
    pub device: String,
    /// QEMU's options, without `id`, `bus`, `addr`.
    #[serde(default)]
    pub options: String,
    /// Where it is plugged in.
    #[serde(default)]
    pub port: Port,
    /// Makes it one function of a multifunction card, with this number.
    #[serde(default)]
    pub function: Option<u8>,
    /// Size of the fresh, sparse drive behind it.
    #[serde(default)]
    pub drive_mib: Option<u32>,
    /// Makes that drive one that is always empty and takes no work to answer, for measuring.
    #[serde(default)]
    pub null_drive: bool,
    /// Microseconds by a wall clock after which such a drive answers.
    #[serde(default)]
    pub answers_after_us: u32,
    /// Gives it a user-mode network of its own.
    #[serde(default)]
    pub network: bool,
    /// Whether a server on that network offers machines a program to start (DHCP and TFTP): [`crate::greeting`].
    #[serde(default)]
    pub served: bool,
    /// Gives it an option ROM with which something is wrong.
    #[serde(default)]
    pub lying_rom: Option<LyingRom>,
    /// Gives it a sound output that is written to a file.
    #[serde(default)]
    pub audio: bool,
    /// Devices plugged into it: USB devices into a controller, codecs into a sound card, name spaces into NVMe.
    #[serde(default)]
    pub plugged: Vec<Part>,
}

/// Where a card is plugged in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Port {
    /// Straight on the root bus, as parts of a chipset are.
    RootBus,
    /// In a slot of its own behind a PCIe root port, as graphics cards are.
    #[default]
    OwnRootPort,
    /// In the same slot as an earlier card, behind a port or on the root bus; both need a `function`.
    WithCard(String),
    /// Behind a PCIe-to-PCI bridge shared with every card that names the same bridge.
    Bridge(String),
}

/// A device that is no PCI function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Its name.
    pub id: String,
    /// QEMU's name of the device.
    pub device: String,
    /// QEMU's options, without `id` and `bus`.
    #[serde(default)]
    pub options: String,
    /// For a keyboard or tablet: the graphics card whose user it belongs to.
    #[serde(default)]
    pub display: Option<String>,
    /// Size of the fresh, sparse drive behind it.
    #[serde(default)]
    pub drive_mib: Option<u32>,
}

impl Profile {
    /// Finds a profile: a built-in one by name, else a file by its path.
    pub fn named(name: &str) -> Result<Self, ProfileError> {
        if let Some((_, text)) = BUILT_IN.iter().find(|(known, _)| *known == name) {
            return Self::parse(name, text);
        }
        if !name.ends_with(".toml") {
            let known: Vec<&str> = BUILT_IN.iter().map(|(known, _)| *known).collect();
            let known = known.join(", ");
            return Err(ProfileError::Unknown { name: name.to_owned(), known });
        }
        let text =
            fs::read_to_string(name).map_err(|cause| ProfileError::Read { path: name.to_owned(), cause })?;
        let stem = Path::new(name).file_stem().unwrap_or_default().to_string_lossy();
        Self::parse(&stem, &text)
    }

    /// Returns all built-in profiles.
    pub fn all() -> Result<Vec<Self>, ProfileError> {
        BUILT_IN.iter().map(|(name, text)| Self::parse(name, text)).collect()
    }

    /// Reads a profile and checks that it describes a host that can exist.
    pub fn parse(name: &str, text: &str) -> Result<Self, ProfileError> {
        let invalid = |problem: String| ProfileError::Invalid { name: name.to_owned(), problem };
        let mut profile: Self = toml::from_str(text).map_err(|cause| invalid(cause.to_string()))?;
        profile.name = name.to_owned();
        match profile.problems() {
            problems if problems.is_empty() => Ok(profile),
            problems => Err(invalid(problems.join("; "))),
        }
    }

    /// Returns a card by its name.
    pub fn card(&self, id: &str) -> Option<&Card> {
        self.cards.iter().find(|card| card.id == id)
    }

    /// Says whether a card draws in three dimensions.
    pub fn draws(&self) -> bool {
        self.drawing_cards() > 0
    }

    fn drawing_cards(&self) -> usize {
        // QEMU names each of them by what it draws with.
        self.cards.iter().filter(|card| card.device.ends_with("-gl-pci")).count()
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.drawing_cards() > 1 {
            problems.push("the emulator can draw in three dimensions for one card only".to_owned());
        }
        if self.cpus == 0 || self.memory_mib < 256 {
            problems.push("a host needs a processor and 256 MiB of memory".to_owned());
        }
        let mut names = BTreeSet::new();
        let parts = self.parts.iter().chain(self.cards.iter().flat_map(|card| &card.plugged));
        for id in self.cards.iter().map(|card| &card.id).chain(parts.map(|part| &part.id)) {
            if !names.insert(id) {
                problems.push(format!("`{id}` is the name of two devices"));
            }
        }
        for card in &self.cards {
            if let Port::WithCard(other) = &card.port
                && (card.function.is_none() || self.card(other).is_none_or(|first| first.function != Some(0)))
            {
                problems.push(format!(
                    "`{}` shares the slot of `{other}`: number both, `{other}` with 0",
                    card.id
                ));
            }
        }
        problems
    }
}

fn one() -> u32 {
    1
}

#[cfg(test)]
mod tests {
    use super::Profile;

    #[test]
    fn every_built_in_profile_is_valid() {
        let profiles = Profile::all().unwrap();
        assert!(profiles.iter().any(|profile| profile.name == "plain"));
    }

    #[test]
    fn a_profile_that_describes_no_host_is_refused_with_all_reasons() {
        let text = r#"
            description = "x"
            iommu = "none"
            memory_mib = 16
            cards = [
                { id = "a", device = "edu" },
                { id = "a", device = "edu", port = { with-card = "b" } },
                { id = "c", device = "virtio-gpu-gl-pci" },
                { id = "d", device = "virtio-gpu-gl-pci" },
            ]
        "#;
        let message = Profile::parse("bad", text).unwrap_err().to_string();
        for reason in ["256 MiB", "name of two devices", "shares the slot of `b`", "one card only"] {
            assert!(message.contains(reason), "{message}");
        }
    }
}
