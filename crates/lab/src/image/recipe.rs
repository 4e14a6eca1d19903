//! The recipe: which suite, which packages, which modules. Data only; [`super::debian`] acts on it.

use super::ImageError;
use serde::Deserialize;

/// The built-in recipe as it stands in the source tree.
pub(super) const TEXT: &str = include_str!("../../image/recipe.toml");

/// What the image is made of.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The Debian suite of the virtual host.
    pub suite: String,
    /// Its packages; what they depend on comes along.
    pub packages: Vec<String>,
    /// Modules the initial RAM disk loads.
    pub initrd_modules: Vec<String>,
    /// Modules stored uncompressed.
    pub fast_modules: Vec<String>,
    /// Modules small guests inside the lab can append to their RAM disk.
    pub guest_modules: Vec<String>,
    /// Programs from other suites.
    #[serde(default)]
    pub annexes: Vec<Annex>,
    /// Modules of the suite's kernel, built with other options.
    #[serde(default)]
    pub rebuilt: Vec<Rebuilt>,
}

/// Modules of the image's kernel that are built again from its source, under `/opt/NAME`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rebuilt {
    /// What a profile asks for them by.
    pub name: String,
    /// The packages with source, headers and compiler.
    pub packages: Vec<String>,
}

/// A program from another suite, with its own libraries, under `/opt/NAME`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Annex {
    /// The command it is started by.
    pub name: String,
    /// The Debian suite it comes from.
    pub suite: String,
    /// Its packages.
    pub packages: Vec<String>,
    /// The program inside the unpacked packages.
    pub program: String,
    /// Arguments always passed first; those that name a file of the annex are made absolute.
    #[serde(default)]
    pub arguments: Vec<String>,
}

impl Recipe {
    /// Reads the built-in recipe.
    pub fn built_in() -> Result<Self, ImageError> {
        toml::from_str(TEXT).map_err(|cause| ImageError::contents("image/recipe.toml", cause.to_string()))
    }

    /// Returns every module that is to be stored uncompressed.
    pub(super) fn decompressed_modules(&self) -> Vec<String> {
        self.initrd_modules.iter().chain(&self.fast_modules).chain(&self.guest_modules).cloned().collect()
    }
}
