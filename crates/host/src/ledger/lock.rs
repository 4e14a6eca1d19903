//! The lock that lets one caller at a time change the host, and tells the others who it is.
//!
//! The kernel lets it go when its process ends, however that happens. Not here: the ledger itself.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use super::LedgerError;

const FILE: &str = "lock";

/// The most that is read of what the holder says about itself.
const MOST_BYTES: u64 = 256;

/// The lock, held as long as this exists.
#[derive(Debug)]
pub struct Lock {
    // Closing the file lets the lock go. Programs that are started do not inherit it.
    _file: File,
}

impl Lock {
    /// Takes the lock in `directory`, which is made when it is missing.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Busy`] when another process has it; else the file operation that failed.
    pub fn take(directory: &Path, as_who: &str) -> Result<Self, LedgerError> {
        let path = directory.join(FILE);
        let failed = |what| {
            let path = path.clone();
            move |error| LedgerError::File { what, path, error }
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(directory)
            .map_err(|error| LedgerError::File { what: "make", path: directory.to_owned(), error })?;
        let mut options = OpenOptions::new();
        let opened = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let mut file = opened.map_err(failed("open"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LedgerError::Busy { holder: holder(&mut file) }),
            Err(TryLockError::Error(error)) => return Err(failed("lock")(error)),
        }
        let line = format!("{} (process {})\n", as_who.replace('\n', " "), std::process::id());
        // Only for the message to others, so an unwritten one is no reason to stop.
        let _ = file
            .set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| file.write_all(line.as_bytes()));
        Ok(Self { _file: file })
    }
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let _ = file.take(MOST_BYTES).read_to_string(&mut text);
    match text.trim() {
        "" => "another process".to_owned(),
        who => format!("`{}`", who.replace(|c: char| c.is_control(), "?")),
    }
}
