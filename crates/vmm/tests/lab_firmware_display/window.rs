//! The window that an ATI card has onto its config space by ports: a guest finds its own addresses there, not the host's.

use lab::{Failure, Host};

use super::{begin, does, end, find, put_disk, take};

const ATI: &str = "1002:5046";
const ROM: &str = "/usr/share/seabios/vgabios-ati.bin";

/// Config space of the card in the guest, by the two config ports: the first slot's bus is 1.
const BAR0: u32 = 0x8001_0010;
const BAR1: u32 = 0x8001_0014;
/// BAR 0 by the window (QEMU hw/display/ati.c, registers 0xF00 to 0xFFF).
const BAR0_IN_WINDOW: u32 = 0xf10;

/// A boot sector that reads BAR 0 by the window and by config cycles, and says whether it is the same.
fn sector() -> Vec<u8> {
    let mut code = Vec::new();
    // `mov eax,` register`; mov dx, 0xcf8; out dx, eax; mov dx, 0xcfc; in eax, dx`
    let config = |code: &mut Vec<u8>, register: u32| {
        code.extend([0x66, 0xb8]);
        code.extend(register.to_le_bytes());
        code.extend([0xba, 0xf8, 0x0c, 0x66, 0xef, 0xba, 0xfc, 0x0c, 0x66, 0xed]);
    };
    config(&mut code, BAR1);
    // `and al, 0xfc; mov dx, ax; mov eax,` address`; out dx, eax; add dx, 4; in eax, dx; mov ebx, eax`
    code.extend([0x24, 0xfc, 0x89, 0xc2, 0x66, 0xb8]);
    code.extend(BAR0_IN_WINDOW.to_le_bytes());
    code.extend([0x66, 0xef, 0x83, 0xc2, 4, 0x66, 0xed, 0x66, 0x89, 0xc3]);
    config(&mut code, BAR0);
    // `cmp eax, ebx; mov al, 'S'; je` over `mov al, 'D'`; mov dx, 0x3f8; out dx, al`
    code.extend([0x66, 0x39, 0xd8, 0xb0, b'S', 0x74, 2, 0xb0, b'D', 0xba, 0xf8, 3, 0xee]);
    for byte in *b"!\r\n" {
        // `mov al,` byte`; out dx, al`
        code.extend([0xb0, byte, 0xee]);
    }
    // `hlt; jmp` to it
    code.extend([0xf4, 0xeb, 0xfd]);
    code.resize(510, 0);
    code.extend([0x55, 0xaa]);
    code
}

pub(crate) fn config_space(host: &Host) -> Result<(), Failure> {
    let card = find(host, ATI)?;
    take(host, &[&card])?;
    put_disk(host, "/tmp/window-disk", &sector())?;
    begin(host, &format!("--firmware bios --primary {card},rom={ROM} --disk /tmp/window-disk"), "!")?;
    let said = does(host, "cat /tmp/fd-console")?;
    assert!(said.contains("S!"), "{said}");
    end(host)
}
