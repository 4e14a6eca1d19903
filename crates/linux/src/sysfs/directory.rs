//! A tree that is a directory: the running system's root, or a tree recorded from another machine.
//!
//! Links are resolved below the root (`openat2` with `RESOLVE_IN_ROOT`), so that a recorded tree cannot lead out
//! of itself. Called by the binaries, which hand it down as [`Tree`].

use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write as _};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};

use super::{LIST_LIMIT, NodeKind, Operation, Tree, TreeError};

/// A tree below a directory.
#[derive(Debug)]
pub struct DirectoryTree {
    root: OwnedFd,
    /// The root's own canonical path, cut off from the front of canonical paths.
    prefix: PathBuf,
}

impl DirectoryTree {
    /// Opens the running system, `/`.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn system() -> Result<Self, TreeError> {
        Self::open(Path::new("/"))
    }

    /// Opens the tree recorded in `root`.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn open(root: &Path) -> Result<Self, TreeError> {
        let shown = root.to_string_lossy();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(root, flags, Mode::empty())
            .map_err(|errno| TreeError::new(Operation::Resolve, &shown, errno.raw_os_error()))?;
        let prefix = fs::canonicalize(root).map_err(|error| failed(Operation::Resolve, &shown, &error))?;
        Ok(Self { root: fd, prefix })
    }

    fn open_node(&self, operation: Operation, path: &str, flags: OFlags) -> Result<OwnedFd, TreeError> {
        let flags = flags | OFlags::CLOEXEC;
        rustix::fs::openat2(&self.root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)
            .map_err(|errno| TreeError::new(operation, path, errno.raw_os_error()))
    }

    /// Opens an ordinary file. What it is, is asked before it is opened: opening a device can act (a watchdog
    /// starts to run).
    fn open_file(&self, operation: Operation, path: &str, flags: OFlags) -> Result<fs::File, TreeError> {
        let node = self.open_node(operation, path, OFlags::PATH)?;
        let stat = rustix::fs::fstat(&node)
            .map_err(|errno| TreeError::new(operation, path, errno.raw_os_error()))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {}
            FileType::Directory => return Err(TreeError::new(operation, path, libc::EISDIR)),
            _ => return Err(TreeError::new(operation, path, libc::EINVAL)),
        }
        self.open_node(operation, path, flags | OFlags::NONBLOCK | OFlags::NOCTTY).map(fs::File::from)
    }
}

impl Tree for DirectoryTree {
    fn read(&self, path: &str, limit: usize) -> Result<Vec<u8>, TreeError> {
        let file = self.open_file(Operation::Read, path, OFlags::RDONLY)?;
        let mut data = Vec::new();
        let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
        file.take(most).read_to_end(&mut data).map_err(|error| failed(Operation::Read, path, &error))?;
        match data.len() > limit {
            true => Err(TreeError::new(Operation::Read, path, libc::EFBIG)),
            false => Ok(data),
        }
    }

    fn read_link(&self, path: &str) -> Result<String, TreeError> {
        let node = self.open_node(Operation::ReadLink, path, OFlags::PATH | OFlags::NOFOLLOW)?;
        let target = rustix::fs::readlinkat(&node, "", Vec::new()).map_err(|errno| {
            // Of a descriptor that is no link the kernel says ENOENT; readlink of its path would say EINVAL.
            let errno = if errno == rustix::io::Errno::NOENT { rustix::io::Errno::INVAL } else { errno };
            TreeError::new(Operation::ReadLink, path, errno.raw_os_error())
        })?;
        Ok(target.to_string_lossy().into_owned())
    }

