//! The guest of a benchmark for a host that is no lab: kernel, RAM disk and disk, made of the lab's image.
//!
//! The disk is the image's root file system, with all that measures in it; the RAM disk brings one program and the script that
//! does what the console is told. `allod lab guest` calls this. Not here: what is measured.

use crate::failure::Failure;
use crate::image::{Archive, Entry, Image};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The files of a guest in their folder.
pub const KERNEL: &str = "vmlinux";
/// Its RAM disk.
pub const INITRD: &str = "initrd";
/// Its disk, only ever read.
pub const DISK: &str = "disk.ext4";

/// The first program.
const INIT: &str = include_str!("../image/bench-guest-init.sh");
/// What it hands over to; the lab's own guests have the same.
const SERVE: &str = include_str!("../../../docs/examples/bench/serve.sh");
/// Where a kernel looks for firmware, and where distributions keep it.
const FIRMWARE: [&str; 2] = ["/lib/firmware", "/usr/lib/firmware"];
/// Folders in one another, at most, in a folder of firmware.
const DEPTH_LIMIT: usize = 8;
/// All firmware of the largest card's driver is a tenth of it; a RAM disk has to fit in the memory of each guest.
const FIRMWARE_LIMIT: usize = 512 << 20;

/// What goes into the RAM disk beside the image's own.
#[derive(Clone, Debug)]
pub struct Contents {
    /// Programs that the guest finds by their names.
    pub programs: Vec<PathBuf>,
    /// Files and folders of this host's firmware, for the drivers of cards that need it.
    pub firmware: Vec<PathBuf>,
}

/// Writes a guest's files into a folder, which is made if it is not there.
pub fn write(folder: &Path, contents: &Contents, progress: &dyn Fn(&str)) -> Result<(), Failure> {
    let archive = archive(contents)?;
    let image = Image::ready(progress)?;
    let at = |name: &str| folder.join(name);
    let failed = |name: &str| Failure::setup(format!("write {}", at(name).display()));
    fs::create_dir_all(folder).map_err(Failure::setup(format!("create {}", folder.display())))?;
    let mut initrd = fs::read(image.initrd()).map_err(Failure::setup("read the image's RAM disk"))?;
    initrd.extend(archive.to_bytes());
    fs::write(at(INITRD), initrd).map_err(failed(INITRD))?;
    fs::copy(image.vmlinux(), at(KERNEL)).map_err(failed(KERNEL))?;
    progress("copying the disk");
    fs::copy(image.rootfs(), at(DISK)).map_err(failed(DISK))?;
    Ok(())
}

/// Returns what stands behind the image's own RAM disk.
fn archive(contents: &Contents) -> Result<Archive, Failure> {
    let mut archive = Archive::new();
    archive.add("init", Entry::File(INIT.into(), 0o755)).add_folders(&["bench"]);
    archive.add("bench/serve", Entry::File(SERVE.into(), 0o644));
    for program in &contents.programs {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        let bytes = fs::read(program).map_err(Failure::setup(format!("read {}", program.display())))?;
        archive.add(format!("bench/{name}"), Entry::File(bytes, 0o755));
    }
    let mut firmware = Firmware { archive: &mut archive, bytes: 0 };
    for path in &contents.firmware {
        let below = FIRMWARE.iter().find_map(|root| path.strip_prefix(root).ok());
        let below = below.filter(|below| !below.as_os_str().is_empty()).ok_or_else(|| {
            Failure::Request(format!("{} is not below {}: that is no firmware", path.display(), FIRMWARE[0]))
        })?;
        firmware.add_folders_of(below);
        firmware.add(path, below, DEPTH_LIMIT).map_err(|cause| match cause.kind() {
            io::ErrorKind::FileTooLarge => Failure::Request(format!(
                "the firmware has more than {} MiB, which no guest has room for; name the folder of one driver",
                FIRMWARE_LIMIT >> 20
            )),
            _ => Failure::Setup { operation: format!("read {}", path.display()), cause },
        })?;
    }
    Ok(archive)
}

/// The firmware in an archive.
struct Firmware<'a> {
    archive: &'a mut Archive,
    bytes: usize,
}

impl Firmware<'_> {
    /// Adds the folders that a path below the root of firmware is in; one that is there already is left as it is.
    fn add_folders_of(&mut self, below: &Path) {
        let root = Path::new(FIRMWARE[0]).join(below);
        let mut folders: Vec<&Path> =
            root.ancestors().skip(1).filter(|path| path.parent().is_some()).collect();
        folders.reverse();
        for folder in folders {
            self.archive.add(in_archive(folder), Entry::Folder);
        }
    }

    /// Adds a file, or a folder with what is in it. A link is the file it leads to; one that leads nowhere, or to a folder, is
    /// left out.
    fn add(&mut self, path: &Path, below: &Path, depth: usize) -> io::Result<()> {
        let name = in_archive(&Path::new(FIRMWARE[0]).join(below));
        let kind = fs::symlink_metadata(path)?.file_type();
        if kind.is_dir() {
            self.archive.add(name, Entry::Folder);
            let mut inside: Vec<PathBuf> =
                fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
            inside.sort();
            for path in inside.iter().filter(|_| depth > 0) {
                self.add(path, &below.join(path.file_name().unwrap_or_default()), depth - 1)?;
            }
            return Ok(());
        }
        if !fs::metadata(path).is_ok_and(|target| target.is_file()) {
            return Ok(());
        }
        let bytes = fs::read(path)?;
        self.bytes += bytes.len();
        if self.bytes > FIRMWARE_LIMIT {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.archive.add(name, Entry::File(bytes, 0o644));
        Ok(())
    }
}

fn in_archive(path: &Path) -> String {
    path.to_string_lossy().trim_start_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn firmware_keeps_its_place_and_links_are_what_they_lead_to() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("sub")).unwrap();
        fs::write(folder.path().join("sub/one.bin"), b"first").unwrap();
        symlink("sub/one.bin", folder.path().join("also.bin")).unwrap();
        symlink("nowhere", folder.path().join("lost.bin")).unwrap();
        // A link back is a loop for who follows it.
        symlink("..", folder.path().join("sub/up")).unwrap();
        let mut archive = Archive::new();
        let mut firmware = Firmware { archive: &mut archive, bytes: 0 };
        firmware.add_folders_of(Path::new("maker/card"));
        firmware.add(folder.path(), Path::new("maker/card"), DEPTH_LIMIT).unwrap();
        assert_eq!(firmware.bytes, 10);
        let bytes = archive.to_bytes();
        let names: Vec<String> = String::from_utf8_lossy(&bytes)
            .split('\0')
            .filter_map(|part| part.rfind("lib").map(|at| part[at..].to_owned()))
            .collect();
        let at = |name: &str| format!("lib/firmware/maker/card{name}");
        let expected = [
            "lib".into(),
            "lib/firmware".into(),
            "lib/firmware/maker".into(),
            at(""),
            at("/also.bin"),
            at("/sub"),
            at("/sub/one.bin"),
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn only_firmware_goes_where_firmware_goes() {
        for wrong in ["/etc", "/lib/firmware", "firmware/card", "/lib/firmware/no-such-card-anywhere"] {
            let contents = Contents { programs: vec![], firmware: vec![wrong.into()] };
            assert!(archive(&contents).is_err(), "{wrong}");
        }
    }
}
