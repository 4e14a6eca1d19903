//! One run of a VMM on a terminal: its command line, its console, its process and its end.
//!
//! Not here: what is measured in it; that is [`crate::measure`].

use crate::failure::{Failure, attempt};
use crate::trace::{Sighting, Tracer};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use rustix::time::{ClockId, clock_gettime};
use std::fs::{self, File, OpenOptions};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

/// Guest memory in MiB.
const MEMORY_MIB: u32 = 512;
/// How much of the console's end an error shows.
const TAIL: usize = 400;
/// Where a VMM's own words go: most are about the end that we give it.
const WORDS: &str = "/tmp/vmm.words";

/// A VMM under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vmm {
    /// `allod run`.
    Allod,
    /// Debian's QEMU with its q35 board.
    Qemu,
}

/// What the VMM starts.
#[derive(Debug, Clone)]
pub(crate) struct Guest {
    /// The kernel.
    pub(crate) kernel: PathBuf,
    /// The initial RAM disk.
    pub(crate) initrd: Option<PathBuf>,
    /// The kernel's command line.
    pub(crate) command_line: &'static str,
}

impl Vmm {
    /// Finds a VMM by the name it has on our command line.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "allod" => Some(Self::Allod),
            "qemu" => Some(Self::Qemu),
            _ => None,
        }
    }

    /// Returns the last part of the path of the program that runs the guest.
    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::Allod => "allod-vmm",
            Self::Qemu => "qemu-system-x86_64",
        }
    }

    /// Returns the command that starts `guest` with one processor, 512 MiB and no device besides the console.
    fn words(self, guest: &Guest, folder: &Path) -> Vec<String> {
        let start = match self {
            Self::Allod => {
                let program = folder.join("allod");
                format!("{} run --no-reboot --no-rng --cpus 1 --memory {MEMORY_MIB}M", program.display())
            }
            Self::Qemu => format!(
                "qemu-system-x86_64 -M q35 -accel kvm -cpu host -smp 1 -m {MEMORY_MIB} -nodefaults -display none \
                 -vga none -monitor none -serial stdio -no-reboot"
            ),
        };
        let mut words: Vec<String> = start.split_ascii_whitespace().map(str::to_owned).collect();
        let dash = if self == Self::Allod { "--" } else { "-" };
        let cmdline = if self == Self::Allod { "cmdline" } else { "append" };
        words.extend([format!("{dash}kernel"), guest.kernel.display().to_string()]);
        if let Some(initrd) = &guest.initrd {
            words.extend([format!("{dash}initrd"), initrd.display().to_string()]);
        }
        words.extend([format!("{dash}{cmdline}"), guest.command_line.to_owned()]);
        words
    }
}

/// A running VMM with its console.
#[derive(Debug)]
pub(crate) struct Run {
    starter: Child,
    terminal: OwnedFd,
    console: Vec<u8>,
    first_byte: Option<Duration>,
    tracer: Tracer,
    process: Option<OwnedFd>,
}

impl Run {
    /// Starts `vmm` with `guest`, behind the words `before` (a tracer of its own, say); our programs are in `folder`.
    pub(crate) fn start(
        vmm: Vmm,
        guest: &Guest,
        folder: &Path,
        before: &[String],
        tracer: Tracer,
    ) -> Result<Self, Failure> {
        let (terminal, end) = raw_terminal()?;
        let words = [before, &vmm.words(guest, folder)].concat();
        let [program, arguments @ ..] = words.as_slice() else { return Err(Failure::Unseen("program")) };
        let what = attempt(format!("start {program}"));
        let clone = || end.try_clone();
        let mut command = Command::new(program);
        command.args(arguments);
        let starter = clone()
            .and_then(|input| Ok((input, clone()?)))
            .and_then(|(input, output)| Ok((input, output, File::create(WORDS)?)))
            .and_then(|(input, output, words)| command.stdin(input).stdout(output).stderr(words).spawn())
            .map_err(what)?;
        Ok(Self { starter, terminal, console: Vec::new(), first_byte: None, tracer, process: None })
    }

    /// Returns the tracer that waits for this run's VMM.
    pub(crate) fn tracer(&self) -> &Tracer {
        &self.tracer
    }

    /// Returns what the tracer has seen; it is an error when the guest has not run yet.
    pub(crate) fn sighting(&mut self) -> Result<(Sighting, Duration), Failure> {
        let sighting = self.tracer.sighting()?.ok_or(Failure::Unseen("start of the VMM"))?;
        let entry = sighting.entry.ok_or(Failure::Unseen("first entry into the guest"))?;
        if self.process.is_none() {
            let pid =
                i32::try_from(sighting.pid).ok().and_then(Pid::from_raw).ok_or(Failure::Unseen("process"))?;
            let process = pidfd_open(pid, PidfdFlags::empty());
            self.process = Some(process.map_err(|error| attempt("get hold of the VMM")(error.into()))?);
        }
        Ok((sighting, entry))
    }

