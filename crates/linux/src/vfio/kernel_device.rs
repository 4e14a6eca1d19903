//! The kernel's VFIO device behind the [`Device`] trait.
//!
//! Not here: opening it, which is [`super::Group`] and [`super::Cdev`].

use std::mem::offset_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use rustix::io::Errno;
use vfio_bindings::bindings::vfio::{
    VFIO_DEVICE_IOEVENTFD_32, vfio_device_info, vfio_device_ioeventfd, vfio_irq_info, vfio_region_info,
};

use super::error::{Cause, DeviceError, Operation};
use super::hot_reset::{self, Ownership, ResetScope};
use super::info::{self, Area, DeviceInfo, Malformed, RegionIndex, RegionInfo};
use super::ioctl::{self, Block, Plain};
use super::irq::{self, IrqAction, IrqIndex, IrqInfo};
use super::{Device, PAGE_SIZE};
use crate::memory::Mapping;

/// Most regions a device is believed to have; graphics devices with extra regions have about a dozen.
const MAX_REGIONS: u32 = 64;

/// An open VFIO device of the kernel.
#[derive(Debug)]
pub struct KernelDevice {
    file: OwnedFd,
    info: DeviceInfo,
    // By region index, filled when first asked for: the answer does not change while the device is open.
    regions: Vec<OnceLock<RegionInfo>>,
}

impl KernelDevice {
    /// Takes an open device, own or inherited; anything else is refused.
    pub fn from_fd(file: OwnedFd) -> Result<Self, DeviceError> {
        // The question is also the proof that the file is a VFIO device: no other kind of file answers it.
        let answer =
            ioctl::whole_answer(file.as_fd(), Block::DeviceInfo, &[0; size_of::<vfio_device_info>()])
                .map_err(|errno| DeviceError::new(Operation::Info, errno))?;
        let info = info::device_info(&answer).map_err(malformed(Operation::Info))?;
        if !info.pci {
            return Err(DeviceError::new(Operation::Info, Cause::Malformed("it is no PCI function")));
        }
        let regions = (0..info.regions.min(MAX_REGIONS)).map(|_| OnceLock::new()).collect();
        Ok(Self { file, info, regions })
    }

    fn cached_region(&self, region: RegionIndex) -> Result<&RegionInfo, DeviceError> {
        let operation = || Operation::RegionInfo { region };
        let cell =
            self.regions.get(region.0 as usize).ok_or_else(|| DeviceError::new(operation(), Errno::INVAL))?;
        if let Some(info) = cell.get() {
            return Ok(info);
        }
        let mut question = [0; size_of::<vfio_region_info>()];
        put_u32(&mut question, offset_of!(vfio_region_info, index), region.0);
        let answer = ioctl::whole_answer(self.file.as_fd(), Block::RegionInfo, &question)
            .map_err(|errno| DeviceError::new(operation(), errno))?;
        let info = info::region_info(&answer).map_err(malformed(operation()))?;
        Ok(cell.get_or_init(|| info))
    }

    /// The place in the file of an access that lies inside its region.
    fn place(&self, region: RegionIndex, offset: u64, len: usize) -> Result<u64, Cause> {
        let info = self.cached_region(region).map_err(|error| error.cause)?;
        let outside = Cause::Outside { size: info.size };
        let end = offset.checked_add(len as u64).ok_or(outside)?;
        if end > info.size {
            return Err(outside);
        }
        info.file_offset.checked_add(offset).ok_or(outside)
    }
}

impl AsFd for KernelDevice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Device for KernelDevice {
    fn info(&self) -> DeviceInfo {
        self.info
    }

    fn region(&self, region: RegionIndex) -> Result<RegionInfo, DeviceError> {
        self.cached_region(region).cloned()
    }

    fn read(&self, region: RegionIndex, offset: u64, data: &mut [u8]) -> Result<(), DeviceError> {
        let wanted = data.len();
        let done = self.place(region, offset, wanted).and_then(|place| {
            let done = rustix::io::pread(&self.file, &mut *data, place)?;
            if done == wanted { Ok(()) } else { Err(Cause::Short { done, wanted }) }
        });
        done.map_err(|cause| DeviceError::new(Operation::Read { region, offset, len: wanted }, cause))
    }

