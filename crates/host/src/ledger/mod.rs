//! The ledger of claims: a journal on disk, what its lines add up to, and the lock that lets one caller at a time write.
//!
//! Every line is on disk when [`Ledger::append`] returns. Called by `claim`, `recovery` and `trial`; [`read`] by
//! everything that only wants to know what stands. Not here: changing the host.

mod book;
mod journal;
mod lock;

use std::path::{Path, PathBuf};

use spec::ledger::{LEDGER_SCHEMA_VERSION, LedgerEvent, LedgerLine};
use spec::plan::ClaimRecord;

pub use book::{Book, ClaimEntry, Debt, StepEntry, StepState};
pub use journal::{FileJournal, Journal};
pub use lock::Lock;

/// Where the ledger is unless told otherwise.
pub const STATE_DIRECTORY: &str = "/var/lib/allod";

/// The largest journal that is read. It is written anew, with standing claims only, long before.
const MOST_BYTES: u64 = 64 << 20;

/// From this size on a journal is written anew when it is opened.
const COMPACT_BYTES: usize = 256 << 10;

/// Why the ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Another caller is at it.
    #[error("{holder} is changing the host just now; try again when it is done")]
    Busy {
        /// Who: the command line and number of the process.
        holder: String,
    },
    /// A file operation failed.
    #[error("cannot {what} {}: {error}", .path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What came back.
        #[source]
        error: std::io::Error,
    },
    /// A line makes no sense.
    #[error(
        "line {line} of the ledger {} makes no sense ({why}), so nothing is changed on its word; keep a copy of the file, \
         restart the host, which gives all devices back, and remove the file", .path.display()
    )]
    Damaged {
        /// The ledger.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
    /// A document beside the ledger makes no sense.
    #[error("{} makes no sense ({why}); move it away", .path.display())]
    NoDocument {
        /// The document.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A newer program has written it.
    #[error("the ledger {} was written by a newer Allod (format {version}); use that one", .path.display())]
    Newer {
        /// The ledger.
        path: PathBuf,
        /// Its format.
        version: u32,
    },
}

/// The ledger, open for writing. While it exists no other caller can open it.
#[derive(Debug)]
pub struct Ledger {
    journal: Box<dyn Journal>,
    book: Book,
    next: u64,
    _lock: Option<Lock>,
}

impl Ledger {
    /// Opens the ledger in `directory`, which is made when it is missing, and takes its lock.
    ///
    /// `as_who` is told to callers that come meanwhile, for example `allod up seats.toml`. A last line that a crash
    /// left half written is cut off: what it would have announced was not begun.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Busy`] when another caller has it; else what is wrong with the files.
    pub fn open(directory: &Path, as_who: &str) -> Result<Self, LedgerError> {
        let lock = Lock::take(directory, as_who)?;
        let path = directory.join(journal::FILE);
        let (journal, text) = FileJournal::open(&path)?;
        let mut ledger = Self::over(Box::new(journal), &text, &path)?;
        ledger._lock = Some(lock);
        if text.len() > COMPACT_BYTES {
            ledger.compact()?;
        }
        Ok(ledger)
    }

    /// Makes a ledger over any journal that has `text` in it by now; for tests.
    ///
    /// # Errors
    ///
    /// What is wrong with `text`.
    pub fn over(journal: Box<dyn Journal>, text: &str, path: &Path) -> Result<Self, LedgerError> {
        let (book, next) = parse(text, path)?;
        Ok(Self { journal, book, next, _lock: None })
    }

    /// What stands.
    pub fn book(&self) -> &Book {
        &self.book
    }

    /// Writes a line and waits until it is on disk.
    ///
    /// # Errors
    ///
    /// The line is not written, and what it announces must not be done.
    pub fn append(&mut self, at: u64, claim: &str, event: LedgerEvent) -> Result<(), LedgerError> {
        let line = LedgerLine {
            version: LEDGER_SCHEMA_VERSION,
            number: self.next,
            at,
            claim: claim.to_owned(),
            event,
        };
        self.journal.append(&text_of(&line))?;
        self.next += 1;
        self.book.apply(&line);
        Ok(())
    }

    /// Writes the journal anew with the lines of standing claims only.
    fn compact(&mut self) -> Result<(), LedgerError> {
        let text: String = self.book.lines().map(text_of).collect();
        self.journal.replace(&text)
    }
}

/// Reads the ledger in `directory` without its lock: what stands, for listings and plans. None is an empty one.
///
/// # Errors
///
/// What is wrong with the file.
pub fn read(directory: &Path) -> Result<Book, LedgerError> {
    let path = directory.join(journal::FILE);
    let text = journal::read(&path)?;
    Ok(parse(&text, &path)?.0)
}

/// The claims that stand, as the planner wants them.
///
/// # Errors
///
/// As [`read`].
pub fn claims(directory: &Path) -> Result<Vec<ClaimRecord>, LedgerError> {
    Ok(read(directory)?.claims().map(|entry| entry.record.clone()).collect())
}

/// Reads a JSON document; `None` when it is not there.
pub(crate) fn read_document<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, LedgerError> {
    let text = journal::read(path)?;
    if text.is_empty() {
        return Ok(None);
    }
    let damaged =
        |error: serde_json::Error| LedgerError::NoDocument { path: path.to_owned(), why: error.to_string() };
    serde_json::from_str(&text).map(Some).map_err(damaged)
}

/// Writes a JSON document so that after a crash either the old one or the new one is there.
pub(crate) fn write_document<T: serde::Serialize>(path: &Path, document: &T) -> Result<(), LedgerError> {
    let text = serde_json::to_string_pretty(document).unwrap_or_default() + "\n";
    journal::write_anew(path, text.as_bytes())
}

fn text_of(line: &LedgerLine) -> String {
    // A document of ours is always representable: no map keys but strings, no numbers but integers.
    serde_json::to_string(line).unwrap_or_default() + "\n"
}

/// What the complete lines of a journal add up to, and the next line's number.
fn parse(text: &str, path: &Path) -> Result<(Book, u64), LedgerError> {
    #[derive(serde::Deserialize)]
    struct Version {
        v: u32,
    }
    let mut book = Book::default();
    let mut next = 0;
    let complete = text.rfind('\n').map_or("", |end| text.get(..end).unwrap_or_default());
    for (index, line) in complete.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
        let damaged = |why: String| LedgerError::Damaged { path: path.to_owned(), line: index + 1, why };
        let version: Version = serde_json::from_str(line).map_err(|error| damaged(error.to_string()))?;
        if version.v > LEDGER_SCHEMA_VERSION {
            return Err(LedgerError::Newer { path: path.to_owned(), version: version.v });
        }
        let line: LedgerLine = serde_json::from_str(line).map_err(|error| damaged(error.to_string()))?;
        next = line.number + 1;
        book.apply(&line);
    }
    Ok((book, next))
}

#[cfg(test)]
mod tests;
