//! PNG files of monitors as pixels.

use anyhow::{Context, Result, bail};
use scene::judge::Picture;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

/// Pixels of the largest picture that is looked at.
const PIXEL_LIMIT: usize = 8192 * 8192;

/// Reads a PNG file of 8 bits per channel, as the emulator writes them.
pub(super) fn read(path: &Path) -> Result<Picture> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("cannot open {shown}"))?;
    let mut reader = png::Decoder::new(BufReader::new(file))
        .read_info()
        .with_context(|| format!("{shown} is no PNG file"))?;
    let size = reader.output_buffer_size().filter(|size| *size <= PIXEL_LIMIT * 4);
    let mut bytes = vec![0; size.with_context(|| format!("{shown} is too large"))?];
    let frame = reader.next_frame(&mut bytes).with_context(|| format!("{shown} is damaged"))?;
    bytes.truncate(frame.buffer_size());
    let bytes = match (frame.color_type, frame.bit_depth) {
        (png::ColorType::Rgb, png::BitDepth::Eight) => bytes,
        (png::ColorType::Rgba, png::BitDepth::Eight) => {
            bytes.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect()
        }
        (color, depth) => bail!("{shown} has {color:?} of {depth:?} bits"),
    };
    Ok(Picture { width: frame.width, height: frame.height, bytes })
}
