//! A program that every firmware can start and that says so on the first serial port: the boot sector of a disk, what a
//! BIOS loads from a network, and a UEFI application, all in one file of a kilobyte.
//!
//! Not here: how firmware comes by it. Servers on the network of a [card](crate::profile::Card) offer it, scenarios write it
//! to disks, and the measuring program looks for its first letter.

/// What it says when a BIOS has started it.
pub const BY_BIOS: &str = "greeting of a BIOS";
/// What it says when UEFI firmware has started it.
pub const BY_UEFI: &str = "greeting of UEFI";

/// Where the real mode code stands: behind the DOS header, into which its two first letters and a jump fit.
const REAL_MODE: usize = 0x40;
/// Where the PE header stands, and where the DOS header says that it does.
const PE: usize = 0x80;
const PE_POINTER: usize = 0x3c;
/// A boot sector, and what it ends in.
const SECTOR: usize = 0x200;
const SIGNATURE: [u8; 2] = [0x55, 0xaa];
/// Where the section with the long mode code is loaded.
const SECTION: u32 = 0x1000;

/// Makes the program.
pub fn program() -> Vec<u8> {
    let mut file = vec![0; 2 * SECTOR];
    // `dec bp; pop dx`, which are MZ; `jmp short` to the real mode code, from behind itself.
    put(&mut file, 0, &[b'M', b'Z', 0xeb, REAL_MODE as u8 - 4]);
    put(&mut file, PE_POINTER, &(PE as u32).to_le_bytes());
    put(&mut file, REAL_MODE, &real_mode());
    put(&mut file, PE, &pe_header());
    put(&mut file, SECTOR - SIGNATURE.len(), &SIGNATURE);
    put(&mut file, SECTOR, &long_mode());
    file
}

fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
    file.iter_mut().skip(at).zip(bytes).for_each(|(place, byte)| *place = *byte);
}

fn line(text: &str) -> impl Iterator<Item = u8> {
    ["\r\n", text, "\r\n\0"].concat().into_bytes().into_iter()
}

fn real_mode() -> Vec<u8> {
    // `call` the next instruction, `pop si`; `add si` the distance from there to the text; `push cs; pop ds; cld`.
    let mut code = vec![0xe8, 0, 0, 0x5e, 0x83, 0xc6, 33, 0x0e, 0x1f, 0xfc];
    // again: `lodsb; test al, al; jz` end; `mov ah, al; mov dx, 0x3fd`; wait: `in al, dx; test al, 0x20; jz` wait;
    // `mov dx, 0x3f8; mov al, ah; out dx, al; jmp` again
    code.extend([0xac, 0x84, 0xc0, 0x74, 0x12, 0x88, 0xc4, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x20, 0x74, 0xfb]);
    code.extend([0xba, 0xf8, 0x03, 0x88, 0xe0, 0xee, 0xeb, 0xe9]);
    // end: `hlt; jmp` end
    code.extend([0xf4, 0xeb, 0xfd]);
    code.extend(line(BY_BIOS));
    code
}

fn long_mode() -> Vec<u8> {
    // `lea rsi, [rip + ` the rest of the code `]; cld`
    let mut code = vec![0x48, 0x8d, 0x35, 29, 0, 0, 0, 0xfc];
    // As in real mode, where `mov dx` needs no prefix.
    code.extend([
        0xac, 0x84, 0xc0, 0x74, 0x14, 0x88, 0xc4, 0x66, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x20, 0x74, 0xfb,
    ]);
    code.extend([0x66, 0xba, 0xf8, 0x03, 0x88, 0xe0, 0xee, 0xeb, 0xe7]);
    code.extend([0xf4, 0xeb, 0xfd]);
    code.extend(line(BY_UEFI));
    code
}

/// The headers of an image for x86-64 UEFI with one section, that can be loaded anywhere (PE format, "COFF file header" and
/// "Optional header").
fn pe_header() -> Vec<u8> {
    const HEADERS: u32 = SECTOR as u32;
    let mut header = b"PE\0\0".to_vec();
    let mut halves = |values: &[u16]| header.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    // x86-64, one section; no time, no symbols; the optional header's size; executable, large addresses.
    halves(&[0x8664, 1, 0, 0, 0, 0, 0, 0, OPTIONAL, 0x22]);
    // PE32+, no linker's version.
    halves(&[0x20b, 0]);
    let mut words = |values: &[u32]| header.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    // Sizes of code and data; where it starts; the code's base; the image's base in two halves; alignments.
    words(&[SECTOR as u32, 0, 0, SECTION, SECTION, 0, 0, SECTION, SECTOR as u32]);
    // Versions of the system and of the image, of the subsystem, and one that is reserved; sizes; no checksum.
    words(&[0, 0, 0, 0, 2 * SECTION, HEADERS, 0]);
    // A UEFI application; four sizes of stack and heap in two halves each; no flags; the number of directories, all empty.
    words(&[10, 0, 0, 0, 0, 0, 0, 0, 0, 0, DIRECTORIES]);
    words(&[0; 2 * DIRECTORIES as usize]);
    header.extend(b".text\0\0\0");
    let mut words = |values: &[u32]| header.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    // Its size and place in memory and in the file; no relocations; code that is read and run.
    words(&[SECTOR as u32, SECTION, SECTOR as u32, SECTOR as u32, 0, 0, 0, 0x6000_0020]);
    header
}

const DIRECTORIES: u32 = 16;
/// Bytes of the optional header: 112, and eight a directory.
const OPTIONAL: u16 = 112 + 8 * DIRECTORIES as u16;

#[cfg(test)]
mod tests {
    use super::{OPTIONAL, PE, REAL_MODE, SECTOR, long_mode, pe_header, program, real_mode};

    #[test]
    fn its_parts_do_not_meet_and_each_reader_finds_its_own() {
        assert!(REAL_MODE + real_mode().len() <= PE);
        // The partition table begins at 0x1be.
        assert!(PE + pe_header().len() <= 0x1be);
        assert_eq!(pe_header().len(), 24 + usize::from(OPTIONAL) + 40);
        assert!(long_mode().len() <= SECTOR);
        let file = program();
        assert_eq!(
            (&file[..2], &file[SECTOR - 2..SECTOR], file.len()),
            (&b"MZ"[..], &[0x55, 0xaa][..], 1024)
        );
    }

    #[test]
    fn each_code_finds_its_text_right_behind_it() {
        // Behind `pop si`, which follows the call of three bytes, and behind the `lea` of seven.
        for (code, from, distance) in [(real_mode(), 3, 6), (long_mode(), 7, 3)] {
            let text = code.windows(11).position(|bytes| bytes == b"\r\ngreeting ").unwrap();
            assert_eq!(from + usize::from(code[distance]), text);
        }
    }
}
