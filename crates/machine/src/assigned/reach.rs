//! Whether devices can reach all of the guest's memory: a platform keeps addresses for itself, and an IOMMU ends somewhere.
//!
//! Pure. `open` asks before anything is mapped, because the kernel's own answer does not tell one reason from another.

use std::ops::Range;

use linux::iommu::Limits;
use spec::Bytes;

use crate::layout::{ABOVE_4G, LOW_RAM_LIMIT};

/// Addresses that an AMD processor sends to HyperTransport and not to memory (AMD I/O Virtualization Technology
/// Specification 3.08, section 2.1.2; Linux, `HT_RANGE_START` in drivers/iommu/amd).
const HYPER_TRANSPORT: u64 = 0xfd_0000_0000;

/// Devices cannot reach all of the guest's memory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutOfReach {
    /// It would lie on both sides of what HyperTransport has, or in it.
    #[error(
        "the guest's memory would reach the addresses 0xfd00000000 to 0xffffffffff, which HyperTransport has on AMD and no device reaches; {}",
        at_most(*at)
    )]
    HyperTransport {
        /// Where the reach of devices ends.
        at: u64,
    },
    /// The IOMMU has fewer address bits.
    #[error(
        "the guest's memory would reach beyond {at:#x}, where the addresses that the host's IOMMU can translate end; {}",
        at_most(*at)
    )]
    Width {
        /// Where the reach of devices ends.
        at: u64,
    },
    /// The platform has some of its addresses.
    #[error(
        "the host keeps the addresses {:#x} to {:#x} from devices, and the guest's memory would lie there (/sys/kernel/iommu_groups/*/reserved_regions tells for what); {}",
        kept.start, kept.end - 1, at_most(kept.start)
    )]
    Reserved {
        /// What is kept.
        kept: Range<u64>,
    },
    /// The kernel lets nothing more be mapped.
    #[error(
        "the guest's memory takes {needed} maps of the IOMMU and the kernel allows {left} more; raise the parameter dma_entry_limit of the module vfio_iommu_type1"
    )]
    Maps {
        /// Maps of the guest's memory.
        needed: usize,
        /// Maps to be had.
        left: u32,
    },
}

/// Says how much memory ends below the address at which the reach of devices does.
fn at_most(end: u64) -> String {
    let most = if end >= ABOVE_4G { end - ABOVE_4G + LOW_RAM_LIMIT } else { end.min(LOW_RAM_LIMIT) };
    match most >> 20 {
        0 => "no machine can have this host's functions".to_owned(),
        mebibytes => format!("give the machine {} at most", Bytes(mebibytes << 20)),
    }
}

/// Compares the blocks of the guest's memory with what can be mapped.
pub(super) fn check(
    blocks: impl ExactSizeIterator<Item = Range<u64>>,
    limits: &Limits,
) -> Result<(), OutOfReach> {
    if let Some(left) = limits.maps_left.filter(|left| (*left as usize) < blocks.len()) {
        return Err(OutOfReach::Maps { needed: blocks.len(), left });
    }
    for block in blocks {
        let mut at = block.start;
        for range in limits.ranges.iter().filter(|range| *range.end() >= block.start) {
            if *range.start() > at {
                break;
            }
            at = range.end().saturating_add(1);
        }
        if at >= block.end {
            continue;
        }
        let next = limits.ranges.iter().map(|range| *range.start()).find(|start| *start > at);
        return Err(match next {
            _ if at == HYPER_TRANSPORT => OutOfReach::HyperTransport { at },
            None => OutOfReach::Width { at },
            Some(next) => OutOfReach::Reserved { kept: at..next },
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::ops::RangeInclusive;

    use linux::iommu::Limits;

    use super::{HYPER_TRANSPORT, OutOfReach, check};
    use crate::layout::ram_blocks;

    const GIB: u64 = 1 << 30;

    #[test]
    fn memory_that_devices_cannot_reach_is_refused_with_the_reason_and_what_would_do() {
        // As kernels tell them: VT-d of 39 and of 48 bits, AMD-Vi, and firmware that keeps memory for a device.
        let vtd = |end: u64| vec![0..=0xfedf_ffff, 0xfef0_0000..=end];
        let amd = vec![0..=0xfedf_ffff, 0xfef0_0000..=0xfc_ffff_ffff, 0x100_0000_0000..=u64::MAX];
        let kept = vec![0..=0x7aff_ffff, 0x7d80_0000..=0xfedf_ffff, 0xfef0_0000..=u64::MAX];
        type Row<'a> = (u64, Vec<RangeInclusive<u64>>, Option<OutOfReach>, &'a str);
        let rows: [Row<'_>; 9] = [
            (4 * GIB, vtd(0x7f_ffff_ffff), None, ""),
            (510 * GIB, vtd(0x7f_ffff_ffff), None, ""),
            (
                511 * GIB,
                vtd(0x7f_ffff_ffff),
                Some(OutOfReach::Width { at: 0x80_0000_0000 }),
                "510GiB at most",
            ),
            (511 * GIB, vtd(0xffff_ffff_ffff), None, ""),
            (1010 * GIB, amd.clone(), None, ""),
            (
                1011 * GIB,
                amd.clone(),
                Some(OutOfReach::HyperTransport { at: HYPER_TRANSPORT }),
                "1010GiB at most",
            ),
            (1 << 41, amd, Some(OutOfReach::HyperTransport { at: HYPER_TRANSPORT }), "1010GiB at most"),
            (GIB, kept.clone(), None, ""),
            (3 * GIB, kept, Some(OutOfReach::Reserved { kept: 0x7b00_0000..0x7d80_0000 }), "1968MiB at most"),
        ];
        for (size, ranges, expected, remedy) in rows {
            let limits = Limits { page_sizes: 0x1000, ranges, maps_left: Some(65535) };
            let found = check(ram_blocks(size).into_iter(), &limits).err();
            assert_eq!(found, expected, "{size:#x}");
            let said = found.map_or_else(String::new, |found| found.to_string());
            assert!(said.contains(remedy), "{said}");
        }
    }

    #[test]
    fn no_map_left_is_told_and_a_kernel_without_a_limit_has_room() {
        for (maps_left, refused) in [(None, false), (Some(3), false), (Some(2), true)] {
            let limits = Limits { page_sizes: 0, ranges: vec![0..=u64::MAX], maps_left };
            assert_eq!(check(ram_blocks(3 * GIB).into_iter(), &limits).is_err(), refused, "{maps_left:?}");
        }
    }

    #[test]
    fn no_memory_at_all_is_refused_where_nothing_can_be_mapped() {
        let limits = Limits::default();
        let refused = check(ram_blocks(GIB).into_iter(), &limits).unwrap_err();
        assert!(refused.to_string().contains("no machine can have"), "{refused}");
    }
}
