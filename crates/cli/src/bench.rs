//! `allod bench`: native against seats, on the same devices in one run.

use crate::{answer, host_source, plan as plan_verb, print};
use ::bench::{Engine, Moment, Peer, WORKLOADS, Workload};
use anyhow::Context;
use host::system::{RunningSystem, System};
use lab::bench_guest::{DISK, INITRD, KERNEL};
use linux::event::Signals;
use seat::places::Places;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Measure the host itself, one seat of FILE and all of them at once, and print the seats as percent of native.
///
/// In each seat a guest is started that does what its console is told; `allod lab guest` makes one. The devices are claimed for the run and given back after it, also when Ctrl-C breaks it off; seats that are up
/// keep theirs, so take them down before.
///
/// A round that does not come out is made once more, and left out and named when it does not then either.
///
/// Exit status: 0 measured; 1 not, or not all of it, with the reason; 2 the seat file or the command line makes no sense;
/// 5 not permitted.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The seat file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The guest: a folder that `allod lab guest` has made, whose kernel takes the place of the seats' own; or a RAM disk
    /// that the seats' kernels start with
    #[arg(long, value_name = "PATH")]
    guest: PathBuf,
    /// A disk that each guest may read, as /dev/vda
    #[arg(long, value_name = "FILE")]
    guest_disk: Option<PathBuf>,
    /// The machine that network cards talk to, on which `iperf3 --server --port` listens for each seat, from port 5201 on;
    /// the cards get the addresses behind it. Without it the network is not measured
    #[arg(long, value_name = "ADDRESS/PREFIX", value_parser = peer)]
    peer: Option<Peer>,
    /// Rounds of each workload
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Seconds that a round takes, as 3 or 0.5; those of `net` and `gl` are whole ones
    #[arg(long, default_value = "3", value_name = "SECONDS", value_parser = seconds)]
    seconds: Duration,
    /// Laps that the rounds are spread over: native and every engine in each, the engines in turned order
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    laps: u32,
    /// Only this workload; may be given several times (cpu, fill, gl, disk, irq, net, wake). Without, all that the seats have
    /// devices for; gl where the first seat's card draws in three dimensions
    #[arg(long = "workload", value_name = "NAME", value_parser = workload)]
    workloads: Vec<&'static Workload>,
    /// Who runs the machines; may be given several times, and then all are measured in this run
    #[arg(long = "engine", value_name = "allod|qemu", value_parser = engine, default_value = "allod")]
    engines: Vec<Engine>,
    /// Write each round of a workload into FILE as it ends. Those that FILE holds are not made again: a run that broke off
    /// is gone on with by the same command
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// All figures as JSON
    #[arg(long)]
    json: bool,
    /// Draw the percentages into FILE, as SVG
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

fn workload(name: &str) -> Result<&'static Workload, String> {
    ::bench::find_workload(name).ok_or_else(|| {
        let known: Vec<&str> = WORKLOADS.iter().map(|workload| workload.name).collect();
        format!("there is no such workload; there are {}", known.join(", "))
    })
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "a round takes a number of seconds".to_owned())?;
    if !(0.05..=3600.0).contains(&seconds) {
        return Err("a round takes from 0.05 to 3600 seconds".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

fn peer(text: &str) -> Result<Peer, String> {
    Peer::parse(text)
        .ok_or_else(|| "a peer is its IPv4 address with the length of its prefix, as 10.77.0.1/24".to_owned())
}

fn engine(name: &str) -> Result<Engine, String> {
    match name {
        "allod" => Ok(Engine::Allod),
        "qemu" => Ok(Engine::Qemu),
        _ => Err("an engine is allod or qemu".to_owned()),
    }
}

/// Measures and prints.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    if let Err(failed) = answer::need_root("taking devices and starting seats") {
        return answer::exit(Err(failed));
    }
    match measure(arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("allod: {error:#}");
            ExitCode::from(1)
        }
    }
}

