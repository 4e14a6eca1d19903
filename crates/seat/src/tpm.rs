//! A machine's TPM: Debian's swtpm, started beside the machine as the machine's user, with a folder of its own.
//!
//! Not here: what is said to it (`machine`). `launch` is the caller.

use std::fs::{DirBuilder, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::fs::{AtFlags, Dir, FlockOperation, Gid, Mode, OFlags, Uid};
use rustix::io::{Errno, FdFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// A TPM cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum NoTpm {
    /// The package is not installed.
    #[error(
        "there is no swtpm on this host, which is the TPM of machines; install it with `sudo apt install swtpm`"
    )]
    Missing,
    /// It does not start.
    #[error("start swtpm, which is the machine's TPM: {0}")]
    Spawn(#[source] std::io::Error),
    /// Its folder cannot be had.
    #[error("{what} the folder of the TPM's state {}: {errno}; the folder it is in must exist, and have room", path.display())]
    Folder {
        /// What was tried.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        errno: std::io::Error,
    },
    /// Another machine has this TPM.
    #[error("the TPM in {} is in use by another machine; each machine needs one of its own", path.display())]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// The socket to it.
    #[error("make a socket for swtpm: {0}")]
    Socket(#[source] Errno),
}

/// Its name, by which it is started.
pub(crate) const PROGRAM: &str = "swtpm";

/// A TPM's folder has three files.
const MOST_FILES: usize = 64;

/// Starts swtpm on what is in `folder` as `user`, and gives the socket that steers it.
pub(crate) fn start(
    folder: &Path,
    user: Option<u32>,
    errors: Option<OwnedFd>,
) -> Result<(Child, OwnedFd), NoTpm> {
    let open = open_folder(folder)?;
    let failed =
        |what| move |errno: Errno| NoTpm::Folder { what, path: folder.to_owned(), errno: errno.into() };
    if let Some(user) = user {
        hand_over(&open, user).map_err(failed("give the machine's user"))?;
    }
    let (ours, its) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(NoTpm::Socket)?;
    // The folder as well: it is locked for as long as swtpm has it open.
    for fd in [&its, &open] {
        rustix::io::fcntl_setfd(fd, FdFlags::empty()).map_err(NoTpm::Socket)?;
    }
    let mut command = Command::new(PROGRAM);
    command
        .args(["socket", "--tpm2", "--terminate", "--tpmstate", "dir=.", "--ctrl"])
        .arg(format!("type=unixio,clientfd={}", its.as_raw_fd()))
        // By its number: the machine's user may not pass through the folders above.
        .current_dir(format!("/proc/self/fd/{}", open.as_raw_fd()))
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    if let Some(errors) = errors {
        command.stderr(errors);
    }
    if let Some(user) = user {
        // Supplementary groups go as well.
        command.uid(user).gid(user);
    }
    let child = command.spawn().map_err(|errno| match errno.kind() {
        std::io::ErrorKind::NotFound => NoTpm::Missing,
        _ => NoTpm::Spawn(errno),
    })?;
    Ok((child, ours))
}

/// Opens the folder, makes it if it is not there, and keeps other machines from it.
fn open_folder(folder: &Path) -> Result<OwnedFd, NoTpm> {
    let failed = |what, errno| NoTpm::Folder { what, path: folder.to_owned(), errno };
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(errno) if errno.kind() != std::io::ErrorKind::AlreadyExists => return Err(failed("make", errno)),
        _ => {}
    }
    let open = File::open(folder).map_err(|errno| failed("open", errno))?;
    if !open.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return Err(failed("open", Errno::NOTDIR.into()));
    }
    match rustix::fs::flock(&open, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(open.into()),
        Err(Errno::WOULDBLOCK) => Err(NoTpm::InUse { path: folder.to_owned() }),
        Err(errno) => Err(failed("lock", errno.into())),
    }
}

/// Gives the folder and what is in it to the user that the machine has this time. Links are not followed: an earlier user may
/// have made them.
fn hand_over(folder: &OwnedFd, user: u32) -> Result<(), Errno> {
    let (owner, group) = (Some(Uid::from_raw(user)), Some(Gid::from_raw(user)));
    rustix::fs::fchown(folder, owner, group)?;
    let list =
        rustix::fs::openat(folder, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    for entry in Dir::read_from(&list)?.take(MOST_FILES) {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            rustix::fs::chownat(folder, entry.file_name(), owner, group, AtFlags::SYMLINK_NOFOLLOW)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::{NoTpm, open_folder};

    #[test]
    fn a_folder_is_made_for_its_owner_only_and_has_one_user() {
        let around = tempfile::tempdir().unwrap();
        let folder = around.path().join("tpm");
        let open = open_folder(&folder).unwrap();
        assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(matches!(open_folder(&folder), Err(NoTpm::InUse { .. })));
        drop(open);
        open_folder(&folder).unwrap();
    }

    #[test]
    fn what_is_no_folder_and_has_none_around_it_is_named() {
        let around = tempfile::tempdir().unwrap();
        let file = around.path().join("file");
        std::fs::write(&file, b"").unwrap();
        for (path, words) in
            [(file.clone(), "open the folder"), (around.path().join("a/b"), "make the folder")]
        {
            let error = open_folder(&path).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains(&path.display().to_string()), "{error}");
        }
        assert!(NoTpm::Missing.to_string().contains("apt install swtpm"));
    }
}
