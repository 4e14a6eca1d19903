//! What answers from 0xC0000 to 0xFFFFF of a machine that firmware starts: its ROM, or RAM, as the host bridge's
//! attribute registers say.
//!
//! Each of the 13 segments is a memory slot of its own. Reads of ROM with writes to RAM below it is the one mixture that
//! KVM has no slot for: there the writes are trapped. Devices reach RAM here at all times.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use linux::kvm::{KvmError, Slot, Vm};
use linux::memory::{GuestAddress, GuestBytes, GuestMemory, GuestRam, MappingRange};
use pci::{Shadow, ShadowSegment};

use crate::bus::{Bus, Device, Effect, RangeTaken};
use crate::layout::{BIOS_AREA, HIGH_MEMORY, VGA_HOLE};

/// The area's segments as they are now.
pub(crate) struct ShadowArea {
    vm: Vm,
    // RAM from 0xC0000 on, and the ROM at 0xE0000.
    ram: MappingRange,
    rom: Option<MappingRange>,
    shown: Mutex<Vec<Shown>>,
    writes: Arc<Mutex<TrappedWrites>>,
}

struct Shown {
    segment: ShadowSegment,
    slot: Option<Slot>,
}

/// The area cannot be shown to the guest.
#[derive(Debug, thiserror::Error)]
pub enum ShadowError {
    /// KVM refused.
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// Something else answers there.
    #[error(transparent)]
    Range(#[from] RangeTaken),
}

/// The area, in the guest's addresses.
const AREA: std::ops::Range<u64> = VGA_HOLE.end..HIGH_MEMORY;

impl ShadowArea {
    /// Shows the RAM blocks of the machine to the guest of `vm`, with the area as `shadow` says and `rom` at its end.
    pub(crate) fn new(
        vm: &Vm,
        ram: &GuestRam,
        rom: Option<MappingRange>,
        memory: &Bus,
        shadow: Shadow,
    ) -> Result<Option<Self>, ShadowError> {
        let mut below = None;
        for block in ram.blocks() {
            let split = (HIGH_MEMORY - VGA_HOLE.end) as usize;
            if block.guest != VGA_HOLE.end {
                vm.map(block.guest, &block.memory, false)?;
                continue;
            }
            below = block.memory.part(0..split.min(block.memory.len()));
            if let Some(rest) = block.memory.part(split..block.memory.len()).filter(|rest| !rest.is_empty()) {
                vm.map(HIGH_MEMORY, &rest, false)?;
            }
        }
        // Machines are larger than this; one without RAM here has nothing to shadow with.
        let Some(ram_part) = below else { return Ok(None) };
        let writes = Arc::new(Mutex::new(TrappedWrites { ram: Arc::new(ram.view().clone()), shadow }));
        memory.insert(AREA, Arc::clone(&writes) as _)?;
        let area = Self { vm: vm.clone(), ram: ram_part, rom, shown: Mutex::default(), writes };
        area.follow(&shadow)?;
        Ok(Some(area))
    }

    /// Shows the area as `shadow` says from now on.
    pub(crate) fn follow(&self, shadow: &Shadow) -> Result<(), KvmError> {
        let mut shown = self.shown();
        self.writes.lock().unwrap_or_else(PoisonError::into_inner).shadow = *shadow;
        for (index, segment) in shadow.segments().enumerate() {
            if shown.get(index).is_some_and(|shown| shown.segment == segment) {
                continue;
            }
            if let Some(slot) = shown.get_mut(index).and_then(|shown| shown.slot.take()) {
                self.vm.unmap(slot)?;
            }
            let slot = match self.memory(&segment) {
                Some((memory, read_only)) => Some(self.vm.map(segment.range.start, &memory, read_only)?),
                None => None,
            };
            let now = Shown { segment, slot };
            match shown.get_mut(index) {
                Some(place) => *place = now,
                None => shown.push(now),
            }
        }
        Ok(())
    }

    /// What the guest reads in `segment`, and whether its writes are trapped.
    fn memory(&self, segment: &ShadowSegment) -> Option<(MappingRange, bool)> {
        let part = |memory: &MappingRange, from: u64| {
            let start = segment.range.start.checked_sub(from)? as usize;
            memory.part(start..start + (segment.range.end - segment.range.start) as usize)
        };
        if segment.read_ram {
            return Some((part(&self.ram, AREA.start)?, !segment.write_ram));
        }
        Some((part(self.rom.as_ref()?, BIOS_AREA.start)?, true))
    }

    fn shown(&self) -> MutexGuard<'_, Vec<Shown>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What happens to accesses that no slot takes: reads find nobody, writes reach RAM where the registers say so.
struct TrappedWrites {
    ram: Arc<GuestMemory>,
    shadow: Shadow,
}

impl Device for TrappedWrites {
    fn name(&self) -> &str {
        "shadow RAM"
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Vec<Effect> {
        for (index, byte) in (0..).zip(data) {
            let address = AREA.start.wrapping_add(offset).wrapping_add(index);
            let reached =
                self.shadow.segments().any(|segment| segment.range.contains(&address) && segment.write_ram);
            if reached {
                // The area is RAM throughout, or it would not be trapped.
                let _ = self.ram.write_obj(*byte, GuestAddress(address));
            }
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use linux::memory::{GuestAddress, GuestBytes, GuestRam, PageKind, RamSpec};
    use pci::{Function, HostBridge, HostBridgePreset};

    use super::TrappedWrites;
    use crate::bus::Device;

    #[test]
    fn trapped_writes_reach_ram_where_the_registers_say_so() {
        let blocks = vec![0..0xa_0000, 0xc_0000..0x20_0000];
        let ram =
            GuestRam::allocate(&RamSpec { blocks, pages: PageKind::Small, shared: false, prefault: false })
                .unwrap();
        let mut bridge = HostBridge::new(&HostBridgePreset::default()).unwrap();
        // Writes of 0xC0000-0xC3FFF and of 0xF0000-0xFFFFF go to RAM, and reads of neither.
        bridge.write_config(0x91, &[0x02]);
        bridge.write_config(0x90, &[0x20]);
        let mut writes = TrappedWrites { ram: Arc::new(ram.view().clone()), shadow: bridge.shadow() };
        for (address, reached) in [
            (0xc_0000_u64, [true, true]),
            (0xc_3fff, [true, false]),
            (0xc_4000, [false, false]),
            (0xe_ffff, [false, true]),
            (0xf_fffe, [true, true]),
        ] {
            ram.view().write_slice(&[0; 2], GuestAddress(address)).unwrap();
            writes.write(address - 0xc_0000, &[0x5a; 2]);
            let found =
                [0, 1].map(|at| ram.view().read_obj::<u8>(GuestAddress(address + at)).unwrap() == 0x5a);
            assert_eq!(found, reached, "{address:#x}");
        }
    }
}
