//! Guest RAM: one stretch of host memory, cut into the blocks at which the guest sees it.

use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::MemfdFlags;
use rustix::mm::Advice;
use vm_memory::bitmap::BS;
use vm_memory::{
    GuestAddress, GuestMemoryError, GuestMemoryRegion, GuestMemoryRegionBytes, GuestRegionCollection,
    GuestUsize, MemoryRegionAddress, VolatileSlice,
};

use super::mapping::{Mapping, MappingRange};

/// The host pages behind guest RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageKind {
    /// 4 KiB pages only.
    Small,
    /// Transparent huge pages where the host has them.
    Transparent,
    /// 2 MiB pages from the host's reserved pool.
    Huge2M,
    /// 1 GiB pages from the host's reserved pool.
    Huge1G,
}

/// What guest RAM to make.
#[derive(Clone, Debug)]
pub struct RamSpec {
    /// Where the guest sees RAM, in guest-physical addresses: sorted, page-aligned, free of overlap.
    pub blocks: Vec<Range<u64>>,
    /// The host pages behind it.
    pub pages: PageKind,
    /// Whether it is a memfd that other processes can map.
    pub shared: bool,
    /// Whether every page is touched now.
    pub prefault: bool,
}

/// Guest RAM could not be made.
#[derive(Debug, thiserror::Error)]
pub enum AllocateRamError {
    /// The blocks are not what [`RamSpec::blocks`] promises.
    #[error("guest RAM blocks {blocks:#x?} are not sorted, aligned and apart")]
    Blocks {
        /// The blocks as given.
        blocks: Vec<Range<u64>>,
    },
    /// The kernel refused.
    #[error("{operation} for {len} bytes of guest RAM{}", pages.advice())]
    Kernel {
        /// What was tried.
        operation: &'static str,
        /// Bytes of RAM.
        len: usize,
        /// The pages asked for.
        pages: PageKind,
        /// What the kernel said.
        #[source]
        errno: rustix::io::Errno,
    },
}

/// One block of guest RAM: where the guest sees it and the host memory behind it.
#[derive(Clone, Debug)]
pub struct RamBlock {
    /// Guest-physical address of the first byte.
    pub guest: u64,
    /// The host memory.
    pub memory: MappingRange,
}

/// Guest RAM by guest address: reading, writing, and clones for devices.
pub type GuestMemory = GuestRegionCollection<RamBlock>;

/// Guest RAM as allocated. The memory is freed once no view, no KVM slot and no IOMMU map holds a block.
#[derive(Debug)]
pub struct GuestRam {
    blocks: Vec<RamBlock>,
    view: GuestMemory,
    file: Option<OwnedFd>,
}

impl PageKind {
    /// What helps when there are too few of them.
    fn advice(self) -> &'static str {
        match self {
            Self::Small | Self::Transparent => "",
            Self::Huge2M => {
                "; it needs that much in free 2 MiB huge pages: see HugePages_Free in /proc/meminfo, and reserve more with `echo N > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages`"
            }
            Self::Huge1G => {
                "; it needs that much in free 1 GiB huge pages: reserve them on the kernel command line with `hugepagesz=1G hugepages=N`, or with `echo N > /sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages`"
            }
        }
    }

    fn size(self) -> usize {
        match self {
            Self::Small => 4 << 10,
            Self::Transparent | Self::Huge2M => 2 << 20,
            Self::Huge1G => 1 << 30,
        }
    }
}

