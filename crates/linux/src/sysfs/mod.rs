//! The trees of text in which the kernel shows itself: `/sys`, `/proc`, and the few files beside them.
//!
//! Everything that reads the host or changes it through files goes through [`Tree`], so that it works the same on
//! the running kernel, on a directory recorded from another machine ([`DirectoryTree`]) and on a tree in memory
//! that keeps the kernel's rules and fails on demand ([`FakeTree`]). Not here: what any file means.

mod directory;
mod fake;
mod nodes;

use std::fmt;

pub use directory::DirectoryTree;
pub use fake::{FakeTree, Fault, Reaction, Rule, Write};
pub use nodes::Nodes;

/// The most bytes a sysfs attribute has: the kernel gives attributes one page.
pub const ATTRIBUTE_LIMIT: usize = 4096;
/// The most bytes of a table in `/proc` that are read: mounts, routes, I/O memory.
pub const TABLE_LIMIT: usize = 4 << 20;
/// The most bytes of a data base of names or aliases that are read: `pci.ids`, `modules.alias`.
pub const DATABASE_LIMIT: usize = 16 << 20;
/// The most entries of one directory that are listed.
pub const LIST_LIMIT: usize = 65_536;
/// The most symbolic links that are followed on one path, as in the kernel (`MAXSYMLINKS`).
pub const LINK_LIMIT: usize = 40;

/// A tree of files below an absolute root. Paths are absolute in the tree, with `/` between names.
///
/// Reading never blocks and never opens a device: what is no ordinary file is refused with `EINVAL`.
pub trait Tree: Send + Sync {
    /// Reads a file that has at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// `EFBIG` when it has more; otherwise what the kernel says.
    fn read(&self, path: &str, limit: usize) -> Result<Vec<u8>, TreeError>;

    /// Reads where a symbolic link points to, as it is written there.
    ///
    /// # Errors
    ///
    /// `EINVAL` when it is no link; otherwise what the kernel says.
    fn read_link(&self, path: &str) -> Result<String, TreeError>;

    /// Lists the names in a directory in sorted order; names that are no UTF-8 are left out.
    ///
    /// # Errors
    ///
    /// `EFBIG` for more than [`LIST_LIMIT`] names; otherwise what the kernel says.
    fn list(&self, path: &str) -> Result<Vec<String>, TreeError>;

    /// Writes `data` to an existing file in one write call, as sysfs attributes want it.
    ///
    /// # Errors
    ///
    /// `EIO` when only a part was taken; otherwise what the kernel says.
    fn write(&self, path: &str, data: &[u8]) -> Result<(), TreeError>;

    /// Resolves every symbolic link of a path that exists.
    ///
    /// # Errors
    ///
    /// `ELOOP` when links loop; otherwise what the kernel says.
    fn canonical(&self, path: &str) -> Result<String, TreeError>;

    /// Tells what a path is, after following links.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    fn kind(&self, path: &str) -> Result<NodeKind, TreeError>;

    /// Whether this process may open the file for reading and writing. Opens nothing.
    fn accessible(&self, path: &str) -> bool;

    /// Whether the path exists. Every error counts as no.
    fn exists(&self, path: &str) -> bool {
        self.kind(path).is_ok()
    }

    /// Reads an attribute as text without surrounding white space; bytes that are no UTF-8 are replaced.
    ///
    /// # Errors
    ///
    /// As [`Tree::read`] with [`ATTRIBUTE_LIMIT`].
    fn text(&self, path: &str) -> Result<String, TreeError> {
        let bytes = self.read(path, ATTRIBUTE_LIMIT)?;
        Ok(String::from_utf8_lossy(&bytes).trim_matches(['\0', '\n', ' ', '\t']).to_owned())
    }

    /// Reads a table of at most [`TABLE_LIMIT`] bytes as text.
    ///
    /// # Errors
    ///
    /// As [`Tree::read`].
    fn table(&self, path: &str) -> Result<String, TreeError> {
        Ok(String::from_utf8_lossy(&self.read(path, TABLE_LIMIT)?).into_owned())
    }
}

/// What a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// An ordinary file.
    File,
    /// A directory.
    Directory,
    /// A character device.
    CharacterDevice {
        /// The driver's number.
        major: u32,
        /// The device's number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// The driver's number.
        major: u32,
        /// The device's number.
        minor: u32,
    },
    /// Anything else.
    Other,
}

/// What was tried on a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Reading a file.
    Read,
    /// Reading a link.
    ReadLink,
    /// Listing a directory.
    List,
    /// Writing a file.
    Write,
    /// Resolving a path.
    Resolve,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::ReadLink => "read the link",
            Self::List => "list",
            Self::Write => "write",
            Self::Resolve => "find",
        })
    }
}

/// An operation on a tree that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot {operation} {path}: {}", .errno)]
pub struct TreeError {
    /// What was tried.
    pub operation: Operation,
    /// On which path of the tree.
    pub path: String,
    /// What came back.
    pub errno: Errno,
}

/// A Linux error number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    /// Whether it says that something is not there: `ENOENT`, `ENOTDIR`, `ENODEV`, `ENXIO`.
    pub const fn is_absent(self) -> bool {
        matches!(self.0, libc::ENOENT | libc::ENOTDIR | libc::ENODEV | libc::ENXIO)
    }

    /// Whether it says that this process may not: `EACCES`, `EPERM`.
    pub const fn is_refused(self) -> bool {
        matches!(self.0, libc::EACCES | libc::EPERM)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = std::io::Error::from_raw_os_error(self.0).to_string();
        let text = text.strip_suffix(&format!(" (os error {})", self.0)).unwrap_or(&text);
        write!(f, "{text} (errno {})", self.0)
    }
}

impl TreeError {
    fn new(operation: Operation, path: &str, errno: i32) -> Self {
        Self { operation, path: path.to_owned(), errno: Errno(errno) }
    }
}
