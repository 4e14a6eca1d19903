//! Documents on disk that others read at any moment: replaced as a whole, never half written.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::de::DeserializeOwned;

/// No document of a seat comes near this.
const MOST_BYTES: u64 = 16 << 20;

/// Replaces a file.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut beside = path.to_owned().into_os_string();
    beside.push(".new");
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o644).open(&beside)?;
    file.write_all(bytes)?;
    fs::rename(&beside, path)
}

/// Reads a document; none when there is no file, an error when it makes no sense.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> std::io::Result<Option<T>> {
    let size = match fs::metadata(path) {
        Ok(facts) => facts.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if size > MOST_BYTES {
        return Err(std::io::Error::other(format!("{} has {size} bytes", path.display())));
    }
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(std::io::Error::other),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
