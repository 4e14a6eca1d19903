//! The VGA part of the emulated card: its registers behind the legacy ports, and the window of 128 KiB below 1 MiB
//! (FreeVGA project, "VGA/SVGA Video Programming Information"; QEMU hw/display/vga.c for what software relies on).
//!
//! Pure but for the memory it is handed. Not here: the picture (`render`), and linear modes (`dispi`).

mod dac;
mod registers;
mod window;

pub(super) use registers::Vga;
