//! From the text of a seat file to its types, or to everything that is wrong with it.
//!
//! Not here: the checks themselves. Called by whoever has read a file.

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, Deserializer};

use super::problem::Problems;
use super::{SeatFile, SeatFileErrors, rules, schema, shape};

/// The longest seat file that is looked at, in bytes.
pub const MAX_SEAT_FILE_BYTES: usize = 1 << 20;

/// Begins the message of a problem that no check foresaw; a test looks for it.
pub(super) const BEYOND_THE_CHECKS: &str = "the file cannot be read";

impl SeatFile {
    /// Reads a seat file from `text`; `file` is the name that the messages show.
    ///
    /// # Errors
    /// Every problem of the file at once: broken TOML, unknown and missing keys, wrong types, values out of bounds, and
    /// keys that contradict each other.
    pub fn parse(file: &str, text: &str) -> Result<Self, SeatFileErrors> {
        let mut problems = Problems::of(text);
        if text.len() > MAX_SEAT_FILE_BYTES {
            let message =
                format!("the file has {} bytes, but at most {MAX_SEAT_FILE_BYTES} are read", text.len());
            problems.add(0..0, message, None);
            return Err(problems.into_errors(file));
        }
        let (document, broken) = DeTable::parse_recoverable(text);
        for error in &broken {
            problems.add_last_of_line(error.span().unwrap_or(0..0), error.message().to_owned());
        }
        // What could be read of a broken file is checked too, but what was lost in it is not called missing.
        let whole = broken.is_empty();
        shape::check(schema::inlined(), &document, whole, &mut problems);
        rules::check(document.get_ref(), whole, &mut problems);
        if problems.is_empty()
            && let Some(seats) = decode(document, &mut problems)
        {
            return Ok(seats);
        }
        Err(problems.into_errors(file))
    }
}

/// The types from a document that passed every check; if a check was too mild, serde still says no.
fn decode(document: Spanned<DeTable<'_>>, problems: &mut Problems<'_>) -> Option<SeatFile> {
    let whole = document.span();
    match SeatFile::deserialize(Deserializer::from(document)) {
        Ok(seats) => Some(seats),
        Err(error) => {
            problems.add(
                error.span().unwrap_or(whole),
                format!("{BEYOND_THE_CHECKS}: {}", error.message()),
                None,
            );
            None
        }
    }
}
