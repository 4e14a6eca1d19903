//! Starts virtual hosts: lays out the folder of a run and hands the emulator its command line.

use crate::cache;
use crate::emulator::{Emulator, Lifetime};
use crate::failure::Failure;
use crate::greeting;
use crate::host::Host;
use crate::image::{Archive, Entry, Image};
use crate::machine::{self, Clock, Places};
use crate::profile::Profile;
use crate::tool;
use rustix::fs::FlockOperation;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Names the folder our programs are taken from, instead of the one of the running program.
pub const PROGRAMS_VARIABLE: &str = "ALLOD_LAB_PROGRAMS";
/// Names the folders of runs, and the file in each that is locked while the run lasts.
const RUN_PREFIX: &str = "run-";
const RUN_LOCK: &str = "lock";
/// The script of the initial RAM disk.
const HOST_INIT: &str = include_str!("../image/host-init.sh");
/// The first process of the host.
const INIT: &str = "allod-lab-init";

/// A host about to be started.
#[derive(Debug, Clone)]
pub struct Lab {
    profile: Profile,
    share: Option<PathBuf>,
    programs: Option<PathBuf>,
    pub(crate) clock: Clock,
}

impl Lab {
    /// Prepares a host with the given hardware.
    pub fn new(profile: Profile) -> Self {
        Self { profile, share: None, programs: None, clock: Clock::Wall }
    }

    /// Makes a folder visible at `/share` inside, writable.
    pub fn share(mut self, folder: impl Into<PathBuf>) -> Self {
        self.share = Some(folder.into());
        self
    }

    /// Takes our programs from a folder, wherever the running program is.
    pub fn programs(mut self, folder: impl Into<PathBuf>) -> Self {
        self.programs = Some(folder.into());
        self
    }

    /// Chooses what the host's clock counts, instead of the wall's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Gives the host another amount of memory than its profile says.
    pub fn memory_mib(mut self, memory_mib: u32) -> Self {
        self.profile.memory_mib = memory_mib;
        self
    }

    /// Builds the image if need be, starts the host and waits until it takes commands.
    ///
    /// The host is gone when the returned value is dropped or this process dies, however that happens.
    pub fn boot(&self, progress: &dyn Fn(&str)) -> Result<Host, Failure> {
        let image = Image::ready(progress)?;
        let root = cache::runtime_root();
        fs::create_dir_all(&root).map_err(Failure::setup(format!("create {}", root.display())))?;
        sweep(&root);
        let folder = tempfile::Builder::new()
            .prefix(RUN_PREFIX)
            .tempdir_in(&root)
            .map_err(Failure::setup(format!("create a folder in {}", root.display())))?;
        let lock = lock_run(folder.path()).map_err(Failure::setup("lock the folder of the run"))?;
        let mut host = self.start(&image, folder.path(), Lifetime::Tied)?;
        host.folder = Some((folder, lock));
        Ok(host)
    }

    /// Starts the emulator with its files in `run` and waits for init.
    pub(crate) fn start(&self, image: &Image, run: &Path, lifetime: Lifetime) -> Result<Host, Failure> {
        let begin = Instant::now();
        let programs = match &self.programs {
            Some(folder) => absolute(folder)?,
            None => programs_folder()?,
        };
        let places = Places {
            run: run.to_owned(),
            kernel: image.vmlinux(),
            initrd: run.join("initrd"),
            rootfs: image.rootfs(),
            share: self.share.as_deref().map(absolute).transpose()?,
            programs: Some(programs.clone()),
        };
        write_initrd(image, &programs, &places.initrd)
            .map_err(Failure::setup(format!("write {}", places.initrd.display())))?;
        for (id, mebibytes) in machine::drives(&self.profile) {
            let path = places.drive(&id);
            File::create(&path)
                .and_then(|file| file.set_len(u64::from(mebibytes) << 20))
                .map_err(Failure::setup(format!("make the drive {}", path.display())))?;
        }
        for card in self.profile.cards.iter().filter(|card| card.served) {
            let folder = places.served(&card.id);
            fs::create_dir(&folder)
                .and_then(|()| fs::write(folder.join(machine::SERVED), greeting::program()))
                .map_err(Failure::setup(format!("make the folder {}", folder.display())))?;
        }
        for (card, rom) in self.profile.cards.iter().filter_map(|card| Some((card, card.lying_rom?))) {
            let path = places.rom(&card.id);
            fs::write(&path, rom.bytes())
                .map_err(Failure::setup(format!("write the ROM {}", path.display())))?;
        }
        let arguments = machine::arguments(&self.profile, &places, self.clock);
        let emulator = Emulator::start(image, &arguments, &places.emulator_log(), lifetime)
            .map_err(Failure::setup("start the emulator"))?;
        Host::greet((self.profile.clone(), self.clock), places, emulator, 0, begin)
    }
}

/// Returns the folder that holds our programs: the environment's, else the one of the running program.
pub fn programs_folder() -> Result<PathBuf, Failure> {
    if let Some(folder) = std::env::var_os(PROGRAMS_VARIABLE).filter(|folder| !folder.is_empty()) {
        return absolute(Path::new(&folder));
    }
    let program = std::env::current_exe().map_err(Failure::setup("find the running program"))?;
    // Test programs lie one folder below the programs they test.
    let found = program.ancestors().skip(1).take(2).find(|folder| folder.join(INIT).is_file());
    found.map(Path::to_owned).ok_or_else(|| {
        Failure::Request(format!(
            "`{INIT}` is not beside {}; build it (`cargo build -p lab`) or name its folder in {PROGRAMS_VARIABLE}",
            program.display()
        ))
    })
}

/// Marks the folder of a run as in use for as long as the file is open.
fn lock_run(folder: &Path) -> io::Result<File> {
    let file = File::create(folder.join(RUN_LOCK))?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    Ok(file)
}

/// Removes what runs that were killed left behind.
fn sweep(root: &Path) {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(RUN_PREFIX) {
            continue;
        }
        let folder = entry.path();
        // One without a lock file is just being made.
        let Ok(lock) = File::open(folder.join(RUN_LOCK)) else { continue };
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = fs::remove_dir_all(&folder);
        }
    }
}

/// Writes the image's RAM disk with our init behind it.
fn write_initrd(image: &Image, programs: &Path, out: &Path) -> io::Result<()> {
    let mut bytes = fs::read(image.initrd())?;
    let mut archive = Archive::new();
    archive.add("init", Entry::File(HOST_INIT.into(), 0o755)).add_folders(&["lab"]);
    archive.add("lab/init", Entry::File(small(&programs.join(INIT))?, 0o755));
    bytes.extend(archive.to_bytes());
    fs::write(out, bytes)
}

/// Reads a program, without its debug information if there is a tool to take it off: a development build has
/// ten megabytes of it, and the host would unpack them at every start.
fn small(program: &Path) -> io::Result<Vec<u8>> {
    if tool::is_installed("strip") {
        let out = tempfile::NamedTempFile::new()?;
        let mut strip = tool::command("strip");
        strip.args(["--strip-all", "-o"]).arg(out.path()).arg(program);
        if tool::run(&mut strip).is_ok() {
            return fs::read(out.path());
        }
    }
    fs::read(program)
}

fn absolute(folder: &Path) -> Result<PathBuf, Failure> {
    folder.canonicalize().map_err(Failure::setup(format!("find the folder {}", folder.display())))
}
