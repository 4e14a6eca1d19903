//! A guest that does what it is told by a list: writes and reads of memory, config space and ports, each compared with
//! what it should be. It has no kernel, so it starts in no time and nothing repairs or hides what a card does.
//!
//! The list is made here and lies in memory behind the guest's few instructions. What a card is told is `cards`'.

use lab::{Failure, Host};

use crate::guests::{put_file, run};
use crate::micro_guest;

/// Where the list begins: behind the code, which begins where a micro guest starts.
const LIST: u32 = 0x10_1000;
const CODE: u32 = 0x10_0000;
const DEED_BYTES: u32 = 16;

/// Memory of the guest, above all that a list may fill.
pub(crate) const MEMORY_MIB: u32 = 32;
/// Memory that a reset leaves as it is and that no deed but its own uses.
const LIFE: u32 = 0x1ff_0000;
const SECOND_LIFE: u32 = 0x600d_11fe;

/// What the guest begins a complaint with; then come the number of the deed's end and what was seen, in hexadecimal.
const COMPLAINT: char = '!';
const SERIAL: u32 = 0x3f8;
const RESET_CONTROL: u32 = 0xcf9;

/// A list in the making.
#[derive(Default)]
pub(crate) struct Deeds {
    list: Vec<[u32; 4]>,
}

/// Kinds of deeds. In each, `edi` holds the first, `ebx` the second and `ecx` the third number of the deed.
#[derive(Clone, Copy)]
enum Kind {
    Write8,
    Write16,
    Write32,
    Out8,
    Out32,
    Expect,
    ExpectIn,
    Await,
    GoUnless,
    PowerOff,
}

/// The code of each kind, and whether it ends in a comparison whose failure is to be complained of.
const KINDS: [(Kind, &[u8], bool); 10] = [
    // mov [edi], bl
    (Kind::Write8, &[0x88, 0x1f], false),
    // mov [edi], bx
    (Kind::Write16, &[0x66, 0x89, 0x1f], false),
    // mov [edi], ebx
    (Kind::Write32, &[0x89, 0x1f], false),
    // mov edx, edi; mov eax, ebx; out dx, al
    (Kind::Out8, &[0x89, 0xfa, 0x89, 0xd8, 0xee], false),
    // mov edx, edi; mov eax, ebx; out dx, eax
    (Kind::Out32, &[0x89, 0xfa, 0x89, 0xd8, 0xef], false),
    // mov eax, [edi]; and eax, ecx; cmp eax, ebx
    (Kind::Expect, &[0x8b, 0x07, 0x21, 0xc8, 0x39, 0xd8], true),
    // mov edx, edi; in eax, dx; and eax, ecx; cmp eax, ebx
    (Kind::ExpectIn, &[0x89, 0xfa, 0xed, 0x21, 0xc8, 0x39, 0xd8], true),
    // mov edx, 0x10000; again: in al, 0x80; mov eax, [edi]; and eax, ecx; cmp eax, ebx; je done; dec edx; jnz again;
    // done: cmp eax, ebx. The port costs an exit, so that the wait is one of seconds whatever is read.
    (
        Kind::Await,
        &[
            0xba, 0, 0, 1, 0, 0xe4, 0x80, 0x8b, 0x07, 0x21, 0xc8, 0x39, 0xd8, 0x74, 3, 0x4a, 0x75, 0xf3,
            0x39, 0xd8,
        ],
        true,
    ),
    // cmp [edi], ebx; je done; mov esi, ecx; done:
    (Kind::GoUnless, &[0x39, 0x1f, 0x74, 2, 0x89, 0xce], false),
    (Kind::PowerOff, &micro_guest::POWER_OFF, false),
];

// mov esp, 0x90000; mov esi, LIST
const BEGIN: [u8; 10] = [0xbc, 0, 0, 9, 0, 0xbe, 0x00, 0x10, 0x10, 0x00];
// mov eax, [esi]; mov edi, [esi + 4]; mov ebx, [esi + 8]; mov ecx, [esi + 12]; add esi, 16; jmp eax
const NEXT: [u8; 16] = [0x8b, 0x06, 0x8b, 0x7e, 4, 0x8b, 0x5e, 8, 0x8b, 0x4e, 12, 0x83, 0xc6, 16, 0xff, 0xe0];
// mov ebx, eax; mov edx, 0x3f8; mov al, '!'; out dx, al; mov eax, esi; call hex; mov eax, ebx; call hex;
// mov al, '\n'; out dx, al
const COMPLAIN: [u8; 27] = [
    0x89, 0xc3, 0xba, 0xf8, 3, 0, 0, 0xb0, b'!', 0xee, 0x89, 0xf0, 0xe8, 21, 0, 0, 0, 0x89, 0xd8, 0xe8, 14,
    0, 0, 0, 0xb0, b'\n', 0xee,
];
// hex: mov ecx, 8; digit: rol eax, 4; mov edi, eax; and al, 15; add al, '0'; cmp al, '9'; jbe print; add al, 39;
// print: out dx, al; mov eax, edi; dec ecx; jnz digit; ret
const HEX: [u8; 27] = [
    0xb9, 8, 0, 0, 0, 0xc1, 0xc0, 4, 0x89, 0xc7, 0x24, 15, 4, 0x30, 0x3c, 0x39, 0x76, 2, 4, 39, 0xee, 0x89,
    0xf8, 0x49, 0x75, 0xeb, 0xc3,
];

