//! What the kernel says of a device and its regions, taken out of its answers.
//!
//! Pure: bytes in, facts out. The answers are chains of capabilities; every walk has a bound and trusts no offset.

use std::fmt;
use std::mem::offset_of;

use vfio_bindings::bindings::vfio::{
    VFIO_DEVICE_FLAGS_CAPS, VFIO_DEVICE_FLAGS_PCI, VFIO_DEVICE_FLAGS_RESET, VFIO_PCI_ATOMIC_COMP32,
    VFIO_PCI_ATOMIC_COMP64, VFIO_PCI_ATOMIC_COMP128, VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_ROM_REGION_INDEX,
    VFIO_PCI_VGA_REGION_INDEX, VFIO_REGION_INFO_CAP_SPARSE_MMAP, VFIO_REGION_INFO_CAP_TYPE,
    VFIO_REGION_INFO_FLAG_CAPS, VFIO_REGION_INFO_FLAG_MMAP, VFIO_REGION_INFO_FLAG_READ,
    VFIO_REGION_INFO_FLAG_WRITE, vfio_device_info, vfio_device_info_cap_pci_atomic_comp,
    vfio_info_cap_header, vfio_region_info, vfio_region_info_cap_sparse_mmap, vfio_region_info_cap_type,
    vfio_region_sparse_mmap_area,
};

use super::ioctl::{u32_at, u64_at};

/// Most capabilities an answer is walked for; the kernel's longest has three.
pub(crate) const MAX_CAPABILITIES: usize = 32;
/// Most areas a region may be cut into; a BAR with an MSI-X table has two.
const MAX_AREAS: usize = 1024;

// Of include/uapi/linux/vfio.h, absent from the bindings.
const CAP_MSIX_MAPPABLE: u16 = 3;
const DEVICE_CAP_ATOMIC_COMPLETION: u16 = 5;

/// A region of a device by its fixed number (`VFIO_PCI_*_REGION_INDEX`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegionIndex(pub u32);

impl RegionIndex {
    /// The expansion ROM.
    pub const ROM: Self = Self(VFIO_PCI_ROM_REGION_INDEX);
    /// The configuration space.
    pub const CONFIG: Self = Self(VFIO_PCI_CONFIG_REGION_INDEX);
    /// The legacy VGA ranges: 0xA0000-0xBFFFF, ports 0x3B0-0x3BB and 0x3C0-0x3DF, at these offsets.
    pub const VGA: Self = Self(VFIO_PCI_VGA_REGION_INDEX);

    /// The region of BAR `number`, 0..=5.
    pub const fn bar(number: u8) -> Option<Self> {
        if number < 6 { Some(Self(number as u32)) } else { None }
    }
}

impl fmt::Display for RegionIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ROM => f.write_str("6 (ROM)"),
            Self::CONFIG => f.write_str("7 (config)"),
            Self::VGA => f.write_str("8 (VGA)"),
            Self(index) => write!(f, "{index}"),
        }
    }
}

/// What a device is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Whether the kernel knows a way to reset this function alone.
    pub resettable: bool,
    /// Whether it is a PCI function.
    pub pci: bool,
    /// One more than the highest region index.
    pub regions: u32,
    /// One more than the highest interrupt index.
    pub irqs: u32,
    /// The atomic operations the root port completes for it.
    pub atomics: AtomicCompletion,
}

/// Widths of atomic operations that a root port completes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AtomicCompletion {
    /// 32-bit operations.
    pub bits32: bool,
    /// 64-bit operations.
    pub bits64: bool,
    /// 128-bit compare and swap.
    pub bits128: bool,
}

/// A region of a device; one of size 0 is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegionInfo {
    /// Size in bytes.
    pub size: u64,
    /// Whether it can be read.
    pub readable: bool,
    /// Whether it can be written.
    pub writable: bool,
    /// The parts that can be mapped, by rising offset and apart; empty when none can.
    pub areas: Vec<Area>,
    /// Whether the pages of the MSI-X table may be mapped too.
    pub msix_mappable: bool,
    /// The type of a device-specific region.
    pub kind: Option<RegionKind>,
    /// Where the region begins in the device's file.
    pub(crate) file_offset: u64,
}

