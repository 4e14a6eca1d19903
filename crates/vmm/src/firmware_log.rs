//! The file with what firmware writes to its debug port. The port stays with the guest, so the file has an end.
//!
//! Not here: the port (`machine`), and where the file is; the starter has opened it. The session is the caller.

use std::io::Write;

/// The size at which it ends. SeaBIOS writes some 10 KiB at each start.
const MOST_BYTES: usize = 8 << 20;

/// The log.
pub(crate) struct FirmwareLog<W> {
    file: W,
    room: usize,
}

impl<W: Write> FirmwareLog<W> {
    /// A log in an empty file.
    pub(crate) fn new(file: W) -> Self {
        Self { file, room: MOST_BYTES }
    }

    /// Adds to it.
    ///
    /// # Errors
    /// Why it ends here: it is full or cannot be written.
    pub(crate) fn write(&mut self, text: &[u8]) -> Result<(), String> {
        let fits = text.get(..self.room.min(text.len())).unwrap_or_default();
        self.file.write_all(fits).map_err(|errno| format!("it cannot be written ({errno})"))?;
        self.room -= fits.len();
        if fits.len() == text.len() {
            return Ok(());
        }
        let why = format!("it has {} MiB, which is all it may have", MOST_BYTES >> 20);
        // Who reads it sees why nothing follows; if that cannot be written, it is still the end.
        let _ = writeln!(self.file, "\nallod-vmm: this log ends here: {why}");
        Err(why)
    }
}

#[cfg(test)]
mod tests {
    use super::{FirmwareLog, MOST_BYTES};

    #[test]
    fn a_guest_that_writes_without_end_fills_no_disk() {
        let mut file = Vec::new();
        let mut log = FirmwareLog::new(&mut file);
        let chunk = vec![b'x'; 3 << 20];
        for _ in 0..MOST_BYTES / chunk.len() {
            log.write(&chunk).unwrap();
        }
        assert!(log.write(&chunk).unwrap_err().contains("8 MiB"));
        assert_eq!(&file[MOST_BYTES - 1..MOST_BYTES + 1], b"x\n");
        let note = std::str::from_utf8(&file[MOST_BYTES..]).unwrap();
        assert!(note.contains("ends here") && note.lines().count() == 2, "{note}");
    }
}
