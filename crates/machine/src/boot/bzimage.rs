//! bzImage kernels by the 32-bit Linux boot protocol: the zero page whose address is in ESI.
//!
//! Source: Linux Documentation/arch/x86/boot.rst and zero-page.rst.

use linux::kvm::Registers;
use linux::memory::{GuestAddress, GuestMemory};
use linux_loader::configurator::linux::LinuxBootConfigurator;
use linux_loader::configurator::{BootConfigurator, BootParams};
use linux_loader::loader::KernelLoader;
use linux_loader::loader::bootparam::{boot_e820_entry, boot_params};
use linux_loader::loader::bzimage::BzImage;

use super::{COMMAND_LINE, Facts, Kernel, LoadError, ZERO_PAGE, load_initrd};
use crate::layout::{HIGH_MEMORY, MemoryKind};

/// "Another boot loader" in `type_of_loader`.
const UNDEFINED_LOADER: u8 = 0xff;

pub(super) fn load(
    ram: &GuestMemory,
    kernel: &mut Kernel,
    facts: &Facts<'_>,
) -> Result<Registers, LoadError> {
    let loaded = BzImage::load(ram, None, &mut kernel.image, Some(GuestAddress(HIGH_MEMORY)))
        .map_err(|error| LoadError::Image { detail: error.to_string() })?;
    let Some(mut header) = loaded.setup_header else { return Err(LoadError::Format) };

    // The image unpacks itself above where it lies; `init_size` is what it needs from its preferred address on.
    let unpacked = header.pref_address.saturating_add(u64::from(header.init_size));
    let kernel_end = loaded.kernel_end.max(unpacked);
    let limit = u64::from(header.initrd_addr_max) + 1;
    let initrd = load_initrd(ram, kernel.initrd.as_mut(), kernel_end, limit)?;

    header.type_of_loader = UNDEFINED_LOADER;
    header.cmd_line_ptr = COMMAND_LINE as u32;
    header.cmdline_size = kernel.command_line.len() as u32;
    if let Some(initrd) = initrd {
        header.ramdisk_image = initrd.start as u32;
        header.ramdisk_size = (initrd.end - initrd.start) as u32;
    }
    let mut zero_page = boot_params { hdr: header, acpi_rsdp_addr: facts.rsdp, ..Default::default() };
    let entries = facts.memory_map.iter().zip(zero_page.e820_table.iter_mut());
    for ((range, kind), entry) in entries {
        *entry = boot_e820_entry {
            addr: range.start,
            size: range.end - range.start,
            r#type: match kind {
                MemoryKind::Ram => 1,
                MemoryKind::Reserved => 2,
            },
        };
    }
    zero_page.e820_entries = facts.memory_map.len().min(zero_page.e820_table.len()) as u8;
    let params = BootParams::new(&zero_page, GuestAddress(ZERO_PAGE));
    LinuxBootConfigurator::write_bootparams(&params, ram)
        .map_err(|_| LoadError::NoMemory { address: ZERO_PAGE, what: "boot parameters" })?;
    Ok(Registers { rip: loaded.kernel_load.0, rbx: 0, rsi: ZERO_PAGE })
}
