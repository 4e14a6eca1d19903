//! `allod show`: everything about one seat.

use std::process::ExitCode;

use linux::sysfs::DirectoryTree;
use seat::places::Places;
use seat::standing::{self, Standing};
use spec::plan::{SeatPlan, Source};
use spec::{PciAddress, SeatReport};

use crate::answer::{self, Failed};
use crate::print;
use crate::progress::ended;
use crate::ps;

/// Show everything about one seat: its machine, its devices, its processes, or how it ended.
///
/// Exit status: 0 it runs; 3 it does not run, and how it ended is printed; 4 there is no such seat.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The seat
    #[arg(value_name = "NAME")]
    seat: String,
    /// As JSON: its state, or its last report
    #[arg(long)]
    json: bool,
}

/// Shows it.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    answer::exit(show(arguments))
}

fn show(arguments: &Arguments) -> Result<(), Failed> {
    let name = &arguments.seat;
    let places = Places::of_environment();
    let tree = DirectoryTree::system().map_err(Failed::new)?;
    let reading = |error| Failed::io("reading the seat", &error);
    if let Some(seat) = standing::find(&places, &tree, name).map_err(reading)? {
        let text = if arguments.json {
            serde_json::to_string_pretty(&ps::document(&seat)).map_err(Failed::new)? + "\n"
        } else {
            living(&seat, &places)
        };
        return print::out(&text).map_err(Failed::new);
    }
    let report = standing::report(&places, name).map_err(reading)?.ok_or_else(|| Failed::not_found(name))?;
    let text = if arguments.json {
        serde_json::to_string_pretty(&report).map_err(Failed::new)? + "\n"
    } else {
        over(&report)
    };
    print::out(&text).map_err(Failed::new)?;
    Err(Failed::not_running(name))
}

fn line(text: &mut String, head: &str, tail: &str) {
    text.push_str(&format!("{head:<12}{tail}\n"));
}

fn living(seat: &Standing, places: &Places) -> String {
    let status = &seat.status;
    let mut text = String::new();
    line(&mut text, "seat", &status.name);
    line(&mut text, "state", ps::word(seat));
    line(&mut text, "up", &ps::uptime(ps::now().saturating_sub(status.since)));
    let cpus = &status.plan.cpus;
    let pins: Vec<String> = cpus.pins.iter().map(u32::to_string).collect();
    let on = if cpus.shared.is_empty() { pins.join(",") } else { format!("{}, shared", cpus.shared) };
    line(&mut text, "cpus", &format!("{} on processors {on}", cpus.count));
    line(&mut text, "memory", &status.plan.memory.size.to_string());
    for function in &status.functions {
        let place = format!("slot {}.{}", function.slot, function.function);
        line(&mut text, &place, &format!("{} {}", function.address, name(&status.plan, function.address)));
    }
    for disk in &status.plan.disks {
        line(&mut text, "disk", &disk.path.display().to_string());
    }
    line(&mut text, "supervisor", &format!("process {}", status.supervisor.pid));
    if let Some(machine) = status.machine {
        let user = status.user.map_or_else(String::new, |user| format!(", user {user}"));
        line(&mut text, "machine", &format!("process {}{user}", machine.pid));
    }
    if let Some(cgroup) = &status.cgroup {
        line(&mut text, "group", &cgroup.display().to_string());
    }
    let of = places.seat(&status.name);
    line(&mut text, "control", &of.control().display().to_string());
    line(&mut text, "console", &of.console().display().to_string());
    line(&mut text, "logs", &of.kept().display().to_string());
    steps(&mut text, &status.steps);
    text
}

fn over(report: &SeatReport) -> String {
    let mut text = String::new();
    line(&mut text, "seat", &report.seat);
    line(&mut text, "was up", &ps::uptime(report.ended.saturating_sub(report.began)));
    text.push_str(&format!("{}\n", ended(report)));
    if let Some(machine) = &report.machine {
        line(&mut text, "resets", &machine.resets.to_string());
        line(&mut text, "exits", &machine.exits.to_string());
    }
    steps(&mut text, &report.steps);
    text
}

fn steps(text: &mut String, steps: &[spec::SeatStep]) {
    for (number, step) in steps.iter().enumerate() {
        let head = if number == 0 { "steps" } else { "" };
        line(text, head, &format!("{:<64} {:>7} ms", step.what, step.ms));
    }
}

/// What a function is, as the plan calls it.
fn name(plan: &SeatPlan, at: PciAddress) -> &str {
    let functions = plan.slots.iter().flat_map(|slot| &slot.functions);
    let mut named = functions.filter_map(|function| match &function.source {
        Source::Taken { address, name, .. } if *address == at => Some(name.as_str()),
        _ => None,
    });
    named.next().unwrap_or("a virtual function")
}
