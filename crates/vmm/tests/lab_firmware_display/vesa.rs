//! A VESA mode that a boot sector sets by the BIOS of an assigned card, and what it draws there.

use lab::{Failure, Host};

use super::bios::{CIRRUS, ROM};
use super::{begin, does, end, find, put_disk, shot, take};

/// The mode: 800x600, a byte a pixel, its memory left as it is (VESA BIOS Extension 3.0, section 3 and function 02h). To
/// clear it the BIOS would write it through the legacy window, where each write is trapped.
const MODE: u16 = 0x8103;
const SIZE: (usize, usize) = (800, 600);
/// The lines that are drawn in each colour, all of them in the first bank of the window at 0xA0000.
const LINES: usize = 5;
/// The colours by the palette that the card's BIOS loads, and which of red, green and blue is lit then.
const COLORS: [(u8, [bool; 3]); 2] = [(4, [true, false, false]), (2, [false, true, false])];

/// What it says on the serial port when it is done: the bit that lets VGA through, of the port above the card, and this.
const DONE: &str = "VESA mode is set";
/// Where configuration space shows the Bridge Control register of that port, by the legacy way, and the bit (PCI Local Bus 3.0,
/// section 3.2.2.3.2; PCI-to-PCI Bridge Architecture 1.2, section 3.2.5.18).
const BRIDGE_CONTROL: u32 = 1 << 31 | 16 << 11 | 0x3c;
const VGA_ENABLE: u8 = 1 << 3;

/// The boot sector.
fn sector() -> Vec<u8> {
    // `cld; mov ax, 0x4f02; mov bx,` mode`; int 0x10; cmp ax, 0x4f`; halt when it is not so: `je` over `hlt; jmp` to that.
    let mut code = vec![0xfc, 0xb8, 0x02, 0x4f, 0xbb];
    code.extend(MODE.to_le_bytes());
    code.extend([0xcd, 0x10, 0x3d, 0x4f, 0x00, 0x74, 0x03, 0xf4, 0xeb, 0xfd]);
    // `mov ax, 0xa000; mov es, ax; xor di, di`
    code.extend([0xb8, 0x00, 0xa0, 0x8e, 0xc0, 0x31, 0xff]);
    for (color, _) in COLORS {
        // `mov ax,` two pixels`; mov cx,` half of them all`; rep stosw`
        code.extend([0xb8, color, color, 0xb9]);
        code.extend(u16::try_from(SIZE.0 * LINES / 2).unwrap().to_le_bytes());
        code.extend([0xf3, 0xab]);
    }
    // `mov eax, BRIDGE_CONTROL; mov dx, 0xcf8; out dx, eax; mov dx, 0xcfe; in al, dx; and al, VGA_ENABLE; add al, '0'`
    code.extend([0x66, 0xb8]);
    code.extend(BRIDGE_CONTROL.to_le_bytes());
    code.extend([0xba, 0xf8, 0x0c, 0x66, 0xef, 0xba, 0xfe, 0x0c, 0xec, 0x24, VGA_ENABLE, 0x04, b'0']);
    // `mov dx, 0x3f8; out dx, al`
    code.extend([0xba, 0xf8, 0x03, 0xee]);
    // `call` the next instruction; `pop si; add si,` what is left of the code`; push cs; pop ds`
    code.extend([0xe8, 0, 0, 0x5e, 0x83, 0xc6, 20, 0x0e, 0x1f]);
    // again: `lodsb; test al, al; jz` end; `mov dx, 0x3f8; out dx, al; jmp` again; end: `hlt; jmp` end
    code.extend([0xac, 0x84, 0xc0, 0x74, 0x06, 0xba, 0xf8, 0x03, 0xee, 0xeb, 0xf5, 0xf4, 0xeb, 0xfd]);
    code.extend(DONE.bytes().chain(*b"\r\n\0"));
    code.resize(510, 0);
    code.extend([0x55, 0xaa]);
    code
}

pub(crate) fn mode(host: &Host) -> Result<(), Failure> {
    let card = find(host, CIRRUS)?;
    take(host, &[&card])?;
    put_disk(host, "/tmp/vesa-disk", &sector())?;
    begin(host, &format!("--firmware bios --primary {card},rom={ROM} --disk /tmp/vesa-disk"), DONE)?;
    let shown = shot(host, "vga0")?;
    assert_eq!((shown.width, shown.height), SIZE);
    let said = does(host, "cat /tmp/fd-console")?;
    assert!(said.contains(&format!("{VGA_ENABLE}{DONE}")), "the port lets no VGA through: {said}");
    let lines = COLORS.iter().flat_map(|(_, lit)| [lit; LINES]);
    for (y, lit) in lines.enumerate() {
        let same = (0..SIZE.0).all(|x| shown.pixel(x, y).map(|level| level > 0x80) == *lit);
        assert!(same, "line {y} begins with {:?}", shown.pixel(0, y));
    }
    end(host)
}
