//! ELF kernels by the PVH boot protocol: a start-info structure whose address is in EBX.
//!
//! Source: xen `docs/misc/pvh.pandoc` and `include/public/arch-x86/hvm/start_info.h`.

use linux::kvm::Registers;
use linux::memory::{GuestAddress, GuestMemory};
use linux_loader::configurator::pvh::PvhBootConfigurator;
use linux_loader::configurator::{BootConfigurator, BootParams};
use linux_loader::loader::KernelLoader;
use linux_loader::loader::elf::start_info::{hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info};
use linux_loader::loader::elf::{Elf, PvhBootCapability};

use super::image::Image;
use super::{COMMAND_LINE, Facts, Kernel, LoadError, START_INFO, load_initrd};
use crate::layout::{HIGH_MEMORY, LOW_RAM_LIMIT, MemoryKind};

const MAGIC: u32 = 0x336e_c578;
const VERSION: u32 = 1;
const MODULES: u64 = START_INFO + 0x40;
const MEMORY_MAP: u64 = START_INFO + 0x80;

/// A kernel that lies in guest memory.
pub(super) struct Loaded {
    entry: u64,
    end: u64,
}

/// Puts the kernel into guest memory.
pub(super) fn load_image(ram: &GuestMemory, image: &mut Image<'_>) -> Result<Loaded, LoadError> {
    let loaded = Elf::load(ram, None, image, Some(GuestAddress(HIGH_MEMORY)))
        .map_err(|error| LoadError::Image { detail: error.to_string() })?;
    let PvhBootCapability::PvhEntryPresent(entry) = loaded.pvh_boot_cap else {
        return Err(LoadError::NoPvhEntry);
    };
    Ok(Loaded { entry: entry.0, end: loaded.kernel_end })
}

/// Puts beside the kernel what it is told, and gives the registers that it starts with.
pub(super) fn describe(
    ram: &GuestMemory,
    kernel: &mut Kernel,
    facts: &Facts<'_>,
    loaded: Loaded,
) -> Result<Registers, LoadError> {
    let initrd = load_initrd(ram, kernel.initrd.as_mut(), loaded.end, LOW_RAM_LIMIT)?;

    let memory_map: Vec<_> = facts
        .memory_map
        .iter()
        .map(|(range, kind)| hvm_memmap_table_entry {
            addr: range.start,
            size: range.end - range.start,
            type_: match kind {
                MemoryKind::Ram => 1,
                MemoryKind::Reserved => 2,
            },
            reserved: 0,
        })
        .collect();
    let start_info = hvm_start_info {
        magic: MAGIC,
        version: VERSION,
        nr_modules: u32::from(initrd.is_some()),
        modlist_paddr: MODULES,
        cmdline_paddr: COMMAND_LINE,
        rsdp_paddr: facts.rsdp,
        memmap_paddr: MEMORY_MAP,
        memmap_entries: memory_map.len() as u32,
        ..Default::default()
    };
    let mut params = BootParams::new(&start_info, GuestAddress(START_INFO));
    params.set_sections(&memory_map, GuestAddress(MEMORY_MAP));
    if let Some(initrd) = &initrd {
        let module =
            hvm_modlist_entry { paddr: initrd.start, size: initrd.end - initrd.start, ..Default::default() };
        params.set_modules(&[module], GuestAddress(MODULES));
    }
    PvhBootConfigurator::write_bootparams(&params, ram)
        .map_err(|_| LoadError::NoMemory { address: START_INFO, what: "PVH start info" })?;
    Ok(Registers { rip: loaded.entry, rbx: START_INFO, rsi: 0 })
}