/// Part of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    /// Offset in the region, in bytes.
    pub offset: u64,
    /// Size in bytes, never 0.
    pub size: u64,
}

/// The type of a device-specific region (`VFIO_REGION_INFO_CAP_TYPE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionKind {
    /// Type; the high bit marks a PCI vendor id.
    pub kind: u32,
    /// Subtype within the type.
    pub subtype: u32,
}

/// The answer of the kernel contradicts its own rules; the text says how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

/// One capability of an answer: its header's fields and all bytes from the header on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capability<'a> {
    pub(crate) id: u16,
    pub(crate) version: u16,
    pub(crate) bytes: &'a [u8],
}

impl Area {
    /// The offset after the last byte; `None` when it wraps.
    pub fn end(self) -> Option<u64> {
        self.offset.checked_add(self.size)
    }
}

impl fmt::Display for Area {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}+{:#x}", self.offset, self.size)
    }
}

/// Reads the answer to `VFIO_DEVICE_GET_INFO`.
pub(crate) fn device_info(answer: &[u8]) -> Result<DeviceInfo, Malformed> {
    let field = |offset| u32_at(answer, offset).ok_or(Malformed("device information is cut off"));
    let flags = field(offset_of!(vfio_device_info, flags))?;
    let mut info = DeviceInfo {
        resettable: flags & VFIO_DEVICE_FLAGS_RESET != 0,
        pci: flags & VFIO_DEVICE_FLAGS_PCI != 0,
        regions: field(offset_of!(vfio_device_info, num_regions))?,
        irqs: field(offset_of!(vfio_device_info, num_irqs))?,
        atomics: AtomicCompletion::default(),
    };
    if flags & VFIO_DEVICE_FLAGS_CAPS != 0 {
        let first = field(offset_of!(vfio_device_info, cap_offset))?;
        for capability in capabilities(answer, first)? {
            if capability.id == DEVICE_CAP_ATOMIC_COMPLETION {
                let widths =
                    u32_at(capability.bytes, offset_of!(vfio_device_info_cap_pci_atomic_comp, flags))
                        .ok_or(Malformed("the atomic completion capability is cut off"))?;
                info.atomics = AtomicCompletion {
                    bits32: widths & VFIO_PCI_ATOMIC_COMP32 != 0,
                    bits64: widths & VFIO_PCI_ATOMIC_COMP64 != 0,
                    bits128: widths & VFIO_PCI_ATOMIC_COMP128 != 0,
                };
            }
        }
    }
    Ok(info)
}

/// Reads the answer to `VFIO_DEVICE_GET_REGION_INFO`.
pub(crate) fn region_info(answer: &[u8]) -> Result<RegionInfo, Malformed> {
    let cut = Malformed("region information is cut off");
    let flags = u32_at(answer, offset_of!(vfio_region_info, flags)).ok_or(cut)?;
    let size = u64_at(answer, offset_of!(vfio_region_info, size)).ok_or(cut)?;
    let mut info = RegionInfo {
        size,
        readable: flags & VFIO_REGION_INFO_FLAG_READ != 0,
        writable: flags & VFIO_REGION_INFO_FLAG_WRITE != 0,
        file_offset: u64_at(answer, offset_of!(vfio_region_info, offset)).ok_or(cut)?,
        ..RegionInfo::default()
    };
    let mut sparse = None;
    if flags & VFIO_REGION_INFO_FLAG_CAPS != 0 {
        let first = u32_at(answer, offset_of!(vfio_region_info, cap_offset)).ok_or(cut)?;
        for capability in capabilities(answer, first)? {
            match (u32::from(capability.id), capability.version) {
                (VFIO_REGION_INFO_CAP_SPARSE_MMAP, 1) => sparse = Some(sparse_areas(capability.bytes, size)?),
                (VFIO_REGION_INFO_CAP_TYPE, 1) => info.kind = Some(region_kind(capability.bytes)?),
                _ if capability.id == CAP_MSIX_MAPPABLE => info.msix_mappable = true,
                _ => {}
            }
        }
    }
    if flags & VFIO_REGION_INFO_FLAG_MMAP != 0 && size != 0 {
        info.areas = sparse.unwrap_or_else(|| vec![Area { offset: 0, size }]);
    }
    Ok(info)
}

