//! `allod lab guest`: the guest that `allod bench` measures in, for a host that is no lab.

use super::progress;
use lab::Failure;
use lab::bench_guest::{self, Contents};
use std::path::PathBuf;
use std::process::ExitCode;

/// What measures in guests as on hosts.
const PROGRAM: &str = "allod-scene";

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A file or folder of this host's firmware that the guest's drivers need, as /lib/firmware/amdgpu; may be given
    /// several times.
    #[arg(long, value_name = "PATH")]
    firmware: Vec<PathBuf>,
    /// Where to put kernel, RAM disk and disk, some 1.7 GB.
    folder: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let program = lab::start::programs_folder()?.join(PROGRAM);
    let contents = Contents { programs: vec![program], firmware: arguments.firmware.clone() };
    bench_guest::write(&arguments.folder, &contents, &progress)?;
    progress(&format!("`allod bench SEATS.toml --guest {}` measures in it", arguments.folder.display()));
    Ok(ExitCode::SUCCESS)
}
