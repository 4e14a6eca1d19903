//! The machine's process as its supervisor has it: started, spoken to, ended.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::fs::OFlags;
use spec::plan::SeatPlan;
use spec::{ControlAnswer, ControlRequest, ExitReport, SeatFunction};

use super::console::Console;
use super::hold::Hold;
use super::record::Record;
use crate::cgroup::{self, Cgroup};
use crate::confine::{self, Confinement};
use crate::launch::{self, LaunchError, Process, Surroundings};
use crate::places::SeatPlaces;

/// What the process may write to standard error after its end was noticed.
const MOST_LAST_WORDS: u64 = 64 << 10;
/// How much is read at once.
const CHUNK: usize = 4096;

pub(super) struct RunningMachine {
    process: Process,
    control: UnixStream,
    heard: Vec<u8>,
    /// Whether it has closed its end.
    silent: bool,
    errors: Option<std::fs::File>,
    cgroup: Option<Cgroup>,
}

/// What the machine said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Nothing that matters.
    Nothing,
    /// That it runs.
    Running,
    /// That its guest has not noticed the power button.
    NotNoticed,
}

/// What is left of it.
pub(super) struct Gone {
    pub(super) outcome: Result<ExitReport, LaunchError>,
    pub(super) errors: Vec<u8>,
    pub(super) memory_kills: u64,
}

impl RunningMachine {
    /// Starts it and asks whether it runs.
    pub(super) fn start(
        seat: &SeatPlan,
        hold: &Hold,
        places: &SeatPlaces,
        console: &mut Console,
        record: &mut Record,
    ) -> Result<Self, String> {
        let request =
            crate::machine::request(seat, hold.functions(), places).map_err(|error| error.to_string())?;
        let cgroup = control_group(seat, record)?;
        let told = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
        let ours = std::process::id();
        let confinement = Confinement {
            user: rustix::process::getuid().is_root().then(|| confine::user(ours)),
            locked: confine::locked(seat),
            cgroup: cgroup.clone(),
        };
        let user = confinement.user;
        let (errors, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|errno| told("make a pipe")(errno.into()))?;
        let output = console.connect().map_err(told("make the console"))?;
        let input = output.try_clone().map_err(told("make the console"))?;
        let surroundings =
            Surroundings { input, output, errors: Some(theirs), confinement: Some(confinement) };
        let started = launch::start(&request, surroundings);
        let process = started.map_err(|error| {
            let removed = cgroup.iter().try_for_each(Cgroup::remove);
            removed.map_or_else(|remove| format!("{error}; {remove}"), |()| error.to_string())
        })?;
        let places_of = request.functions.iter().filter_map(|wanted| {
            let (slot, function) = wanted.place?;
            Some(SeatFunction { address: wanted.address, slot, function })
        });
        record.status.functions = places_of.collect();
        record.status.machine = hold.mark(process.id());
        record.status.cgroup = cgroup.as_ref().map(|group| group.path().to_owned());
        record.status.user = user;
        record.write();
        // A pipe that cannot be told not to wait would hold up everything else.
        let quiet = rustix::fs::fcntl_setfl(&errors, OFlags::NONBLOCK);
        let errors = quiet.is_ok().then(|| std::fs::File::from(errors));
        let control = connect(&places.control()).map_err(told("speak to the machine"))?;
        let mut machine = Self { process, control, heard: Vec::new(), silent: false, errors, cgroup };
        machine.say(ControlRequest::Status);
        Ok(machine)
    }

    pub(super) fn process(&self) -> &Process {
        &self.process
    }

    pub(super) fn control(&self) -> Option<&UnixStream> {
        (!self.silent).then_some(&self.control)
    }

    pub(super) fn errors(&self) -> Option<&std::fs::File> {
        self.errors.as_ref()
    }

    fn say(&mut self, request: ControlRequest) {
        let line = serde_json::to_string(&request).unwrap_or_default() + "\n";
        // A machine that is gone is noticed by its report.
        let _ = self.control.write_all(line.as_bytes());
    }

    pub(super) fn press_power_button(&mut self) {
        self.say(ControlRequest::PowerButton);
    }

    /// Hears what it says.
    pub(super) fn hear(&mut self) -> Said {
        let mut buffer = [0; CHUNK];
        match self.control.read(&mut buffer) {
            // Its report is next.
            Ok(0) => self.silent = true,
            Ok(read) => self.heard.extend_from_slice(buffer.get(..read).unwrap_or_default()),
            Err(_) => {}
        }
        let mut said = Said::Nothing;
        while let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.heard.drain(..=end).collect();
            match serde_json::from_slice(&line) {
                Ok(ControlAnswer::Status(_)) => said = Said::Running,
                Ok(ControlAnswer::NotNoticed) => said = Said::NotNoticed,
                _ => {}
            }
        }
        said
    }

    /// What its process wrote to standard error.
    pub(super) fn read_errors(&mut self) -> Vec<u8> {
        let mut buffer = vec![0; CHUNK];
        let Some(errors) = &mut self.errors else { return Vec::new() };
        match errors.read(&mut buffer) {
            Ok(0) => self.errors = None,
            Ok(read) => {
                buffer.truncate(read);
                return buffer;
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => self.errors = None,
        }
        Vec::new()
    }

    /// Tells it to end.
    pub(super) fn end(&self) {
        self.process.end();
    }

    /// Kills it.
    pub(super) fn kill(&mut self) {
        self.process.kill();
    }

    /// Waits until it is gone, and clears away what is left of it.
    pub(super) fn wait(self) -> Gone {
        let outcome = self.process.wait();
        let mut errors = Vec::new();
        if let Some(file) = self.errors {
            // All that can come is there by now.
            let _ = file.take(MOST_LAST_WORDS).read_to_end(&mut errors);
        }
        let memory_kills = self.cgroup.as_ref().map_or(0, Cgroup::memory_kills);
        if let Some(cgroup) = self.cgroup
            && let Err(error) = cgroup.remove()
        {
            errors.extend_from_slice(format!("allod: {error}\n").as_bytes());
        }
        Gone { outcome, errors, memory_kills }
    }
}

/// The control group, where the host has them; what it cannot keep is noted.
fn control_group(seat: &SeatPlan, record: &mut Record) -> Result<Option<Cgroup>, String> {
    let root = Path::new(cgroup::ROOT);
    if !Cgroup::is_there(root) {
        record.note("this host has no control groups (cgroup v2): the machine's memory and processors are not limited");
        return Ok(None);
    }
    let (group, unkept) =
        Cgroup::make(root, &seat.name, &confine::limits(seat)).map_err(|error| error.to_string())?;
    for limit in unkept {
        record.note(&format!("a limit of the machine is not kept: {limit}"));
    }
    Ok(Some(group))
}

fn connect(path: &Path) -> std::io::Result<UnixStream> {
    let stream = UnixStream::connect(path)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}
