//! `cargo xtask setup`: what the lab needs on this machine, and nothing the second time.
//!
//! Looks for room on disk, says what it will install, installs it with the distribution's package manager, then builds the
//! lab's image. Not here: what the packages are for (`packages`). `main`, `test` and `demo` call this.

mod packages;
mod space;

use crate::process::with_heartbeat;
use crate::report::{Findings, Report};
use crate::workspace::Workspace;
use anyhow::Result;
use clap::Args;
use lab::image::Image;
use space::Wanted;

/// Disk space that the image takes, as it is announced.
const IMAGE_SIZE: &str = "about 2 GB";
/// The same with what is fetched for it, as it is looked for.
const IMAGE_MEGABYTES: u64 = 3000;
/// Disk space that the release binaries take, with what is built on the way; builds for tests take three times as much.
const BUILD_MEGABYTES: u64 = 1500;

/// How to set up.
#[derive(Args, Default)]
pub(crate) struct Options {
    /// Say what would be installed and change nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Sets this machine up as phases of `report`; tells whether it is ready.
pub(crate) fn run(options: &Options, workspace: &Workspace, report: &mut Report) -> bool {
    let room = report.phase("room on disk", || {
        space::check(&wanted(workspace))?;
        Ok(Findings::default())
    });
    let installed = room
        && report.phase("packages", || {
            packages::install(options.dry_run)?;
            Ok(Findings::default())
        });
    installed && report.phase("lab image", || lab_image(options.dry_run))
}

/// Returns what is still to be written, by what is there already.
fn wanted(workspace: &Workspace) -> Vec<Wanted> {
    let image = Image::expected();
    let mut wanted = Vec::new();
    if !image.is_complete() {
        let place = image.dir().to_owned();
        wanted.push(Wanted { what: "the lab's image", place, megabytes: IMAGE_MEGABYTES });
    }
    // The last of the release binaries: where it is, a build replaces rather than adds.
    if !workspace.target.join("release/allod").exists() {
        let place = workspace.target.clone();
        wanted.push(Wanted { what: "the release binaries", place, megabytes: BUILD_MEGABYTES });
    }
    wanted
}

fn lab_image(dry_run: bool) -> Result<Findings> {
    let place = Image::expected();
    if place.is_complete() {
        eprintln!("    is here: {}", place.dir().display());
    } else if dry_run {
        eprintln!("    would be built from Debian packages in {}", place.dir().display());
    } else {
        eprintln!(
            "    not built yet: fetching Debian packages for it, {IMAGE_SIZE} in {}",
            place.dir().display()
        );
        with_heartbeat(|| Image::ready(&|step| eprintln!("    {step}")))?;
    }
    Ok(Findings::default())
}
