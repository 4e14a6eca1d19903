//! The BARs of an assigned function: what VFIO says of its regions, and which parts of them the guest reaches without
//! a trap.
//!
//! Pure but for the questions to the device. Where a BAR lies is for the hierarchy; showing it there is `placement`'s.

use std::ops::Range;

use linux::vfio::{Area, Device, DeviceError, PAGE_SIZE, RegionIndex};
use pci::{Bar, BarIndex, BarKind, MsixLayout};

use super::snapshot::Snapshot;

/// A BAR with what can be mapped of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AssignedBar {
    /// As the guest sees it.
    pub(crate) bar: Bar,
    /// The parts that the kernel lets us map, whole pages by rising offset. Accesses elsewhere are trapped. For a BAR
    /// below a page it is the whole BAR, with the rest of its page, which is nobody's.
    pub(crate) mappable: Vec<Area>,
}

// Bits of a base address register (PCI Local Bus 3.0, section 6.2.5.1).
const IO: u32 = 1;
const WIDE: u32 = 0b110;
const WIDE_IS_64: u32 = 0b100;
const PREFETCHABLE: u32 = 1 << 3;

/// Asks for the BARs 0 to 5 of `device`, whose registers are in `config`.
pub(crate) fn read(device: &dyn Device, config: &Snapshot) -> Result<Vec<AssignedBar>, DeviceError> {
    let mut bars = Vec::new();
    let mut upper_half = false;
    for number in 0..6 {
        if std::mem::take(&mut upper_half) {
            continue;
        }
        let (Some(index), Some(region)) = (BarIndex::bar(number), RegionIndex::bar(number)) else { continue };
        let info = device.region(region)?;
        if info.size == 0 {
            continue;
        }
        let register = config.u32(pci::register::BAR0 + 4 * u16::from(number));
        let kind = match register {
            register if register & IO != 0 => BarKind::Io32,
            register if register & WIDE == WIDE_IS_64 => BarKind::Memory64,
            _ => BarKind::Memory32,
        };
        upper_half = kind == BarKind::Memory64;
        let prefetchable = kind != BarKind::Io32 && register & PREFETCHABLE != 0;
        let mappable = if kind == BarKind::Io32 { Vec::new() } else { mappable(&info.areas, info.size) };
        bars.push(AssignedBar { bar: Bar { index, kind, size: info.size, prefetchable }, mappable });
    }
    Ok(bars)
}

impl AssignedBar {
    /// Leaves the pages of the MSI-X table and its pending bits to traps: the table is ours to emulate, and a guest that
    /// wrote to the hardware's could forge messages.
    pub(crate) fn cut_around(&mut self, msix: &MsixLayout) {
        self.trap(msix.table_bar, &msix.table());
        self.trap(msix.pending_bar, &msix.pending());
    }

    /// Leaves the pages of `bytes` to traps, if they are in this BAR.
    pub(crate) fn trap(&mut self, bar: BarIndex, bytes: &Range<u64>) {
        if bar == self.bar.index {
            self.mappable = without(&self.mappable, &pages_of(bytes));
        }
    }
}

/// What can be mapped of a BAR of `size` bytes.
///
/// The kernel gives one below a page only when it begins a page that no other BAR of the host is in, and keeps the rest
/// of that page to itself (`drivers/vfio/pci/vfio_pci_core.c`, vfio_pci_probe_mmaps).
fn mappable(areas: &[Area], size: u64) -> Vec<Area> {
    if size >= PAGE_SIZE {
        return whole_pages(areas, size);
    }
    let whole = |area: &&Area| area.offset == 0 && area.size >= size;
    areas.iter().find(whole).map(|_| Area { offset: 0, size }).into_iter().collect()
}

/// The whole pages inside `areas`, as far as they lie in a region of `size` bytes.
pub(crate) fn whole_pages(areas: &[Area], size: u64) -> Vec<Area> {
    let clipped = areas.iter().filter_map(|area| {
        let end = area.end()?.min(size) & !(PAGE_SIZE - 1);
        let start = area.offset.checked_next_multiple_of(PAGE_SIZE)?;
        (start < end).then(|| Area { offset: start, size: end - start })
    });
    clipped.collect()
}

fn pages_of(bytes: &Range<u64>) -> Range<u64> {
    bytes.start & !(PAGE_SIZE - 1)..bytes.end.next_multiple_of(PAGE_SIZE)
}

