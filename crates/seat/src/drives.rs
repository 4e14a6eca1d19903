//! Disks and discs of a machine: opened, kept from other machines, and what their bytes are decided.
//!
//! Not here: what is in an image; the machine, which is shut in, looks at that.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::FlockOperation;
use spec::seat_file::{DiskFormat, DiskKind};

/// A disk, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The file or block device.
    pub path: PathBuf,
    /// Whether the guest may only read it.
    pub read_only: bool,
    /// How the file's bytes are the disk's; without it, as its name and its first bytes say, when they agree.
    pub format: Option<DiskFormat>,
    /// What the guest finds.
    pub kind: DiskKind,
}

/// A disk or disc cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum DriveUnfit {
    /// A file could not be opened.
    #[error("open the disk {}: {errno}", path.display())]
    Open {
        /// Where it should be.
        path: PathBuf,
        /// What the kernel said.
        errno: std::io::Error,
    },
    /// It is a pipe, a terminal, or the like.
    #[error(
        "{} is no disk: it is neither a file nor a block device; name one that is (`lsblk -p` shows block devices)", path.display()
    )]
    NotADisk {
        /// Which.
        path: PathBuf,
    },
    /// Another machine uses it.
    #[error(
        "the disk {} is in use by another machine; one machine may write a disk, or several may read it if each has it read-only (FILE,ro)", path.display()
    )]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// Name and bytes of a disk say different things.
    #[error(
        "{} {}, so it is not clear how its bytes are the disk's; say format=raw or format=qcow2 (a guest can write anything into a raw disk, so its bytes alone decide nothing)", path.display(),
        if *is_named { "is called qcow2 and does not begin as such an image does" } else { "begins as a qcow2 image does and is not called so" }
    )]
    UnclearFormat {
        /// Which.
        path: PathBuf,
        /// Whether it is the name that says qcow2.
        is_named: bool,
    },
    /// A disc of which a part is missing.
    #[error(
        "the ISO image {} is cut short: its volume has {says} bytes, and the file has {has}; if it was downloaded, do that again", path.display()
    )]
    CutDisc {
        /// Which.
        path: PathBuf,
        /// Bytes that its first descriptor names.
        says: u64,
        /// Bytes that there are.
        has: u64,
    },
    /// A disc that is none.
    #[error(
        "{} is not an ISO image: no volume of ISO 9660 or UDF begins at its byte 32768; give it as --disk if it is one, and if it was downloaded, compare its checksum", path.display()
    )]
    NotADisc {
        /// Which.
        path: PathBuf,
    },
}

/// The first bytes of a qcow2 image.
const QCOW2: &[u8; 4] = b"QFI\xfb";

impl Disk {
    /// Opens a disk, and decides how its bytes are the disk's.
    pub(crate) fn open(&self) -> Result<(OwnedFd, DiskFormat), DriveUnfit> {
        use std::os::unix::fs::FileExt;
        let file = File::from(open_disk(self)?);
        if let Some(format) = self.format {
            return Ok((file.into(), format));
        }
        let mut first = [0; 4];
        let begins = file.read_exact_at(&mut first, 0).is_ok() && first == *QCOW2;
        let is_named = self.path.extension().is_some_and(|extension| extension == "qcow2");
        match (is_named, begins) {
            (true, true) => Ok((file.into(), DiskFormat::Qcow2)),
            (false, false) => Ok((file.into(), DiskFormat::Raw)),
            _ => Err(DriveUnfit::UnclearFormat { path: self.path.clone(), is_named }),
        }
    }
}

