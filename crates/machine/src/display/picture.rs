//! A picture as a person would see it on the monitor.

/// Pixels in rows from the top left, four bytes each: blue, green, red, and one that means nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picture {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// The pixels; `width * height * 4` bytes.
    pub pixels: Vec<u8>,
}

/// What a dark monitor shows: a picture of this size, black.
const DARK: (u32, u32) = (640, 480);

impl Picture {
    /// A black picture.
    pub(super) fn black(width: u32, height: u32) -> Self {
        Self { width, height, pixels: vec![0; width as usize * height as usize * 4] }
    }

    /// What is seen when the card shows nothing.
    pub(super) fn dark() -> Self {
        Self::black(DARK.0, DARK.1)
    }

    /// The rows, each to be filled with pixels.
    pub(super) fn rows(&mut self) -> impl Iterator<Item = &mut [u8]> {
        self.pixels.chunks_exact_mut((self.width as usize * 4).max(1))
    }
}

/// Red, green and blue as a pixel.
pub(super) fn pixel([red, green, blue]: [u8; 3]) -> [u8; 4] {
    [blue, green, red, 0]
}

/// Puts pixels into a row until either ends.
pub(super) fn fill(row: &mut [u8], pixels: impl Iterator<Item = [u8; 4]>) {
    for (place, pixel) in row.chunks_exact_mut(4).zip(pixels) {
        place.copy_from_slice(&pixel);
    }
}
