//! The folder that a demo leaves behind: everything that is on the page as a file of its own too, under names that are
//! known beforehand, so that nothing of an earlier demo is taken for this one's.

use anyhow::{Context, Result};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Everything a demo writes.
const NAMES: [&str; 18] = [
    PAGE,
    "story.json",
    "seats.toml",
    RAM_DISK,
    "inventory.json",
    "plan.json",
    "plan.svg",
    "anna-0.png",
    "anna-0-later.png",
    "ben-0.png",
    "ben-0-later.png",
    "ben-1.png",
    "ben-1-later.png",
    "carl-0.png",
    "carl-0-later.png",
    "bench.md",
    "bench.json",
    "bench.svg",
];
/// What seats on one's own host start from.
pub(super) const RAM_DISK: &str = "seats.initrd";
/// What shows all of it.
pub(super) const PAGE: &str = "index.html";

/// The folder.
#[derive(Clone, Copy, Debug)]
pub(super) struct Folder<'a> {
    path: &'a Path,
}

impl<'a> Folder<'a> {
    /// Makes the folder if it is not there, and removes what an earlier demo left in it.
    ///
    /// # Errors
    /// It cannot be made, or something cannot be removed.
    pub(super) fn empty(path: &'a Path) -> Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("cannot make the folder {}", path.display()))?;
        for name in NAMES {
            match fs::remove_file(path.join(name)) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    let file = path.join(name);
                    return Err(error).with_context(|| format!("cannot remove {}", file.display()));
                }
                _ => {}
            }
        }
        Ok(Self { path })
    }

    /// Returns where a file is, or will be.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        assert!(NAMES.contains(&name), "`{name}` would be taken for the next demo's");
        self.path.join(name)
    }

    /// Writes a file.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<()> {
        let path = self.path(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))
    }
}
