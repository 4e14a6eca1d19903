//! Reads the pictures that a demo leaves, to look at them again with other eyes than its own.

use scene::judge::Picture;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

/// Reads a PNG file of 8 bits a channel, with or without transparency.
pub(crate) fn read(file: &Path) -> Result<Picture, String> {
    let opened = File::open(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let mut reader =
        png::Decoder::new(BufReader::new(opened)).read_info().map_err(|error| error.to_string())?;
    let mut bytes = vec![0; reader.output_buffer_size().ok_or("too large")?];
    let frame = reader.next_frame(&mut bytes).map_err(|error| error.to_string())?;
    bytes.truncate(frame.buffer_size());
    let bytes =
        bytes.chunks_exact(frame.color_type.samples()).flat_map(|pixel| pixel.iter().take(3).copied());
    Ok(Picture { width: frame.width, height: frame.height, bytes: bytes.collect() })
}
