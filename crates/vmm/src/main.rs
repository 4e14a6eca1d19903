//! `allod-vmm`: runs one machine.
//!
//! It is started with `--spec-fd N`, reads the machine spec from that inherited fd, and opens nothing itself: what the
//! machine uses are inherited fds too. People start it through `allod`.
#![forbid(unsafe_code)]

mod assigned;
mod console;
mod control;
mod firmware_log;
mod input;
mod picture;
mod session;

use std::fs::File;
use std::io::{Read, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use linux::inherit::{self, InheritError};
use linux::kvm::Kvm;
use machine::boot::Kernel;
use machine::{Config, Disk, DisplayConfig, Firmware, HyperV, Image, Machine, Network, Qcow2, Start};
use spec::seat_file::DiskFormat;
use spec::{DiskSpec, DisplaySpec, ExitCause, ExitReport, InheritedFd, LinkKind, MachineSpec, NetworkSpec};

use crate::console::Console;
use crate::control::Control;
use crate::firmware_log::FirmwareLog;
use crate::session::{Counters, Session};

fn main() -> ExitCode {
    let start = Instant::now();
    linux::heap::share_among_threads();
    let spec = match read_spec() {
        Ok(spec) => spec,
        Err(message) => {
            eprintln!("allod-vmm: {message}");
            return ExitCode::from(spec::EXIT_USAGE);
        }
    };
    let mut counters = Counters::default();
    let exit = run(&spec, start, &mut counters).unwrap_or_else(|message| ExitCause::Fault { message });
    let report = ExitReport {
        name: spec.name.clone(),
        exit,
        resets: counters.resets,
        exits: counters.exits,
        wall_ms: start.elapsed().as_millis() as u64,
        assigned: counters.assigned,
    };
    if let Err(message) = leave(&spec, &report) {
        eprintln!("allod-vmm: {message}");
    }
    ExitCode::from(report.exit.code())
}

/// Runs the machine to its end; an error is one paragraph that says what was tried and what helps.
fn run(spec: &MachineSpec, start: Instant, counters: &mut Counters) -> Result<ExitCause, String> {
    if let Some(starter) = spec.starter {
        linux::sandbox::end_with(starter).map_err(explain)?;
    }
    if spec.confined {
        linux::sandbox::enter().map_err(explain)?;
    }
    let control = Control::new(spec.control.map(take).transpose()?).map_err(explain)?;
    let console = Console::new(
        spec.console.input.map(take).transpose()?,
        spec.console.output.map(take).transpose()?,
        spec.console.escape,
    );
    let kvm = Kvm::from_file(take(spec.kvm)?).map_err(explain)?;
    let config = Config {
        cpus: spec.cpus,
        pins: spec.pins.clone(),
        memory: spec.memory,
        name: spec.name.clone(),
        start: start_of(spec)?,
        rng: spec.rng,
        disks: spec
            .disks
            .iter()
            .zip(1..)
            .map(|(disk, number)| open_disk(disk, number))
            .collect::<Result<_, _>>()?,
        cdroms: spec
            .cdroms
            .iter()
            .zip(1..)
            .map(|(fd, number)| open_disc(*fd, number))
            .collect::<Result<_, _>>()?,
        hyperv: spec.hyperv.as_ref().map(|hyperv| {
            let usual = HyperV::default();
            HyperV { vendor: hyperv.vendor.clone().unwrap_or(usual.vendor), kvm_leaves: hyperv.kvm_leaves }
        }),
        utc_offset_s: spec.utc_offset_s,
        networks: spec.networks.iter().map(open_network).collect::<Result<_, _>>()?,
        boot: spec.firmware.map(|firmware| firmware.boot).unwrap_or_default(),
        display: spec.display.as_ref().map(open_display).transpose()?,
        tpm: spec.tpm.map(take).transpose()?,
        assigned: spec.assigned.as_ref().map(assigned::take_over).transpose()?,
    };
    // Before the first vCPU thread, which would otherwise be ended by the signals.
    let signals = linux::event::Signals::of_termination().map_err(explain)?;
    let machine = Machine::build(kvm, config).map_err(explain)?;
    let session = Session {
        spec,
        start,
        machine,
        console,
        control,
        signals,
        pointer: input::Pointer {
            at: (0, 0),
            picture: spec.display.map_or((0, 0), |display| (display.width.into(), display.height.into())),
        },
        counters,
        firmware_log: spec
            .firmware
            .and_then(|firmware| firmware.log)
            .map(|fd| take(fd).map(File::from).map(FirmwareLog::new))
            .transpose()?,
        output_due: None,
        output_written: 0,
    };
    session.run().map_err(explain)
}

/// What the machine starts: there must be one thing.
fn start_of(spec: &MachineSpec) -> Result<Start, String> {
    match (&spec.kernel, &spec.firmware) {
        (Some(kernel), None) => Ok(Start::Kernel(Kernel {
            image: take(kernel.image)?.into(),
            initrd: kernel.initrd.map(take).transpose()?.map(File::from),
            command_line: kernel.command_line.clone(),
        })),
        (None, Some(firmware)) => Ok(Start::Firmware(Firmware {
            kind: firmware.kind,
            image: take(firmware.image)?.into(),
            variables: firmware
                .variables
                .map(|fd| {
                    linux::disk::Disk::from_file(take(fd)?)
                        .map_err(|errno| format!("the file of UEFI variables cannot be used: {errno}"))
                })
                .transpose()?,
        })),
        _ => {
            Err("a machine starts either a kernel or firmware; the machine spec has both or neither"
                .to_owned())
        }
    }
}

/// The disk behind an inherited fd; `number` counts from 1, as people do.
fn open_disk(disk: &DiskSpec, number: usize) -> Result<Disk, String> {
    let title = match disk.name.as_str() {
        "" => format!("disk {number}"),
        name => format!("disk {number} ({name})"),
    };
    let file = linux::disk::Disk::from_file(take(disk.file)?)
        .map_err(|errno| format!("{title} cannot be used: {errno}; give a file or a block device"))?;
    let file = Arc::new(file);
    let storage = match disk.format {
        DiskFormat::Raw => Image::Raw(file),
        DiskFormat::Qcow2 => Qcow2::open(file, disk.read_only)
            .map(|image| Image::Qcow2(Arc::new(image)))
            .map_err(|error| format!("{title} cannot be used as qcow2: {error}"))?,
    };
    if storage.len() < Disk::SMALLEST {
        return Err(format!("{title} is empty; make it as large as it is to be (`truncate -s 20G FILE`)"));
    }
    Ok(Disk { title, storage, shown: disk.shown, read_only: disk.read_only })
}

/// The disc behind an inherited fd.
fn open_disc(file: InheritedFd, number: usize) -> Result<Arc<linux::disk::Disk>, String> {
    let disc = linux::disk::Disk::from_file(take(file)?);
    disc.map(Arc::new).map_err(|errno| format!("disc {number} cannot be used: {errno}; give an ISO image"))
}

fn open_network(network: &NetworkSpec) -> Result<Network, String> {
    let is_tap = network.link == LinkKind::Tap;
    let rom = network.rom.map(|fd| read_rom(fd, "network card's option ROM")).transpose()?.map(Arc::from);
    Ok(Network { file: take(network.file)?.into(), is_tap, mac: network.mac.octets(), rom })
}

/// The display, with its BIOS read from the inherited fd.
fn open_display(display: &DisplaySpec) -> Result<DisplayConfig, String> {
    let rom = display.rom.map(|fd| read_rom(fd, "display's BIOS")).transpose()?;
    Ok(DisplayConfig { width: display.width, height: display.height, tablet: display.tablet, rom })
}

fn read_rom(file: InheritedFd, what: &str) -> Result<Vec<u8>, String> {
    let mut rom = Vec::new();
    let read = File::from(take(file)?).take(ROM_LIMIT).read_to_end(&mut rom);
    read.map_err(|errno| format!("read the {what}: {errno}"))?;
    Ok(rom)
}

/// Expansion ROMs are no larger.
const ROM_LIMIT: u64 = 16 << 20;

/// The spec behind the fd that the command line names.
fn read_spec() -> Result<MachineSpec, String> {
    let usage = "usage: allod-vmm --spec-fd N (it is started by `allod run` and `allod up`)";
    let mut arguments = std::env::args().skip(1);
    let number = match (arguments.next().as_deref(), arguments.next(), arguments.next()) {
        (Some("--spec-fd"), Some(number), None) => number.parse().map_err(|_| usage.to_owned())?,
        _ => return Err(usage.to_owned()),
    };
    // Room for any usual spec: one read gets it, another finds its end.
    let mut text = String::with_capacity(USUAL_SPEC);
    File::from(take(InheritedFd(number))?)
        .take(SPEC_LIMIT)
        .read_to_string(&mut text)
        .map_err(|error| format!("read the machine spec from fd {number}: {error}"))?;
    serde_json::from_str(&text).map_err(|error| format!("the machine spec is not valid: {error}"))
}

const USUAL_SPEC: usize = 4096;

/// No machine spec comes near this; a fd that never ends is cut here.
const SPEC_LIMIT: u64 = 1 << 20;

fn leave(spec: &MachineSpec, report: &ExitReport) -> Result<(), String> {
    let Some(fd) = spec.report else {
        return match &report.exit {
            ExitCause::Fault { message } => Err(message.clone()),
            _ => Ok(()),
        };
    };
    let mut text = serde_json::to_string(report).map_err(explain)?;
    text.push('\n');
    File::from(take(fd)?)
        .write_all(text.as_bytes())
        .map_err(|error| format!("write the exit report: {error}"))
}

fn take(fd: InheritedFd) -> Result<std::os::fd::OwnedFd, String> {
    inherit::take(fd.0).map_err(|error: InheritError| error.to_string())
}

/// The error with all that caused it, in one line.
fn explain(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
