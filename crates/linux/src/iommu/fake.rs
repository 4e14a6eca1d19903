//! An address space without a kernel, for tests of what follows memory.
//!
//! It keeps the kernel's rules: no overlap, whole pages, a limit of maps and of locked bytes, unmapping only what was
//! mapped; and it fails at the call it is told to.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::{AddressSpace, DmaAccess, IommuCause, IommuError, IommuOperation, Limits};
use crate::memory::MappingRange;

const PAGE: u64 = 4096;

/// A fake address space.
#[derive(Debug)]
pub struct FakeAddressSpace {
    limits: Limits,
    locked_limit: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    maps: BTreeMap<u64, (u64, DmaAccess)>,
    fail_in: Option<(usize, Errno)>,
    calls: usize,
}

impl Default for FakeAddressSpace {
    fn default() -> Self {
        // As on a PC with VT-d: 39 bits of addresses without the range of message signalled interrupts.
        let ranges = vec![0..=0xfedf_ffff, 0xfef0_0000..=0x7f_ffff_ffff];
        Self::new(Limits { page_sizes: 0x4020_1000, ranges, maps_left: Some(65535) }, u64::MAX)
    }
}

impl FakeAddressSpace {
    /// Makes an empty address space with `limits`; `locked_limit` is the most bytes that may be mapped.
    pub fn new(limits: Limits, locked_limit: u64) -> Self {
        Self { limits, locked_limit, state: Mutex::default() }
    }

    /// Makes one call of map or unmap fail: the one after the next `calls`.
    pub fn fail_after(&self, calls: usize, errno: Errno) {
        self.lock().fail_in = Some((calls, errno));
    }

    /// What is mapped: address, length, access; by rising address.
    pub fn maps(&self) -> Vec<(u64, u64, DmaAccess)> {
        self.lock().maps.iter().map(|(iova, (len, access))| (*iova, *len, *access)).collect()
    }

    /// Calls of map and unmap so far.
    pub fn calls(&self) -> usize {
        self.lock().calls
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) -> Result<MutexGuard<'_, State>, IommuCause> {
        let mut state = self.lock();
        state.calls += 1;
        match state.fail_in.take() {
            Some((0, errno)) => return Err(errno.into()),
            Some((left, errno)) => state.fail_in = Some((left - 1, errno)),
            None => {}
        }
        Ok(state)
    }

    fn try_map(&self, iova: u64, len: u64, access: DmaAccess) -> Result<(), IommuCause> {
        let mut state = self.begin()?;
        let last = iova.checked_add(len).and_then(|end| end.checked_sub(1)).ok_or(Errno::INVAL)?;
        let inside = |range: &std::ops::RangeInclusive<u64>| range.contains(&iova) && range.contains(&last);
        if len == 0 || !iova.is_multiple_of(PAGE) || !len.is_multiple_of(PAGE) {
            return Err(Errno::INVAL.into());
        }
        if !self.limits.ranges.iter().any(inside) {
            return Err(Errno::INVAL.into());
        }
        let before = state.maps.range(..=last).next_back();
        if before.is_some_and(|(start, (len, _))| start + len > iova) {
            return Err(Errno::EXIST.into());
        }
        if self.limits.maps_left.is_some_and(|most| state.maps.len() >= most as usize) {
            return Err(Errno::NOSPC.into());
        }
        let locked: u64 = state.maps.values().map(|(len, _)| len).sum();
        if locked.saturating_add(len) > self.locked_limit {
            return Err(Errno::NOMEM.into());
        }
        state.maps.insert(iova, (len, access));
        Ok(())
    }

    fn try_unmap(&self, iova: u64, len: u64) -> Result<(), IommuCause> {
        let mut state = self.begin()?;
        let end = iova.checked_add(len).ok_or(Errno::INVAL)?;
        let cut = |start: u64, size: u64| start < iova || start + size > end;
        let touched: Vec<(u64, u64)> = state
            .maps
            .range(..end)
            .map(|(start, (size, _))| (*start, *size))
            .filter(|(start, size)| start + size > iova)
            .collect();
        if touched.iter().any(|(start, size)| cut(*start, *size)) {
            return Err(Errno::INVAL.into());
        }
        let unmapped = touched.iter().map(|(_, size)| size).sum();
        for (start, _) in touched {
            state.maps.remove(&start);
        }
        if unmapped == len { Ok(()) } else { Err(IommuCause::Partial { unmapped }) }
    }
}

