//! The process of the outer QEMU: started from the image's own tree, tied to whoever started it, ended by handle.

use crate::image::Image;
use crate::process;
use crate::tool;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

/// Lets one wrong assertion of QEMU pass; see `qemu-fix/fix.rs`.
const FIX: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/qemu-fix.so"));
/// Longest wait for the process to go after it was killed.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// Whether the emulator may outlive the process that starts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// It is killed when its starter dies, however that happens.
    Tied,
    /// It stays, in a session of its own.
    Detached,
}

/// A running emulator.
#[derive(Debug)]
pub struct Emulator {
    pid: Pid,
    handle: OwnedFd,
    /// Filled when a child of ours ends.
    status: Arc<Mutex<Option<ExitStatus>>>,
}

impl Emulator {
    /// Starts QEMU with `arguments`; its own words go to the file `log`.
    pub fn start(image: &Image, arguments: &[OsString], log: &Path, lifetime: Lifetime) -> io::Result<Self> {
        let log = File::create(log)?;
        let fix = place(image, FIX, "qemu-fix", "so")?;
        let mut command = command_line(image, &fix, arguments, lifetime);
        draw_unseen(&mut command, image)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        if lifetime == Lifetime::Tied {
            // An interrupt at the terminal is for us; we end the emulator ourselves. (A detached one becomes
            // the leader of a session, which a leader of a group cannot.)
            command.process_group(0);
        }
        let status = Arc::new(Mutex::new(None));
        let (started, result) = mpsc::channel();
        let record = status.clone();
        // The kernel's death signal fires when the *thread* that started the process ends: this one stays
        // as long as the emulator does.
        thread::spawn(move || match command.spawn() {
            Ok(mut child) => {
                let _ = started.send(open(Pid::from_child(&child)));
                let ended = child.wait().ok();
                *record.lock().unwrap_or_else(PoisonError::into_inner) = ended;
            }
            Err(error) => drop(started.send(Err(error))),
        });
        let (pid, handle) = result.recv().map_err(io::Error::other)??;
        Ok(Self { pid, handle, status })
    }

    /// Takes hold of an emulator that another process started.
    pub fn adopt(pid: u32) -> io::Result<Self> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
        let (pid, handle) = open(pid)?;
        Ok(Self { pid, handle, status: Arc::default() })
    }

    /// Returns its process number.
    pub fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Says whether it still runs.
    pub fn is_alive(&self) -> bool {
        !self.wait(Duration::ZERO)
    }

    /// Waits for its end; says whether it came within `limit`.
    pub fn wait(&self, limit: Duration) -> bool {
        let timeout = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: i64::from(limit.subsec_nanos()) };
        let mut polled = [PollFd::new(&self.handle, PollFlags::IN)];
        // An interrupted wait counts as not ended: the caller asks again.
        poll(&mut polled, Some(&timeout)).is_ok_and(|count| count > 0)
    }

    /// Returns the processor time it has used: a measure of work that a busy machine distorts less than wall time.
    pub fn processor_time(&self) -> Duration {
        let fields = process::stat(self.id()).unwrap_or_default();
        let ticks = |field: usize| fields.get(field).and_then(|text| text.parse().ok()).unwrap_or(0);
        let ticks: u64 = ticks(process::USER_TIME) + ticks(process::SYSTEM_TIME);
        Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second().max(1))
    }

    /// Returns how it ended, when it was ours and has.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends it at once, as pulling the plug does.
    pub fn kill(&self) {
        // It may be gone already: then there is nothing to do.
        if pidfd_send_signal(&self.handle, Signal::KILL).is_ok() {
            self.wait(KILL_LIMIT);
        }
    }
}

fn open(pid: Pid) -> io::Result<(Pid, OwnedFd)> {
    Ok((pid, pidfd_open(pid, PidfdFlags::empty())?))
}

/// Puts a file that the emulator needs beside the image and returns its path, which names its contents.
///
/// Not into the folder of the run: systems forbid running code from there.
fn place(image: &Image, bytes: &[u8], name: &str, suffix: &str) -> io::Result<PathBuf> {
    let digest = Sha256::digest(bytes);
    let path = image.dir().join(format!(
        "{name}-{:02x}{:02x}{:02x}{:02x}.{suffix}",
        digest[0], digest[1], digest[2], digest[3]
    ));
    if !path.is_file() {
        let mut file = tempfile::NamedTempFile::new_in(image.dir())?;
        file.write_all(bytes)?;
        file.persist(&path)?;
    }
    Ok(path)
}

/// Lets a card with three dimensions draw by the image's own Mesa, on its processor and on no screen: nothing of the
/// user's graphics is needed or touched.
fn draw_unseen(command: &mut Command, image: &Image) -> io::Result<()> {
    let libraries = image.emulator_tree().join("usr/lib/x86_64-linux-gnu");
    // The form of these files is the EGL vendor library dispatch's: https://github.com/NVIDIA/libglvnd, EGL ICD files.
    let vendor = serde_json::json!({
        "file_format_version": "1.0.0",
        "ICD": { "library_path": libraries.join("libEGL_mesa.so.0") },
    });
    command
        .env(
            "__EGL_VENDOR_LIBRARY_FILENAMES",
            place(image, vendor.to_string().as_bytes(), "egl-mesa", "json")?,
        )
        .env("LIBGL_DRIVERS_PATH", libraries.join("dri"))
        .env("LIBGL_ALWAYS_SOFTWARE", "1")
        .env("SDL_VIDEODRIVER", "offscreen")
        .env("SDL_AUDIODRIVER", "dummy");
    Ok(())
}

/// Runs the image's QEMU through the image's loader, so that neither depends on the user's system.
fn command_line(image: &Image, fix: &Path, arguments: &[OsString], lifetime: Lifetime) -> Command {
    let tree = image.emulator_tree();
    let libraries = tree.join("usr/lib/x86_64-linux-gnu");
    let mut search = libraries.clone().into_os_string();
    // Sound libraries keep their private parts one folder down.
    search.push(":");
    search.push(libraries.join("pulseaudio"));
    let mut command = match lifetime {
        Lifetime::Tied => {
            let mut command = tool::command("setpriv");
            command.args(["--pdeathsig", "KILL", "--"]);
            command
        }
        Lifetime::Detached => tool::command("setsid"),
    };
    command.arg(libraries.join("ld-linux-x86-64.so.2")).arg("--library-path").arg(search);
    command.arg("--preload").arg(fix);
    command.arg(tree.join("usr/bin/qemu-system-x86_64"));
    for folder in ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"] {
        command.arg("-L").arg(tree.join(folder));
    }
    command.args(arguments).env("QEMU_MODULE_DIR", libraries.join("qemu"));
    command
}
