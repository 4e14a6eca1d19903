//! The older way to DMA: a container of IOMMU groups with the type1 v2 interface.

use std::mem::offset_of;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use vfio_bindings::bindings::vfio::{
    VFIO_API_VERSION, VFIO_DMA_MAP_FLAG_READ, VFIO_DMA_MAP_FLAG_WRITE, VFIO_IOMMU_INFO_CAPS,
    VFIO_IOMMU_INFO_PGSIZES, VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL,
    VFIO_TYPE1v2_IOMMU, vfio_iommu_type1_dma_unmap, vfio_iommu_type1_info,
    vfio_iommu_type1_info_cap_iova_range, vfio_iommu_type1_info_dma_avail, vfio_iova_range,
};

use super::{AddressSpace, DmaAccess, IommuCause, IommuError, IommuOperation, Limits};
use crate::memory::MappingRange;
use crate::vfio::info::{Malformed, capabilities};
use crate::vfio::ioctl::{self, Addressed, Block, Plain, u32_at, u64_at};
use crate::vfio::{Group, GroupStatus};

/// Most ranges of addresses the kernel is believed to list; real platforms have two or three.
const MAX_RANGES: usize = 1024;

/// A container with the type1 v2 interface.
#[derive(Debug)]
pub struct Type1 {
    container: OwnedFd,
}

impl Type1 {
    /// Puts `groups` into the open `container`, as far as they do not lie there, and chooses type1 v2.
    ///
    /// A container without a group can do nothing, so `groups` must not be empty unless the container was set up by
    /// whoever passed it on.
    pub fn new(container: OwnedFd, groups: &[Group]) -> Result<Self, IommuError> {
        let identify = |cause| IommuError::new(IommuOperation::Identify, cause);
        match ioctl::plain(container.as_fd(), Plain::ApiVersion, 0) {
            Ok(VFIO_API_VERSION) => {}
            Ok(other) => return Err(identify(IommuCause::Version(other))),
            Err(errno) => return Err(identify(IommuCause::Errno(errno))),
        }
        let space = Self { container };
        let states: Vec<_> = groups.iter().map(Group::taken_over).collect();
        // A container that nobody has set up knows no limits; one that holds a group may be set up.
        let maybe = states.is_empty() || states.iter().any(|status| status.in_container);
        let mut chosen = maybe && space.limits().is_ok();
        for (group, status) in groups.iter().zip(states) {
            if !status.in_container {
                space.put_in(group, status)?;
            }
            // The kind of IOMMU can only be chosen once the first group is there, and only once.
            if !chosen {
                ioctl::plain(space.container.as_fd(), Plain::SetIommu, VFIO_TYPE1v2_IOMMU)
                    .map_err(|errno| space.why_not_chosen(errno))?;
                chosen = true;
            }
        }
        if chosen { Ok(space) } else { Err(IommuError::new(IommuOperation::ChooseType1, Errno::INVAL)) }
    }

    /// Adds a group; everything mapped is mapped for it too.
    pub fn add_group(&self, group: &Group) -> Result<(), IommuError> {
        self.put_in(group, group.status()?)
    }

    /// Why type1 v2 could not be chosen: the kernel's errno is the same for one it does not have and for others.
    fn why_not_chosen(&self, errno: Errno) -> IommuError {
        let offered = ioctl::plain(self.container.as_fd(), Plain::CheckExtension, VFIO_TYPE1v2_IOMMU);
        let cause = if offered == Ok(0) { IommuCause::NotOffered } else { IommuCause::Errno(errno) };
        IommuError::new(IommuOperation::ChooseType1, cause)
    }

    fn put_in(&self, group: &Group, status: GroupStatus) -> Result<(), IommuError> {
        let fail = |cause| IommuError::new(IommuOperation::AddGroup { group: group.id() }, cause);
        if !status.viable {
            return Err(fail(IommuCause::NotViable));
        }
        ioctl::set_container(group.as_fd(), self.container.as_fd())
            .map_err(|errno| fail(IommuCause::Errno(errno)))
    }
}

impl AsFd for Type1 {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.container.as_fd()
    }
}

impl AddressSpace for Type1 {
    fn limits(&self) -> Result<Limits, IommuError> {
        let fail = |cause| IommuError::new(IommuOperation::Limits, cause);
        let answer = ioctl::whole_answer(
            self.container.as_fd(),
            Block::HotResetInfoOrIommuInfo,
            &[0; size_of::<vfio_iommu_type1_info>()],
        )
        .map_err(|errno| fail(IommuCause::Errno(errno)))?;
        limits(&answer).map_err(|Malformed(what)| fail(IommuCause::Malformed(what)))
    }

    fn map(&self, iova: u64, memory: &MappingRange, access: DmaAccess) -> Result<(), IommuError> {
        let mut argument = map_argument(memory.address() as u64, iova, memory.len() as u64, access);
        // SAFETY: the address is that of a live mapping of this length. The kernel locks its pages and keeps them
        // until they are unmapped or the container is closed, so they outlive the mapping if need be; no Rust
        // reference to them exists, for mapped memory is reached by volatile accesses only.
        unsafe { ioctl::addressed(self.container.as_fd(), Addressed::MapDma, &mut argument) }
            .map(drop)
            .map_err(|errno| {
                IommuError::new(IommuOperation::Map { iova, len: memory.len() as u64, access }, errno)
            })
    }

