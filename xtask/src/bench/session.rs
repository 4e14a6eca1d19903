//! The host that is measured in: started by counted instructions, prepared, and started again when it stalls.
//!
//! The emulator, counting instructions, loses a nested guest's timer in about one of eight Linux boots; the guest and
//! sometimes the whole host then stand still. Such a repetition is done again, and counted. Not here: which
//! measurements; that is the plan of each benchmark.

use super::figures::{Sample, Vmm};
use anyhow::{Context, Result, bail};
use lab::{Clock, Failure, Host, Lab, Output, Profile};
use std::path::Path;
use std::time::Duration;

/// Wall time a measurement may take; one boot takes some twenty seconds on two cores.
const MEASUREMENT_LIMIT: Duration = Duration::from_secs(240);
/// How often one repetition may stall before we give up.
const STALL_LIMIT: u32 = 5;
/// Brings the programs in on a file system whose pages are those of a disk, and reads what would be read from disk
/// the first time only.
const PREPARE: &str = "set -e; modprobe loop; cp /share/programs.img /run/; mkdir -p /run/programs; \
    mount -o loop,ro /run/programs.img /run/programs; cat /boot/vmlinux /boot/guest-initrd > /dev/null";
/// What the figures depend on besides the VMMs.
const CONDITIONS: [(&str, &str); 4] = [
    ("kernel of host and guest", "uname -r"),
    ("QEMU", "qemu-system-x86_64 --version | head -n1"),
    ("huge pages", "cat /sys/kernel/mm/transparent_hugepage/enabled"),
    ("processor", "sed -n 's/^model name.*: //p' /proc/cpuinfo"),
];

/// A measurement: what the measuring program is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measurement {
    /// Its name in the table.
    pub(crate) name: &'static str,
    /// Its name to the measuring program.
    pub(crate) what: &'static str,
    /// The guest it is made with.
    pub(crate) guest: &'static str,
    /// What the machine has besides the usual: words for the measuring program, read by the host's shell.
    pub(crate) shape: &'static str,
}

impl Measurement {
    /// A measurement of a machine without anything unusual, named as the measuring program calls it.
    pub(crate) const fn plain(what: &'static str, guest: &'static str) -> Measurement {
        Measurement { name: what, what, guest, shape: "" }
    }

    fn command(self, vmm: Vmm) -> String {
        let Measurement { what, guest, shape, .. } = self;
        format!("/run/programs/allod-lab-measure {what} {} {guest} /run/programs {shape}", vmm.name())
    }
}

/// A host to measure in.
pub(crate) struct Session {
    lab: Lab,
    host: Option<Host>,
    /// What is done once after each start of the host to make it ready for this benchmark.
    ready: &'static str,
    /// What is measured once after that, its figures thrown away.
    warm_up: Measurement,
    /// Repetitions that stalled.
    pub(crate) stalls: u32,
}

impl Session {
    /// Prepares a session in a host of `profile` whose clock counts instructions, made `ready` by a shell command;
    /// `share` holds the image of the programs.
    pub(crate) fn new(
        share: &Path,
        profile: &str,
        ready: &'static str,
        warm_up: Measurement,
    ) -> Result<Session> {
        let lab = Lab::new(Profile::named(profile)?).share(share).clock(Clock::Instructions);
        Ok(Session { lab, host: None, ready, warm_up, stalls: 0 })
    }

    /// The same in a host with an ordinary clock, for what is counted and not timed.
    pub(crate) fn by_wall_clock(
        share: &Path,
        profile: &str,
        ready: &'static str,
        warm_up: Measurement,
    ) -> Result<Session> {
        let lab = Lab::new(Profile::named(profile)?).share(share);
        Ok(Session { lab, host: None, ready, warm_up, stalls: 0 })
    }

    /// Makes one measurement, again when it stalls.
    pub(crate) fn measure(&mut self, vmm: Vmm, measurement: Measurement) -> Result<Sample> {
        let what = measurement.name;
        let command = measurement.command(vmm);
        for _ in 0..STALL_LIMIT {
            if let Some(output) = self.run(&command)? {
                let sample = Sample::parse(&output.stdout)?;
                eprintln!("    {what} {}: {}", vmm.name(), sample.brief());
                return Ok(sample);
            }
            self.stalls += 1;
            eprintln!("    {what} {}: stalled; once more in a fresh host", vmm.name());
        }
        bail!("{what} of {} stalled {STALL_LIMIT} times in a row", vmm.name())
    }

    /// Returns what the figures depend on, as name and value.
    pub(crate) fn conditions(&mut self) -> Result<Vec<(&'static str, String)>> {
        let mut conditions = Vec::new();
        for (name, command) in CONDITIONS {
            let output = self.run(command)?.with_context(|| format!("the host stalled at `{command}`"))?;
            conditions.push((name, output.stdout.trim().to_owned()));
        }
        Ok(conditions)
    }

    /// Runs a command; none when it stalled, and then the host is gone.
    fn run(&mut self, command: &str) -> Result<Option<Output>> {
        if self.host.is_none() && !self.start()? {
            return Ok(None);
        }
        let Some(host) = &self.host else { bail!("there is no host") };
        let output = judge(host.run_within(command, MEASUREMENT_LIMIT), command)?;
        if output.is_none() {
            // A guest that stalled may have taken the host's timer with it.
            self.host = None;
        }
        Ok(output)
    }

    /// Starts and warms the host; says no when it stalled meanwhile.
    fn start(&mut self) -> Result<bool> {
        let host = match self.lab.boot(&|step| eprintln!("    lab: {step}")) {
            Ok(host) => host,
            Err(failure) if failure.is_hang() => return Ok(false),
            Err(failure) => return Err(failure.into()),
        };
        let warm_ups = Vmm::ALL.map(|vmm| self.warm_up.command(vmm));
        for command in [PREPARE.to_owned(), self.ready.to_owned()].iter().chain(&warm_ups) {
            if judge(host.run_within(command, MEASUREMENT_LIMIT), command)?.is_none() {
                return Ok(false);
            }
        }
        self.host = Some(host);
        Ok(true)
    }
}

/// Tells a command's success from a stall (none) and from a failure.
fn judge(result: Result<Output, Failure>, command: &str) -> Result<Option<Output>> {
    /// The measuring program's own word for a guest that stands still.
    const STALLED: i32 = 3;
    match result {
        Ok(output) if output.is_success() => Ok(Some(output)),
        Ok(output) if output.status == STALLED => {
            eprintln!("    `{command}`: {}", output.stderr.trim());
            Ok(None)
        }
        Ok(output) => bail!("`{command}` ended with {}: {}", output.status, output.stderr.trim()),
        Err(failure) if failure.is_hang() || matches!(failure, Failure::TimedOut { .. }) => Ok(None),
        Err(failure) => Err(failure).with_context(|| format!("run `{command}` in the host")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(status: i32) -> Result<Output, Failure> {
        Ok(Output { status, stdout: String::new(), stderr: "why".into() })
    }

    #[test]
    fn a_stall_is_no_failure_and_a_failure_is_no_stall() {
        assert!(judge(output(0), "x").unwrap().is_some());
        assert!(judge(output(3), "x").unwrap().is_none());
        let timed_out = Failure::TimedOut { limit: Duration::ZERO, tail: String::new() };
        assert!(judge(Err(timed_out), "x").unwrap().is_none());
        assert_eq!(judge(output(1), "x").unwrap_err().to_string(), "`x` ended with 1: why");
        assert!(judge(Err(Failure::Panic { tail: String::new() }), "x").is_err());
    }
}
