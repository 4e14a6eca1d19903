//! The RAM disk of the seats that a demo shows on one's own host: the program that draws, the libraries it is linked to, and
//! what this host's own driver of each card is made of. Not here: how a guest goes on from there (the crate `scene`).

use crate::process::capture;
use anyhow::{Context, Result, bail};
use lab::image::{Archive, Entry};
use spec::PciAddress;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What every seat's guest loads: input devices as files, among them the power button.
const ALWAYS: [&str; 2] = ["evdev", "button"];
/// The dynamic linker, which knows what a program is linked to.
const LINKER: &str = "/lib64/ld-linux-x86-64.so.2";
/// Where firmware lies, and how a file of it may be compressed.
const FIRMWARE: &str = "/lib/firmware";
const COMPRESSIONS: [&str; 3] = ["", ".xz", ".zst"];
/// Firmware that is taken along at most: a driver names that of every card it knows.
const FIRMWARE_LIMIT: usize = 256 << 20;

/// Makes it.
///
/// # Errors
/// A file or a program that is needed is not there, or a card has no driver on this host.
pub(super) fn build(scene: &Path, cards: &[PciAddress]) -> Result<Vec<u8>> {
    let mut tree = Tree::default();
    tree.file("/init", &read(scene)?);
    let linked = answer(Command::new(LINKER).arg("--list").arg(scene))?;
    for library in libraries(&linked) {
        tree.file(library, &read(Path::new(library))?);
    }
    let mut modules: Vec<PathBuf> = Vec::new();
    for name in ALWAYS {
        // Where it is no module, it is in the kernel.
        modules.extend(needed(name).unwrap_or_default());
    }
    for card in cards {
        modules.extend(needed(&driver(*card)?)?);
    }
    let mut order = String::new();
    let mut firmware = 0;
    for module in modules {
        let name = module.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if order.lines().any(|listed| listed == name) {
            continue;
        }
        order.push_str(&format!("{name}\n"));
        tree.file(&format!("/modules/{name}"), &read(&module)?);
        let wanted = answer(Command::new("modinfo").args(["--field", "firmware"]).arg(&module))?;
        for file in wanted.lines().flat_map(firmware_files).filter(|file| file.is_file()) {
            let content = read(&file)?;
            firmware += content.len();
            if firmware <= FIRMWARE_LIMIT {
                tree.file(&file.to_string_lossy(), &content);
            }
        }
    }
    tree.file("/modules/order", order.as_bytes());
    Ok(tree.archive.to_bytes())
}

/// Returns the module of a card's driver, or what stands for it in the kernel's lists.
fn driver(card: PciAddress) -> Result<String> {
    let device = PathBuf::from(format!("/sys/bus/pci/devices/{card}"));
    let module = fs::read_link(device.join("driver/module")).ok();
    match module.as_deref().and_then(Path::file_name) {
        Some(name) => Ok(name.to_string_lossy().into_owned()),
        None => Ok(String::from_utf8_lossy(&read(&device.join("modalias"))?).trim().to_owned()),
    }
}

/// Returns the files of a module and of those it needs, in the order in which they are loaded.
fn needed(module: &str) -> Result<Vec<PathBuf>> {
    // Where a user's path does not lead to the programs of the system.
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let shown = answer(Command::new("modprobe").args(["--show-depends", module]).env("PATH", path))?;
    Ok(inserted(&shown))
}

/// Reads `insmod FILE PARAMETERS`, a line each; what is in the kernel itself is told otherwise.
fn inserted(shown: &str) -> Vec<PathBuf> {
    let file = |line: &str| line.strip_prefix("insmod ")?.split_whitespace().next().map(PathBuf::from);
    shown.lines().filter_map(file).collect()
}

/// Reads `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f..)`, a line each; the linker itself has no arrow.
fn libraries(linked: &str) -> Vec<&str> {
    let named = linked.lines().map(|line| line.split_once(" => ").map_or(line, |(_, path)| path));
    named.filter_map(|path| path.split_whitespace().next()).filter(|path| path.starts_with('/')).collect()
}

/// Returns where a file of firmware may lie.
fn firmware_files(name: &str) -> Vec<PathBuf> {
    COMPRESSIONS.iter().map(|end| PathBuf::from(format!("{FIRMWARE}/{name}{end}"))).collect()
}

/// Files by absolute path, whose folders are made before them.
#[derive(Default)]
struct Tree {
    archive: Archive,
    folders: BTreeSet<String>,
}

impl Tree {
    fn file(&mut self, path: &str, content: &[u8]) {
        let path = path.trim_start_matches('/');
        for (at, _) in path.match_indices('/') {
            let folder = &path[..at];
            if self.folders.insert(folder.to_owned()) {
                self.archive.add(folder, Entry::Folder);
            }
        }
        self.archive.add(path, Entry::File(content.to_vec(), 0o755));
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn answer(command: &mut Command) -> Result<String> {
    let (status, text) = capture(command)?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_linkers_answer_is_read() {
        let linked = "\tlinux-vdso.so.1 (0x00007f)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x00007f)\n\
                      \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n\tlibgone.so => not found\n";
        assert_eq!(libraries(linked), ["/lib/x/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]);
        assert_eq!(libraries("\tstatically linked\n"), [""; 0]);
    }

    #[test]
    fn modules_are_read_in_their_order_and_what_is_built_in_is_none() {
        let shown =
            "builtin drm\ninsmod /lib/modules/6/drm_kms.ko.xz \ninsmod /lib/modules/6/bochs.ko modeset=1\n";
        let expected = ["/lib/modules/6/drm_kms.ko.xz", "/lib/modules/6/bochs.ko"].map(PathBuf::from);
        assert_eq!(inserted(shown), expected);
    }

    #[test]
    fn each_folder_is_made_once_and_before_its_files() {
        let mut tree = Tree::default();
        ["/init", "/a/b/c", "/a/b/d", "/a/e"].iter().for_each(|path| tree.file(path, b"x"));
        let bytes = tree.archive.to_bytes();
        let at = |name: &str| {
            let name = format!("{name}\0").into_bytes();
            bytes.windows(name.len()).position(|window| window == name)
        };
        assert!(at("a") < at("a/b") && at("a/b") < at("a/b/c"), "{:?}", (at("a"), at("a/b"), at("a/b/c")));
        assert_eq!(tree.folders.len(), 2);
    }
}