/// Opens a disk and keeps other machines from it: the lock belongs to the open file, so it lasts until the machine's
/// process, which inherits it, ends.
fn open_disk(disk: &Disk) -> Result<OwnedFd, DriveUnfit> {
    let path = &disk.path;
    let failed = |errno| DriveUnfit::Open { path: path.clone(), errno };
    // Looked at first: the opening of a pipe would wait until somebody writes to it.
    let kind = std::fs::metadata(path).map_err(failed)?.file_type();
    if kind.is_dir() {
        return Err(failed(rustix::io::Errno::ISDIR.into()));
    }
    if !kind.is_file() && !kind.is_block_device() {
        return Err(DriveUnfit::NotADisk { path: path.clone() });
    }
    let file = File::options().read(true).write(!disk.read_only).open(path).map_err(failed)?;
    let lock = match disk.read_only {
        true => FlockOperation::NonBlockingLockShared,
        false => FlockOperation::NonBlockingLockExclusive,
    };
    match lock_at_last(&file, lock) {
        Ok(()) => Ok(file.into()),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(DriveUnfit::InUse { path: path.clone() }),
        Err(errno) => Err(failed(errno.into())),
    }
}

/// How often, and how far apart, a lock is tried.
const LOCK_TRIES: u32 = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Locks a file that somebody may just be looking at: who plans seats holds it for an instant.
pub(crate) fn lock_at_last(file: &File, lock: FlockOperation) -> rustix::io::Result<()> {
    for _ in 1..LOCK_TRIES {
        match rustix::fs::flock(file, lock) {
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(LOCK_PAUSE),
            done => return done,
        }
    }
    rustix::fs::flock(file, lock)
}

/// Where a disc's volume descriptors begin (ECMA-119, section 6.2.1), how long the letters at their second byte are, and
/// what they can be: ISO 9660's, or those of UDF's beginning (ECMA-167, section 2/9.1).
const VOLUMES: u64 = 32768;
const VOLUME_LETTERS: [&[u8; 5]; 2] = [b"CD001", b"BEA01"];
/// In the primary descriptor, whose type is 1 (ECMA-119, sections 8.4.8 and 8.4.12): blocks of the volume, and their size.
const PRIMARY: [u8; 6] = *b"\x01CD001";
const VOLUME_BLOCKS: usize = 80;
const BLOCK_SIZE: usize = 128;
/// Copies of burned discs lack the blocks between its tracks, and some writers count padding that they do not write.
const MISSING_AT_MOST: u64 = 1 << 20;

/// Opens a disc, and sees whether it is one.
pub(crate) fn open_disc(path: &Path) -> Result<OwnedFd, DriveUnfit> {
    use std::os::unix::fs::FileExt;
    let disc = Disk { path: path.to_owned(), read_only: true, format: None, kind: DiskKind::default() };
    let file = File::from(open_disk(&disc)?);
    let mut volume = [0; BLOCK_SIZE + 2];
    let read = file.read_exact_at(&mut volume, VOLUMES);
    if read.is_err() || !VOLUME_LETTERS.iter().any(|letters| volume[1..6] == **letters) {
        return Err(DriveUnfit::NotADisc { path: disc.path });
    }
    let says = volume_bytes(&volume);
    let has = file.metadata().map_or(0, |of| of.len());
    // A block device has no length here, and is as long as it is.
    if has != 0 && says > has.saturating_add(MISSING_AT_MOST) {
        return Err(DriveUnfit::CutDisc { path: disc.path, says, has });
    }
    Ok(file.into())
}

