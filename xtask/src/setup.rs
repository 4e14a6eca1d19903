//! `cargo xtask setup`: what the lab needs on this machine, and nothing the second time.
//!
//! Says what it will install, installs it with the distribution's package manager, then builds the lab's image. Not
//! here: what the packages are for (`packages`). `main`, `test` and `demo` call this.

mod packages;

use crate::process::with_heartbeat;
use crate::report::{Findings, Report};
use anyhow::Result;
use clap::Args;
use lab::image::Image;

/// Disk space that the image takes, as it is announced.
const IMAGE_SIZE: &str = "about 2 GB";

/// How to set up.
#[derive(Args, Default)]
pub(crate) struct Options {
    /// Say what would be installed and change nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Sets this machine up as phases of `report`; tells whether it is ready.
pub(crate) fn run(options: &Options, report: &mut Report) -> bool {
    let installed = report.phase("packages", || {
        packages::install(options.dry_run)?;
        Ok(Findings::default())
    });
    installed && report.phase("lab image", || lab_image(options.dry_run))
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