impl Deeds {
    pub(crate) fn write8(&mut self, address: u32, value: u32) {
        self.push(Kind::Write8, [address, value, 0]);
    }

    pub(crate) fn write16(&mut self, address: u32, value: u32) {
        self.push(Kind::Write16, [address, value, 0]);
    }

    pub(crate) fn write32(&mut self, address: u32, value: u32) {
        self.push(Kind::Write32, [address, value, 0]);
    }

    pub(crate) fn out8(&mut self, port: u32, value: u32) {
        self.push(Kind::Out8, [port, value, 0]);
    }

    pub(crate) fn out32(&mut self, port: u32, value: u32) {
        self.push(Kind::Out32, [port, value, 0]);
    }

    /// The bits of `mask` at `address` are `value` now.
    pub(crate) fn expect(&mut self, address: u32, value: u32, mask: u32) {
        self.push(Kind::Expect, [address, value, mask]);
    }

    /// The same of a port.
    pub(crate) fn expect_in(&mut self, port: u32, value: u32, mask: u32) {
        self.push(Kind::ExpectIn, [port, value, mask]);
    }

    /// The bits of `mask` at `address` become `value` before long.
    pub(crate) fn await_bits(&mut self, address: u32, value: u32, mask: u32) {
        self.push(Kind::Await, [address, value, mask]);
    }

    /// Writes text on the serial port.
    pub(crate) fn say(&mut self, text: &str) {
        text.bytes().for_each(|byte| self.out8(SERIAL, byte.into()));
    }

    pub(crate) fn power_off(&mut self) {
        self.push(Kind::PowerOff, [0; 3]);
    }

    /// Does `first`, resets the machine, and does `second` in its second life.
    pub(crate) fn two_lives(first: Self, second: Self) -> Self {
        let mut whole = Self::default();
        let behind = LIST + (second.list.len() as u32 + 1) * DEED_BYTES;
        whole.push(Kind::GoUnless, [LIFE, SECOND_LIFE, behind]);
        whole.list.extend(second.list);
        whole.list.extend(first.list);
        whole.write32(LIFE, SECOND_LIFE);
        whole.out8(RESET_CONTROL, 2);
        whole.out8(RESET_CONTROL, 6);
        // The processor goes on for a moment, as it may; not until this gives up.
        whole.await_bits(LIFE, 0, u32::MAX);
        whole
    }

    /// Runs the guest to its end with these functions, and gives what it said besides complaints.
    pub(crate) fn run(&self, host: &Host, functions: &[&str]) -> Result<String, Failure> {
        put_file(host, "/tmp/deeds", &micro_guest::elf(&self.program()))?;
        let devices: Vec<_> = functions.iter().map(|address| format!("--device {address}")).collect();
        let output = run(
            host,
            &format!(
                "allod run --report /tmp/report --kernel /tmp/deeds --memory {MEMORY_MIB}M {} < /dev/null",
                devices.join(" ")
            ),
        )?;
        if let Some((said, complaint)) = output.stdout.split_once(COMPLAINT) {
            let number = |at| complaint.get(at).and_then(|digits| u32::from_str_radix(digits, 16).ok());
            let index = number(0..8).map_or(0, |end| (end - LIST) / DEED_BYTES - 1) as usize;
            let before = &self.list[index.saturating_sub(4)..=index];
            panic!("after `{said}` deed {index} saw {:x?}: {before:x?}; {output:?}", number(8..16));
        }
        assert!(output.is_success(), "{output:?}");
        Ok(output.stdout)
    }

    /// The code, and the list where the code looks for it.
    fn program(&self) -> Vec<u8> {
        let mut program = code();
        program.resize((LIST - CODE) as usize, 0);
        for word in self.list.iter().flatten() {
            program.extend(word.to_le_bytes());
        }
        program
    }

    fn push(&mut self, kind: Kind, [a, b, c]: [u32; 3]) {
        self.list.push([handler(kind), a, b, c]);
    }
}

const JUMP: usize = 5;
const JUMP_IF_NOT: usize = 6;

fn len(&(_, code, compares): &(Kind, &[u8], bool)) -> usize {
    code.len() + if compares { JUMP_IF_NOT } else { 0 } + JUMP
}

/// Where the code of a kind begins.
fn handler(kind: Kind) -> u32 {
    let before = KINDS.iter().take_while(|(other, ..)| *other as u8 != kind as u8);
    CODE + (BEGIN.len() + NEXT.len() + before.map(len).sum::<usize>()) as u32
}

fn code() -> Vec<u8> {
    let complain = BEGIN.len() + NEXT.len() + KINDS.iter().map(len).sum::<usize>();
    let mut code = [&BEGIN[..], &NEXT].concat();
    for (_, bytes, compares) in KINDS {
        code.extend(bytes);
        if compares {
            code.extend([0x0f, 0x85]);
            code.extend(distance(code.len() + 4, complain));
        }
        code.push(0xe9);
        code.extend(distance(code.len() + 4, BEGIN.len()));
    }
    [code, COMPLAIN.to_vec(), micro_guest::POWER_OFF.to_vec(), HEX.to_vec()].concat()
}

/// The operand of a near jump whose end is at `from`.
fn distance(from: usize, to: usize) -> [u8; 4] {
    (to as i32 - from as i32).to_le_bytes()
}