impl GuestRam {
    /// Makes guest RAM after `spec`, all zero.
    pub fn allocate(spec: &RamSpec) -> Result<Self, AllocateRamError> {
        let bad_blocks = || AllocateRamError::Blocks { blocks: spec.blocks.clone() };
        let offsets = offsets(&spec.blocks, spec.pages.size()).ok_or_else(bad_blocks)?;
        let len = offsets.last().map_or(0, |last| last.end).next_multiple_of(spec.pages.size());
        let fail =
            |operation| move |errno| AllocateRamError::Kernel { operation, len, pages: spec.pages, errno };

        let huge = matches!(spec.pages, PageKind::Huge2M | PageKind::Huge1G);
        // Pages of the reserved pool come from a memfd in any case: one way to ask for a size, shared or not.
        let (mapping, file) = if spec.shared || huge {
            let file = memfd(spec.pages).map_err(fail("memfd_create"))?;
            rustix::fs::ftruncate(&file, len as u64).map_err(fail("ftruncate"))?;
            let mapping = Mapping::file(&file, 0, len).map_err(|error| fail("mmap")(error.errno))?;
            (mapping, Some(file))
        } else {
            let mapping =
                Mapping::anonymous(len, spec.pages.size()).map_err(|error| fail("mmap")(error.errno))?;
            (mapping, None)
        };
        match spec.pages {
            // A kernel built without transparent huge pages refuses the advice; small pages serve then.
            PageKind::Transparent => drop(mapping.advise(Advice::LinuxHugepage)),
            PageKind::Small => drop(mapping.advise(Advice::LinuxNoHugepage)),
            PageKind::Huge2M | PageKind::Huge1G => {}
        }
        if spec.prefault {
            mapping.advise(Advice::LinuxPopulateWrite).map_err(fail("populate"))?;
        }

        let mapping = Arc::new(mapping);
        let blocks: Vec<_> = std::iter::zip(&spec.blocks, offsets)
            .filter_map(|(block, offsets)| {
                let memory = MappingRange::new(Arc::clone(&mapping), offsets)?;
                Some(RamBlock { guest: block.start, memory })
            })
            .collect();
        let view = view(&blocks).ok_or_else(bad_blocks)?;
        Ok(Self { blocks, view, file })
    }

    /// The blocks, by rising guest address.
    pub fn blocks(&self) -> &[RamBlock] {
        &self.blocks
    }

    /// RAM by guest address, for reading and writing its content.
    pub fn view(&self) -> &GuestMemory {
        &self.view
    }

    /// The memfd behind it, when it is shared.
    pub fn file(&self) -> Option<&OwnedFd> {
        self.file.as_ref()
    }
}

/// Where each block lies in the mapping; `None` when blocks are unsorted, unaligned, empty or meet.
///
/// Inside a page of `page` bytes a byte has the same offset for the guest and for the host: KVM maps a huge page only then
/// (arch/x86/kvm/mmu/mmu.c, the alignment of a slot's first page). What lies between two blocks is never touched.
fn offsets(blocks: &[Range<u64>], page: usize) -> Option<Vec<Range<usize>>> {
    let mut guest_end = 0;
    let mut end = 0_usize;
    let mut offsets = Vec::with_capacity(blocks.len());
    for block in blocks {
        let aligned = block.start.is_multiple_of(4096) && block.end.is_multiple_of(4096);
        if !aligned || block.start < guest_end || block.end <= block.start {
            return None;
        }
        guest_end = block.end;
        let within_page = usize::try_from(block.start).ok()? % page;
        let mut start = end - end % page + within_page;
        if start < end {
            start = start.checked_add(page)?;
        }
        end = start.checked_add(usize::try_from(block.end - block.start).ok()?)?;
        offsets.push(start..end);
    }
    (!offsets.is_empty()).then_some(offsets)
}

fn memfd(pages: PageKind) -> Result<OwnedFd, rustix::io::Errno> {
    let size = match pages {
        PageKind::Huge2M => MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB,
        PageKind::Huge1G => MemfdFlags::HUGETLB | MemfdFlags::HUGE_1GB,
        PageKind::Small | PageKind::Transparent => MemfdFlags::empty(),
    };
    rustix::fs::memfd_create("guest-ram", MemfdFlags::CLOEXEC | size)
}

fn view(blocks: &[RamBlock]) -> Option<GuestMemory> {
    GuestRegionCollection::from_regions(blocks.to_vec()).ok()
}

impl GuestMemoryRegion for RamBlock {
    type B = ();

