//! A log file that does not grow without end.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The size at which a log is put aside, as `NAME.old`, and begun anew.
const MOST_BYTES: u64 = 8 << 20;

/// A log.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
    size: u64,
    most: u64,
}

impl Log {
    /// Begins a log; the one from before is put aside.
    pub(super) fn begin(path: &Path) -> std::io::Result<Self> {
        let mut log = Self { path: path.to_owned(), file: open(path)?, size: 0, most: MOST_BYTES };
        if log.file.metadata()?.len() > 0 {
            log.put_aside()?;
        }
        Ok(log)
    }

    /// Adds to it. A full disk loses the log, never the seat.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        if self.size + bytes.len() as u64 > self.most && self.put_aside().is_err() {
            return;
        }
        if self.file.write_all(bytes).is_ok() {
            self.size += bytes.len() as u64;
        }
    }

    fn put_aside(&mut self) -> std::io::Result<()> {
        let mut old = self.path.clone().into_os_string();
        old.push(".old");
        std::fs::rename(&self.path, old)?;
        self.file = open(&self.path)?;
        self.size = 0;
        Ok(())
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::Log;

    #[test]
    fn a_log_is_put_aside_when_it_begins_anew_and_when_it_is_full() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let text = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap_or_default();
        std::fs::write(&path, "before").unwrap();
        let mut log = Log::begin(&path).unwrap();
        log.most = 10;
        log.write(b"12345678");
        assert_eq!((text("log"), text("log.old")), ("12345678".into(), "before".into()));
        log.write(b"9abc");
        assert_eq!((text("log"), text("log.old")), ("9abc".into(), "12345678".into()));
    }
}
