//! Writes initial RAM disks: the cpio "newc" format of the kernel's `Documentation/driver-api/early-userspace/buffer-format.rst`.
//!
//! Several archives one after another are one RAM disk to the kernel; that is how our init is added to a built
//! one, and how a guest's script is added to the guest RAM disk.

use std::io::{self, Write};

/// The kernel wants each archive of a chain to begin on a multiple of four bytes; 512 is cpio's own block.
const BLOCK: usize = 512;

/// One file of an archive.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A folder.
    Folder,
    /// A file with its contents and permission bits.
    File(Vec<u8>, u32),
    /// A symbolic link with its target.
    Link(String),
}

/// An archive in the making: files by path, in the order they are to be created.
#[derive(Debug, Default, Clone)]
pub struct Archive {
    entries: Vec<(String, Entry)>,
}

impl Archive {
    /// Makes an empty archive.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an entry at a path without leading slash; its folder must have been added before.
    pub fn add(&mut self, path: impl Into<String>, entry: Entry) -> &mut Self {
        self.entries.push((path.into(), entry));
        self
    }

    /// Adds folders.
    pub fn add_folders(&mut self, paths: &[&str]) -> &mut Self {
        for path in paths {
            self.add(*path, Entry::Folder);
        }
        self
    }

    /// Returns the archive as bytes, padded so that another one may follow.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, (path, entry)) in (1u32..).zip(&self.entries) {
            let (mode, data): (u32, &[u8]) = match entry {
                Entry::Folder => (0o040_755, &[]),
                Entry::File(data, permissions) => (0o100_000 | permissions, data),
                Entry::Link(target) => (0o120_777, target.as_bytes()),
            };
            push_record(&mut out, number, path, mode, data);
        }
        push_record(&mut out, 0, "TRAILER!!!", 0, &[]);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
        out
    }

    /// Writes the archive.
    pub fn write_to(&self, mut writer: impl Write) -> io::Result<()> {
        writer.write_all(&self.to_bytes())
    }
}

fn push_record(out: &mut Vec<u8>, number: u32, path: &str, mode: u32, data: &[u8]) {
    // inode, mode, uid, gid, links, mtime, size, dev major/minor, rdev major/minor, name size, check
    let fields = [number, mode, 0, 0, 1, 0, data.len() as u32, 0, 0, 0, 0, path.len() as u32 + 1, 0];
    out.extend_from_slice(b"070701");
    for field in fields {
        out.extend_from_slice(format!("{field:08X}").as_bytes());
    }
    out.extend_from_slice(path.as_bytes());
    out.push(0);
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::{Archive, Entry};

    #[test]
    fn records_are_padded_and_the_archive_ends_with_its_trailer() {
        let mut archive = Archive::new();
        archive.add_folders(&["bin"]).add("bin/x", Entry::File(b"abcde".to_vec(), 0o755));
        let bytes = archive.to_bytes();
        assert_eq!(&bytes[..14], b"07070100000001");
        // Folder: 110 header + "bin\0" = 114, padded to 116. File: 110 + "bin/x\0" = 116, data 5 padded to 8.
        assert_eq!(&bytes[116..122], b"070701");
        assert_eq!(&bytes[232..237], b"abcde");
        assert_eq!(&bytes[240..246], b"070701");
        assert_eq!(bytes.len() % 512, 0);
        assert!(bytes.windows(10).any(|window| window == b"TRAILER!!!"));
    }
}
