//! Firmware files: read, and recognised for what they are or refused.

use std::fs::File;
use std::io::Read;

use linux::disk::Disk;
use linux::memory::{
    AllocateRamError, GuestAddress, GuestBytes, GuestMemoryBackend, GuestRam, PageKind, RamSpec,
};
use spec::seat_file::FirmwareKind;

use super::chip::BLOCK;

/// The firmware cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FlashError {
    /// A file could not be read.
    #[error("read the {what}")]
    Read {
        /// Which file.
        what: &'static str,
        /// What the kernel said.
        #[source]
        errno: std::io::Error,
    },
    /// A file too small or too large.
    #[error(
        "the {what} has {len} bytes; firmware has 128 KiB to 8 MiB in whole 4 KiB pages, code and variables together"
    )]
    Size {
        /// Which file.
        what: &'static str,
        /// Its length.
        len: u64,
    },
    /// The file is no BIOS.
    #[error(
        "the firmware file is no BIOS: there is no jump at its reset vector; give SeaBIOS's bios-256k.bin (Debian's package `seabios`)"
    )]
    NoBios,
    /// The file is no UEFI code.
    #[error(
        "the firmware file is no UEFI firmware: it does not begin with a firmware volume; give OVMF_CODE_4M.fd (Debian's package `ovmf`)"
    )]
    NoUefi,
    /// The file keeps no variables.
    #[error(
        "the file of UEFI variables is none: it does not begin with a firmware volume; name a file that does not exist to have a new one, or copy OVMF_VARS_4M.fd"
    )]
    NoVariables,
    /// Code and variables are not of one build.
    #[error(
        "the UEFI firmware ({code} bytes) and the file of its variables ({variables} bytes) are of different builds: together they fill a power of two; use OVMF_CODE_4M.fd with a copy of OVMF_VARS_4M.fd"
    )]
    Mismatch {
        /// Length of the code.
        code: u64,
        /// Length of the variables.
        variables: u64,
    },
    /// A BIOS with a file of UEFI variables.
    #[error("a BIOS keeps no UEFI variables; leave the file of variables out, or start UEFI firmware")]
    BiosWithVariables,
    /// No memory for it.
    #[error(transparent)]
    Memory(#[from] AllocateRamError),
}

/// The smallest: what of a BIOS is below 1 MiB.
const SMALLEST: u64 = 128 << 10;
/// The largest, as QEMU has it (hw/i386/pc_sysfw.c); below lie the APICs.
const LARGEST: u64 = 8 << 20;

/// A firmware volume's signature and where it is in the header (UEFI PI 1.8, volume 3, section 3.2.1).
const VOLUME: (usize, &[u8]) = (40, b"_FVH");

/// A far jump, `ljmp`, which every BIOS has in its last 16 bytes.
const FAR_JUMP: u8 = 0xea;

/// Reads the code and checks that it is `kind`.
pub(super) fn read_code(kind: FirmwareKind, image: File) -> Result<Vec<u8>, FlashError> {
    let what = "firmware file";
    let mut code = Vec::new();
    // One byte more than fits, to tell a file that is too large.
    image.take(LARGEST + 1).read_to_end(&mut code).map_err(|errno| FlashError::Read { what, errno })?;
    let len = code.len() as u64;
    if !(SMALLEST..=LARGEST).contains(&len) || !len.is_multiple_of(BLOCK) {
        return Err(FlashError::Size { what, len });
    }
    let jump = code.len().checked_sub(16).and_then(|at| code.get(at));
    match kind {
        FirmwareKind::Bios if jump != Some(&FAR_JUMP) => Err(FlashError::NoBios),
        FirmwareKind::Uefi if !is_volume(&code) => Err(FlashError::NoUefi),
        _ => Ok(code),
    }
}

/// Reads the variables and checks that they belong to `code` bytes of code.
pub(super) fn read_variables(kind: FirmwareKind, store: &Disk, code: u64) -> Result<Vec<u8>, FlashError> {
    let what = "file of UEFI variables";
    let len = store.len();
    if kind == FirmwareKind::Bios {
        return Err(FlashError::BiosWithVariables);
    }
    if len == 0 || !len.is_multiple_of(BLOCK) || code + len > LARGEST {
        return Err(FlashError::Size { what, len });
    }
    let read = |errno| FlashError::Read { what, errno };
    // The disk reads into guest memory only, so the bytes take the way through some.
    let block = 0..len;
    let blocks = vec![block];
    let ram =
        GuestRam::allocate(&RamSpec { blocks, pages: PageKind::Small, shared: false, prefault: false })?;
    let mut bytes = vec![0; len as usize];
    let slice = ram.view().get_slice(GuestAddress(0), bytes.len());
    let slice = slice.map_err(|error| read(std::io::Error::other(error)))?;
    store.read_at(0, &[slice]).map_err(read)?;
    ram.view().read_slice(&mut bytes, GuestAddress(0)).map_err(|error| read(std::io::Error::other(error)))?;
    if !is_volume(&bytes) {
        return Err(FlashError::NoVariables);
    }
    if !(code + len).is_power_of_two() {
        return Err(FlashError::Mismatch { code, variables: len });
    }
    Ok(bytes)
}

fn is_volume(bytes: &[u8]) -> bool {
    bytes.get(VOLUME.0..).is_some_and(|rest| rest.starts_with(VOLUME.1))
}
