//! One stretch of mapped memory, owned: the only place where host addresses are known.
//!
//! Other modules of this crate hand its address to the kernel; no address leaves the crate.

use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::mm::{self, MapFlags, ProtFlags};

/// Sizes of large pages that the kernel maps device memory by, largest first.
const DEVICE_PAGES: [usize; 2] = [1 << 30, 2 << 20];

/// A mapping could not be made.
#[derive(Debug, thiserror::Error)]
#[error("map {len} bytes of {what}")]
pub struct MapError {
    /// Bytes asked for.
    pub len: usize,
    /// What was to be mapped.
    pub what: &'static str,
    /// What the kernel said.
    #[source]
    pub errno: rustix::io::Errno,
}

/// Mapped memory, unmapped when dropped.
#[derive(Debug)]
pub struct Mapping {
    // What mmap returned and its length: more than the usable part when an alignment was asked for.
    base: usize,
    mapped: usize,
    start: usize,
    len: usize,
}

/// Part of a mapping, keeping the whole of it alive.
#[derive(Clone, Debug)]
pub struct MappingRange {
    mapping: Arc<Mapping>,
    offset: usize,
    len: usize,
}

impl Mapping {
    /// Maps `len` bytes of zeroed private memory at a multiple of `align` (a power of two); no page is touched.
    pub fn anonymous(len: usize, align: usize) -> Result<Self, MapError> {
        let fail = |errno| MapError { len, what: "private memory", errno };
        let mapped = len.checked_add(align).ok_or_else(|| fail(rustix::io::Errno::INVAL))?;
        // No reservation: the host decides by its own overcommit rule when pages are touched.
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a fresh mapping at an address of the kernel's choice aliases nothing.
        let base = unsafe {
            mm::mmap_anonymous(std::ptr::null_mut(), mapped, ProtFlags::READ | ProtFlags::WRITE, flags)
        }
        .map_err(fail)?;
        let base = base.addr();
        Ok(Self { base, mapped, start: base.next_multiple_of(align), len })
    }

    /// Maps `len` bytes of `file` from `offset`, shared, readable and writable.
    pub fn file(file: impl AsFd, offset: u64, len: usize) -> Result<Self, MapError> {
        Self::shared(file, offset, len, ProtFlags::READ | ProtFlags::WRITE)
    }

    /// Maps `len` bytes of `file` from `offset`, shared, readable only.
    pub fn file_read_only(file: impl AsFd, offset: u64, len: usize) -> Result<Self, MapError> {
        Self::shared(file, offset, len, ProtFlags::READ)
    }

    /// Maps `len` bytes of a device's `file` from `offset`, shared, at an address that lies to its large pages as the
    /// offset does: only then can the kernel map device memory by large pages, for this process and for a guest.
    pub fn device(file: impl AsFd, offset: u64, len: usize, writable: bool) -> Result<Self, MapError> {
        let fail = |errno| MapError { len, what: "device memory", errno };
        let access = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        let Some(align) = DEVICE_PAGES.into_iter().find(|size| len >= *size) else {
            return Self::shared(file, offset, len, access);
        };
        let mapped = len.checked_add(align).ok_or_else(|| fail(rustix::io::Errno::INVAL))?;
        let reserve = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a fresh mapping at an address of the kernel's choice aliases nothing.
        let base = unsafe { mm::mmap_anonymous(std::ptr::null_mut(), mapped, ProtFlags::empty(), reserve) }
            .map_err(fail)?
            .addr();
        // From here on dropping gives the reservation back, whatever happens.
        let mut mapping = Self { base, mapped, start: base, len };
        let within = (offset % align as u64) as usize;
        mapping.start = base + (within + align - base % align) % align;
        let fixed = MapFlags::SHARED | MapFlags::FIXED;
        // SAFETY: start lies less than `align` above base, so the place is inside the reservation just made, which
        // nobody else knows; device memory is reached by volatile accesses only.
        unsafe { mm::mmap(mapping.start as *mut _, len, access, fixed, file.as_fd(), offset) }
            .map_err(fail)?;
        Ok(mapping)
    }

