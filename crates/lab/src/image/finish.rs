//! Completes the unpacked packages into a system: RAM disks, the files their scripts would have written, and
//! the part of the tree that the outer QEMU runs from.

use super::ImageError;
use super::cpio::{Archive, Entry};
use super::modules::{self, Dependencies};
use super::recipe::{Annex, Recipe};
use crate::tool;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

const GUEST_INIT: &str = include_str!("../../image/guest-init.sh");
/// All text that goes into an image besides the recipe; part of its key.
pub(super) const SCRIPTS: &str = GUEST_INIT;

/// Files that package scripts or an installer would write.
const ETC: [(&str, &str); 6] = [
    (
        "passwd",
        "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    ),
    ("group", "root:x:0:\ntty:x:5:\ndisk:x:6:\nkvm:x:105:\nnogroup:x:65534:\n"),
    ("hosts", "127.0.0.1 localhost lab\n::1 localhost\n"),
    ("hostname", "lab\n"),
    // The name server of QEMU's user network.
    ("resolv.conf", "nameserver 10.0.2.3\n"),
    ("fstab", ""),
];

/// Folders of the tree that the outer QEMU needs.
const EMULATOR_PARTS: [&str; 6] = [
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/ipxe",
    "usr/share/qemu",
    "usr/share/seabios",
    "usr/share/OVMF",
    "usr/bin/qemu-system-x86_64",
];

/// Writes the first-stage RAM disk of the virtual host, without its init, which is added at each start.
pub(super) fn host_initrd(tree: &Path, release: &str, recipe: &Recipe, out: &Path) -> Result<(), ImageError> {
    let mut archive = with_busybox(tree)?;
    archive.add_folders(&["proc", "sys", "dev", "modules", "image", "layer", "new"]);
    let mut order = String::new();
    for file in Dependencies::read(tree, release)?.load_order(&recipe.initrd_modules) {
        let name = modules::file_name(&file).to_owned();
        archive.add(
            format!("modules/{name}"),
            Entry::File(read(&modules::folder(tree, release).join(&file))?, 0o644),
        );
        order.push_str(&format!("{name}\n"));
    }
    archive.add("modules/order", Entry::File(order.into_bytes(), 0o644));
    write(out, &archive.to_bytes())
}

/// Writes what package scripts would have written, and what small guests boot from.
pub(super) fn system_files(tree: &Path, release: &str, recipe: &Recipe) -> Result<(), ImageError> {
    for (name, text) in ETC {
        write(&tree.join("etc").join(name), text.as_bytes())?;
    }
    for folder in ["proc", "sys", "dev", "run", "tmp", "root", "share", "opt/allod", "usr/local/bin"] {
        let path = tree.join(folder);
        fs::create_dir_all(&path).map_err(ImageError::file("create", &path))?;
    }
    link_missing_applets(tree)?;
    for annex in &recipe.annexes {
        wrap_annex(tree, annex)?;
    }
    guest_files(tree, release, recipe)
}

/// Moves what the outer QEMU needs out of the tree, which is no longer needed itself.
pub(super) fn keep_emulator(tree: &Path, out: &Path) -> Result<(), ImageError> {
    for part in EMULATOR_PARTS {
        let (from, to) = (tree.join(part), out.join(part));
        if !from.exists() {
            continue;
        }
        let parent = to.parent().unwrap_or(out);
        fs::create_dir_all(parent).map_err(ImageError::file("create", parent))?;
        fs::rename(&from, &to).map_err(ImageError::file("keep", &from))?;
    }
    Ok(())
}

/// Writes `/boot/vmlinuz`, `/boot/guest-initrd` and `/boot/guest-modules`; `/boot/vmlinux` came with the kernel.
fn guest_files(tree: &Path, release: &str, recipe: &Recipe) -> Result<(), ImageError> {
    let boot = tree.join("boot");
    let link = boot.join("vmlinuz");
    symlink(format!("vmlinuz-{release}"), &link).map_err(ImageError::file("link", &link))?;

    let mut initrd = with_busybox(tree)?;
    initrd.add_folders(&["proc", "sys", "dev", "tmp"]).add("init", Entry::File(GUEST_INIT.into(), 0o755));
    write(&boot.join("guest-initrd"), &initrd.to_bytes())?;

    // Apart from the RAM disk, so that a guest that needs no module does not pay for unpacking them.
    let mut archive = Archive::new();
    let root = format!("lib/modules/{release}");
    archive.add_folders(&["lib", "lib/modules", &root]);
    let dependencies = Dependencies::read(tree, release)?;
    let chosen = dependencies.load_order(&recipe.guest_modules);
    for file in &chosen {
        let module = read(&modules::folder(tree, release).join(file))?;
        archive.add(format!("{root}/{}", modules::file_name(file)), Entry::File(module, 0o644));
    }
    let aliases = modules::folder(tree, release).join("modules.alias");
    let aliases = String::from_utf8_lossy(&read(&aliases)?).into_owned();
    let index = [
        ("modules.dep", dependencies.flat_index(&chosen)),
        ("modules.alias", modules::aliases_of(&aliases, &chosen)),
    ];
    for (name, text) in index {
        archive.add(format!("{root}/{name}"), Entry::File(text.into_bytes(), 0o644));
    }
    write(&boot.join("guest-modules"), &archive.to_bytes())
}

/// Starts an archive with busybox under all its names.
fn with_busybox(tree: &Path) -> Result<Archive, ImageError> {
    let busybox = tree.join("usr/bin/busybox");
    let mut archive = Archive::new();
    archive.add_folders(&["bin"]).add("bin/busybox", Entry::File(read(&busybox)?, 0o755));
    for applet in applets(tree)? {
        archive.add(format!("bin/{applet}"), Entry::Link("busybox".into()));
    }
    Ok(archive)
}

/// Gives the tree busybox's version of every command that no package brought.
fn link_missing_applets(tree: &Path) -> Result<(), ImageError> {
    let bin = tree.join("usr/bin");
    // No package script has set up the shell and awk alternatives.
    for (name, target) in [("sh", "bash"), ("awk", "mawk")] {
        if !is_present(&bin.join(name)) {
            symlink(target, bin.join(name)).map_err(ImageError::file("link", bin.join(name)))?;
        }
    }
    for applet in applets(tree)? {
        if !is_present(&bin.join(&applet)) && !is_present(&tree.join("usr/sbin").join(&applet)) {
            symlink("busybox", bin.join(&applet)).map_err(ImageError::file("link", bin.join(&applet)))?;
        }
    }
    Ok(())
}

fn applets(tree: &Path) -> Result<Vec<String>, ImageError> {
    let list = tool::run(Command::new(tree.join("usr/bin/busybox")).arg("--list"))?;
    Ok(String::from_utf8_lossy(&list).lines().filter(|name| *name != "busybox").map(str::to_owned).collect())
}

/// Puts a command into the path that starts an annex through its own loader and libraries.
fn wrap_annex(tree: &Path, annex: &Annex) -> Result<(), ImageError> {
    let root = format!("/opt/{}", annex.name);
    let library = "usr/lib/x86_64-linux-gnu";
    let mut arguments = String::new();
    for argument in &annex.arguments {
        let inside = tree.join("opt").join(&annex.name).join(argument);
        let prefix = if inside.exists() { format!("{root}/") } else { String::new() };
        arguments.push_str(&format!(" {prefix}{argument}"));
    }
    let script = format!(
        "#!/bin/sh\nexec {root}/{library}/ld-linux-x86-64.so.2 --library-path {root}/{library}:{root}/{library}/{name} \
         --argv0 {name} {root}/{program}{arguments} \"$@\"\n",
        name = annex.name,
        program = annex.program,
    );
    let path = tree.join("usr/local/bin").join(&annex.name);
    write(&path, script.as_bytes())?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
        .map_err(ImageError::file("make executable", &path))
}

/// Says whether anything is at the path, a dangling link included.
fn is_present(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn read(path: &Path) -> Result<Vec<u8>, ImageError> {
    fs::read(path).map_err(ImageError::file("read", path))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
    // A package may ship a link here (to a file of a service that is not in the image).
    if path.is_symlink() {
        fs::remove_file(path).map_err(ImageError::file("replace", path))?;
    }
    fs::write(path, bytes).map_err(ImageError::file("write", path))
}
