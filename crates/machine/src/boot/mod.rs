//! Starting a Linux kernel without firmware: its image, initrd and command line into RAM, and the state of the first
//! vCPU.
//!
//! Two formats: ELF with a PVH entry (no decompression in the guest), and bzImage by the 32-bit boot protocol.

mod bzimage;
mod image;
mod pvh;
mod segments;

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::ops::Range;

use linux::kvm::StartState;
use linux::memory::{GuestAddress, GuestBytes, GuestMemory, GuestMemoryBackend, GuestMemoryRegion};

use self::image::Image;
use crate::layout::{EXTENDED_BIOS_DATA, EXTENDED_BIOS_DATA_POINTER, LOW_RAM_LIMIT, MemoryKind};

/// The files and text to start from.
#[derive(Debug)]
pub struct Kernel {
    /// The kernel image.
    pub image: File,
    /// The initial RAM disk.
    pub initrd: Option<File>,
    /// The command line.
    pub command_line: String,
}

/// What the kernel is told about the machine.
#[derive(Debug)]
pub struct Facts<'a> {
    /// Guest-physical address of the ACPI root pointer.
    pub rsdp: u64,
    /// The memory map, sorted.
    pub memory_map: &'a [(Range<u64>, MemoryKind)],
}

/// A kernel could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Neither format was recognised.
    #[error(
        "the kernel is neither a bzImage (no `HdrS` at offset 0x202) nor an ELF file; give /boot/vmlinuz-* or a vmlinux"
    )]
    Format,
    /// The image is damaged, cut short, or does not fit.
    #[error(
        "the kernel image cannot be loaded ({detail}); check that the file is complete and that the machine has memory for it"
    )]
    Image {
        /// What the loader met.
        detail: String,
    },
    /// An ELF kernel without the note that PVH needs.
    #[error("the ELF kernel has no PVH entry; use one built with CONFIG_PVH, or its bzImage")]
    NoPvhEntry,
    /// The initial RAM disk does not fit beside the kernel.
    #[error(
        "the initrd of {initrd} bytes does not fit between the kernel's end at {kernel_end:#x} and {limit:#x}; give the machine more memory"
    )]
    InitrdTooLarge {
        /// Its size in bytes.
        initrd: u64,
        /// The first byte after the kernel.
        kernel_end: u64,
        /// Where RAM for it ends.
        limit: u64,
    },
    /// The command line is longer than the kernel takes.
    #[error("the kernel command line has {len} bytes, the kernel takes {limit}")]
    CommandLineTooLong {
        /// Its length.
        len: usize,
        /// What is allowed.
        limit: usize,
    },
    /// A file could not be read.
    #[error("read the {file}")]
    Read {
        /// Which file.
        file: &'static str,
        /// What the kernel said.
        #[source]
        errno: std::io::Error,
    },
    /// The machine has too little memory for the boot structures.
    #[error("the machine has no memory at {address:#x} for the {what}; give it at least 64 MiB")]
    NoMemory {
        /// Guest-physical address.
        address: u64,
        /// What was to be written.
        what: &'static str,
    },
}

// Boot structures lie in the first 640 KiB, which a kernel leaves alone until it has read them.
const GDT: u64 = 0x500;
const START_INFO: u64 = 0x6000;
const ZERO_PAGE: u64 = 0x7000;
const COMMAND_LINE: u64 = 0x2_0000;

/// The longest command line: COMMAND_LINE_SIZE in arch/x86/include/asm/setup.h, less the closing zero.
const COMMAND_LINE_LIMIT: usize = 2047;

/// Puts `kernel` into `ram` and gives the state in which the first vCPU starts it.
pub fn load(ram: &GuestMemory, kernel: &mut Kernel, facts: &Facts<'_>) -> Result<StartState, LoadError> {
    let command_line = kernel.command_line.as_bytes();
    if command_line.len() > COMMAND_LINE_LIMIT || command_line.contains(&0) {
        return Err(LoadError::CommandLineTooLong { len: command_line.len(), limit: COMMAND_LINE_LIMIT });
    }
    let segment = (EXTENDED_BIOS_DATA.start >> 4) as u16;
    write(ram, EXTENDED_BIOS_DATA_POINTER, &segment.to_le_bytes(), "BIOS data area")?;
    write(ram, COMMAND_LINE, &[command_line, &[0]].concat(), "command line")?;

    let mut image = Image::new(&mut kernel.image);
    let registers = match format(&mut image)? {
        Format::Elf => {
            let loaded = pvh::load_image(ram, &mut image)?;
            pvh::describe(ram, kernel, facts, loaded)?
        }
        Format::BzImage => bzimage::load(ram, kernel, facts)?,
    };
    segments::write_gdt(ram)?;
    Ok(segments::protected_mode(registers))
}

enum Format {
    Elf,
    BzImage,
}

fn format(image: &mut Image<'_>) -> Result<Format, LoadError> {
    let start = image.start(0x206).map_err(|errno| LoadError::Read { file: "kernel", errno })?;
    if start.starts_with(b"\x7fELF") {
        return Ok(Format::Elf);
    }
    if start.get(0x202..0x206) == Some(b"HdrS") { Ok(Format::BzImage) } else { Err(LoadError::Format) }
}

/// Puts the initrd as high as `limit` and RAM below the hole allow; gives its place.
fn load_initrd(
    ram: &GuestMemory,
    initrd: Option<&mut File>,
    kernel_end: u64,
    limit: u64,
) -> Result<Option<Range<u64>>, LoadError> {
    let Some(file) = initrd else { return Ok(None) };
    let read = |errno| LoadError::Read { file: "initrd", errno };
    let size = file.seek(SeekFrom::End(0)).map_err(read)?;
    let limit = low_ram_end(ram).min(limit);
    // Kernels free the initrd page by page.
    let start = limit.checked_sub(size).map(|start| start & !0xfff).filter(|start| *start >= kernel_end);
    let Some(start) = start else {
        return Err(LoadError::InitrdTooLarge { initrd: size, kernel_end, limit });
    };
    // A file that shrinks meanwhile reads short, which is an error here.
    ram.read_exact_volatile_from(GuestAddress(start), &mut Image::new(file), size as usize)
        .map_err(|error| LoadError::Read { file: "initrd", errno: std::io::Error::other(error) })?;
    Ok(Some(start..start + size))
}

/// The end of RAM below the 32-bit hole.
fn low_ram_end(ram: &GuestMemory) -> u64 {
    let ends = ram.iter().map(|block| block.start_addr().0 + block.len());
    ends.filter(|end| *end <= LOW_RAM_LIMIT).max().unwrap_or(0)
}

fn write(ram: &GuestMemory, address: u64, bytes: &[u8], what: &'static str) -> Result<(), LoadError> {
    ram.write_slice(bytes, GuestAddress(address)).map_err(|_| LoadError::NoMemory { address, what })
}
