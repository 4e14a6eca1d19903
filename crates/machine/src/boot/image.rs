//! A kernel's file as loaders read it: small pieces come out of one window of it, segments go straight to guest memory.
//!
//! Headers and notes are read by the dozen bytes; without the window each is a system call or two.

use std::fs::File;
use std::io::{Read, Result, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use linux::memory::{BitmapSlice, ReadVolatile, VolatileMemoryError, VolatileSlice};

/// Bytes of the window; the headers of a kernel fit.
const WINDOW: usize = 4096;

/// A kernel's file, read from any place.
pub(super) struct Image<'a> {
    file: &'a mut File,
    position: u64,
    window: Vec<u8>,
    window_start: u64,
}

impl<'a> Image<'a> {
    /// Begins at the start of `file`, wherever that stands.
    pub(super) fn new(file: &'a mut File) -> Self {
        Self { file, position: 0, window: Vec::new(), window_start: 0 }
    }

    /// The first bytes, as many as there are of `len`.
    pub(super) fn start(&mut self, len: usize) -> Result<Vec<u8>> {
        self.position = 0;
        let mut start = vec![0; len.min(WINDOW)];
        let read = self.read(&mut start)?;
        start.truncate(read);
        self.position = 0;
        Ok(start)
    }

    fn in_window(&self) -> &[u8] {
        let skipped =
            self.position.checked_sub(self.window_start).and_then(|skipped| usize::try_from(skipped).ok());
        skipped.and_then(|skipped| self.window.get(skipped..)).unwrap_or_default()
    }

    fn move_window(&mut self) -> Result<()> {
        self.window.resize(WINDOW, 0);
        self.window_start = self.position;
        let read = self.file.read_at(&mut self.window, self.position);
        self.window.truncate(*read.as_ref().unwrap_or(&0));
        read.map(drop)
    }
}

impl Read for Image<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if self.in_window().is_empty() {
            self.move_window()?;
        }
        let there = self.in_window();
        let len = there.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..len), there.get(..len)) {
            to.copy_from_slice(from);
        }
        self.position += len as u64;
        Ok(len)
    }
}

impl Seek for Image<'_> {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        self.position = match to {
            SeekFrom::Start(position) => position,
            SeekFrom::Current(offset) => self
                .position
                .checked_add_signed(offset)
                .ok_or_else(|| std::io::Error::from(std::io::ErrorKind::InvalidInput))?,
            SeekFrom::End(_) => self.file.seek(to)?,
        };
        Ok(self.position)
    }
}

impl ReadVolatile for Image<'_> {
    fn read_volatile<B: BitmapSlice>(
        &mut self,
        buffer: &mut VolatileSlice<'_, B>,
    ) -> std::result::Result<usize, VolatileMemoryError> {
        let read =
            linux::disk::read_at(&*self.file, self.position, buffer).map_err(VolatileMemoryError::IOError)?;
        self.position += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, SeekFrom, Write};

    use linux::memory::{ReadVolatile, VolatileSlice};

    use super::{Image, WINDOW};

    #[test]
    fn every_way_of_reading_gives_the_bytes_of_the_file() {
        let bytes: Vec<u8> = (0..3 * WINDOW).map(|number| (number * 7 % 251) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let mut image = Image::new(&mut file);
        assert_eq!(image.start(0x206).unwrap(), bytes[..0x206]);
        for (at, len) in
            [(0, 64), (WINDOW - 8, 16), (2 * WINDOW + 5, 100), (3, WINDOW + 1), (3 * WINDOW - 4, 4)]
        {
            let mut read = vec![0; len];
            image.seek(SeekFrom::Start(at as u64)).unwrap();
            image.read_exact(&mut read).unwrap();
            assert!(read == bytes[at..at + len], "{len} at {at}");
            assert_eq!(image.stream_position().unwrap(), (at + len) as u64);

            let mut straight = vec![0; len];
            image.seek(SeekFrom::Current(-(len as i64))).unwrap();
            image.read_exact_volatile(&mut VolatileSlice::from(straight.as_mut_slice())).unwrap();
            assert!(straight == bytes[at..at + len], "{len} at {at}, straight");
        }
        assert_eq!(image.read(&mut [0; 4]).unwrap(), 0, "the end");
        assert_eq!(image.seek(SeekFrom::End(-4)).unwrap(), 3 * WINDOW as u64 - 4);
        assert_eq!(image.start(2 * WINDOW).unwrap().len(), WINDOW);
    }
}