/// Walks the chain of capabilities in `answer` that starts at `first`; 0 means there is none.
pub(crate) fn capabilities(answer: &[u8], first: u32) -> Result<Vec<Capability<'_>>, Malformed> {
    let mut found = Vec::new();
    let mut offset = first as usize;
    while offset != 0 {
        if found.len() == MAX_CAPABILITIES {
            return Err(Malformed("the capability chain has no end"));
        }
        let bytes = answer
            .get(offset..)
            .filter(|bytes| bytes.len() >= size_of::<vfio_info_cap_header>())
            .ok_or(Malformed("a capability lies outside the answer"))?;
        let cut = Malformed("a capability is cut off");
        // The header's first word is the id in its low half, the version in its high half.
        let word = u32_at(bytes, offset_of!(vfio_info_cap_header, id)).ok_or(cut)?;
        let next = u32_at(bytes, offset_of!(vfio_info_cap_header, next)).ok_or(cut)?;
        found.push(Capability { id: (word & 0xffff) as u16, version: (word >> 16) as u16, bytes });
        offset = next as usize;
    }
    Ok(found)
}

/// The mappable areas that a sparse-mmap capability lists, sorted, for a region of `size` bytes.
fn sparse_areas(capability: &[u8], size: u64) -> Result<Vec<Area>, Malformed> {
    let cut = Malformed("the list of mappable areas is cut off");
    let count =
        u32_at(capability, offset_of!(vfio_region_info_cap_sparse_mmap, nr_areas)).ok_or(cut)? as usize;
    if count > MAX_AREAS {
        return Err(Malformed("too many mappable areas"));
    }
    let mut areas = Vec::with_capacity(count);
    let mut at = size_of::<vfio_region_info_cap_sparse_mmap>();
    for _ in 0..count {
        let field = |offset| u64_at(capability, at + offset).ok_or(cut);
        let area = Area {
            offset: field(offset_of!(vfio_region_sparse_mmap_area, offset))?,
            size: field(offset_of!(vfio_region_sparse_mmap_area, size))?,
        };
        at += size_of::<vfio_region_sparse_mmap_area>();
        if area.size != 0 {
            areas.push(area);
        }
    }
    areas.sort_by_key(|area| area.offset);
    let mut end = 0;
    for area in &areas {
        if area.offset < end {
            return Err(Malformed("mappable areas overlap"));
        }
        end = area.end().ok_or(Malformed("a mappable area wraps"))?;
    }
    // A region below a page may be mapped as a whole page.
    if end > size && !(areas.len() == 1 && end == size.next_multiple_of(4096)) {
        return Err(Malformed("a mappable area leaves its region"));
    }
    Ok(areas)
}

fn region_kind(capability: &[u8]) -> Result<RegionKind, Malformed> {
    let field = |offset| u32_at(capability, offset).ok_or(Malformed("the region type is cut off"));
    Ok(RegionKind {
        kind: field(offset_of!(vfio_region_info_cap_type, type_))?,
        subtype: field(offset_of!(vfio_region_info_cap_type, subtype))?,
    })
}

#[cfg(test)]
mod tests {
    use super::{Area, Malformed, RegionInfo, RegionKind, capabilities, device_info, region_info};

    /// An answer as the kernel lays it out: numbers of 4 bytes, least significant first.
    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn area(offset: u64, size: u64) -> Area {
        Area { offset, size }
    }

