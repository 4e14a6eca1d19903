//! Pictures of screens: as pixels, and as the cells of a text mode.

/// A picture in three bytes a pixel.
#[derive(Debug)]
pub(crate) struct Picture {
    pub(crate) width: usize,
    pub(crate) height: usize,
    bytes: Vec<u8>,
}

/// What is lit of a character cell, a byte a scan line.
pub(crate) type Glyph = [u8; CELL_HEIGHT];

const COLUMNS: usize = 80;
const CELL_HEIGHT: usize = 16;
/// The scan lines in which the cursor blinks, below all letters but those with tails.
const CURSOR: std::ops::Range<usize> = 13..CELL_HEIGHT;

/// Reads a PNG file.
pub(crate) fn picture_of(file: &[u8]) -> Picture {
    let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
    let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
    let frame = reader.next_frame(&mut bytes).unwrap();
    assert_eq!(frame.bit_depth, png::BitDepth::Eight);
    let samples = frame.color_type.samples();
    let bytes = bytes.chunks_exact(samples).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
    Picture { width: frame.width as usize, height: frame.height as usize, bytes }
}

/// Reads a PNG file from its bytes in hexadecimal.
pub(crate) fn picture_of_text(hex: &str) -> Picture {
    let bytes = hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap());
    picture_of(&bytes.collect::<Vec<u8>>())
}

impl Picture {
    pub(crate) fn pixel(&self, x: usize, y: usize) -> [u8; 3] {
        self.bytes[(y * self.width + x) * 3..][..3].try_into().unwrap()
    }

    /// The lines of text, in cells of 8 or 9 by 16; a cell in which nothing but the cursor can be seen is blank.
    pub(crate) fn cells(&self) -> Vec<Vec<Glyph>> {
        let width = self.width / COLUMNS;
        assert!(matches!(width, 8 | 9), "no text mode: {}x{}", self.width, self.height);
        let glyph = |column: usize, row: usize| {
            let line = |scan: usize| {
                let lit = |x: usize| self.pixel(column * width + x, row * CELL_HEIGHT + scan) != [0; 3];
                (0..8).fold(0, |bits, x| bits << 1 | u8::from(lit(x)))
            };
            let glyph: Glyph = std::array::from_fn(line);
            if glyph[..CURSOR.start].iter().all(|bits| *bits == 0) { [0; CELL_HEIGHT] } else { glyph }
        };
        let row = |row| (0..COLUMNS).map(|column| glyph(column, row)).collect();
        (0..self.height / CELL_HEIGHT).map(row).collect()
    }

    /// How many lines have text.
    pub(crate) fn lines(&self) -> usize {
        self.cells().iter().filter(|row| row.iter().any(|glyph| *glyph != [0; CELL_HEIGHT])).count()
    }
}
