//! The programs that a benchmark measures: built for release, and packed into a small image for the host.

use crate::process::{cargo, run as run_command};
use crate::report::Findings;
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;

/// What is measured inside the host.
const PROGRAMS: [&str; 3] = ["allod", "allod-vmm", "allod-lab-measure"];
/// Room for them, with some to spare.
const IMAGE_SIZE: &str = "32M";

/// Builds them, and the lab.
pub(crate) fn build() -> Result<Findings> {
    // The lab takes its first process from beside this very program, which is no release binary.
    run_command(&mut cargo(&["build", "-p", "lab", "--bin", "allod-lab-init"]))?;
    run_command(&mut cargo(&["build", "--release", "-p", "cli", "-p", "vmm", "-p", "lab"]))?;
    Ok(Findings::default())
}

/// Makes an image of a small file system with the programs in it: on tmpfs every page of a program would count as
/// dirty, and on the share none would stay in memory.
pub(crate) fn pack(release: &Path, share: &Path) -> Result<()> {
    let folder = share.join("programs");
    let image = share.join("programs.img");
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    for program in PROGRAMS {
        let source = release.join(program);
        fs::copy(&source, folder.join(program)).with_context(|| format!("copy {}", source.display()))?;
    }
    if image.exists() {
        fs::remove_file(&image).with_context(|| format!("remove {}", image.display()))?;
    }
    let mut command = lab::tool::command("mke2fs");
    run_command(command.args(["-q", "-t", "ext4", "-d"]).arg(&folder).arg(&image).arg(IMAGE_SIZE))
}
