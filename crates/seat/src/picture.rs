//! The picture of a machine's emulated display: fetched over its control socket, and written as PNG.

use std::fs::File;
use std::io::BufWriter;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::MemfdFlags;
use spec::{ControlAnswer, ControlRequest};

use crate::control::{Control, ControlError};

/// No emulated display has more pixels (64 MiB of memory, four bytes a pixel).
const PIXEL_LIMIT: u64 = 16 << 20;

/// A picture: rows from the top, four bytes a pixel (blue, green, red, and one without meaning).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picture {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// The pixels.
    pub pixels: Vec<u8>,
}

/// A picture could not be had or written.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// The machine gave none.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The memory file it is drawn into.
    #[error("memory for the picture: {0}")]
    Memory(#[source] rustix::io::Errno),
    /// It says that it has drawn what cannot be.
    #[error("the machine has drawn no picture but something else")]
    Nonsense,
    /// The file.
    #[error("write the picture {}: {error}", path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// What went wrong.
        error: png::EncodingError,
    },
}

/// Fetches pictures of one machine.
#[derive(Debug)]
pub struct Camera {
    control: Control,
    file: OwnedFd,
}

impl Camera {
    /// A camera on the machine at the other end of `control`.
    pub fn new(control: Control) -> Result<Self, PictureError> {
        let file = rustix::fs::memfd_create("picture", MemfdFlags::CLOEXEC).map_err(PictureError::Memory)?;
        Ok(Self { control, file })
    }

    /// Takes a picture of what the display shows now.
    pub fn take(&mut self) -> Result<Picture, PictureError> {
        let answer = self.control.ask_with(ControlRequest::Picture, Some(self.file.as_fd()))?;
        let ControlAnswer::Picture { width, height } = answer else { return Err(PictureError::Nonsense) };
        let pixels = u64::from(width) * u64::from(height);
        if pixels == 0 || pixels > PIXEL_LIMIT {
            return Err(PictureError::Nonsense);
        }
        let mut picture = Picture { width, height, pixels: vec![0; pixels as usize * 4] };
        let mut done = 0;
        while let Some(rest) = picture.pixels.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match rustix::io::pread(&self.file, rest, done as u64).map_err(PictureError::Memory)? {
                0 => return Err(PictureError::Nonsense),
                read => done += read,
            }
        }
        Ok(picture)
    }

    /// The conversation, for other requests.
    pub fn control(&mut self) -> &mut Control {
        &mut self.control
    }
}

impl Picture {
    /// Writes the picture as a PNG file.
    pub fn write_png(&self, path: &Path) -> Result<(), PictureError> {
        let failed = |error| PictureError::Write { path: path.to_owned(), error };
        let file = File::create(path).map_err(|errno| failed(errno.into()))?;
        let mut encoder = png::Encoder::new(BufWriter::new(file), self.width, self.height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header().map_err(failed)?;
        let colors = self.pixels.chunks_exact(4).flat_map(|pixel| pixel.iter().take(3).rev().copied());
        let colors: Vec<u8> = colors.collect();
        writer.write_image_data(&colors).map_err(failed)?;
        writer.finish().map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::Picture;

    #[test]
    fn a_png_file_has_the_picture_s_colours() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("picture.png");
        let picture = Picture { width: 2, height: 1, pixels: vec![1, 2, 3, 0, 4, 5, 6, 0] };
        picture.write_png(&path).unwrap();
        let file = std::io::BufReader::new(std::fs::File::open(&path).unwrap());
        let mut reader = png::Decoder::new(file).read_info().unwrap();
        let mut colors = vec![0; reader.output_buffer_size().unwrap()];
        let frame = reader.next_frame(&mut colors).unwrap();
        assert_eq!((frame.width, frame.height, &colors[..6]), (2, 1, &[3, 2, 1, 6, 5, 4][..]));
    }
}
