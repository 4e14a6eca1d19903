//! `allod lab build`: makes the image now, so that the first start does not have to.

use super::progress;
use lab::Failure;
use lab::image::Image;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

pub(crate) fn run(_: &Arguments) -> Result<ExitCode, Failure> {
    let image = Image::ready(&progress)?;
    println!("{}", image.dir().display());
    Ok(ExitCode::SUCCESS)
}
