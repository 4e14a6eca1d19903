//! What this program does where it is the first process of a guest and alone in its RAM disk: it makes the file systems it
//! needs, loads the modules that lie beside it, shows what the kernel's command line says, and turns the power off.
//!
//! Not here: the showing. `main` calls this.

use anyhow::{Context, Result};
use rustix::fs::{CWD, Mode};
use rustix::mount::{MountFlags, mount};
use rustix::system::{RebootCommand, finit_module, reboot};
use scene::layout::Facts;
use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

/// The file systems, by what they are called and where they go.
const FILE_SYSTEMS: [(&str, &str); 3] = [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")];
/// The folder with the modules.
const MODULES: &str = "/modules";
/// The file in it that names them, a line each, in the order in which they need one another.
const ORDER: &str = "order";
/// Modules that are loaded at most.
const MODULE_LIMIT: usize = 256;
/// Tells the kernel that a module's file is compressed (MODULE_INIT_COMPRESSED_FILE, include/uapi/linux/module.h).
const COMPRESSED: i32 = 4;
/// How long a driver may take to bring its card up.
const CARD_LIMIT: Duration = Duration::from_secs(30);
/// How often it is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Says whether we are a guest's first process.
pub(crate) fn is_ours() -> bool {
    std::process::id() == 1
}

/// Makes the guest ready: file systems, modules, a card.
pub(crate) fn begin() -> Result<()> {
    for (kind, place) in FILE_SYSTEMS {
        // It may be there already.
        rustix::fs::mkdirat(CWD, place, Mode::from(0o755)).ok();
        mount(kind, place, kind, MountFlags::empty(), None)
            .with_context(|| format!("cannot mount {place}"))?;
    }
    let folder = Path::new(MODULES);
    let order = fs::read_to_string(folder.join(ORDER)).context("the RAM disk has no list of modules")?;
    for name in order.lines().take(MODULE_LIMIT) {
        // One that is in the kernel already, or is for hardware that is not here, is not missed.
        if let Err(error) = load(&folder.join(name), name) {
            println!("scene: {name}: {error:#}");
        }
    }
    let begin = Instant::now();
    while crate::card::first().is_err() && begin.elapsed() < CARD_LIMIT {
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

fn load(path: &Path, name: &str) -> Result<()> {
    let file = File::open(path).context("cannot open it")?;
    finit_module(&file, c"", flags(name)).context("the kernel does not take it")
}

fn flags(name: &str) -> i32 {
    if name.ends_with(".ko") { 0 } else { COMPRESSED }
}

/// Returns what to show: the kernel hands words of its command line that it does not know to its first process.
pub(crate) fn facts() -> Facts {
    let word = |name: &str| std::env::var(name).ok();
    let hue = word("scene_hue").and_then(|hue| hue.parse().ok()).unwrap_or(super::HUE);
    Facts { name: word("scene_name").unwrap_or_else(|| "seat".into()), hue, typed: String::new() }
}

/// Turns the power off; a first process that just ended would be a kernel's panic.
pub(crate) fn end() -> ! {
    if let Err(error) = reboot(RebootCommand::PowerOff) {
        println!("scene: cannot turn the power off: {error}");
    }
    loop {
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::{COMPRESSED, flags};

    #[test]
    fn the_kernel_is_told_of_compressed_modules() {
        let rows = [("bochs.ko", 0), ("bochs.ko.xz", COMPRESSED), ("bochs.ko.zst", COMPRESSED)];
        for (name, expected) in rows {
            assert_eq!(flags(name), expected, "{name}");
        }
    }
}
