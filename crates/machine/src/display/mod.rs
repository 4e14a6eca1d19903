//! The emulated graphics card: a VGA with the Bochs display interface (PCI 1234:1111), for seats without a card of their
//! own (QEMU docs/specs/standard-vga.rst; drivers: Linux drivers/gpu/drm/tiny/bochs.c, SeaBIOS's vgabios, OVMF's
//! QemuVideoDxe).
//!
//! The guest draws into memory that is its own (BAR 0): drawing costs no exit. Nothing is drawn here until somebody asks
//! for the [`Picture`]. Not here: keyboard and pointer (`input`), and who looks (the VMM's control socket).

mod dispi;
mod edid;
mod function;
mod picture;
mod ports;
mod render;
mod vga;
mod video_memory;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use linux::memory::AllocateRamError;

use dispi::Dispi;
pub(crate) use function::{DisplayFunction, MemoryPlace};
pub use picture::Picture;
pub(crate) use ports::{DISPI_PORTS, DispiPorts};
use vga::Vga;
use video_memory::VideoMemory;

/// What a machine's display is made from.
#[derive(Clone, Debug)]
pub struct DisplayConfig {
    /// Width of the picture that the monitor prefers, in pixels.
    pub width: u16,
    /// Height of it.
    pub height: u16,
    /// Whether a tablet comes with it.
    pub tablet: bool,
    /// The card's BIOS, shown as expansion ROM.
    pub rom: Option<Vec<u8>>,
}

/// What of the card outlives a reset.
#[derive(Clone, Debug)]
pub(crate) struct Card {
    memory: Arc<VideoMemory>,
    config: Arc<DisplayConfig>,
}

impl Card {
    /// Makes the card.
    pub(crate) fn new(config: DisplayConfig) -> Result<Self, AllocateRamError> {
        Ok(Self { memory: Arc::new(VideoMemory::allocate()?), config: Arc::new(config) })
    }

    /// Whether a tablet comes with it.
    pub(crate) fn has_tablet(&self) -> bool {
        self.config.tablet
    }
}

/// The card in one life of the machine, as its function, its ports and whoever looks share it.
pub(crate) struct Display {
    memory: Arc<VideoMemory>,
    registers: Mutex<Registers>,
}

#[derive(Default)]
struct Registers {
    vga: Vga,
    dispi: Dispi,
}

impl Display {
    /// The card at power-on.
    pub(crate) fn new(card: &Card) -> Arc<Self> {
        Arc::new(Self { memory: Arc::clone(&card.memory), registers: Mutex::default() })
    }

    /// Draws what the monitor shows now.
    pub(crate) fn picture(&self) -> Picture {
        // Copies of the registers, so that no vCPU waits for the drawing.
        let (vga, dispi) = {
            let registers = self.lock();
            (registers.vga.clone(), registers.dispi.clone())
        };
        render::draw(&vga, &dispi, &self.memory)
    }

    fn reset(&self) {
        *self.lock() = Registers::default();
    }

    fn read_vga_port(&self, port: u64) -> u8 {
        u16::try_from(port).map_or(0xff, |port| self.lock().vga.read_port(port))
    }

    fn write_vga_port(&self, port: u64, value: u8) {
        if let Ok(port) = u16::try_from(port) {
            self.lock().vga.write_port(port, value);
        }
    }

    fn read_window(&self, offset: u64) -> u8 {
        let Registers { vga, dispi } = &mut *self.lock();
        if dispi.is_enabled() {
            return self.memory.byte(dispi.bank_offset().saturating_add(offset));
        }
        vga.read_window(&self.memory, offset)
    }

    fn write_window(&self, offset: u64, value: u8) {
        let Registers { vga, dispi } = &mut *self.lock();
        if dispi.is_enabled() {
            self.memory.set_byte(dispi.bank_offset().saturating_add(offset), value);
        } else {
            vga.write_window(&self.memory, offset, value);
        }
    }

    fn read_dispi(&self, index: u16) -> u16 {
        self.lock().dispi.read(index)
    }

    fn write_dispi(&self, index: u16, value: u16) {
        let clear = self.lock().dispi.write(index, value);
        self.memory.clear(clear);
    }

    /// A device that panicked has been reported; its registers are still its own.
    fn lock(&self) -> MutexGuard<'_, Registers> {
        self.registers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
