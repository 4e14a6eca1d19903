//! `allod screenshot`: what a running machine's emulated display shows, as a PNG file.

use std::path::PathBuf;
use std::process::ExitCode;

use seat::control::{Control, ControlError};
use seat::picture::{Camera, PictureError};
use seat::places::Places;

/// Write what a running machine's emulated display shows to a PNG file.
///
/// Exit status: 0 written; 1 the machine has no display, or the file cannot be written; 3 no machine listens.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The seat, or the machine's control socket (`allod run --control`), which has a slash in its name
    #[arg(value_name = "SEAT|SOCKET")]
    machine: String,
    /// Where to write the picture
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Tell the picture's size as JSON
    #[arg(long)]
    json: bool,
}

/// No machine runs there.
const NOT_RUNNING: u8 = 3;

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    match shoot(arguments) {
        Ok((width, height)) if arguments.json => {
            let told = serde_json::json!({ "file": arguments.output, "width": width, "height": height });
            println!("{told}");
            ExitCode::SUCCESS
        }
        Ok((width, height)) => {
            println!("{}: {width}x{height}", arguments.output.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("allod: {error}");
            match error {
                PictureError::Control(ControlError::Connect { .. }) => ExitCode::from(NOT_RUNNING),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn shoot(arguments: &Arguments) -> Result<(u32, u32), PictureError> {
    let picture =
        Camera::new(Control::connect(&Places::of_environment().machine(&arguments.machine))?)?.take()?;
    picture.write_png(&arguments.output)?;
    Ok((picture.width, picture.height))
}
