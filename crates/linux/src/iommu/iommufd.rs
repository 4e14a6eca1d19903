//! The newer way to DMA: iommufd and its I/O address spaces.

use std::mem::offset_of;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use iommufd_bindings::{
    iommu_ioas_alloc, iommu_ioas_iova_ranges, iommu_ioas_unmap, iommu_iova_range,
    iommufd_ioas_map_flags_IOMMU_IOAS_MAP_FIXED_IOVA as FIXED_IOVA,
    iommufd_ioas_map_flags_IOMMU_IOAS_MAP_READABLE as READABLE,
    iommufd_ioas_map_flags_IOMMU_IOAS_MAP_WRITEABLE as WRITEABLE,
};
use rustix::io::Errno;

use super::{AddressSpace, DmaAccess, IommuCause, IommuError, IommuOperation, Limits};
use crate::memory::MappingRange;
use crate::vfio::ioctl::{self, Addressed, Block, u32_at, u64_at};

/// Most ranges of addresses that are asked for; real platforms have two or three.
const MAX_RANGES: usize = 1024;

/// The open control file of iommufd.
#[derive(Clone, Debug)]
pub struct Iommufd {
    file: Arc<OwnedFd>,
}

/// An I/O address space of iommufd. It lives until the last copy of the control file is closed.
#[derive(Clone, Debug)]
pub struct Ioas {
    file: Arc<OwnedFd>,
    id: u32,
}

impl Iommufd {
    /// Takes the open control file, own or inherited; the first use shows whether it is one.
    pub fn from_fd(file: OwnedFd) -> Self {
        Self { file: Arc::new(file) }
    }

    /// Makes an address space.
    pub fn allocate(&self) -> Result<Ioas, IommuError> {
        let fail = |cause| IommuError::new(IommuOperation::Allocate, cause);
        let mut argument = [0; size_of::<iommu_ioas_alloc>()];
        ioctl::block(self.file.as_fd(), Block::IoasAlloc, &mut argument)
            .map_err(|errno| fail(IommuCause::Errno(errno)))?;
        let id = u32_at(&argument, offset_of!(iommu_ioas_alloc, out_ioas_id))
            .ok_or_else(|| fail(IommuCause::Malformed("no id")))?;
        Ok(Ioas { file: Arc::clone(&self.file), id })
    }

    /// Takes the address space that whoever passed the file on has made there.
    pub fn inherited(&self, id: u32) -> Result<Ioas, IommuError> {
        let space = Ioas { file: Arc::clone(&self.file), id };
        space.limits()?;
        Ok(space)
    }
}

impl AsFd for Iommufd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Ioas {
    /// The id of the address space in its iommufd.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Asks for the ranges into an array of `room`; the kernel's number, the ranges and the alignment.
    fn ask_ranges(&self, room: usize) -> Result<(usize, Vec<RangeInclusive<u64>>, u64), Errno> {
        let mut array = vec![0_u8; room * size_of::<iommu_iova_range>()];
        let mut argument = ranges_argument(self.id, room, array.as_mut_ptr().addr() as u64);
        // SAFETY: the kernel writes at most `room` ranges to the address, which is that of an array of just that
        // size, borrowed by nobody else during the call.
        let outcome =
            unsafe { ioctl::addressed(self.file.as_fd(), Addressed::IoasIovaRanges, &mut argument) };
        let count = u32_at(&argument, offset_of!(iommu_ioas_iova_ranges, num_iovas)).unwrap_or(0) as usize;
        match outcome {
            Ok(_) => {}
            Err(Errno::MSGSIZE) => return Ok((count, Vec::new(), 0)),
            Err(errno) => return Err(errno),
        }
        let alignment =
            u64_at(&argument, offset_of!(iommu_ioas_iova_ranges, out_iova_alignment)).unwrap_or(0);
        let ranges = array
            .chunks_exact(size_of::<iommu_iova_range>())
            .take(count)
            .filter_map(|range| {
                let start = u64_at(range, offset_of!(iommu_iova_range, start))?;
                Some(start..=u64_at(range, offset_of!(iommu_iova_range, last))?)
            })
            .collect();
        Ok((count, ranges, alignment))
    }
}

