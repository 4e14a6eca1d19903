//! Guests of a few instructions: an ELF file with a PVH entry around hand-assembled 32-bit code.

/// Where the code is loaded and starts.
const ENTRY: u32 = 0x10_0000;

/// The note that names the PVH entry: owner "Xen", type XEN_ELFNOTE_PHYS32_ENTRY (xen include/public/elfnote.h).
const PHYS32_ENTRY: u32 = 18;

const ELF_HEADER: u32 = 64;
const PROGRAM_HEADER: u32 = 56;
const NOTE: u32 = 20;

/// An ELF file that a machine starts at the first byte of `code`, in 32-bit protected mode with flat segments.
pub(crate) fn elf(code: &[u8]) -> Vec<u8> {
    let note_at = ELF_HEADER + 2 * PROGRAM_HEADER;
    let code_at = note_at + NOTE;
    let code_len = u32::try_from(code.len()).unwrap();

    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    // Executable for x86-64, version 1.
    for half in [2_u16, 62] {
        file.extend(half.to_le_bytes());
    }
    file.extend(1_u32.to_le_bytes());
    for word in [ENTRY, ELF_HEADER, 0] {
        file.extend(u64::from(word).to_le_bytes());
    }
    file.extend(0_u32.to_le_bytes());
    for half in [ELF_HEADER, PROGRAM_HEADER, 2, 0, 0, 0] {
        file.extend(u16::try_from(half).unwrap().to_le_bytes());
    }
    // The code, then the note.
    for (kind, offset, address, len) in [(1_u32, code_at, ENTRY, code_len), (4, note_at, 0, NOTE)] {
        file.extend(kind.to_le_bytes());
        file.extend(7_u32.to_le_bytes());
        for word in [offset, address, address, len, len, 4] {
            file.extend(u64::from(word).to_le_bytes());
        }
    }
    for word in [4, 4, PHYS32_ENTRY] {
        file.extend(word.to_le_bytes());
    }
    file.extend(b"Xen\0");
    file.extend(ENTRY.to_le_bytes());
    file.extend(code);
    file
}

/// Powers off by ACPI: SLP_EN with type 0 into PM1 control.
///
/// `mov dx, 0x604; mov ax, 0x2000; out dx, ax; cli; hlt`
pub(crate) const POWER_OFF: [u8; 11] = [0x66, 0xba, 0x04, 0x06, 0x66, 0xb8, 0x00, 0x20, 0x66, 0xef, 0xf4];

/// Enables the power button and powers off when it is pressed (ACPI 6.5, 4.8.3.1: bit 8 of PM1 enable and status).
///
/// `mov dx, 0x602; mov ax, 0x100; out dx, ax; again: mov dx, 0x600; in ax, dx; test ah, 1; jz again`, then as
/// [`POWER_OFF`]
#[allow(dead_code, reason = "shared with the scenarios of seats")]
pub(crate) const POWER_OFF_ON_BUTTON: [u8; 32] = [
    0x66, 0xba, 0x02, 0x06, 0x66, 0xb8, 0x00, 0x01, 0x66, 0xef, 0x66, 0xba, 0x00, 0x06, 0x66, 0xed, 0xf6,
    0xc4, 0x01, 0x74, 0xf5, 0x66, 0xba, 0x04, 0x06, 0x66, 0xb8, 0x00, 0x20, 0x66, 0xef, 0xf4,
];

/// Three faults: an empty interrupt table, then a breakpoint.
///
/// `lidt [empty]; int3`, where the ten zero bytes behind the code are the table's descriptor.
pub(crate) fn triple_fault() -> Vec<u8> {
    let empty = ENTRY + 8;
    let mut code = vec![0x0f, 0x01, 0x1d];
    code.extend(empty.to_le_bytes());
    code.push(0xcc);
    code.extend([0; 10]);
    code
}

/// Halts with interrupts off, for ever: `cli; hlt; jmp` back to the halt.
pub(crate) const SPIN_IN_HALT: [u8; 4] = [0xfa, 0xf4, 0xeb, 0xfd];

/// Writes 0 to every port and reads it back, a byte and a dword; then the same at each 1 MiB of all memory above RAM; then
/// powers off.
pub(crate) fn poke_everything() -> Vec<u8> {
    let mut code = Vec::new();
    // xor edx, edx
    code.extend([0x31, 0xd2]);
    // ports: xor eax, eax; out dx, al; in eax, dx
    let ports = [0x31, 0xc0, 0xee, 0xed];
    code.extend(ports);
    // inc edx; cmp edx, 0x10000; jne ports
    code.extend([0x42, 0x81, 0xfa, 0x00, 0x00, 0x01, 0x00, 0x75]);
    code.push(back(ports.len() + 9));
    // mov ebx, 0x80000000
    code.extend([0xbb, 0x00, 0x00, 0x00, 0x80]);
    // memory: mov eax, [ebx]; mov [ebx], eax; mov [ebx], al; mov al, [ebx + 3]
    let memory = [0x8b, 0x03, 0x89, 0x03, 0x88, 0x03, 0x8a, 0x43, 0x03];
    code.extend(memory);
    // add ebx, 0x100000; jnc memory
    code.extend([0x81, 0xc3, 0x00, 0x00, 0x10, 0x00, 0x73]);
    code.push(back(memory.len() + 8));
    code.extend(POWER_OFF);
    code
}

/// The displacement of a short jump back over `bytes`, its own two included.
fn back(bytes: usize) -> u8 {
    (-i8::try_from(bytes).unwrap()).cast_unsigned()
}
