//! `cargo xtask setup`: what the lab needs on this machine, and nothing the second time.
//!
//! Says what it will install, installs it with the distribution's package manager, then builds the lab's image. Not
//! here: what the packages are for (`packages`). `main`, `test` and `demo` call this.

mod packages;

use crate::report::{Findings, Report};
use clap::Args;

/// How to set up.
#[derive(Args, Default)]
pub(crate) struct Options {
    /// Say what would be installed and change nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Sets this machine up as phases of `report`; tells whether it is ready.
pub(crate) fn run(options: &Options, report: &mut Report) -> bool {
    report.phase("packages", || {
        packages::install(options.dry_run)?;
        Ok(Findings::default())
    })
}