impl AddressSpace for Ioas {
    fn limits(&self) -> Result<Limits, IommuError> {
        let fail = |cause| IommuError::new(IommuOperation::Limits, cause);
        let mut room = 16;
        // The second time has the room the kernel asked for; a device may be added in between.
        for _ in 0..3 {
            let (count, ranges, alignment) =
                self.ask_ranges(room).map_err(|errno| fail(IommuCause::Errno(errno)))?;
            if count <= room {
                return Ok(Limits { page_sizes: alignment.max(4096), ranges, maps_left: None });
            }
            if count > MAX_RANGES {
                break;
            }
            room = count;
        }
        Err(fail(IommuCause::Malformed("too many address ranges")))
    }

    fn map(&self, iova: u64, memory: &MappingRange, access: DmaAccess) -> Result<(), IommuError> {
        let mut argument = map_argument(self.id, memory.address() as u64, iova, memory.len() as u64, access);
        // SAFETY: the address is that of a live mapping of this length. The kernel locks its pages and keeps them
        // until they are unmapped or the iommufd is closed, so they outlive the mapping if need be; no Rust
        // reference to them exists, for mapped memory is reached by volatile accesses only.
        unsafe { ioctl::addressed(self.file.as_fd(), Addressed::IoasMap, &mut argument) }.map(drop).map_err(
            |errno| IommuError::new(IommuOperation::Map { iova, len: memory.len() as u64, access }, errno),
        )
    }

    fn unmap(&self, iova: u64, len: u64) -> Result<(), IommuError> {
        let fail = |cause| IommuError::new(IommuOperation::Unmap { iova, len }, cause);
        let mut argument = unmap_argument(self.id, iova, len);
        ioctl::block(self.file.as_fd(), Block::IoasUnmap, &mut argument)
            .map_err(|errno| fail(IommuCause::Errno(errno)))?;
        match u64_at(&argument, offset_of!(iommu_ioas_unmap, length)) {
            Some(unmapped) if unmapped == len => Ok(()),
            unmapped => Err(fail(IommuCause::Partial { unmapped: unmapped.unwrap_or(0) })),
        }
    }
}

/// `struct iommu_ioas_iova_ranges`.
fn ranges_argument(id: u32, room: usize, array: u64) -> Vec<u8> {
    let room = u32::try_from(room).unwrap_or(0);
    let mut argument: Vec<u8> = [0, id, room, 0].iter().flat_map(|number| number.to_le_bytes()).collect();
    argument.extend([array, 0].iter().flat_map(|number| number.to_le_bytes()));
    argument
}

/// `struct iommu_ioas_map`.
fn map_argument(id: u32, address: u64, iova: u64, len: u64, access: DmaAccess) -> Vec<u8> {
    let flags = FIXED_IOVA
        | match access {
            DmaAccess::Read => READABLE,
            DmaAccess::ReadWrite => READABLE | WRITEABLE,
        };
    let mut argument: Vec<u8> = [0, flags, id, 0].iter().flat_map(|number| number.to_le_bytes()).collect();
    argument.extend([address, len, iova].iter().flat_map(|number| number.to_le_bytes()));
    argument
}

/// `struct iommu_ioas_unmap`.
fn unmap_argument(id: u32, iova: u64, len: u64) -> Vec<u8> {
    let mut argument: Vec<u8> = [0, id].iter().flat_map(|number| number.to_le_bytes()).collect();
    argument.extend([iova, len].iter().flat_map(|number| number.to_le_bytes()));
    argument
}

#[cfg(test)]
mod tests {
    use iommufd_bindings::{iommu_ioas_iova_ranges, iommu_ioas_map, iommu_ioas_unmap};

    use super::{DmaAccess, map_argument, ranges_argument, unmap_argument};

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn arguments_are_the_kernels_bytes() {
        let map = map_argument(7, 0x7f00_0000_1000, 0x1_0000_0000, 0x2000, DmaAccess::ReadWrite);
        assert_eq!(map, words(&[0, 7, 7, 0, 0x1000, 0x7f00, 0x2000, 0, 0, 1]));
        assert_eq!(map.len(), size_of::<iommu_ioas_map>());
        assert_eq!(map_argument(0, 0, 0, 0, DmaAccess::Read)[4], 5);

        let unmap = unmap_argument(7, 0x1_0000_0000, 0x2000);
        assert_eq!(unmap, words(&[0, 7, 0, 1, 0x2000, 0]));
        assert_eq!(unmap.len(), size_of::<iommu_ioas_unmap>());

        let ranges = ranges_argument(7, 16, 0x1000);
        assert_eq!(ranges, words(&[0, 7, 16, 0, 0x1000, 0, 0, 0]));
        assert_eq!(ranges.len(), size_of::<iommu_ioas_iova_ranges>());
    }
}