    fn shared(file: impl AsFd, offset: u64, len: usize, access: ProtFlags) -> Result<Self, MapError> {
        // SAFETY: a fresh mapping at an address of the kernel's choice aliases no Rust object; its bytes are only
        // ever reached by volatile accesses, so a change from outside breaks no promise.
        let base =
            unsafe { mm::mmap(std::ptr::null_mut(), len, access, MapFlags::SHARED, file.as_fd(), offset) }
                .map_err(|errno| MapError { len, what: "a file", errno })?;
        let base = base.addr();
        Ok(Self { base, mapped: len, start: base, len })
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The address of the first byte in this process.
    pub(crate) fn address(&self) -> usize {
        self.start
    }

    /// Tells the kernel how the mapping will be used.
    pub(crate) fn advise(&self, advice: mm::Advice) -> Result<(), rustix::io::Errno> {
        // SAFETY: the range is a live mapping of ours; the advices used here change how pages are backed, never
        // their content.
        unsafe { mm::madvise(self.start as *mut _, self.len, advice) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is exactly what mmap returned; whoever used the address held this value alive.
        // A failure here can only be a bug of ours and leaves nothing to be done.
        let _ = unsafe { mm::munmap(self.base as *mut _, self.mapped) };
    }
}

impl MappingRange {
    /// The part `range` of `mapping`; `None` when it is not inside.
    pub fn new(mapping: Arc<Mapping>, range: Range<usize>) -> Option<Self> {
        let len = range.end.checked_sub(range.start)?;
        (range.end <= mapping.len).then_some(Self { mapping, offset: range.start, len })
    }

    /// The part `range` of this part; `None` when it is not inside.
    pub fn part(&self, range: Range<usize>) -> Option<Self> {
        let len = range.end.checked_sub(range.start)?;
        let offset = self.offset.checked_add(range.start)?;
        (range.end <= self.len).then(|| Self { mapping: Arc::clone(&self.mapping), offset, len })
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The address of the first byte in this process.
    pub(crate) fn address(&self) -> usize {
        self.mapping.address() + self.offset
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Mapping, MappingRange};

    #[test]
    fn anonymous_memory_starts_at_its_alignment() {
        let mapping = Mapping::anonymous(0x3000, 0x20_0000).unwrap();
        assert_eq!((mapping.address() % 0x20_0000, mapping.len()), (0, 0x3000));
    }

    #[test]
    fn device_memory_lies_to_large_pages_as_its_offset_does() {
        let file = rustix::fs::memfd_create("device", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&file, 4 << 30).unwrap();
        for (offset, len, align) in [
            (0, 0x1000, 0x1000),
            (0x3000, 4 << 20, 2 << 20),
            (2 << 20, 2 << 20, 2 << 20),
            (3 << 20, 1 << 30, 1 << 30),
        ] {
            let mapping = Mapping::device(&file, offset, len, true).unwrap();
            assert_eq!(mapping.address() % align, offset as usize % align, "{offset:#x}+{len:#x}");
            assert!(mapping.base <= mapping.start && mapping.start + len <= mapping.base + mapping.mapped);
        }
    }

    #[test]
    fn a_range_lies_inside_its_mapping() {
        let mapping = Arc::new(Mapping::anonymous(0x2000, 0x1000).unwrap());
        for (range, inside) in
            [(0..0x2000, true), (0x1000..0x2000, true), (0x1000..0x2001, false), (0..0, true)]
        {
            assert_eq!(MappingRange::new(Arc::clone(&mapping), range).is_some(), inside);
        }
        assert!(MappingRange::new(mapping, std::ops::Range { start: 2, end: 1 }).is_none());
    }

    #[test]
    fn a_part_of_a_range_lies_inside_that_range() {
        let mapping = Arc::new(Mapping::anonymous(0x4000, 0x1000).unwrap());
        let range = MappingRange::new(Arc::clone(&mapping), 0x1000..0x3000).unwrap();
        for (part, inside) in [(0..0x2000, true), (0x1000..0x2000, true), (0x1000..0x2001, false)] {
            let found = range.part(part.clone());
            assert_eq!(found.is_some(), inside, "{part:x?}");
            if let Some(found) = found {
                let expected = (mapping.address() + 0x1000 + part.start, part.len());
                assert_eq!((found.address(), found.len()), expected);
            }
        }
        assert!(range.part(std::ops::Range { start: 2, end: 1 }).is_none());
    }
}
