//! The ring of buffered port writes: writes that the kernel kept back until somebody needs to see their effect.
//!
//! The ring belongs to the VM and shows in the run area of each of its vCPUs.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use kvm_bindings::{KVM_COALESCED_MMIO_PAGE_OFFSET, kvm_coalesced_mmio, kvm_coalesced_mmio_ring};

use crate::memory::Mapping;

const PAGE: usize = 4096;

/// Entries in the one page of the ring (virt/kvm/coalesced_mmio.h, KVM_COALESCED_MMIO_MAX).
const ENTRIES: u32 = ((PAGE - size_of::<kvm_coalesced_mmio_ring>()) / size_of::<kvm_coalesced_mmio>()) as u32;

/// Hands every buffered port write to `write`, oldest first. `lock` is the VM's: it makes the vCPUs take turns, so that
/// no write is seen after a later access of another vCPU.
pub(super) fn drain(run: &Mapping, lock: &Mutex<()>, write: &mut impl FnMut(u16, &[u8])) {
    let offset = KVM_COALESCED_MMIO_PAGE_OFFSET as usize * PAGE;
    if run.len() < offset + PAGE {
        return;
    }
    let ring = run.address() + offset;
    let index = |field: usize| {
        // SAFETY: the ring's header lies in the mapping that `run` keeps alive, aligned as the kernel defines it.
        unsafe { AtomicU32::from_ptr((ring + field) as *mut u32) }
    };
    let first = index(std::mem::offset_of!(kvm_coalesced_mmio_ring, first));
    let last = index(std::mem::offset_of!(kvm_coalesced_mmio_ring, last));
    // A vCPU's own writes are in the ring before it leaves the guest, so an empty ring needs no lock.
    if first.load(Ordering::Acquire) == last.load(Ordering::Acquire) {
        return;
    }
    let _turn = lock.lock().unwrap_or_else(PoisonError::into_inner);
    // The kernel can add entries meanwhile; one full ring is enough for what this vCPU wrote before.
    for _ in 0..ENTRIES {
        let next = first.load(Ordering::Acquire);
        if next == last.load(Ordering::Acquire) || next >= ENTRIES {
            return;
        }
        let entry =
            ring + size_of::<kvm_coalesced_mmio_ring>() + next as usize * size_of::<kvm_coalesced_mmio>();
        // SAFETY: `next` is below ENTRIES, so the entry lies in the page; the kernel leaves entries between first and
        // last alone.
        let entry = unsafe { (entry as *const kvm_coalesced_mmio).read_volatile() };
        first.store((next + 1) % ENTRIES, Ordering::Release);
        let len = (entry.len as usize).min(entry.data.len());
        write(entry.phys_addr as u16, &entry.data[..len]);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use kvm_bindings::{kvm_coalesced_mmio, kvm_coalesced_mmio_ring};

    use super::{ENTRIES, PAGE, drain};
    use crate::memory::Mapping;

    fn entry(port: u64, byte: u8) -> kvm_coalesced_mmio {
        kvm_coalesced_mmio { phys_addr: port, len: 1, data: [byte; 8], ..Default::default() }
    }

    fn ring(first: u32, last: u32, entries: &[(u32, kvm_coalesced_mmio)]) -> Mapping {
        let run = Mapping::anonymous(3 * PAGE, PAGE).unwrap();
        let ring = (run.address() + 2 * PAGE) as *mut kvm_coalesced_mmio_ring;
        // SAFETY: all writes lie in the third page of the mapping just made.
        unsafe {
            (*ring).first = first;
            (*ring).last = last;
            for (index, entry) in entries {
                ring.add(1).cast::<kvm_coalesced_mmio>().add(*index as usize).write(*entry);
            }
        }
        run
    }

    fn drained(run: &Mapping) -> Vec<(u16, Vec<u8>)> {
        let mut seen = Vec::new();
        drain(run, &Mutex::new(()), &mut |port, data| seen.push((port, data.to_vec())));
        seen
    }

    #[test]
    fn writes_come_out_once_in_order_across_the_end_of_the_ring() {
        let run = ring(ENTRIES - 1, 1, &[(ENTRIES - 1, entry(0xcf8, 1)), (0, entry(0x70, 2))]);
        assert_eq!(drained(&run), [(0xcf8, vec![1]), (0x70, vec![2])]);
        assert_eq!(drained(&run), []);
    }

    #[test]
    fn an_index_outside_the_ring_ends_the_walk() {
        assert_eq!(drained(&ring(ENTRIES, 0, &[])), []);
        assert_eq!(drained(&ring(0, u32::MAX, &[])).len(), ENTRIES as usize);
    }
}