/// What is left of `areas` when `hole` is taken out.
fn without(areas: &[Area], hole: &Range<u64>) -> Vec<Area> {
    let mut left = Vec::new();
    for area in areas {
        let end = area.offset + area.size;
        for (start, end) in [(area.offset, end.min(hole.start)), (area.offset.max(hole.end), end)] {
            if start < end {
                left.push(Area { offset: start, size: end - start });
            }
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use linux::vfio::fake::{FakeBar, FakeDevice, Script};
    use linux::vfio::{Area, Device};
    use pci::{Bar, BarIndex, BarKind, MsixLayout};

    use super::super::snapshot::Snapshot;
    use super::{AssignedBar, read, whole_pages, without};

    fn area(offset: u64, size: u64) -> Area {
        Area { offset, size }
    }

    #[test]
    fn registers_give_the_kind_and_regions_the_size() {
        let script = Script::new(1, 2)
            .with_bar(0, FakeBar::memory(0x4000))
            .with_bar(2, FakeBar::memory64(1 << 33))
            .with_bar(4, FakeBar::io(0x40))
            .with_bar(5, FakeBar { areas: vec![area(0, 0x100)], ..FakeBar::memory(0x100) });
        let device = FakeDevice::new(script).unwrap();
        let snapshot = Snapshot::read(&device).unwrap();
        let found: Vec<_> = read(&device, &snapshot)
            .unwrap()
            .into_iter()
            .map(|found| {
                (
                    found.bar.index.get(),
                    found.bar.kind,
                    found.bar.size,
                    found.bar.prefetchable,
                    found.mappable,
                )
            })
            .collect();
        assert_eq!(
            found,
            [
                (0, BarKind::Memory32, 0x4000, false, vec![area(0, 0x4000)]),
                (2, BarKind::Memory64, 1 << 33, true, vec![area(0, 1 << 33)]),
                (4, BarKind::Io32, 0x40, false, vec![]),
                (5, BarKind::Memory32, 0x100, false, vec![area(0, 0x100)]),
            ]
        );
        assert!(device.region(linux::vfio::RegionIndex(1)).is_ok_and(|region| region.size == 0));
    }

    #[test]
    fn only_whole_pages_inside_the_region_are_mapped() {
        for (areas, size, expected) in [
            (vec![area(0, 0x4000)], 0x4000, vec![area(0, 0x4000)]),
            (vec![area(0x800, 0x3000)], 0x4000, vec![area(0x1000, 0x2000)]),
            (vec![area(0, 0x100)], 0x100, vec![]),
            (vec![area(0, 0x9000)], 0x8000, vec![area(0, 0x8000)]),
            (vec![area(u64::MAX - 0xfff, 0x1000)], 0x8000, vec![]),
        ] {
            assert_eq!(whole_pages(&areas, size), expected, "{areas:x?}");
        }
    }

    #[test]
    fn a_hole_leaves_what_is_before_and_behind_it() {
        for (hole, expected) in [
            (0..0x1000, vec![area(0x1000, 0x7000)]),
            (0x2000..0x3000, vec![area(0, 0x2000), area(0x3000, 0x5000)]),
            (0x7000..0x9000, vec![area(0, 0x7000)]),
            (0..0x8000, vec![]),
            (0x8000..0x9000, vec![area(0, 0x8000)]),
        ] {
            assert_eq!(without(&[area(0, 0x8000)], &hole), expected, "{hole:x?}");
        }
    }

    #[test]
    fn pages_of_table_and_pending_bits_are_trapped() {
        let index = |number| BarIndex::bar(number).unwrap();
        let layout = MsixLayout {
            vectors: 65,
            table_bar: index(0),
            table_offset: 0x2800,
            pending_bar: index(0),
            pending_offset: 0x5ff8,
        };
        let bar = Bar { index: index(0), kind: BarKind::Memory64, size: 0x8000, prefetchable: false };
        let mut assigned = AssignedBar { bar, mappable: vec![area(0, 0x8000)] };
        assigned.cut_around(&layout);
        assert_eq!(assigned.mappable, [area(0, 0x2000), area(0x3000, 0x2000), area(0x7000, 0x1000)]);
        let mut other = AssignedBar { bar: Bar { index: index(1), ..bar }, mappable: vec![area(0, 0x8000)] };
        other.cut_around(&layout);
        assert_eq!(other.mappable, [area(0, 0x8000)]);
    }
}
