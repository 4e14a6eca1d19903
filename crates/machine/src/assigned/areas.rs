//! Whose the bytes of an assigned function's config space are: ours or the hardware's.
//!
//! Built once for a function by `config`, heeded by every access in `function`. Not here: any value.

use std::ops::Range;

/// For each byte of config space, who answers for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Areas {
    holders: Vec<Holder>,
}

/// Who answers for a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// Our register; the hardware is neither read nor written.
    Ours,
    /// The hardware. What is written there is written to our register too, so that we know of it.
    Hardware,
}

impl Areas {
    /// All the hardware's, in a config space of `size` bytes.
    pub(crate) fn hardware(size: usize) -> Self {
        Self { holders: vec![Holder::Hardware; size] }
    }

    /// Makes bytes ours; those past the end are ours anyway.
    pub(crate) fn claim(&mut self, bytes: Range<u16>) {
        for holder in self.holders.iter_mut().skip(bytes.start.into()).take(bytes.len()) {
            *holder = Holder::Ours;
        }
    }

    /// Cuts an access into stretches with one holder each, as offsets into the access.
    pub(crate) fn stretches(&self, offset: u16, len: usize) -> Vec<(Holder, Range<usize>)> {
        let mut found: Vec<(Holder, Range<usize>)> = Vec::new();
        for (index, at) in (usize::from(offset)..).take(len).enumerate() {
            let holder = self.holders.get(at).copied().unwrap_or(Holder::Ours);
            match found.last_mut() {
                Some((last, bytes)) if *last == holder => bytes.end = index + 1,
                _ => found.push((holder, index..index + 1)),
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::{Areas, Holder};

    #[test]
    fn an_access_is_cut_where_the_holder_changes() {
        let mut areas = Areas::hardware(0x100);
        areas.claim(0x10..0x28);
        areas.claim(0xfe..0x200);
        areas.claim(0x41..0x42);
        for (offset, len, expected) in [
            (0x10, 4, vec![(Holder::Ours, 0..4)]),
            (0x0e, 4, vec![(Holder::Hardware, 0..2), (Holder::Ours, 2..4)]),
            (0x40, 4, vec![(Holder::Hardware, 0..1), (Holder::Ours, 1..2), (Holder::Hardware, 2..4)]),
            (0xfc, 4, vec![(Holder::Hardware, 0..2), (Holder::Ours, 2..4)]),
            (0x100, 2, vec![(Holder::Ours, 0..2)]),
            (0xffff, 2, vec![(Holder::Ours, 0..2)]),
        ] {
            assert_eq!(areas.stretches(offset, len), expected, "{offset:#x}");
        }
    }
}
