//! Memory followers: whoever shows memory at guest addresses. KVM shows it to the processors, the IOMMU to devices.
//!
//! Both are told of the same blocks in the same way, so that they cannot disagree; a block that only one of them takes
//! is taken back. Not here: which memory there is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use linux::iommu::{AddressSpace, DmaAccess, IommuError};
use linux::kvm::{KvmError, Slot, Vm};
use linux::memory::{MappingRange, RamBlock};

/// Somebody who shows memory at guest addresses.
pub(crate) trait MemoryFollower: Send + Sync {
    /// Shows `memory` at guest-physical address `guest`.
    fn show(&self, guest: u64, memory: &MappingRange) -> Result<(), FollowError>;

    /// Takes back what was shown at `guest` with `len` bytes, in one call of [`show`](Self::show).
    fn hide(&self, guest: u64, len: u64) -> Result<(), FollowError>;
}

/// A follower could not follow.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// KVM refused.
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// The IOMMU refused.
    #[error(transparent)]
    Iommu(#[from] IommuError),
}

/// Shows all `blocks` to `follower`, or none: what it took before it failed is taken back.
pub(crate) fn show_all(follower: &dyn MemoryFollower, blocks: &[RamBlock]) -> Result<(), FollowError> {
    for (index, block) in blocks.iter().enumerate() {
        if let Err(error) = follower.show(block.guest, &block.memory) {
            for shown in blocks.iter().take(index).rev() {
                // What cannot be taken back goes with the follower's own end, right after this failure.
                let _ = follower.hide(shown.guest, shown.memory.len() as u64);
            }
            return Err(error);
        }
    }
    Ok(())
}

/// KVM as a follower.
pub(crate) struct KvmSlots {
    vm: Vm,
    slots: Mutex<BTreeMap<u64, Slot>>,
}

impl KvmSlots {
    pub(crate) fn new(vm: &Vm) -> Self {
        Self { vm: vm.clone(), slots: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryFollower for KvmSlots {
    fn show(&self, guest: u64, memory: &MappingRange) -> Result<(), FollowError> {
        let mut slots = self.lock();
        let slot = self.vm.map(guest, memory, false)?;
        slots.insert(guest, slot);
        Ok(())
    }

    fn hide(&self, guest: u64, _len: u64) -> Result<(), FollowError> {
        let mut slots = self.lock();
        if let Some(slot) = slots.get(&guest) {
            self.vm.unmap(*slot)?;
            slots.remove(&guest);
        }
        Ok(())
    }
}

/// The IOMMU as a follower: what devices reach, at the addresses that the guest knows.
#[derive(Clone)]
pub(crate) struct Dma(pub(crate) Arc<dyn AddressSpace>);

impl MemoryFollower for Dma {
    fn show(&self, guest: u64, memory: &MappingRange) -> Result<(), FollowError> {
        Ok(self.0.map(guest, memory, DmaAccess::ReadWrite)?)
    }

    fn hide(&self, guest: u64, len: u64) -> Result<(), FollowError> {
        Ok(self.0.unmap(guest, len)?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use linux::iommu::DmaAccess;
    use linux::iommu::fake::FakeAddressSpace;
    use linux::memory::{GuestRam, PageKind, RamSpec};
    use linux::vfio::Errno;

    use super::{Dma, show_all};

    #[test]
    fn all_blocks_are_shown_or_none() {
        let blocks = vec![0..0xa_0000, 0xc_0000..0x20_0000, 0x1_0000_0000..0x1_0010_0000];
        let spec = RamSpec { blocks, pages: PageKind::Small, shared: false, prefault: false };
        let ram = GuestRam::allocate(&spec).unwrap();
        for failing in 0..4 {
            let space = Arc::new(FakeAddressSpace::default());
            space.fail_after(failing, Errno::NOMEM);
            let shown = show_all(&Dma(Arc::clone(&space) as _), ram.blocks());
            let expected = [
                (0, 0xa_0000, DmaAccess::ReadWrite),
                (0xc_0000, 0x14_0000, DmaAccess::ReadWrite),
                (0x1_0000_0000, 0x10_0000, DmaAccess::ReadWrite),
            ];
            assert_eq!(shown.is_ok(), failing == 3, "call {failing}");
            assert_eq!(space.maps(), if failing == 3 { &expected[..] } else { &[] }, "call {failing}");
        }
    }
}