    fn write(&self, region: RegionIndex, offset: u64, data: &[u8]) -> Result<(), DeviceError> {
        let wanted = data.len();
        let done = self.place(region, offset, wanted).and_then(|place| {
            let done = rustix::io::pwrite(&self.file, data, place)?;
            if done == wanted { Ok(()) } else { Err(Cause::Short { done, wanted }) }
        });
        done.map_err(|cause| DeviceError::new(Operation::Write { region, offset, len: wanted }, cause))
    }

    fn write_on_event(
        &self,
        region: RegionIndex,
        offset: u64,
        value: u32,
        event: Option<BorrowedFd<'_>>,
    ) -> Result<(), DeviceError> {
        let made = self.place(region, offset, size_of::<u32>()).and_then(|place| {
            let mut argument = [0; size_of::<vfio_device_ioeventfd>()];
            put_u32(&mut argument, offset_of!(vfio_device_ioeventfd, flags), VFIO_DEVICE_IOEVENTFD_32);
            put_u64(&mut argument, offset_of!(vfio_device_ioeventfd, offset), place);
            put_u64(&mut argument, offset_of!(vfio_device_ioeventfd, data), value.into());
            // Minus one takes it away.
            let fd = event.map_or(-1, |event| event.as_raw_fd());
            put_u32(&mut argument, offset_of!(vfio_device_ioeventfd, fd), fd as u32);
            ioctl::block(self.file.as_fd(), Block::WriteOnEvent, &mut argument).map_err(Cause::Errno)
        });
        let operation = Operation::WriteOnEvent { region, offset, value };
        made.map(drop).map_err(|cause| DeviceError::new(operation, cause))
    }

    fn map(&self, region: RegionIndex, area: Area) -> Result<Mapping, DeviceError> {
        let fail = |cause| DeviceError::new(Operation::Map { region, area }, cause);
        let info = self.cached_region(region)?;
        let len = mapped_len(info, area).ok_or_else(|| fail(Cause::NotMappable))?;
        let place = info.file_offset.checked_add(area.offset).ok_or_else(|| fail(Cause::NotMappable))?;
        Mapping::device(&self.file, place, len, info.writable)
            .map_err(|error| fail(Cause::Errno(error.errno)))
    }

    fn irq(&self, irq: IrqIndex) -> Result<IrqInfo, DeviceError> {
        let operation = Operation::IrqInfo { irq };
        let mut question = [0; size_of::<vfio_irq_info>()];
        put_u32(&mut question, offset_of!(vfio_irq_info, index), irq.number());
        match ioctl::block(self.file.as_fd(), Block::IrqInfo, &mut question) {
            Ok(_) => irq::irq_info(&question).map_err(malformed(operation)),
            Err(errno) => Err(DeviceError::new(operation, errno)),
        }
    }

    fn set_irqs(&self, irq: IrqIndex, action: IrqAction<'_>) -> Result<(), DeviceError> {
        let (verb, start, count) = action.summary();
        let fail = |cause| DeviceError::new(Operation::SetIrqs { irq, action: verb, start, count }, cause);
        let mut argument = irq::encode(irq, &action);
        match ioctl::block(self.file.as_fd(), Block::SetIrqs, &mut argument) {
            Ok(0) => Ok(()),
            // Not an error number: vfio_msi_enable passes on what pci_alloc_irq_vectors could give.
            Ok(available) => Err(fail(Cause::FewerVectors { available })),
            Err(errno) => Err(fail(Cause::Errno(errno))),
        }
    }

    fn reset(&self) -> Result<(), DeviceError> {
        ioctl::plain(self.file.as_fd(), Plain::DeviceReset, 0)
            .map(drop)
            .map_err(|errno| DeviceError::new(Operation::Reset, errno))
    }

