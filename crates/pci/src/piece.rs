//! Accesses to config space cut into those that a function answers.

/// A part of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// How far into the access it begins, in bytes.
    pub from: usize,
    /// The register.
    pub offset: u16,
    /// Bytes: 1, 2 or 4.
    pub len: usize,
}

/// Cuts an access into aligned ones of 1, 2 or 4 bytes; what lies past the function's 4 KiB is left out.
pub fn pieces(offset: u16, len: usize) -> impl Iterator<Item = Piece> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let offset = usize::from(offset) + from;
        let fits =
            |width: usize| offset.is_multiple_of(width) && from + width <= len && offset + width <= 0x1000;
        let width = [4, 2, 1].into_iter().find(|&width| fits(width))?;
        let piece = Piece { from, offset: u16::try_from(offset).ok()?, len: width };
        from += width;
        Some(piece)
    })
}
