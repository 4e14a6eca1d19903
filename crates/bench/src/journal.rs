//! The journal of a run: each round is written down as it ends, so that a run that broke off is gone on with and not begun
//! again. JSON, a line each. Not here: what the figures mean.

use crate::result::{Condition, Engine};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// Longest journal that is read: a thousand rounds of seven workloads are a tenth of it.
const LENGTH_LIMIT: u64 = 64 << 20;

/// What a run is made of. Rounds of two runs that differ in it are not to be mixed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recipe {
    pub(crate) workloads: Vec<String>,
    pub(crate) rounds: u32,
    pub(crate) milliseconds: u64,
    pub(crate) laps: u32,
    pub(crate) engines: Vec<Engine>,
    /// The seats, with their devices by address.
    pub(crate) seats: Vec<(String, Vec<String>)>,
}

/// One workload in one round at one place, or at all places at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Step {
    pub(crate) lap: u32,
    pub(crate) round: u32,
    pub(crate) condition: Condition,
    pub(crate) engine: Engine,
    pub(crate) workload: String,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { lap, round, condition, engine, workload } = self;
        write!(f, "{workload}, {}, {}, round {round} of lap {lap}", condition.words(), engine.name())
    }
}

/// What one place gave; no seat is the host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) seat: Option<String>,
    pub(crate) figure: f64,
}

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Made {
    pub(crate) step: Step,
    /// None when it was left out.
    pub(crate) figures: Vec<Figure>,
    /// Why it did not come out at the first try, or at all; a line each.
    pub(crate) troubles: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line {
    Recipe(Recipe),
    Made(Made),
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file.
    #[error("cannot {what} the journal {}: {error}", .path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What came back.
        #[source]
        error: io::Error,
    },
    /// It is of something else.
    #[error(
        "{} holds the rounds of another run: not these seats, workloads, engines, rounds, seconds and laps; name another \
         file, or give what that run was given", .path.display()
    )]
    Other {
        /// The file.
        path: PathBuf,
    },
}

/// What has been made of a run, on disk if it is to be kept.
#[derive(Debug)]
pub(crate) struct Journal {
    file: Option<(PathBuf, File)>,
    made: Vec<Made>,
}

impl Journal {
    /// Begins a journal in memory.
    pub(crate) fn in_memory() -> Self {
        Self { file: None, made: Vec::new() }
    }

    /// Opens a journal of the run with this recipe, with what was made of it before.
    pub(crate) fn open(path: &Path, recipe: &Recipe) -> Result<Self, JournalError> {
        let failed = |what| move |error| JournalError::File { what, path: path.to_owned(), error };
        let mut options = OpenOptions::new();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).open(path).map_err(failed("open"))?;
        let mut bytes = Vec::new();
        Read::by_ref(&mut file).take(LENGTH_LIMIT).read_to_end(&mut bytes).map_err(failed("read"))?;
        let other = || JournalError::Other { path: path.to_owned() };
        // A line that its writer did not live to end is none; what comes next is written over it. The first one is there
        // as soon as the file is: a file without a line is somebody else's.
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if whole == 0 && !bytes.is_empty() {
            return Err(other());
        }
        let lines: Result<Vec<Line>, _> = bytes[..whole]
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(serde_json::from_slice)
            .collect();
        let mut lines = lines.map_err(|_| other())?.into_iter();
        let fresh = match lines.next() {
            None => true,
            Some(Line::Recipe(old)) if old == *recipe => false,
            Some(_) => return Err(other()),
        };
        let made = |line| match line {
            Line::Made(made) => Ok(made),
            Line::Recipe(_) => Err(other()),
        };
        let made = lines.map(made).collect::<Result<Vec<Made>, _>>()?;
        file.set_len(whole as u64).map_err(failed("shorten"))?;
        file.seek(io::SeekFrom::End(0)).map_err(failed("go on with"))?;
        let mut journal = Self { file: Some((path.to_owned(), file)), made };
        if fresh {
            journal.write(&Line::Recipe(recipe.clone()))?;
        }
        Ok(journal)
    }

    /// Returns what was made so far.
    pub(crate) fn made(&self) -> &[Made] {
        &self.made
    }

    /// Says whether a step needs no making any more.
    pub(crate) fn has(&self, step: &Step) -> bool {
        self.made.iter().any(|made| made.step == *step)
    }

    /// Writes down what became of a step.
    pub(crate) fn add(&mut self, made: Made) -> Result<(), JournalError> {
        self.made.push(made.clone());
        self.write(&Line::Made(made))
    }

    fn write(&mut self, line: &Line) -> Result<(), JournalError> {
        let Some((path, file)) = &mut self.file else { return Ok(()) };
        let failed = |error| JournalError::File { what: "write", path: path.clone(), error };
        let mut text = serde_json::to_vec(line).map_err(|error| failed(error.into()))?;
        text.push(b'\n');
        file.write_all(&text).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(rounds: u32) -> Recipe {
        Recipe {
            workloads: vec!["cpu".into()],
            rounds,
            milliseconds: 1000,
            laps: 1,
            engines: vec![Engine::Allod],
            seats: vec![("left".into(), vec!["0000:03:00.0".into()])],
        }
    }

    fn made(round: u32) -> Made {
        let (condition, engine) = (Condition::Native, Engine::Host);
        let step = Step { lap: 1, round, condition, engine, workload: "cpu".into() };
        Made { step, figures: vec![Figure { seat: None, figure: f64::from(round) }], troubles: Vec::new() }
    }

    #[test]
    fn a_run_that_was_killed_is_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut journal = Journal::open(&path, &recipe(3)).unwrap();
        journal.add(made(1)).unwrap();
        drop(journal);
        // Killed in the middle of a line.
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"made\":{\"st").unwrap();
        let mut journal = Journal::open(&path, &recipe(3)).unwrap();
        assert!(journal.has(&made(1).step) && !journal.has(&made(2).step));
        journal.add(made(2)).unwrap();
        drop(journal);
        assert_eq!(Journal::open(&path, &recipe(3)).unwrap().made(), [made(1), made(2)]);
    }

    #[test]
    fn rounds_of_another_run_are_refused_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        Journal::open(&path, &recipe(3)).unwrap().add(made(1)).unwrap();
        let before = std::fs::read(&path).unwrap();
        assert!(matches!(Journal::open(&path, &recipe(4)), Err(JournalError::Other { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), before);
        std::fs::write(&path, "# a seat file\n").unwrap();
        assert!(matches!(Journal::open(&path, &recipe(3)), Err(JournalError::Other { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"# a seat file\n");
        // Nor is a text without any line's end cut off.
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(Journal::open(&path, &recipe(3)), Err(JournalError::Other { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }
}
