//! Takes the kernel out of its package: the bzImage as it is, and the ELF file inside it.
//!
//! The bzImage layout is `Documentation/arch/x86/boot.rst`: `setup_sects` at 0x1f1, `HdrS` at 0x202,
//! `payload_offset` and `payload_length` (protocol 2.08) at 0x248 and 0x24c, counted from the protected-mode code.

use super::ImageError;
use crate::tool;
use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;

/// Compression formats of kernel payloads: first bytes, and the program that undoes it.
const FORMATS: [(&[u8], &str); 3] =
    [(&[0x28, 0xb5, 0x2f, 0xfd], "zstd"), (&[0xfd, b'7', b'z', b'X', b'Z'], "xz"), (&[0x1f, 0x8b], "gzip")];

/// Returns the release of the one kernel in an unpacked tree, as `uname -r` would print it.
pub(super) fn release(tree: &Path) -> Result<String, ImageError> {
    let dir = tree.join("usr/lib/modules");
    let mut names: Vec<String> = fs::read_dir(&dir)
        .map_err(ImageError::file("read", &dir))?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    match (names.pop(), names.is_empty()) {
        (Some(name), true) => Ok(name),
        _ => Err(ImageError::contents("usr/lib/modules", "does not hold exactly one kernel")),
    }
}

/// Writes `vmlinuz` and `vmlinux` into `out`.
pub(super) fn place(tree: &Path, release: &str, out: &Path) -> Result<(), ImageError> {
    let source = tree.join(format!("boot/vmlinuz-{release}"));
    let image = fs::read(&source).map_err(ImageError::file("read", &source))?;
    let (offset, length, program) = payload(&image)
        .ok_or_else(|| ImageError::contents(source.display().to_string(), "is no bzImage we can unpack"))?;
    let target = out.join("vmlinuz");
    fs::write(&target, &image).map_err(ImageError::file("write", &target))?;

    let packed = out.join("payload");
    fs::write(&packed, &image[offset..offset + length]).map_err(ImageError::file("write", &packed))?;
    let elf = out.join("vmlinux");
    let mut unpack = tool::command(program);
    let input = File::open(&packed).map_err(ImageError::file("open", &packed))?;
    let output = File::create(&elf).map_err(ImageError::file("create", &elf))?;
    // The payload carries its own length behind the compressed stream; that is no harm, but some
    // programs complain about it on the way out, so success is judged by the result.
    let status = unpack.args(["-d", "-c", "-q"]).stdin(input).stdout(output).stderr(Stdio::null()).status();
    status.map_err(|cause| tool::start_error(&unpack, cause))?;
    fs::remove_file(&packed).map_err(ImageError::file("remove", &packed))?;
    let unpacked = fs::read(&elf).map_err(ImageError::file("read", &elf))?;
    if !is_whole_elf(&unpacked) {
        return Err(ImageError::contents(source.display().to_string(), "did not unpack to a whole ELF file"));
    }
    // Guests inside the lab boot from it too.
    let inside = tree.join("boot/vmlinux");
    fs::write(&inside, &unpacked).map_err(ImageError::file("write", &inside))
}

/// Finds the compressed kernel in a bzImage: offset, length and the program that unpacks it.
fn payload(image: &[u8]) -> Option<(usize, usize, &'static str)> {
    let word = |at: usize| {
        image.get(at..at + 4).map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    };
    if image.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    // Zero means four, for kernels older than the field.
    let sectors = match image[0x1f1] {
        0 => 4,
        count => usize::from(count),
    };
    let offset = (sectors + 1) * 512 + word(0x248)? as usize;
    // The last four bytes are the unpacked size, not part of the stream.
    let length = (word(0x24c)? as usize).checked_sub(4)?;
    let data = image.get(offset..offset.checked_add(length)?)?;
    let (_, program) = FORMATS.iter().find(|(magic, _)| data.starts_with(magic))?;
    Some((offset, length, program))
}

/// Says whether the section headers, which end a kernel's ELF file, are inside it.
fn is_whole_elf(elf: &[u8]) -> bool {
    let Some(head) = elf.get(..64).filter(|head| head.starts_with(b"\x7fELF\x02")) else { return false };
    let mut offset = [0u8; 8];
    offset.copy_from_slice(&head[40..48]);
    u64::from_le_bytes(offset) < elf.len() as u64
}

#[cfg(test)]
mod tests {
    use super::{is_whole_elf, payload};

    fn image(sectors: u8, offset: u32, length: u32, magic: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 8192];
        image[0x1f1] = sectors;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248..0x24c].copy_from_slice(&offset.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&length.to_le_bytes());
        let at = (usize::from(sectors) + 1) * 512 + offset as usize;
        if let Some(place) = image.get_mut(at..at + magic.len()) {
            place.copy_from_slice(magic);
        }
        image
    }

    #[test]
    fn the_payload_is_found_only_where_the_image_holds_it() {
        const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
        let found = Some((1040, 100, "zstd"));
        let rows = [
            (image(1, 0x10, 104, ZSTD), found),
            (image(1, 0x10, 2, ZSTD), None),
            (image(1, 0x10, u32::MAX, ZSTD), None),
            (image(1, 0x10, 104, b"none"), None),
            (b"short".to_vec(), None),
        ];
        for (number, (bytes, expected)) in rows.into_iter().enumerate() {
            assert_eq!(payload(&bytes), expected, "row {number}");
        }
    }

    #[test]
    fn a_cut_elf_file_is_noticed() {
        let mut elf = vec![0; 100];
        elf[..5].copy_from_slice(b"\x7fELF\x02");
        elf[40] = 80;
        assert!(is_whole_elf(&elf));
        assert!(!is_whole_elf(&elf[..70]));
        assert!(!is_whole_elf(b"\x7fELF"));
    }
}
