//! Plans and refusals as text for people.
//!
//! Not here: pictures ([`mod@crate::picture`]) and JSON, which is the documents themselves. Called by `cli` and `daemon`.

use std::fmt::Write;

use spec::plan::{
    Notice, Plan, PlanStep, PlannedFunction, PlannedReset, Reason, Refusal, SeatPlan, SeatStart, Source,
    StepAction,
};
use spec::seat_file::{DiskKind, DiskMedia, DisplayKind, FirmwareKind, PageSize};

/// The width at which sentences are broken.
const WIDTH: usize = 100;

/// Writes a plan as text.
pub fn plan_text(plan: &Plan) -> String {
    let mut out = String::new();
    for seat in &plan.seats {
        seat_text(&mut out, seat);
        out.push('\n');
    }
    let memory =
        plan.kept.memory.map(|memory| format!(", {} GiB of memory free", memory.0 >> 30)).unwrap_or_default();
    line(&mut out, 0, &format!("host     processors {}{memory}", plan.kept.cpus));
    line(&mut out, 0, "\nsteps");
    for (number, step) in plan.steps.iter().enumerate() {
        let seat = step.seat.as_deref().unwrap_or("all");
        line(&mut out, 2, &format!("{:>3}  {seat}: {}", number + 1, step_text(step)));
    }
    notices_text(&mut out, &plan.notices);
    out
}

/// Writes a refusal as text: every reason with its remedy.
pub fn refusal_text(refusal: &Refusal) -> String {
    let mut out = String::new();
    let count = refusal.reasons.len();
    let reasons = if count == 1 { "for one reason" } else { "for these reasons" };
    line(&mut out, 0, &format!("The seats cannot be as the file asks, {reasons} (nothing was changed):"));
    for (number, reason) in refusal.reasons.iter().enumerate() {
        out.push('\n');
        reason_text(&mut out, number + 1, reason);
    }
    notices_text(&mut out, &refusal.notices);
    out
}

fn seat_text(out: &mut String, seat: &SeatPlan) {
    line(out, 0, &format!("seat {}", seat.name));
    for slot in &seat.slots {
        for (position, function) in slot.functions.iter().enumerate() {
            let head = if position == 0 {
                format!("slot {}.{}", slot.port, function.number)
            } else {
                format!("     {}.{}", slot.port, function.number)
            };
            let display = if slot.primary_display && position == 0 { ", first display" } else { "" };
            line(out, 2, &format!("{head:<10}{}{display}", function_text(function)));
        }
    }
    let cpus = &seat.cpus;
    let pins: Vec<String> = cpus.pins.iter().map(u32::to_string).collect();
    let threads = match cpus.threads_per_core {
        1 => String::new(),
        threads => format!(", {threads} threads a core"),
    };
    let place = if cpus.shared.is_empty() { pins.join(",") } else { format!("{}, shared", cpus.shared) };
    line(out, 2, &format!("{:<10}{} on processors {place}{threads}", "cpus", cpus.count));
    let memory = &seat.memory;
    let node = memory.node.map(|node| format!(" of node {node}")).unwrap_or_default();
    let shared = if memory.shared { ", shared" } else { "" };
    line(out, 2, &format!("{:<10}{} in {}{node}{shared}", "memory", memory.size, pages(memory.pages)));
    let aperture = &seat.aperture;
    if aperture.low.0 + aperture.high.0 > 0 {
        let text = format!(
            "{:<10}{} below 4 GiB, {} from {}",
            "windows", aperture.low, aperture.high, aperture.high_start
        );
        line(out, 2, &text);
    }
    let display = match seat.display {
        DisplayKind::Primary => "its own card",
        DisplayKind::None => "none",
        DisplayKind::Emulated => "emulated",
    };
    line(out, 2, &format!("{:<10}{display}", "display"));
    let start = match &seat.start {
        SeatStart::Kernel(kernel) => format!("kernel {}", kernel.image.display()),
        SeatStart::Firmware(firmware) if firmware.kind == FirmwareKind::Bios => "BIOS".to_owned(),
        SeatStart::Firmware(_) => "UEFI".to_owned(),
    };
    line(out, 2, &format!("{:<10}{start}", "start"));
    for disk in &seat.disks {
        let kind = match disk.media {
            DiskMedia::Cdrom => ", disc",
            DiskMedia::Disk if disk.read_only => ", read only",
            DiskMedia::Disk => "",
        };
        let nvme =
            if disk.kind == Some(DiskKind::Nvme) && disk.media == DiskMedia::Disk { ", as NVMe" } else { "" };
        line(out, 2, &format!("{:<10}{}{kind}{nvme}", "disk", disk.path.display()));
    }
    for network in &seat.networks {
        let place = network.bridge.as_ref().or(network.tap.as_ref()).map_or("passt", String::as_str);
        line(out, 2, &format!("{:<10}{} on {place}", "network", network.mac));
    }
}