/// Bytes of the volume that a descriptor tells of; 0 when it is no primary one.
fn volume_bytes(descriptor: &[u8; BLOCK_SIZE + 2]) -> u64 {
    if descriptor[..6] != PRIMARY {
        return 0;
    }
    let little = |at: usize, len: usize| {
        descriptor[at..at + len].iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte))
    };
    little(VOLUME_BLOCKS, 4) * little(BLOCK_SIZE, 2)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use spec::seat_file::{DiskFormat, DiskKind};

    use super::{Disk, DriveUnfit, open_disc, open_disk};

    fn disk_at(path: &Path, read_only: bool) -> Disk {
        Disk { path: path.to_owned(), read_only, format: None, kind: DiskKind::default() }
    }

    #[test]
    fn bytes_alone_do_not_make_a_disk_qcow2() {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes, format, found) in [
            ("a.img", &b"anything"[..], None, Some(DiskFormat::Raw)),
            ("a.qcow2", &b"QFI\xfb and so on"[..], None, Some(DiskFormat::Qcow2)),
            ("b.img", &b"QFI\xfb written by a guest"[..], None, None),
            ("b.qcow2", &b"no header"[..], None, None),
            ("c.img", &b"QFI\xfb"[..], Some(DiskFormat::Raw), Some(DiskFormat::Raw)),
            ("d.img", &b""[..], None, Some(DiskFormat::Raw)),
            ("d.qcow2", &b"x"[..], Some(DiskFormat::Qcow2), Some(DiskFormat::Qcow2)),
        ] {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            let opened = Disk::open(&Disk { format, ..disk_at(&path, true) });
            match (opened, found) {
                (Ok((_, is)), Some(format)) => assert_eq!(is, format, "{name}"),
                (Err(error), None) => assert!(error.to_string().contains("say format=raw"), "{error}"),
                (opened, _) => panic!("{name}: {opened:?}"),
            }
        }
    }

    #[test]
    fn a_disc_begins_with_a_volume() {
        let folder = tempfile::tempdir().unwrap();
        for (letters, is_one) in
            [(&b"\x01CD001"[..], true), (b"\x00BEA01", true), (b"\x01CD002", false), (b"", false)]
        {
            let path = folder.path().join("disc");
            std::fs::write(&path, [&[0; 32768][..], letters, &[0; 2048]].concat()).unwrap();
            match open_disc(&path) {
                Ok(_) => assert!(is_one, "{letters:?}"),
                Err(error) => {
                    assert!(!is_one && error.to_string().contains("is not an ISO image"), "{error}")
                }
            }
        }
    }

    #[test]
    fn a_disc_of_which_much_is_missing_is_cut_short() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disc");
        for (kind, blocks, missing) in [
            (1, 17, false),
            (1, 17 + 512, false),
            (1, 18 + 512, true),
            (1, u32::MAX, true),
            (2, u32::MAX, false),
        ] {
            let mut image = vec![0; 17 * 2048];
            image[32768..32774].copy_from_slice(b"\x01CD001");
            image[32768] = kind;
            image[32768 + 80..32768 + 84].copy_from_slice(&blocks.to_le_bytes());
            image[32768 + 128..32768 + 130].copy_from_slice(&2048_u16.to_le_bytes());
            std::fs::write(&path, image).unwrap();
            let cut = open_disc(&path).map_or_else(|error| error.to_string(), |_| String::new());
            assert_eq!(cut.contains("is cut short"), missing, "{blocks}: {cut}");
        }
        let error = open_disc(folder.path()).unwrap_err().to_string();
        assert!(error.contains("Is a directory"), "{error}");
    }

    #[test]
    fn a_pipe_is_no_disk_and_nobody_waits_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)
            .unwrap();
        for (path, read_only) in [(pipe.as_path(), true), (&pipe, false), (Path::new("/dev/zero"), true)] {
            let error = open_disk(&disk_at(path, read_only)).unwrap_err().to_string();
            assert!(error.contains("is no disk"), "{error}");
        }
        let error = open_disc(&pipe).unwrap_err().to_string();
        assert!(error.contains("is no disk"), "{error}");
    }

    #[test]
    fn a_disk_that_is_only_looked_at_can_be_had() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let held = open_disk(&disk_at(file.path(), false)).unwrap();
        let looks = std::thread::spawn(move || {
            std::thread::sleep(super::LOCK_PAUSE);
            drop(held);
        });
        open_disk(&disk_at(file.path(), false)).unwrap();
        looks.join().unwrap();
    }

    #[test]
    fn a_disk_has_one_writer_or_many_readers() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let disk = |read_only| disk_at(file.path(), read_only);
        for (first, second, both) in
            [(true, true, true), (true, false, false), (false, true, false), (false, false, false)]
        {
            let held = open_disk(&disk(first)).unwrap();
            match open_disk(&disk(second)) {
                Ok(_) => assert!(both, "{first} {second}"),
                Err(error) => {
                    assert!(!both && matches!(error, DriveUnfit::InUse { .. }), "{first} {second} {error}");
                }
            }
            drop(held);
        }
        let error = open_disk(&disk_at(Path::new("/nowhere/disk"), true)).unwrap_err();
        assert!(error.to_string().starts_with("open the disk /nowhere/disk: "), "{error}");
    }
}
