//! `allod lab run`: boots a host for one command.

use super::{EXIT_STATUS_HELP, progress};
use lab::host::{Piece, status_of};
use lab::wire::Request;
use lab::{Failure, Lab, Profile};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_STATUS_HELP)]
pub(crate) struct Arguments {
    /// The host's hardware: a name from `allod lab profiles`, or a .toml file.
    #[arg(long, value_name = "NAME")]
    profile: String,
    /// Folder to make visible at /share inside, writable.
    #[arg(long, value_name = "DIR")]
    share: Option<PathBuf>,
    /// Seconds the command may take once the host is up.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,
    /// Memory of the host in MiB, instead of the profile's.
    #[arg(long, value_name = "MIB")]
    memory: Option<u32>,
    /// Let the host's clock count instructions, so that figures repeat.
    #[arg(long)]
    measure: bool,
    /// Say how long each stage of the start took.
    #[arg(long, short)]
    verbose: bool,
    /// The command; a single word is a shell command line.
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    match once(arguments) {
        Err(failure) if failure.is_hang() => {
            eprintln!("allod lab: {failure}");
            progress("hung emulator 1 of 1 forgiven; trying once more");
            once(arguments)
        }
        result => result,
    }
}

fn once(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let mut start = Lab::new(Profile::named(&arguments.profile)?);
    if let Some(share) = &arguments.share {
        start = start.share(share);
    }
    if let Some(memory) = arguments.memory {
        start = start.memory_mib(memory);
    }
    if arguments.measure {
        start = start.measuring();
    }
    let host = start.boot(&progress)?;
    if arguments.verbose {
        let timeline = host.timeline();
        progress(&format!(
            "emulator up after {:.2} s of wall time; then by the host's clock:",
            timeline.emulator.as_secs_f32()
        ));
        for (stage, at) in &timeline.stages {
            progress(&format!("{:6.2} s {stage}", at.as_secs_f32()));
        }
        progress(&format!("ready {:.2} s after the emulator started", timeline.ready.as_secs_f32()));
    }
    let request = Request { command: words(&arguments.command), ..Request::default() };
    let limit = Duration::from_secs(arguments.timeout);
    let exit = host.stream(&request, limit, &mut |piece| match piece {
        Piece::Output(bytes) => write_out(std::io::stdout().lock(), bytes),
        Piece::Error(bytes) => write_out(std::io::stderr().lock(), bytes),
    })?;
    Ok(ExitCode::from(status_of(&exit)? as u8))
}

/// Makes a command of the words given: one word is for the shell, several are program and arguments.
fn words(command: &[String]) -> Vec<String> {
    match command {
        [line] => vec!["bash".to_owned(), "-c".to_owned(), line.clone()],
        words => words.to_vec(),
    }
}

fn write_out(mut stream: impl Write, bytes: &[u8]) {
    // The reader may have gone (a pipe into `head`); the command still runs to its end.
    let _ = stream.write_all(bytes).and_then(|()| stream.flush());
}
