//! The micro guest: ten bytes of machine code that say `A` on the serial port and stand still.
//!
//! It shows a VMM's own start without a kernel. In both formats a kernel comes in: an ELF file with a PVH entry and
//! a bzImage, whose three entries (16, 32 and 64 bits) lead to the same code. Not a guest that does anything else;
//! [`crate::machine`] starts it.
//!
//! Source: Linux Documentation/arch/x86/boot.rst; xen `docs/misc/pvh.pandoc`; the ELF-64 object file format.

/// What the guest writes.
pub(crate) const BYTE: u8 = b'A';

/// `mov al, BYTE; mov dx, 0x3f8; out dx, al; cli; halt: hlt; jmp halt` for 16 bits.
const CODE_16: [u8; 10] = [0xb0, BYTE, 0xba, 0xf8, 0x03, 0xee, 0xfa, 0xf4, 0xeb, 0xfd];
/// The same for 32 and 64 bits, where a prefix keeps the port's register at 16 bits.
const CODE_32: [u8; 11] = [0xb0, BYTE, 0x66, 0xba, 0xf8, 0x03, 0xee, 0xfa, 0xf4, 0xeb, 0xfd];

/// Where both formats want to lie: 1 MiB, the classic place of a kernel.
const LOAD_ADDRESS: u32 = 0x10_0000;

/// Bytes in the making, written at named offsets.
struct Image(Vec<u8>);

impl Image {
    fn of_size(size: usize) -> Self {
        Self(vec![0; size])
    }

    fn put(&mut self, offset: usize, bytes: &[u8]) {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn put_u16(&mut self, offset: usize, value: u16) {
        self.put(offset, &value.to_le_bytes());
    }

    fn put_u32(&mut self, offset: usize, value: u32) {
        self.put(offset, &value.to_le_bytes());
    }

    fn put_u64(&mut self, offset: usize, value: u64) {
        self.put(offset, &value.to_le_bytes());
    }
}

/// Returns the guest as an ELF-64 executable with the note that names a PVH entry.
pub(crate) fn elf() -> Vec<u8> {
    const PROGRAM_HEADERS: usize = 0x40;
    const NOTE: usize = 0x100;
    const NOTE_SIZE: u64 = 24;
    const CODE: usize = 0x1000;
    const SIZE: usize = CODE + 0x100;
    let mut image = Image::of_size(SIZE);
    // Identification: 64 bits, little-endian, version 1.
    image.put(0, b"\x7fELF\x02\x01\x01");
    // Type executable, machine x86-64, version 1.
    image.put_u16(0x10, 2);
    image.put_u16(0x12, 62);
    image.put_u32(0x14, 1);
    image.put_u64(0x18, u64::from(LOAD_ADDRESS));
    image.put_u64(0x20, PROGRAM_HEADERS as u64);
    // Sizes of the header and of a program header, and how many of these.
    image.put_u16(0x34, 0x40);
    image.put_u16(0x36, 0x38);
    image.put_u16(0x38, 2);
    // Loaded, readable and executable.
    program_header(&mut image, PROGRAM_HEADERS, (1, 5), CODE as u64, (SIZE - CODE) as u64);
    // A note.
    program_header(&mut image, PROGRAM_HEADERS + 0x38, (4, 4), NOTE as u64, NOTE_SIZE);
    // Name of 4 bytes, description of 8, type XEN_ELFNOTE_PHYS32_ENTRY.
    image.put_u32(NOTE, 4);
    image.put_u32(NOTE + 4, 8);
    image.put_u32(NOTE + 8, 18);
    image.put(NOTE + 12, b"Xen\0");
    image.put_u64(NOTE + 16, u64::from(LOAD_ADDRESS));
    image.put(CODE, &CODE_32);
    image.0
}

fn program_header(image: &mut Image, at: usize, (kind, flags): (u32, u32), offset: u64, size: u64) {
    image.put_u32(at, kind);
    image.put_u32(at + 4, flags);
    image.put_u64(at + 8, offset);
    image.put_u64(at + 0x10, u64::from(LOAD_ADDRESS));
    image.put_u64(at + 0x18, u64::from(LOAD_ADDRESS));
    image.put_u64(at + 0x20, size);
    image.put_u64(at + 0x28, size);
    // The note lies at no multiple of a page, and nothing is mapped from this file.
    image.put_u64(at + 0x30, 4);
}

/// Returns the guest as a bzImage: one boot sector, one sector of set-up code, then the 32-bit part.
pub(crate) fn bzimage() -> Vec<u8> {
    const SECTOR: usize = 512;
    const SETUP_SECTORS: u8 = 1;
    const PROTECTED: usize = SECTOR * (SETUP_SECTORS as usize + 1);
    const PROTECTED_SIZE: usize = 0x1000;
    /// The 16-bit code, right behind the header.
    const REAL_MODE_CODE: usize = 0x280;
    let mut image = Image::of_size(PROTECTED + PROTECTED_SIZE);
    image.put(0x1f1, &[SETUP_SECTORS]);
    // Size of the 32-bit part in 16-byte units.
    image.put_u32(0x1f4, (PROTECTED_SIZE / 16) as u32);
    image.put_u16(0x1fe, 0xaa55);
    // A short jump over the header; its displacement also tells where the header ends.
    image.put(0x200, &[0xeb, (REAL_MODE_CODE - 0x202) as u8]);
    image.put(0x202, b"HdrS");
    image.put_u16(0x206, 0x020f);
    // Loaded high.
    image.put(0x211, &[1]);
    image.put_u32(0x214, LOAD_ADDRESS);
    // Highest address of an initrd.
    image.put_u32(0x22c, 0x7fff_ffff);
    image.put_u32(0x230, 0x1000);
    // Relocatable; smallest alignment as a power of two.
    image.put(0x234, &[1, 12]);
    // There is an entry for 64 bits.
    image.put_u16(0x236, 1);
    image.put_u32(0x238, 255);
    image.put_u64(0x258, u64::from(LOAD_ADDRESS));
    image.put_u32(0x260, PROTECTED_SIZE as u32);
    image.put(REAL_MODE_CODE, &CODE_16);
    image.put(PROTECTED, &CODE_32);
    // The 64-bit entry lies 0x200 bytes behind the 32-bit one.
    image.put(PROTECTED + 0x200, &CODE_32);
    image.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pvh_note_leads_to_the_code() {
        let elf = elf();
        let note = &elf[0x100..0x118];
        assert_eq!(&note[12..16], b"Xen\0");
        assert_eq!(note[16..24], u64::from(LOAD_ADDRESS).to_le_bytes());
        assert_eq!(elf[0x40 + 0x10..0x40 + 0x18], u64::from(LOAD_ADDRESS).to_le_bytes());
        assert_eq!(elf[0x1000..0x1000 + CODE_32.len()], CODE_32);
    }

    #[test]
    fn every_entry_of_the_bzimage_holds_code_for_its_mode() {
        let image = bzimage();
        let jump = 0x202 + usize::from(image[0x201]);
        let rows: [(usize, &[u8]); 3] = [(jump, &CODE_16), (1024, &CODE_32), (1024 + 0x200, &CODE_32)];
        for (entry, code) in rows {
            assert_eq!(&image[entry..entry + code.len()], code, "entry {entry:#x}");
        }
        // The header must end before the code begins: its last field is at 0x264.
        assert!(jump >= 0x268);
    }
}