    fn reset_scope(&self) -> Result<ResetScope, DeviceError> {
        let fail = |errno| DeviceError::new(Operation::HotResetInfo, errno);
        let mut answer = hot_reset::question(1);
        match ioctl::block(self.file.as_fd(), Block::HotResetInfoOrIommuInfo, &mut answer) {
            Ok(_) => {}
            Err(Errno::NOSPC) => {
                // The kernel has put the number of functions where room was too small.
                let count = hot_reset::counted(&answer).unwrap_or(0).min(hot_reset::MAX_FUNCTIONS);
                answer = hot_reset::question(count);
                ioctl::block(self.file.as_fd(), Block::HotResetInfoOrIommuInfo, &mut answer).map_err(fail)?;
            }
            Err(errno) => return Err(fail(errno)),
        }
        hot_reset::reset_scope(&answer).map_err(malformed(Operation::HotResetInfo))
    }

    fn hot_reset(&self, ownership: Ownership<'_>) -> Result<(), DeviceError> {
        let fail = |cause| DeviceError::new(Operation::HotReset, cause);
        let proof = self.reset_scope()?.proof(&ownership).map_err(fail)?;
        let mut argument = hot_reset::request(&proof);
        ioctl::block(self.file.as_fd(), Block::HotReset, &mut argument)
            .map(drop)
            .map_err(|errno| fail(Cause::Errno(errno)))
    }
}

/// The bytes to map for `area`; `None` when the kernel does not allow it.
pub(super) fn mapped_len(info: &RegionInfo, area: Area) -> Option<usize> {
    let end = area.end()?;
    let allowed = |whole: &Area| whole.offset <= area.offset && whole.end().is_some_and(|last| end <= last);
    let aligned = area.offset.is_multiple_of(PAGE_SIZE);
    // Only the end of a region below a page is no multiple of the page; the kernel maps the whole page then.
    let sized = area.size.is_multiple_of(PAGE_SIZE) || end == info.size;
    if area.size == 0 || !aligned || !sized || !info.areas.iter().any(allowed) {
        return None;
    }
    usize::try_from(area.size.checked_next_multiple_of(PAGE_SIZE)?).ok()
}

fn malformed(operation: Operation) -> impl FnOnce(Malformed) -> DeviceError {
    |Malformed(what)| DeviceError::new(operation, Cause::Malformed(what))
}

fn put_u32(block: &mut [u8], offset: usize, value: u32) {
    if let Some(place) = block.get_mut(offset..offset + 4) {
        place.copy_from_slice(&value.to_le_bytes());
    }
}

fn put_u64(block: &mut [u8], offset: usize, value: u64) {
    if let Some(place) = block.get_mut(offset..offset + 8) {
        place.copy_from_slice(&value.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::{Area, RegionInfo, mapped_len};

    #[test]
    fn only_whole_pages_of_allowed_areas_are_mapped() {
        let area = |offset, size| Area { offset, size };
        let cut = RegionInfo {
            size: 0x8000,
            areas: vec![area(0, 0x2000), area(0x4000, 0x4000)],
            ..RegionInfo::default()
        };
        let small = RegionInfo { size: 0x100, areas: vec![area(0, 0x100)], ..RegionInfo::default() };
        for (info, wanted, len) in [
            (&cut, area(0, 0x2000), Some(0x2000)),
            (&cut, area(0x1000, 0x1000), Some(0x1000)),
            (&cut, area(0x4000, 0x4000), Some(0x4000)),
            (&cut, area(0x2000, 0x1000), None),
            (&cut, area(0x1000, 0x4000), None),
            (&cut, area(0x800, 0x1000), None),
            (&cut, area(0, 0x800), None),
            (&cut, area(0, 0), None),
            (&cut, area(u64::MAX - 0xfff, 0x1000), None),
            (&small, area(0, 0x100), Some(0x1000)),
            (&small, area(0, 0x80), None),
        ] {
            assert_eq!(mapped_len(info, wanted), len, "{wanted}");
        }
    }

    #[test]
    fn a_file_that_is_no_device_is_refused() {
        let file = rustix::fs::memfd_create("no device", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        assert!(super::KernelDevice::from_fd(file).is_err());
    }
}