    fn list(&self, path: &str) -> Result<Vec<String>, TreeError> {
        let fd = self.open_node(Operation::List, path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let at = |errno: rustix::io::Errno| TreeError::new(Operation::List, path, errno.raw_os_error());
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(fd).map_err(at)? {
            let entry = entry.map_err(at)?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if name == "." || name == ".." {
                continue;
            }
            if names.len() == LIST_LIMIT {
                return Err(TreeError::new(Operation::List, path, libc::EFBIG));
            }
            names.push(name.to_owned());
        }
        names.sort();
        Ok(names)
    }

    fn write(&self, path: &str, data: &[u8]) -> Result<(), TreeError> {
        // Truncation means nothing to sysfs; in a recorded tree it makes the new value the whole value.
        let mut file = self.open_file(Operation::Write, path, OFlags::WRONLY | OFlags::TRUNC)?;
        let taken = file.write(data).map_err(|error| failed(Operation::Write, path, &error))?;
        match taken == data.len() {
            true => Ok(()),
            false => Err(TreeError::new(Operation::Write, path, libc::EIO)),
        }
    }

    fn canonical(&self, path: &str) -> Result<String, TreeError> {
        let node = self.open_node(Operation::Resolve, path, OFlags::PATH)?;
        let own = format!("/proc/self/fd/{}", node.as_raw_fd());
        let full = rustix::fs::readlinkat(CWD, own.as_str(), Vec::new())
            .map_err(|errno| TreeError::new(Operation::Resolve, path, errno.raw_os_error()))?;
        let full = PathBuf::from(OsString::from(full.to_string_lossy().into_owned()));
        let inner = full
            .strip_prefix(&self.prefix)
            .map_err(|_| TreeError::new(Operation::Resolve, path, libc::EXDEV))?;
        Ok(format!("/{}", inner.to_string_lossy()))
    }

    fn kind(&self, path: &str) -> Result<NodeKind, TreeError> {
        let node = self.open_node(Operation::Resolve, path, OFlags::PATH)?;
        let stat = rustix::fs::fstat(&node)
            .map_err(|errno| TreeError::new(Operation::Resolve, path, errno.raw_os_error()))?;
        let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => NodeKind::File,
            FileType::Directory => NodeKind::Directory,
            FileType::CharacterDevice => NodeKind::CharacterDevice { major, minor },
            FileType::BlockDevice => NodeKind::BlockDevice { major, minor },
            _ => NodeKind::Other,
        })
    }

    fn accessible(&self, path: &str) -> bool {
        let Ok(node) = self.open_node(Operation::Resolve, path, OFlags::PATH) else { return false };
        let own = format!("/proc/self/fd/{}", node.as_raw_fd());
        let wanted = rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK;
        rustix::fs::accessat(CWD, own.as_str(), wanted, AtFlags::EACCESS).is_ok()
    }
}

fn failed(operation: Operation, path: &str, error: &std::io::Error) -> TreeError {
    TreeError::new(operation, path, error.raw_os_error().unwrap_or(libc::EIO))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("allod-tree-{}-{name}", std::process::id()));
            fs::create_dir_all(path.join("sys/devices/a")).unwrap();
            fs::create_dir_all(path.join("sys/bus")).unwrap();
            fs::write(path.join("sys/devices/a/vendor"), "0x10de\n").unwrap();
            symlink("../devices/a", path.join("sys/bus/a")).unwrap();
            symlink("/sys/devices", path.join("sys/absolute")).unwrap();
            symlink("loop", path.join("sys/loop")).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_recorded_tree_is_read_and_written_below_its_own_root() {
        let folder = Folder::new("read");
        let tree = DirectoryTree::open(&folder.0).unwrap();
        assert_eq!(tree.text("/sys/bus/a/vendor").unwrap(), "0x10de");
        assert_eq!(tree.text("/sys/absolute/a/vendor").unwrap(), "0x10de");
        assert_eq!(tree.read_link("/sys/bus/a").unwrap(), "../devices/a");
        assert_eq!(tree.canonical("/sys/bus/a").unwrap(), "/sys/devices/a");
        assert_eq!(tree.canonical("/../../sys").unwrap(), "/sys");
        assert_eq!(tree.list("/sys").unwrap(), ["absolute", "bus", "devices", "loop"]);
        tree.write("/sys/bus/a/vendor", b"1").unwrap();
        assert_eq!(tree.read("/sys/devices/a/vendor", 1).unwrap(), b"1");
    }

    #[test]
    fn every_error_names_the_path_and_the_errno() {
        let folder = Folder::new("errors");
        let tree = DirectoryTree::open(&folder.0).unwrap();
        let errno = |error: TreeError| error.errno.0;
        assert_eq!(errno(tree.read("/sys/none", 9).unwrap_err()), libc::ENOENT);
        assert_eq!(errno(tree.read("/sys/devices/a/vendor", 6).unwrap_err()), libc::EFBIG);
        assert_eq!(errno(tree.read("/sys/bus", 6).unwrap_err()), libc::EISDIR);
        assert_eq!(errno(tree.read("/sys/loop", 6).unwrap_err()), libc::ELOOP);
        assert_eq!(errno(tree.read_link("/sys/bus").unwrap_err()), libc::EINVAL);
        assert_eq!(errno(tree.write("/sys/none", b"1").unwrap_err()), libc::ENOENT);
        let error = tree.list("/sys/none").unwrap_err();
        assert_eq!(error.to_string(), "cannot list /sys/none: No such file or directory (errno 2)");
    }

    #[test]
    fn a_device_is_named_but_not_opened() {
        let tree = DirectoryTree::system().unwrap();
        let null = NodeKind::CharacterDevice { major: 1, minor: 3 };
        assert_eq!(tree.kind("/dev/null").unwrap(), null);
        assert_eq!(tree.read("/dev/zero", 16).unwrap_err().errno.0, libc::EINVAL);
        assert!(tree.accessible("/dev/null"));
        assert!(!tree.accessible("/dev/allod-has-no-such-node"));
    }
}
