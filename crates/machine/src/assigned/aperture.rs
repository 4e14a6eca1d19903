//! How much address space the assigned functions' BARs need, and where the window for the large ones lies.
//!
//! Pure. Known before the guest runs, so that neither firmware nor kernel has to guess.

use std::ops::RangeInclusive;

use pci::{Bar, BarKind};

use crate::layout;

/// The BARs do not fit into the guest's address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApertureError {
    /// Those that must lie below 4 GiB.
    #[error(
        "the BARs of the assigned functions need {need:#x} bytes below 4 GiB, where {room:#x} are free; assign fewer functions"
    )]
    Low {
        /// Bytes needed.
        need: u64,
        /// Bytes free.
        room: u64,
    },
    /// Those that may lie above.
    #[error(
        "the BARs of the assigned functions need {need:#x} bytes above the guest's memory, and this processor's {bits} address bits end before; give the machine less memory or assign fewer functions"
    )]
    High {
        /// Bytes needed.
        need: u64,
        /// The processor's physical address bits.
        bits: u8,
    },
}

/// AMD processors answer here themselves: the HyperTransport range below 1 TiB (QEMU hw/i386/pc.c).
const HYPER_TRANSPORT: RangeInclusive<u64> = 0xfd_0000_0000..=0xff_ffff_ffff;
/// Bridge windows begin and end at these (PCI-to-PCI Bridge 1.2, section 3.2.5.8).
const WINDOW_STEP: u64 = 1 << 20;
/// Large windows are aligned to this, so that the guest maps what is in them by large pages.
const HIGH_STEP: u64 = 1 << 30;

/// The window above RAM that ends at `ram_end`, for the BARs in each root port's slot; `None` when no BAR may go there.
pub(crate) fn high_window(
    slots: &[Vec<Bar>],
    ram_end: u64,
    bits: u8,
) -> Result<Option<RangeInclusive<u64>>, ApertureError> {
    let need = total(slots, |bar| bar.kind == BarKind::Memory64);
    if need == 0 {
        return Ok(None);
    }
    let largest = slots.iter().flatten().map(|bar| bar.size).max().unwrap_or(0);
    let fail = ApertureError::High { need, bits };
    let limit = 1_u64.checked_shl(bits.into()).unwrap_or(u64::MAX);
    let step = largest.max(HIGH_STEP);
    // Twice the need leaves a guest room to move BARs and to align them in its own way.
    for size in [need.saturating_mul(2), need] {
        let size = size.checked_next_multiple_of(HIGH_STEP).ok_or(fail)?;
        for lowest in [ram_end.max(layout::ABOVE_4G), ram_end.max(HYPER_TRANSPORT.end() + 1)] {
            let start = lowest.checked_next_multiple_of(step).ok_or(fail)?;
            let Some(last) = start.checked_add(size - 1).filter(|last| *last < limit) else { continue };
            if last < *HYPER_TRANSPORT.start() || start > *HYPER_TRANSPORT.end() {
                return Ok(Some(start..=last));
            }
        }
    }
    Err(fail)
}

/// Checks that what must lie below 4 GiB has room there.
pub(crate) fn check_low(slots: &[Vec<Bar>]) -> Result<(), ApertureError> {
    // A bridge's window for memory that is not prefetchable has no 64-bit form.
    let low = |bar: &Bar| match bar.kind {
        BarKind::Memory64 => !bar.prefetchable,
        kind => kind.space() == pci::Space::Memory,
    };
    let need = total(slots, low);
    let room = layout::PCI_32_BIT.iter().map(|window| window.end - window.start).sum();
    if need > room { Err(ApertureError::Low { need, room }) } else { Ok(()) }
}

/// Bytes of the windows of all ports for the BARs that `counts`, each window aligned to its largest BAR.
fn total(slots: &[Vec<Bar>], counts: impl Fn(&Bar) -> bool) -> u64 {
    let window = |bars: &Vec<Bar>| {
        let sizes = || bars.iter().filter(|bar| counts(bar)).map(|bar| bar.size);
        let largest = sizes().max().unwrap_or(0);
        let sum = sizes().fold(0_u64, u64::saturating_add);
        sum.checked_next_multiple_of(largest.max(WINDOW_STEP)).unwrap_or(u64::MAX)
    };
    slots.iter().map(window).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use pci::{Bar, BarIndex, BarKind};

    use super::{ApertureError, check_low, high_window};

    const GIB: u64 = 1 << 30;

    fn bar(kind: BarKind, size: u64, prefetchable: bool) -> Bar {
        Bar { index: BarIndex::bar(0).unwrap(), kind, size, prefetchable }
    }

    fn card(size: u64) -> Vec<Bar> {
        vec![bar(BarKind::Memory64, size, true), bar(BarKind::Memory64, 32 << 20, true)]
    }

    #[test]
    fn the_window_holds_the_bars_above_ram_and_beside_the_hole() {
        for (slots, ram_end, bits, expected) in [
            (vec![], 4 * GIB, 39, Ok(None)),
            (vec![vec![bar(BarKind::Memory32, 1 << 24, false)]], 4 * GIB, 39, Ok(None)),
            (vec![card(256 << 20)], 0x2000_0000, 39, Ok(Some(4 * GIB..=5 * GIB - 1))),
            (vec![card(16 * GIB)], 6 * GIB, 39, Ok(Some(16 * GIB..=80 * GIB - 1))),
            (vec![card(16 * GIB); 4], 1000 * GIB, 48, Ok(Some(1024 * GIB..=1280 * GIB - 1))),
            // Twice does not fit, once does.
            (vec![card(64 * GIB)], 300 * GIB, 39, Ok(Some(320 * GIB..=448 * GIB - 1))),
            (vec![card(256 * GIB)], 100 * GIB, 39, Err(ApertureError::High { need: 512 * GIB, bits: 39 })),
            (
                vec![card(u64::MAX / 2 + 1)],
                4 * GIB,
                52,
                Err(ApertureError::High { need: u64::MAX, bits: 52 }),
            ),
        ] {
            assert_eq!(high_window(&slots, ram_end, bits), expected, "{slots:x?}");
        }
    }

    #[test]
    fn too_much_below_4_gib_is_refused() {
        let small = vec![bar(BarKind::Memory32, 256 << 20, false)];
        assert_eq!(check_low(&vec![small.clone(); 4]), Ok(()));
        assert!(matches!(check_low(&vec![small; 8]), Err(ApertureError::Low { need: 0x8000_0000, .. })));
        assert_eq!(check_low(&[vec![bar(BarKind::Memory64, 1 << 36, true)]]), Ok(()));
        assert!(check_low(&[vec![bar(BarKind::Memory64, 1 << 31, false)]]).is_err());
    }
}