    fn len(&self) -> GuestUsize {
        self.memory.len() as GuestUsize
    }

    fn start_addr(&self) -> GuestAddress {
        GuestAddress(self.guest)
    }

    fn bitmap(&self) -> BS<'_, Self::B> {}

    fn get_slice(
        &self,
        offset: MemoryRegionAddress,
        count: usize,
    ) -> Result<VolatileSlice<'_, BS<'_, Self::B>>, GuestMemoryError> {
        let start = usize::try_from(offset.0).ok();
        let end = start.and_then(|start| start.checked_add(count));
        let (Some(start), Some(_)) = (start, end.filter(|end| *end <= self.memory.len())) else {
            return Err(GuestMemoryError::InvalidBackendAddress);
        };
        // Only a raw slice can be volatile, which memory shared with a running guest must be.
        // SAFETY: the part lies in the mapping, which `self.memory` keeps alive for as long as the slice borrows it.
        Ok(unsafe { VolatileSlice::new((self.memory.address() + start) as *mut u8, count) })
    }
}

impl GuestMemoryRegionBytes for RamBlock {}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use vm_memory::{Bytes, GuestAddress};

    use super::{GuestRam, PageKind, RamSpec, offsets};

    fn spec(blocks: Vec<Range<u64>>) -> RamSpec {
        RamSpec { blocks, pages: PageKind::Small, shared: false, prefault: false }
    }

    #[test]
    fn blocks_must_be_sorted_aligned_and_apart() {
        for (blocks, good) in [
            (vec![0..0x1000, 0x10_0000..0x20_0000], true),
            (vec![0..0x1000, 0x1000..0x2000], true),
            (vec![0x10_0000..0x20_0000, 0..0x1000], false),
            (vec![0..0x2000, 0x1000..0x3000], false),
            (vec![0..0x1001], false),
            (vec![0x1000..0x1000], false),
            (vec![], false),
        ] {
            assert_eq!(GuestRam::allocate(&spec(blocks.clone())).is_ok(), good, "{blocks:x?}");
        }
    }

    #[test]
    fn a_block_keeps_its_place_inside_a_huge_page() {
        let blocks = [0..0xa_0000, 0xc_0000..0x60_0000, 0x1_0000_0000..0x1_0020_0000];
        assert_eq!(
            offsets(&blocks, 0x20_0000).unwrap(),
            [0..0xa_0000, 0xc_0000..0x60_0000, 0x60_0000..0x80_0000]
        );
        assert_eq!(
            offsets(&blocks, 0x1000).unwrap(),
            [0..0xa_0000, 0xa_0000..0x5e_0000, 0x5e_0000..0x7e_0000]
        );
        let ends_inside = [0..0x30_0000, 0x1_0000_0000..0x1_0020_0000];
        assert_eq!(offsets(&ends_inside, 0x20_0000).unwrap(), [0..0x30_0000, 0x40_0000..0x60_0000]);
    }

    #[test]
    fn what_is_written_in_one_block_is_read_there_and_not_in_another() {
        let ram = GuestRam::allocate(&spec(vec![0..0x1000, 0x10_0000..0x10_2000])).unwrap();
        ram.view().write_obj(7_u32, GuestAddress(0x10_0ffe)).unwrap();
        assert_eq!(ram.view().read_obj::<u32>(GuestAddress(0x10_0ffe)).unwrap(), 7);
        assert_eq!(ram.view().read_obj::<u32>(GuestAddress(0xffc)).unwrap(), 0);
        assert!(ram.view().read_obj::<u32>(GuestAddress(0xffe)).is_err(), "reaches into the hole");
    }

    #[test]
    fn shared_ram_has_a_file_and_private_ram_has_none() {
        let mut spec = spec(vec![0..0x1000]);
        assert!(GuestRam::allocate(&spec).unwrap().file().is_none());
        spec.shared = true;
        assert!(GuestRam::allocate(&spec).unwrap().file().is_some());
    }
}