fn function_text(function: &PlannedFunction) -> String {
    let reset = match function.reset {
        PlannedReset::Alone { method } => format!("reset by {}", format!("{method:?}").to_lowercase()),
        PlannedReset::Together { .. } => "reset with its bus".to_owned(),
        PlannedReset::None => "no reset".to_owned(),
    };
    match &function.source {
        Source::Taken { address, driver, name, .. } => {
            let driver = driver.as_deref().unwrap_or("no driver");
            format!("{address}  {name}  (from {driver}, {reset})")
        }
        Source::Virtual { of, index, mac, vlan, .. } => {
            let mac = mac.map(|mac| format!(", {mac}")).unwrap_or_default();
            let vlan = vlan.map(|vlan| format!(", VLAN {vlan}")).unwrap_or_default();
            format!("{of}  virtual function {index}{mac}{vlan}")
        }
    }
}

const fn pages(pages: PageSize) -> &'static str {
    match pages {
        PageSize::Transparent => "transparent pages",
        PageSize::Small => "4KiB pages",
        PageSize::Huge2M => "2MiB pages",
        PageSize::Huge1G => "1GiB pages",
    }
}

fn step_text(step: &PlanStep) -> String {
    match &step.action {
        StepAction::ReserveHugepages { node, page_size, from, to } => {
            let node = node.map(|node| format!(" on node {node}")).unwrap_or_default();
            format!("raise the reserved {page_size} pages{node} from {from} to {to}")
        }
        StepAction::CreateVirtualFunctions { of, count } => format!("make {count} virtual functions of {of}"),
        StepAction::ConfigureVirtualFunction { of, index, .. } => {
            format!("configure virtual function {index} of {of}")
        }
        StepAction::HandOverConsole { function } => format!("take the console off {function}"),
        StepAction::KeepPowered { function, .. } => format!("keep {function} powered"),
        StepAction::Unbind { function, driver } => format!("unbind {function} from {driver}"),
        StepAction::Override { function, driver, .. } => format!("reserve {function} for {driver}"),
        StepAction::Bind { function, driver } => format!("bind {function} to {driver}"),
        StepAction::BindVirtualFunction { of, index, driver } => {
            format!("bind virtual function {index} of {of} to {driver}")
        }
        StepAction::StartMachine => "start the machine".to_owned(),
    }
}

fn reason_text(out: &mut String, number: usize, reason: &Reason) {
    let place = about(reason.seat.as_deref(), &reason.subject);
    line(out, 0, &format!("{number}. {place}  [{}]", reason.code));
    wrapped(out, "", &reason.sentence);
    for candidate in &reason.candidates {
        line(out, 5, &format!("{}  {}  {}", candidate.address, candidate.path, candidate.name));
    }
    wrapped(out, "-> ", &reason.remedy);
}

fn notices_text(out: &mut String, notices: &[Notice]) {
    if notices.is_empty() {
        return;
    }
    line(out, 0, "\nto be known");
    for notice in notices {
        let place = about(notice.seat.as_deref(), &notice.subject);
        line(out, 0, &format!(" - {place}  [{}]", notice.code));
        wrapped(out, "", &notice.sentence);
        wrapped(out, "-> ", &notice.remedy);
    }
}

fn about(seat: Option<&str>, subject: &str) -> String {
    match seat {
        Some(seat) => format!("seat {seat}, {subject}"),
        None => format!("host, {subject}"),
    }
}

/// Writes a sentence in lines that fit.
fn wrapped(out: &mut String, mark: &str, sentence: &str) {
    let mut current = String::new();
    let mut mark = mark.to_owned();
    for word in sentence.split_whitespace() {
        if !current.is_empty() && current.len() + word.len() >= WIDTH {
            line(out, 3, &format!("{mark}{current}"));
            mark = " ".repeat(mark.len());
            current.clear();
        }
        if !current.is_empty() {
            current.push(' ');
        }
        current.push_str(word);
    }
    line(out, 3, &format!("{mark}{current}"));
}

/// Writes one line; names come from devices and files, so nothing in them may reach the terminal as a command.
fn line(out: &mut String, indent: usize, text: &str) {
    let plain = |character: char| {
        if character.is_control() && character != '\n' { char::REPLACEMENT_CHARACTER } else { character }
    };
    let text: String = text.chars().map(plain).collect();
    // A string takes everything; the result is only there for other writers.
    let _ = writeln!(out, "{:indent$}{}", "", text.trim_end());
}
