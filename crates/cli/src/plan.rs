//! `allod plan`: which seat gets what, or every reason why not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use host::trial;
use spec::seat_file::{MAX_SEAT_FILE_BYTES, SeatFile};

use crate::claim;
use crate::host_source::HostSource;
use crate::print;
use crate::state::State;

/// Say which seat of FILE gets what, or every reason why not. Changes nothing.
///
/// Exit status: 0 planned; 1 refused, with every reason; 2 the seat file, the inventory or the command line makes
/// no sense.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The seat file
    #[arg(value_name = "FILE", required_unless_present = "schema")]
    file: Option<PathBuf>,
    /// The plan, or the refusal, as JSON
    #[arg(long)]
    json: bool,
    /// Draw the host and what each seat gets into FILE, as SVG
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// The JSON schema of the seat file
    #[arg(long, exclusive = true)]
    schema: bool,
    #[command(flatten)]
    source: HostSource,
    #[command(flatten)]
    state: State,
}

/// Plans and prints.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    match answer(arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("allod: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Prints the plan or the refusal; the answer is whether there is a plan.
fn answer(arguments: &Arguments) -> anyhow::Result<bool> {
    let Some(path) = arguments.file.as_deref().filter(|_| !arguments.schema) else {
        show(&(serde_json::to_string_pretty(&SeatFile::schema())? + "\n"))?;
        return Ok(true);
    };
    let file = seats(path)?;
    let inventory = arguments.source.read_with(&arguments.state.directory())?;
    // What stands here says nothing about another host.
    let (claims, trials) = match arguments.source.is_this_host() {
        true => (claim::standing(&arguments.state)?, trial::records(&arguments.state.directory())?),
        false => (Vec::new(), Vec::new()),
    };
    let answer = plan::plan(&inventory, &file, &claims, &trials);
    let answer = match arguments.source.is_this_host() {
        true => seat::files::weigh(answer, &file),
        false => answer,
    };
    if let Some(picture) = &arguments.svg {
        fs::write(picture, plan::picture(&inventory, answer.as_ref()))
            .with_context(|| format!("cannot write the picture {}", picture.display()))?;
    }
    let text = match (&answer, arguments.json) {
        (Ok(plan), true) => serde_json::to_string_pretty(plan)? + "\n",
        (Err(refusal), true) => serde_json::to_string_pretty(refusal)? + "\n",
        (Ok(plan), false) => plan::plan_text(plan),
        (Err(refusal), false) => plan::refusal_text(refusal),
    };
    show(&text)?;
    Ok(answer.is_ok())
}

fn show(text: &str) -> anyhow::Result<()> {
    print::out(text).context("cannot write to standard output")
}

/// Reads a seat file; everything that is wrong with it goes to standard error.
pub(crate) fn seats(path: &Path) -> anyhow::Result<SeatFile> {
    let shown = path.display().to_string();
    let size = fs::metadata(path).with_context(|| format!("cannot read the seat file {shown}"))?.len();
    if size > MAX_SEAT_FILE_BYTES as u64 {
        bail!("{shown} has {size} bytes: that is no seat file");
    }
    let text = fs::read_to_string(path).with_context(|| format!("cannot read the seat file {shown}"))?;
    SeatFile::parse(&shown, &text).map_err(|errors| {
        eprintln!("{errors}");
        let count = errors.problems.len() + errors.more;
        anyhow::anyhow!("{shown} has {count} problem{}", if count == 1 { "" } else { "s" })
    })
}

#[cfg(test)]
mod tests {
    use host::{fixtures, inventory};
    use spec::seat_file::SeatFile;

    #[test]
    fn a_saved_desktop_gives_its_second_card() {
        let text = "[[seat]]\nname = \"anna\"\ncpus.count = 4\nmemory.size = \"8GiB\"\n\
                    device = [{ class = \"display\", vendor = \"nvidia\" }]\n";
        let inventory = inventory::read(&fixtures::desktop_with_two_gpus());
        let plan = plan::plan(&inventory, &SeatFile::parse("seats.toml", text).unwrap(), &[], &[]).unwrap();
        assert!(plan::plan_text(&plan).contains("0000:01:00.1"), "{plan:#?}");
    }
}
