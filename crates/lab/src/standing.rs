//! Hosts that stay: started by one process (`allod lab up`), used and ended by others.
//!
//! What is known of one is a folder under the runtime directory: its sockets, logs and a state file. The emulator
//! is named by process number and start time, so that a number used anew is never taken for it.

use crate::cache;
use crate::emulator::{Emulator, Lifetime};
use crate::failure::Failure;
use crate::host::Host;
use crate::image::Image;
use crate::machine::{Clock, Places};
use crate::outside::Hardware;
use crate::process;
use crate::profile::Profile;
use crate::start::Lab;
use crate::wire::PORT_COUNT;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The name of a host when none is given.
pub const DEFAULT_NAME: &str = "lab";

const STATE_FILE: &str = "state.json";
/// What is written down about a standing host.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Standing {
    /// The emulator's process number.
    pub pid: u32,
    /// Its start time in clock ticks since this machine's boot.
    pub start_time: u64,
    /// The hardware.
    pub profile: Profile,
    /// What its clock counts.
    pub clock: Clock,
}

impl Lab {
    /// Starts a host that stays until [`end`] is called for its name.
    pub fn stand(&self, name: &str, progress: &dyn Fn(&str)) -> Result<Host, Failure> {
        let folder = folder(name)?;
        if read_state(&folder).is_some_and(|state| is_running(&state)) {
            return Err(Failure::Request(format!(
                "the host `{name}` is up already; `allod lab down` ends it"
            )));
        }
        let image = Image::ready(progress)?;
        // The remains of a host whose machine was switched off.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).map_err(Failure::setup(format!("create {}", folder.display())))?;
        let host = self.start(&image, &folder, Lifetime::Detached)?;
        let pid = host.emulator.id();
        let start_time = process::start_time(pid).unwrap_or_default();
        let state = Standing { pid, start_time, profile: host.profile().clone(), clock: self.clock };
        let text = serde_json::to_string_pretty(&state).unwrap_or_default();
        let path = folder.join(STATE_FILE);
        if let Err(cause) = fs::write(&path, text) {
            // Nobody could ever find it again.
            host.emulator.kill();
            return Err(Failure::setup(format!("write {}", path.display()))(cause));
        }
        Ok(host)
    }
}

/// Connects to a standing host.
pub fn attach(name: &str) -> Result<Host, Failure> {
    let folder = folder(name)?;
    let (state, emulator) = find(name, &folder)?;
    let (number, lock) = free_port(&folder)?;
    let mut host =
        Host::greet((state.profile, state.clock), places(&folder), emulator, number, Instant::now())?;
    host.port_lock = Some(lock);
    Ok(host)
}

/// Connects to a standing host's hardware only: what runs inside is neither asked nor waited for.
pub fn attach_hardware(name: &str) -> Result<Hardware, Failure> {
    let folder = folder(name)?;
    let (state, _) = find(name, &folder)?;
    Ok(Hardware { profile: state.profile, places: places(&folder) })
}

/// Ends a standing host: in an orderly way if it listens, else by cutting its power.
pub fn end(name: &str) -> Result<(), Failure> {
    let folder = folder(name)?;
    let (state, emulator) = find(name, &folder)?;
    match attach(name) {
        Ok(host) => host.shutdown(),
        Err(_) => emulator.kill(),
    }
    if is_running(&state) {
        return Err(Failure::Request(format!(
            "the emulator of `{name}` (process {}) does not go",
            state.pid
        )));
    }
    fs::remove_dir_all(&folder).map_err(Failure::setup(format!("remove {}", folder.display())))
}

fn find(name: &str, folder: &Path) -> Result<(Standing, Emulator), Failure> {
    let absent =
        || Failure::Request(format!("no host `{name}` is up; `allod lab up --profile NAME` starts one"));
    let state = read_state(folder).ok_or_else(absent)?;
    if !is_running(&state) {
        return Err(absent());
    }
    let emulator = Emulator::adopt(state.pid).map_err(Failure::setup("take hold of the emulator"))?;
    Ok((state, emulator))
}

fn folder(name: &str) -> Result<PathBuf, Failure> {
    let plain =
        !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-');
    if !plain {
        return Err(Failure::Request(format!(
            "`{name}` is no name for a host: letters, digits and dashes only"
        )));
    }
    Ok(cache::runtime_root().join(format!("host-{name}")))
}

fn read_state(folder: &Path) -> Option<Standing> {
    serde_json::from_slice(&fs::read(folder.join(STATE_FILE)).ok()?).ok()
}

fn is_running(state: &Standing) -> bool {
    process::start_time(state.pid) == Some(state.start_time)
}

/// Takes the first port that no other client holds; the lock ends with the client.
fn free_port(folder: &Path) -> Result<(usize, File), Failure> {
    for number in 0..PORT_COUNT {
        let path = folder.join(format!("port{number}.lock"));
        let file = File::create(&path).map_err(Failure::setup(format!("create {}", path.display())))?;
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return Ok((number, file));
        }
    }
    Err(Failure::Request(format!("all {PORT_COUNT} lines to the host are in use")))
}

fn places(folder: &Path) -> Places {
    Places {
        run: folder.to_owned(),
        kernel: PathBuf::new(),
        initrd: folder.join("initrd"),
        rootfs: PathBuf::new(),
        share: None,
        programs: None,
    }
}