fn measure(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let file = match plan_verb::seats(&arguments.file) {
        Ok(file) => file,
        Err(error) => {
            eprintln!("allod: {error:#}");
            return Ok(ExitCode::from(2));
        }
    };
    // From here on Ctrl-C is an event, and what was taken is given back.
    let signals = Signals::of_termination()?;
    let system = RunningSystem::open()?;
    let state = Places::of_environment().state;
    let inventory = host_source::this_host(system.tree(), &state);
    let (claims, trials) = (host::ledger::claims(&state)?, host::trial::records(&state)?);
    let plan = match ::plan::plan(&inventory, &file, &claims, &trials) {
        Ok(plan) => plan,
        Err(refusal) => {
            print::out(&::plan::refusal_text(&refusal)).context("cannot write to standard output")?;
            return Ok(ExitCode::from(1));
        }
    };
    let workloads = match arguments.workloads.as_slice() {
        [] => ::bench::usual_workloads(&inventory, &plan),
        chosen => chosen.to_vec(),
    };
    let is_folder = arguments.guest.is_dir();
    let of_folder = |name: &str| is_folder.then(|| arguments.guest.join(name));
    let options = ::bench::Options {
        workloads,
        rounds: arguments.rounds,
        round: arguments.seconds,
        laps: arguments.laps,
        engines: arguments.engines.clone(),
        peer: arguments.peer,
        kernel: of_folder(KERNEL),
        initrd: of_folder(INITRD).unwrap_or_else(|| arguments.guest.clone()),
        disk: arguments.guest_disk.clone().or_else(|| of_folder(DISK)),
        allod: std::env::current_exe().context("cannot find this program")?,
        state,
        journal: arguments.journal.clone(),
        interrupt: Some(signals.as_fd()),
    };
    if let Some(picture) = &arguments.svg {
        // Hours later is too late to find that it cannot be written.
        OpenOptions::new().append(true).create(true).open(picture).with_context(|| unwritable(picture))?;
    }
    let conditions = ::bench::conditions(&inventory, &plan, &options, &moment(&options.engines));
    // A terminal that is gone has sent the signal for it, and is no reason not to give the devices back.
    let mut tell = |step: &str| writeln!(std::io::stderr(), "allod bench: {step}").unwrap_or_default();
    let (mut result, broke_off) = ::bench::run(&system, &inventory, &plan, &options, &mut tell)?;
    result.conditions = conditions;
    report(arguments, &result, broke_off)
}

fn unwritable(picture: &Path) -> String {
    format!("cannot write the picture {}", picture.display())
}

/// Prints the figures, then draws them, and then says why there are not more of them: what comes later may fail.
fn report(
    arguments: &Arguments,
    result: &::bench::Result,
    broke_off: Option<::bench::BenchError>,
) -> anyhow::Result<ExitCode> {
    let text = if arguments.json {
        serde_json::to_string_pretty(&::bench::Document::of(result))? + "\n"
    } else {
        ::bench::table(result)
    };
    let printed = print::out(&text).context("cannot write to standard output");
    let drawn = arguments.svg.as_ref().map_or(Ok(()), |picture| {
        fs::write(picture, ::bench::picture(result)).with_context(|| unwritable(picture))
    });
    if let Some(error) = broke_off {
        let kept = arguments.journal.as_ref().map(|path| {
            format!("; the same command goes on from there, as {} has what was made", path.display())
        });
        eprintln!("allod: the run broke off: {error}{}", kept.unwrap_or_default());
        printed.and(drawn)?;
        return Ok(ExitCode::from(1));
    }
    printed.and(drawn)?;
    Ok(ExitCode::SUCCESS)
}

/// Looks at what the figures depend on that is no part of a plan.
fn moment(engines: &[Engine]) -> Moment {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let load: Vec<String> = read("/proc/loadavg").split(' ').take(3).map(str::to_owned).collect();
    let version = || {
        let output = Command::new("qemu-system-x86_64").arg("--version").output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).lines().next()?.to_owned())
    };
    Moment {
        since_epoch: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
        allod: env!("CARGO_PKG_VERSION").to_owned(),
        qemu: engines.contains(&Engine::Qemu).then(version).flatten(),
        load: load.join(" "),
        huge_pages: read("/sys/kernel/mm/transparent_hugepage/enabled").trim().to_owned(),
    }
}
