//! The project's own commands, run as `cargo xtask COMMAND`: one file per verb.
//!
//! Not here: anything a user of Allod needs at run time; that is the `allod` command. Progress goes to standard
//! error, results (a table, a closing line, or JSON) to standard output.
#![forbid(unsafe_code)]

mod bench;
mod check;
mod demo;
mod process;
mod report;
mod setup;
mod test;
mod tidy;
mod workspace;

use clap::{Parser, Subcommand};
use report::Report;
use std::process::ExitCode;
use workspace::Workspace;

/// The project's own commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Arguments {
    /// Print the result as one JSON document on standard output instead of a table.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install the Debian packages that are missing and build the lab's image; does nothing the second time.
    Setup(setup::Options),
    /// Check format, lints, docs, structure, licences and advisories.
    Check(check::Options),
    /// See the main job done in the lab: two people and an ordinary machine share a host, with pictures.
    Demo(demo::Options),
    /// Set up, check, run every test, build the release binaries and run the lab's scenarios.
    Test(test::Options),
    /// Run what takes too long for every day: many rounds, looked at for leaks.
    Soak(test::SoakOptions),
    /// Measure ourselves beside others, in the lab.
    Bench(bench::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut report = Report::default();
    let outcome = Workspace::load().and_then(|workspace| match &arguments.verb {
        Verb::Setup(options) => {
            setup::run(options, &workspace, &mut report);
            Ok(())
        }
        Verb::Check(options) => {
            check::run(options, &workspace, &mut report);
            Ok(())
        }
        Verb::Demo(options) => {
            demo::run(options, &workspace, &mut report);
            Ok(())
        }
        Verb::Test(options) => test::run(options, &workspace, &mut report),
        Verb::Soak(options) => test::soak(options, &workspace, &mut report),
        Verb::Bench(options) => bench::run(options, &workspace, &mut report),
    });
    if let Err(error) = outcome {
        eprintln!("error: {error:#}");
        return ExitCode::from(2);
    }
    report.print(arguments.json);
    if report.failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
