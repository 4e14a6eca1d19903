//! A private instance of the kernel's tracer: when a VMM was started, when its guest first ran, and its exits counted.
//!
//! One instance per measurement, made fresh and removed with the value; nothing of the system's own tracing is
//! touched. Reading the text it leaves is [`crate::histogram`]. Source: Linux Documentation/trace/ftrace.rst, events.rst.

use crate::failure::{Failure, attempt};
use crate::histogram::Histogram;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the kernel shows its tracer.
const TRACER: &str = "/sys/kernel/tracing";
/// Events counted by [`Tracer::count_exits`] and the keys they are counted by.
const COUNTED: [(&str, &str); 6] = [
    ("kvm_exit", "exit_reason"),
    ("kvm_userspace_exit", "reason"),
    ("kvm_pio", "port,rw,size"),
    ("kvm_mmio", "gpa.hex,type"),
    ("kvm_msr", "ecx.hex,write"),
    ("kvm_cpuid", "function.hex"),
];

/// Our event at the start of every function-level reset: its group and name, and the kernel function that does the
/// reset (drivers/pci/pci.c).
pub(crate) const RESETS: &str = "allod/function_level_reset";
const RESETTING: &str = "pcie_flr";

/// A tracer instance that waits for one VMM.
#[derive(Debug)]
pub(crate) struct Tracer {
    folder: PathBuf,
}

/// What the tracer saw. Times are of the clock CLOCK_MONOTONIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sighting {
    /// The VMM's process.
    pub(crate) pid: u32,
    /// When it was executed.
    pub(crate) exec: Duration,
    /// When a guest first ran after that.
    pub(crate) entry: Option<Duration>,
}

impl Tracer {
    /// Starts to wait for `program` (the last part of its path) to be executed and run a guest.
    pub(crate) fn wait_for(program: &str) -> Result<Self, Failure> {
        let folder = Path::new(TRACER).join("instances").join(format!("allod-{}", std::process::id()));
        fs::create_dir(&folder).map_err(attempt(format!("make the tracer instance {}", folder.display())))?;
        let tracer = Self { folder };
        tracer.write("trace_clock", "mono")?;
        tracer.write("events/sched/sched_process_exec/filter", &format!("filename ~ \"*/{program}\""))?;
        tracer.write("events/sched/sched_process_exec/enable", "1")?;
        // The first entry into a guest stops the recording; all later ones cost next to nothing.
        tracer.write("events/kvm/kvm_entry/trigger", "traceoff:1")?;
        tracer.write("events/kvm/kvm_entry/enable", "1")?;
        Ok(tracer)
    }

    /// Counts exits too, by what caused them.
    pub(crate) fn count_exits(&self) -> Result<(), Failure> {
        for (event, keys) in COUNTED {
            self.write(&format!("events/kvm/{event}/trigger"), &format!("hist:keys={keys}"))?;
        }
        Ok(())
    }

    /// Counts function-level resets too.
    pub(crate) fn count_resets(&self) -> Result<(), Failure> {
        let path = Path::new(TRACER).join("kprobe_events");
        // Writing it truncates the list, which nobody else uses in this host.
        fs::write(&path, format!("p:{RESETS} {RESETTING}"))
            .map_err(attempt(format!("watch {RESETTING} by {}", path.display())))?;
        self.write(&format!("events/{RESETS}/trigger"), "hist:keys=common_pid")
    }

    /// Returns what was seen so far; none before the VMM was executed.
    pub(crate) fn sighting(&self) -> Result<Option<Sighting>, Failure> {
        Ok(sighting(&self.read("trace")?))
    }

    /// Returns the histogram of an event, named with its group.
    pub(crate) fn histogram(&self, event: &str) -> Result<Histogram, Failure> {
        Ok(Histogram::parse(&self.read(&format!("events/{event}/hist"))?))
    }

    fn write(&self, file: &str, text: &str) -> Result<(), Failure> {
        let path = self.folder.join(file);
        fs::write(&path, text).map_err(attempt(format!("write `{text}` to {}", path.display())))
    }

    fn read(&self, file: &str) -> Result<String, Failure> {
        let path = self.folder.join(file);
        fs::read_to_string(&path).map_err(attempt(format!("read {}", path.display())))
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // An instance is removed with all its triggers; one that stays behind costs the next measurement little.
        let _ = fs::remove_dir(&self.folder);
    }
}

/// Mounts the tracer, if nobody has, and loads what makes its KVM events appear.
pub(crate) fn prepare() -> Result<(), Failure> {
    if !Path::new(TRACER).join("instances").is_dir() {
        rustix::mount::mount("tracefs", TRACER, "tracefs", rustix::mount::MountFlags::empty(), None)
            .map_err(|error| attempt(format!("mount {TRACER}"))(error.into()))?;
    }
    Ok(())
}

fn sighting(trace: &str) -> Option<Sighting> {
    let mut seen: Option<Sighting> = None;
    for line in trace.lines().filter(|line| !line.starts_with('#')) {
        let Some((at, event, fields)) = split(line) else { continue };
        match (event, &mut seen) {
            ("sched_process_exec", None) => {
                let pid = fields.rsplit_once(" pid=")?.1.split(' ').next()?.parse().ok()?;
                seen = Some(Sighting { pid, exec: at, entry: None });
            }
            ("kvm_entry", Some(sighting)) if sighting.entry.is_none() => sighting.entry = Some(at),
            _ => {}
        }
    }
    seen
}

/// Splits `  name-12  [000] .....  29.336038: event: fields` into time, event and fields.
fn split(line: &str) -> Option<(Duration, &str, &str)> {
    // The process's name comes first and may hold anything; the time is the last word before the event's name.
    let (_, rest) = line.split_once("] ")?;
    let (head, rest) = rest.split_once(": ")?;
    let (seconds, micros) = head.rsplit(' ').next()?.split_once('.')?;
    let at = Duration::from_secs(seconds.parse().ok()?) + Duration::from_micros(micros.parse().ok()?);
    let (event, fields) = rest.split_once(':')?;
    Some((at, event, fields))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXEC: &str = "       allod-vmm-206     [000] .....    29.336038: sched_process_exec: filename=/home/seat/b/allod-vmm pid=206 old_pid=206\n";
    const ENTRY: &str =
        "           vcpu0-208     [000] d..1.    29.482617: kvm_entry: vcpu 0, rip 0x1000b20\n";
    const HEADER: &str = "# tracer: nop\n#  TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION\n";

    #[test]
    fn start_and_first_entry_are_found() {
        let exec = Duration::from_micros(29_336_038);
        let entry = Some(Duration::from_micros(29_482_617));
        let rows = [
            (vec![HEADER], None),
            (vec![HEADER, EXEC], Some(Sighting { pid: 206, exec, entry: None })),
            (vec![HEADER, EXEC, ENTRY], Some(Sighting { pid: 206, exec, entry })),
            // An entry of somebody else's guest before ours was started.
            (vec![ENTRY, EXEC], Some(Sighting { pid: 206, exec, entry: None })),
        ];
        for (lines, expected) in rows {
            assert_eq!(sighting(&lines.concat()), expected, "{lines:?}");
        }
    }
}
