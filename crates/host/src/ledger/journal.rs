//! The journal's file: appended and flushed line by line, written anew beside itself and moved into place.
//!
//! Not here: what lines mean, and who may write (the lock).

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::{LedgerError, MOST_BYTES};

/// The journal's name in the state directory.
pub(super) const FILE: &str = "ledger.jsonl";

/// Where lines are kept.
pub trait Journal: fmt::Debug + Send {
    /// Adds a whole line and returns when it is on disk.
    ///
    /// # Errors
    ///
    /// The line is not there.
    fn append(&mut self, line: &str) -> Result<(), LedgerError>;

    /// Takes the place of all lines at once: after a crash either the old ones or the new ones are there.
    ///
    /// # Errors
    ///
    /// The old lines are there.
    fn replace(&mut self, text: &str) -> Result<(), LedgerError>;
}

/// A journal in a file.
#[derive(Debug)]
pub struct FileJournal {
    file: File,
    path: PathBuf,
    /// The bytes of complete lines.
    length: u64,
}

impl FileJournal {
    /// Opens a journal, or makes an empty one, and gives its text. A last line without an end is cut off.
    ///
    /// # Errors
    ///
    /// The file operation that failed.
    pub fn open(path: &Path) -> Result<(Self, String), LedgerError> {
        let failed = |what| move |error| LedgerError::File { what, path: path.to_owned(), error };
        let fresh = !path.exists();
        let mut options = OpenOptions::new();
        // Everybody may plan beside what stands.
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .open(path)
            .map_err(failed("open"))?;
        if fresh {
            sync_folder(path)?;
        }
        let mut bytes = bytes_of(&mut file, path)?;
        let complete = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        if complete < bytes.len() {
            bytes.truncate(complete);
            file.set_len(complete as u64).and_then(|()| file.sync_data()).map_err(failed("shorten"))?;
        }
        let length = complete as u64;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok((Self { file, path: path.to_owned(), length }, text))
    }

    fn failed(&self, what: &'static str) -> impl FnOnce(std::io::Error) -> LedgerError {
        let path = self.path.clone();
        move |error| LedgerError::File { what, path, error }
    }
}

impl Journal for FileJournal {
    fn append(&mut self, line: &str) -> Result<(), LedgerError> {
        let at = SeekFrom::Start(self.length);
        let written = self
            .file
            .seek(at)
            .and_then(|_| self.file.write_all(line.as_bytes()))
            .and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // A half written line must not be in front of the next one. Should this fail too, opening cuts it off.
            let _ = self.file.set_len(self.length);
            return Err(self.failed("write to")(error));
        }
        self.length += line.len() as u64;
        Ok(())
    }

    fn replace(&mut self, text: &str) -> Result<(), LedgerError> {
        write_anew(&self.path, text.as_bytes())?;
        let file = OpenOptions::new().read(true).write(true).open(&self.path);
        self.file = file.map_err(self.failed("open"))?;
        self.length = text.len() as u64;
        Ok(())
    }
}

/// Reads a journal; one that is not there is empty.
pub(super) fn read(path: &Path) -> Result<String, LedgerError> {
    match File::open(path) {
        // A torn last line may end inside a character; a whole line that does is damaged, and its parser says so.
        Ok(mut file) => Ok(String::from_utf8_lossy(&bytes_of(&mut file, path)?).into_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(LedgerError::File { what: "open", path: path.to_owned(), error }),
    }
}

/// Writes a file so that after a crash either the old or the new content is there.
pub(crate) fn write_anew(path: &Path, content: &[u8]) -> Result<(), LedgerError> {
    let beside = path.with_extension("new");
    let failed = |what, path: &Path| {
        let path = path.to_owned();
        move |error| LedgerError::File { what, path, error }
    };
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o644).open(&beside);
    let mut file = file.map_err(failed("open", &beside))?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(failed("write to", &beside))?;
    fs::rename(&beside, path).map_err(failed("move into place", path))?;
    sync_folder(path)
}

fn bytes_of(file: &mut File, path: &Path) -> Result<Vec<u8>, LedgerError> {
    let failed = |error| LedgerError::File { what: "read", path: path.to_owned(), error };
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(failed(ErrorKind::FileTooLarge.into()));
    }
    Ok(bytes)
}

/// Makes a new name in a folder outlive a power cut.
fn sync_folder(path: &Path) -> Result<(), LedgerError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| LedgerError::File { what: "flush", path: folder.to_owned(), error })
}