    /// Returns when the first byte came on the console.
    pub(crate) fn first_byte(&self) -> Option<Duration> {
        self.first_byte
    }

    /// Waits until the console shows `awaited` and says when.
    pub(crate) fn await_text(&mut self, awaited: &'static str, limit: Duration) -> Result<Duration, Failure> {
        let deadline = now() + limit;
        loop {
            let left = deadline.checked_sub(now()).ok_or_else(|| self.stalled(awaited, limit))?;
            let mut polled = [PollFd::new(&self.terminal, PollFlags::IN)];
            wait_for(&mut polled, left)?;
            if polled[0].revents().is_empty() {
                continue;
            }
            let at = now();
            if !self.read_console()? {
                return Err(Failure::Ended { awaited, console: self.tail() });
            }
            self.first_byte.get_or_insert(at);
            if self.console.windows(awaited.len()).any(|part| part == awaited.as_bytes()) {
                return Ok(at);
            }
        }
    }

    /// Waits until the VMM's process is gone and says when. The console is emptied meanwhile.
    pub(crate) fn await_end(&mut self, limit: Duration) -> Result<Duration, Failure> {
        let deadline = now() + limit;
        let mut open = true;
        loop {
            let left =
                deadline.checked_sub(now()).ok_or_else(|| self.stalled("the end of the VMM", limit))?;
            let process = self.process.as_ref().ok_or(Failure::Unseen("process"))?;
            let mut polled =
                [PollFd::new(process, PollFlags::IN), PollFd::new(&self.terminal, PollFlags::IN)];
            let watched = if open { 2 } else { 1 };
            wait_for(&mut polled[..watched], left)?;
            let (ended, written) = (!polled[0].revents().is_empty(), !polled[1].revents().is_empty());
            if ended {
                let at = now();
                self.starter.wait().map_err(attempt("wait for the starter of the VMM"))?;
                return Ok(at);
            }
            if open && written {
                open = self.read_console()?;
            }
        }
    }

    /// Kills the VMM and says when.
    pub(crate) fn kill(&mut self) -> Result<Duration, Failure> {
        let process = self.process.as_ref().ok_or(Failure::Unseen("process"))?;
        let at = now();
        pidfd_send_signal(process, Signal::KILL).map_err(|error| attempt("kill the VMM")(error.into()))?;
        Ok(at)
    }

    /// Takes what the console has; says whether anybody can still write to it.
    fn read_console(&mut self) -> Result<bool, Failure> {
        let mut buffer = [0; 4096];
        match rustix::io::read(&self.terminal, &mut buffer) {
            // The last user of the other end is gone.
            Ok(0) | Err(rustix::io::Errno::IO) => Ok(false),
            Ok(count) => {
                self.console.extend_from_slice(&buffer[..count]);
                Ok(true)
            }
            Err(rustix::io::Errno::INTR) => Ok(true),
            Err(error) => Err(attempt("read the console")(error.into())),
        }
    }

    fn stalled(&self, awaited: &'static str, limit: Duration) -> Failure {
        Failure::Stalled { awaited, limit, console: self.tail() }
    }

    fn tail(&self) -> String {
        let console = String::from_utf8_lossy(&self.console[self.console.len().saturating_sub(TAIL)..]);
        let words = fs::read_to_string(WORDS).unwrap_or_default();
        format!("{console:?}, and the VMM: {words:?}")
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // All of these may be gone already, which is as good.
        let _ = self.sighting();
        let _ = self.kill();
        let _ = self.starter.kill();
        let _ = self.starter.wait();
    }
}

/// Returns the time of the clock that the tracer uses too.
pub(crate) fn now() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

fn wait_for(polled: &mut [PollFd], left: Duration) -> Result<(), Failure> {
    let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
    match poll(polled, Some(&timeout)) {
        // An interrupted wait is begun anew by the caller.
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(attempt("wait for the console")(error.into())),
    }
}

/// Makes a terminal that hands bytes through unchanged, the same for every VMM; returns our end and theirs.
fn raw_terminal() -> Result<(OwnedFd, OwnedFd), Failure> {
    let refused = |error: rustix::io::Errno| attempt("make a terminal")(error.into());
    let main = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).map_err(refused)?;
    grantpt(&main).and_then(|()| unlockpt(&main)).map_err(refused)?;
    let name = ptsname(&main, Vec::new()).map_err(refused)?;
    let path = PathBuf::from(name.to_string_lossy().into_owned());
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    // Without the flag this process would get it as its controlling terminal.
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, rustix::fs::OFlags::NOCTTY.bits() as i32);
    let end: OwnedFd = options.open(&path).map_err(attempt("open a terminal"))?.into();
    let mut attributes = tcgetattr(&end).map_err(refused)?;
    attributes.make_raw();
    tcsetattr(&end, OptionalActions::Now, &attributes).map_err(refused)?;
    Ok((main, end))
}