    fn unmap(&self, iova: u64, len: u64) -> Result<(), IommuError> {
        let fail = |cause| IommuError::new(IommuOperation::Unmap { iova, len }, cause);
        let mut argument = unmap_argument(iova, len);
        ioctl::block(self.container.as_fd(), Block::UnmapDma, &mut argument)
            .map_err(|errno| fail(IommuCause::Errno(errno)))?;
        match u64_at(&argument, offset_of!(vfio_iommu_type1_dma_unmap, size)) {
            Some(unmapped) if unmapped == len => Ok(()),
            // Nothing there is no error to this interface; to whoever keeps maps in step it is one.
            unmapped => Err(fail(IommuCause::Partial { unmapped: unmapped.unwrap_or(0) })),
        }
    }
}

/// Reads the answer to `VFIO_IOMMU_GET_INFO`.
fn limits(answer: &[u8]) -> Result<Limits, Malformed> {
    let cut = Malformed("IOMMU information is cut off");
    let flags = u32_at(answer, offset_of!(vfio_iommu_type1_info, flags)).ok_or(cut)?;
    let mut limits = Limits::default();
    if flags & VFIO_IOMMU_INFO_PGSIZES != 0 {
        limits.page_sizes = u64_at(answer, offset_of!(vfio_iommu_type1_info, iova_pgsizes)).ok_or(cut)?;
    }
    if flags & VFIO_IOMMU_INFO_CAPS != 0 {
        let first = u32_at(answer, offset_of!(vfio_iommu_type1_info, cap_offset)).ok_or(cut)?;
        for capability in capabilities(answer, first)? {
            match u32::from(capability.id) {
                VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE => limits.ranges = ranges(capability.bytes)?,
                VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL => {
                    let left = offset_of!(vfio_iommu_type1_info_dma_avail, avail);
                    limits.maps_left = Some(u32_at(capability.bytes, left).ok_or(cut)?);
                }
                _ => {}
            }
        }
    }
    if limits.ranges.is_empty() {
        // Kernels before 5.4 do not tell; the map call is the judge then.
        limits.ranges = vec![0..=u64::MAX];
    }
    Ok(limits)
}

fn ranges(capability: &[u8]) -> Result<Vec<RangeInclusive<u64>>, Malformed> {
    let cut = Malformed("the list of address ranges is cut off");
    let count =
        u32_at(capability, offset_of!(vfio_iommu_type1_info_cap_iova_range, nr_iovas)).ok_or(cut)? as usize;
    if count > MAX_RANGES {
        return Err(Malformed("too many address ranges"));
    }
    (0..count)
        .map(|index| {
            let at = size_of::<vfio_iommu_type1_info_cap_iova_range>() + index * size_of::<vfio_iova_range>();
            let start = u64_at(capability, at + offset_of!(vfio_iova_range, start)).ok_or(cut)?;
            let end = u64_at(capability, at + offset_of!(vfio_iova_range, end)).ok_or(cut)?;
            Ok(start..=end)
        })
        .collect()
}

/// `struct vfio_iommu_type1_dma_map`.
fn map_argument(address: u64, iova: u64, len: u64, access: DmaAccess) -> Vec<u8> {
    let flags = match access {
        DmaAccess::Read => VFIO_DMA_MAP_FLAG_READ,
        DmaAccess::ReadWrite => VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
    };
    let mut argument = vec![0; 4];
    argument.extend(flags.to_le_bytes());
    argument.extend([address, iova, len].iter().flat_map(|number| number.to_le_bytes()));
    argument
}

/// `struct vfio_iommu_type1_dma_unmap`.
fn unmap_argument(iova: u64, len: u64) -> Vec<u8> {
    let mut argument = vec![0; 8];
    argument.extend([iova, len].iter().flat_map(|number| number.to_le_bytes()));
    argument
}

#[cfg(test)]
mod tests {
    use super::{DmaAccess, Limits, limits, map_argument, unmap_argument};

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn ranges_pages_and_maps_left_are_read() {
        let answer = words(&[
            0,
            3,
            0x4020_1000,
            0,
            24,
            0, // fixed part
            0x1_0001,
            72,
            2,
            0,
            0,
            0,
            0xfedf_ffff,
            0,
            0xfef0_0000,
            0,
            0xffff_ffff,
            0x7f, // ranges
            0x1_0003,
            0,
            65535, // maps left
        ]);
        let expected = Limits {
            page_sizes: 0x4020_1000,
            ranges: vec![0..=0xfedf_ffff, 0xfef0_0000..=0x7f_ffff_ffff],
            maps_left: Some(65535),
        };
        assert_eq!(limits(&answer), Ok(expected));
        assert_eq!(limits(&words(&[0, 0, 0, 0])).map(|limits| limits.ranges), Ok(vec![0..=u64::MAX]));
        assert!(limits(&words(&[0, 3, 0, 0, 24, 0, 0x1_0001, 0, 9, 0])).is_err());
        assert!(limits(&words(&[0, 3, 0, 0, 24, 0, 0x1_0001, 24, 9, 0])).is_err());
    }

    #[test]
    fn arguments_are_the_kernels_bytes() {
        assert_eq!(
            map_argument(0x7f00_0000_1000, 0x1_0000_0000, 0x2000, DmaAccess::Read),
            words(&[0, 1, 0x1000, 0x7f00, 0, 1, 0x2000, 0])
        );
        assert_eq!(map_argument(0, 0, 0, DmaAccess::ReadWrite)[4], 3);
        assert_eq!(unmap_argument(0x1_0000_0000, 0x2000), words(&[0, 0, 0, 1, 0x2000, 0]));
    }
}