impl AddressSpace for FakeAddressSpace {
    fn limits(&self) -> Result<Limits, IommuError> {
        let used = u32::try_from(self.lock().maps.len()).unwrap_or(u32::MAX);
        let maps_left = self.limits.maps_left.map(|most| most.saturating_sub(used));
        Ok(Limits { maps_left, ..self.limits.clone() })
    }

    fn map(&self, iova: u64, memory: &MappingRange, access: DmaAccess) -> Result<(), IommuError> {
        let len = memory.len() as u64;
        self.try_map(iova, len, access)
            .map_err(|cause| IommuError::new(IommuOperation::Map { iova, len, access }, cause))
    }

    fn unmap(&self, iova: u64, len: u64) -> Result<(), IommuError> {
        self.try_unmap(iova, len).map_err(|cause| IommuError::new(IommuOperation::Unmap { iova, len }, cause))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{AddressSpace, DmaAccess, FakeAddressSpace, IommuCause, Limits};
    use crate::memory::{Mapping, MappingRange};
    use rustix::io::Errno;

    fn pages(count: usize) -> MappingRange {
        let len = count * 4096;
        MappingRange::new(Arc::new(Mapping::anonymous(len, 4096).unwrap()), 0..len).unwrap()
    }

    #[test]
    fn maps_must_be_apart_aligned_and_in_range() {
        let space = FakeAddressSpace::default();
        space.map(0x1_0000, &pages(16), DmaAccess::ReadWrite).unwrap();
        for (iova, count, errno) in [
            (0x1_0000, 1, Errno::EXIST),
            (0x1_f000, 2, Errno::EXIST),
            (0xf000, 2, Errno::EXIST),
            (0x2_0800, 1, Errno::INVAL),
            (0xfee0_0000, 1, Errno::INVAL),
            (0xfedf_f000, 2, Errno::INVAL),
        ] {
            let refused = space.map(iova, &pages(count), DmaAccess::Read).unwrap_err();
            assert_eq!(refused.errno(), Some(errno), "{iova:#x}");
        }
        space.map(0x2_0000, &pages(1), DmaAccess::Read).unwrap();
        assert_eq!(
            space.maps(),
            [(0x1_0000, 0x1_0000, DmaAccess::ReadWrite), (0x2_0000, 0x1000, DmaAccess::Read)]
        );
    }

    #[test]
    fn unmapping_takes_whole_maps_only_and_notices_gaps() {
        let space = FakeAddressSpace::default();
        space.map(0x1_0000, &pages(2), DmaAccess::Read).unwrap();
        assert_eq!(space.unmap(0x1_0000, 0x1000).unwrap_err().errno(), Some(Errno::INVAL));
        let gap = space.unmap(0x1_0000, 0x3000).unwrap_err();
        assert_eq!(gap.cause, IommuCause::Partial { unmapped: 0x2000 });
        assert_eq!(space.maps(), []);
    }

    #[test]
    fn limits_end_in_the_kernels_errors() {
        let limits = Limits { page_sizes: 0x1000, ranges: vec![0..=u64::MAX], maps_left: Some(2) };
        let space = FakeAddressSpace::new(limits, 0x3000);
        space.map(0, &pages(2), DmaAccess::Read).unwrap();
        let locked = space.map(0x10000, &pages(2), DmaAccess::Read).unwrap_err();
        assert_eq!(locked.errno(), Some(Errno::NOMEM));
        space.map(0x10000, &pages(1), DmaAccess::Read).unwrap();
        let full = space.map(0x20000, &pages(1), DmaAccess::Read).unwrap_err();
        assert_eq!((full.errno(), space.limits().unwrap().maps_left), (Some(Errno::NOSPC), Some(0)));
    }

    #[test]
    fn one_call_fails_as_told() {
        let space = FakeAddressSpace::default();
        space.fail_after(1, Errno::NOMEM);
        let outcomes: Vec<_> = (0_u64..3)
            .map(|page| {
                space.map(page * 0x1000, &pages(1), DmaAccess::Read).err().and_then(|error| error.errno())
            })
            .collect();
        assert_eq!(outcomes, [None, Some(Errno::NOMEM), None]);
    }
}