    #[test]
    fn device_flags_and_atomics_are_read() {
        let plain = device_info(&words(&[24, 0b11, 9, 5, 0, 0])).unwrap();
        assert_eq!((plain.resettable, plain.pci, plain.regions, plain.irqs), (true, true, 9, 5));
        let atomics = device_info(&words(&[40, 0x82, 9, 5, 24, 0, 0x1_0005, 0, 0b110, 0])).unwrap().atomics;
        assert_eq!((atomics.bits32, atomics.bits64, atomics.bits128), (false, true, true));
        assert!(device_info(&words(&[24, 0, 9])).is_err());
    }

    #[test]
    fn a_region_is_mapped_where_the_kernel_allows() {
        let header = |flags, cap| vec![0, flags, 0, cap, 0x8000, 0, 0, 0x100];
        let sparse = [0x1_0001, 0, 2, 0, 0x4000, 0, 0x4000, 0, 0, 0, 0x2000, 0];
        for (flags, tail, areas) in [
            (0b0011, &[][..], vec![]),
            (0b0111, &[][..], vec![area(0, 0x8000)]),
            (0b1111, &sparse[..], vec![area(0, 0x2000), area(0x4000, 0x4000)]),
            // The list of areas says nothing without the permission to map.
            (0b1011, &sparse[..], vec![]),
            (0b1111, &[0x1_0001, 0, 0, 0][..], vec![]),
        ] {
            let mut answer = header(flags, if tail.is_empty() { 0 } else { 32 });
            answer.extend(tail);
            let info = region_info(&words(&answer)).unwrap();
            assert_eq!(info.areas, areas, "flags {flags:#b}");
            assert_eq!((info.size, info.file_offset), (0x8000, 0x100_0000_0000));
        }
    }

    #[test]
    fn types_and_the_msix_permission_are_found_behind_each_other() {
        let answer = words(&[
            0,
            0b1011,
            9,
            32,
            0x1000,
            0,
            0,
            9 << 8, // region
            0x1_0002,
            48,
            0x8000_8086,
            1, // type
            0x1_0003,
            0, // MSI-X mappable
        ]);
        let expected = RegionInfo {
            size: 0x1000,
            readable: true,
            writable: true,
            msix_mappable: true,
            kind: Some(RegionKind { kind: 0x8000_8086, subtype: 1 }),
            file_offset: 9 << 40,
            ..RegionInfo::default()
        };
        assert_eq!(region_info(&answer), Ok(expected));
    }

    #[test]
    fn a_lying_chain_is_refused() {
        for (words_of_chain, said) in [
            (&[0x1_0001, 8, 0, 0][..], "the capability chain has no end"),
            (&[0x1_0001, 16, 0x1_0002, 8][..], "the capability chain has no end"),
            (&[0x1_0001, u32::MAX, 0, 0][..], "a capability lies outside the answer"),
            (&[0x1_0001, 18, 0, 0][..], "a capability lies outside the answer"),
        ] {
            let answer = [words(&[0, 0]), words(words_of_chain)].concat();
            assert_eq!(capabilities(&answer, 8), Err(Malformed(said)), "{words_of_chain:x?}");
        }
        assert_eq!(capabilities(&words(&[0, 0]), 0), Ok(vec![]));
    }

    #[test]
    fn lying_areas_are_refused() {
        for (areas, said) in [
            (&[1, 0, 0, 0, 0x9000, 0][..], "a mappable area leaves its region"),
            (&[2, 0, 0, 0, 0x2000, 0, 0x1000, 0, 0x1000, 0][..], "mappable areas overlap"),
            (&[1, 0, u32::MAX, u32::MAX, 0x1000, 0][..], "a mappable area wraps"),
            (&[5000, 0][..], "too many mappable areas"),
            (&[2, 0, 0, 0, 0x1000, 0][..], "the list of mappable areas is cut off"),
        ] {
            let mut answer = vec![0, 0b1111, 0, 32, 0x8000, 0, 0, 0, 0x1_0001, 0];
            answer.extend(areas);
            assert_eq!(region_info(&words(&answer)), Err(Malformed(said)), "{areas:x?}");
        }
    }
}
