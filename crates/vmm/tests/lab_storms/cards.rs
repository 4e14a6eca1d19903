//! What the cards of the lab are told by a guest without a kernel: where their BARs are, a bit of work, and whether they
//! did it. Registers are those of QEMU's models and of the specifications they follow.

use crate::deeds::Deeds;

/// Config space in memory (machine's layout), and registers of its header.
const ECAM: u32 = 0xb000_0000;
const COMMAND: u32 = 0x04;
const BAR0: u32 = 0x10;
const BUSES: u32 = 0x18;
const IO_WINDOW: u32 = 0x1c;
const MEMORY_WINDOW: u32 = 0x20;
const PREFETCHABLE_WINDOW: u32 = 0x24;
/// I/O, memory and bus mastering; and the last alone, so that DMA goes on while nothing is decoded.
const ON: u32 = 7;
const MASTER: u32 = 4;

/// The root ports of a machine begin at this device number.
const FIRST_PORT: u32 = 16;
/// Room of each slot below 4 GiB, and the places in it that a card moves between.
const WINDOW: u32 = 0x400_0000;
const PLACE: u32 = 0x10_0000;
const PLACES: u32 = 48;
/// Ports of each slot, and the places in them.
const PORTS: u32 = 0x1000;
const PORT_PLACE: u32 = 0x200;
/// Room of a BAR in a place; `edu` alone takes the whole of it.
const BAR_ROOM: u32 = 0x4_0000;
/// A picture's BAR, and the places that it moves between.
const PICTURE: u32 = 0x100_0000;
const PICTURE_PLACES: u32 = 3;
const ALL: u32 = u32::MAX;

/// Guest memory for the cards to work on.
const EDU_MEMORY: u32 = 0x100_0000;
const NVME_QUEUE: u32 = 0x110_0000;
const NVME_COMPLETIONS: u32 = 0x110_1000;
const NVME_PAGE: u32 = 0x110_2000;

/// What is in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Edu,
    TestDevice,
    Nvme,
    Xhci,
    E1000e,
    Ohci,
    #[allow(dead_code, reason = "for the scenarios of DMA between cards")]
    Screen,
}

/// A card in its slot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Card {
    pub(crate) kind: Kind,
    pub(crate) slot: u32,
}

/// One BAR: its number, whether it is of ports, and a register of it that never changes with its value.
struct Bar {
    number: u32,
    ports: bool,
    witness: Option<(u32, u32)>,
}

const fn bar(number: u32, witness: Option<(u32, u32)>) -> Bar {
    Bar { number, ports: false, witness }
}

const PORTS_1: Bar = Bar { number: 1, ports: true, witness: None };
const PORTS_2: Bar = Bar { number: 2, ports: true, witness: None };

impl Kind {
    fn bars(self) -> &'static [Bar] {
        match self {
            // QEMU docs/specs/edu.rst: identification.
            Self::Edu => const { &[bar(0, Some((0, 0x0100_00ed)))] },
            // QEMU docs/specs/pci-testdev.rst: memory and ports.
            Self::TestDevice => const { &[bar(0, None), PORTS_1] },
            // NVM Express Base 1.4: version. The MSI-X table is in the same BAR.
            Self::Nvme => const { &[bar(0, Some((8, 0x0001_0400)))] },
            // OpenHCI 1.0a, 7.1.1: revision. The BAR is below a page.
            Self::Ohci => const { &[bar(0, Some((0, 0x10)))] },
            // xHCI 1.2, 5.3: capability length and version. The MSI-X table is in the same BAR.
            Self::Xhci => const { &[bar(0, Some((0, 0x0100_0040)))] },
            // Intel 82574 datasheet: address of the first receiver; flash; ports; MSI-X.
            Self::E1000e => const { &[bar(0, Some((0x5400, MAC))), bar(1, None), PORTS_2, bar(3, None)] },
            // QEMU docs/specs/standard-vga.rst: the picture, and registers.
            Self::Screen => const { &[bar(0, None), bar(2, None)] },
        }
    }
}

/// The first four bytes of the address that QEMU gives its first network card.
const MAC: u32 = 0x1200_5452;

fn config(bus: u32, device: u32, offset: u32) -> u32 {
    ECAM + (bus << 20) + (device << 15) + offset
}

impl Card {
    /// The address of a config register of the card.
    pub(crate) fn config(&self, offset: u32) -> u32 {
        config(self.slot + 1, 0, offset)
    }

    /// Where a BAR is at a place.
    pub(crate) fn at(&self, place: u32, bar: u32) -> u32 {
        let window = 0xc000_0000 + self.slot * WINDOW;
        match (self.kind, bar) {
            // Behind the places of the large one.
            (Kind::Screen, 2) => window + PICTURE_PLACES * PICTURE,
            (Kind::Screen, _) => window + place % PICTURE_PLACES * PICTURE,
            _ => window + place % PLACES * PLACE + bar * BAR_ROOM,
        }
    }

    fn ports_at(&self, place: u32) -> u32 {
        PORTS * (self.slot + 1) + place % (PORTS / PORT_PLACE) * PORT_PLACE
    }

    fn address(&self, bar: &Bar, place: u32) -> u32 {
        if bar.ports { self.ports_at(place) } else { self.at(place, bar.number) }
    }

    /// Opens the port above the card, as a firmware would.
    pub(crate) fn open(&self, deeds: &mut Deeds) {
        let port = |offset| config(0, FIRST_PORT + self.slot, offset);
        let bus = self.slot + 1;
        deeds.write32(port(BUSES), bus << 16 | bus << 8);
        let first = self.at(0, 0) >> 16;
        deeds.write32(port(MEMORY_WINDOW), (first + (WINDOW >> 16) - 0x10) << 16 | first);
        // One that ends before it begins is closed.
        deeds.write32(port(PREFETCHABLE_WINDOW), 0xfff0);
        let ports = self.ports_at(0) >> 8;
        deeds.write16(port(IO_WINDOW), ports << 8 | ports);
        deeds.write16(port(COMMAND), ON);
    }

    /// Puts all BARs of the card to a place.
    pub(crate) fn place(&self, deeds: &mut Deeds, place: u32) {
        deeds.write16(self.config(COMMAND), MASTER);
        for bar in self.kind.bars() {
            deeds.write32(self.config(BAR0 + 4 * bar.number), self.address(bar, place));
        }
        if matches!(self.kind, Kind::Nvme | Kind::Xhci) {
            deeds.write32(self.config(BAR0 + 4), 0);
        }
        deeds.write16(self.config(COMMAND), ON);
    }

    /// Lets the card decode nothing, or what its BARs say.
    pub(crate) fn decode(&self, deeds: &mut Deeds, on: bool) {
        deeds.write16(self.config(COMMAND), if on { ON } else { MASTER });
    }

    /// Writes `value` to all BARs while the card decodes them.
    pub(crate) fn throw(&self, deeds: &mut Deeds, value: u32) {
        for bar in self.kind.bars() {
            deeds.write32(self.config(BAR0 + 4 * bar.number), value);
        }
    }

    /// Nothing answers at a place.
    pub(crate) fn is_gone_from(&self, deeds: &mut Deeds, place: u32) {
        for bar in self.kind.bars() {
            let address = self.address(bar, place);
            if bar.ports { deeds.expect_in(address, ALL, ALL) } else { deeds.expect(address, ALL, ALL) }
        }
    }

    /// The card answers at a place, in each BAR, and does what can be had at once.
    pub(crate) fn answers_at(&self, deeds: &mut Deeds, place: u32, number: u32) {
        for bar in self.kind.bars() {
            if let Some((offset, value)) = bar.witness {
                deeds.expect(self.address(bar, place) + offset, value, ALL);
            }
        }
        let (base, ports) = (self.at(place, 0), self.ports_at(place));
        match self.kind {
            Kind::Edu => {
                // What is written to the liveness register reads inverted.
                deeds.write32(base + 4, number);
                deeds.expect(base + 4, !number, ALL);
            }
            Kind::TestDevice => {
                // Test 0 of each kind has a name and counts what is written at its offset.
                deeds.write8(base, 0);
                deeds.expect(base + 16, u32::from_le_bytes(*b"mmio"), ALL);
                deeds.write8(base + 0x800, 0xfa);
                deeds.expect(base + 12, 1, 0xff);
                deeds.out8(ports, 0);
                deeds.expect_in(ports + 16, u32::from_le_bytes(*b"port"), ALL);
                deeds.out8(ports + 131, 0xfa);
                deeds.expect_in(ports + 12, 1, 0xff);
            }
            Kind::E1000e => {
                // Registers by ports: which, and its value. A vector's address in the MSI-X table.
                deeds.out32(ports, 0x5400);
                deeds.expect_in(ports + 4, MAC, ALL);
                deeds.write32(self.at(place, 3), number << 2);
                deeds.expect(self.at(place, 3), number << 2, ALL);
            }
            Kind::Nvme | Kind::Xhci | Kind::Ohci | Kind::Screen => {}
        }
    }

    /// Begins work that goes on while the card is moved.
    pub(crate) fn begin_work(&self, deeds: &mut Deeds, place: u32, number: u32) {
        let base = self.at(place, 0);
        match self.kind {
            Kind::Edu => {
                deeds.write32(EDU_MEMORY, number);
                move_bytes(deeds, base, EDU_MEMORY, EDU_BUFFER, 1);
            }
            Kind::Nvme => {
                let entry = number % NVME_ENTRIES;
                let command = NVME_QUEUE + 64 * entry;
                // Identify the controller (NVM Express Base 1.4, 5.15) into our page.
                deeds.write32(NVME_PAGE, 0);
                deeds.write32(command, entry << 16 | 6);
                deeds.write32(command + 24, NVME_PAGE);
                deeds.write32(command + 40, 1);
                deeds.write32(base + 0x1000, (entry + 1) % NVME_ENTRIES);
            }
            // A reset of the controller.
            Kind::Xhci => deeds.write32(base + 0x40, 2),
            Kind::TestDevice | Kind::E1000e | Kind::Ohci | Kind::Screen => {}
        }
    }

    /// Waits for the work begun, wherever the card is now, and looks at what it did.
    pub(crate) fn end_work(&self, deeds: &mut Deeds, place: u32, number: u32) {
        let base = self.at(place, 0);
        match self.kind {
            Kind::Edu => {
                deeds.await_bits(base + 0x98, 0, 1);
                deeds.write32(EDU_MEMORY + 0x1000, 0);
                move_bytes(deeds, base, EDU_BUFFER, EDU_MEMORY + 0x1000, 3);
                deeds.await_bits(base + 0x98, 0, 1);
                deeds.expect(EDU_MEMORY + 0x1000, number, ALL);
            }
            Kind::Nvme => {
                let entry = number % NVME_ENTRIES;
                // The phase bit is 1 in the first round through the queue, and turns in each.
                let phase = 1 - number / NVME_ENTRIES % 2;
                deeds.await_bits(NVME_COMPLETIONS + 16 * entry + 12, phase << 16 | entry, ALL);
                deeds.write32(base + 0x1004, (entry + 1) % NVME_ENTRIES);
                // The vendor's id is the first word.
                deeds.expect(NVME_PAGE, 0x1b36, 0xffff);
            }
            Kind::Xhci => deeds.await_bits(base + 0x40, 0, 2),
            Kind::TestDevice | Kind::E1000e | Kind::Ohci | Kind::Screen => {}
        }
    }

    /// Lets `edu` carry four bytes from one address of the guest to another.
    #[allow(dead_code, reason = "for the scenarios of DMA between cards")]
    pub(crate) fn carry(&self, deeds: &mut Deeds, place: u32, from: u32, to: u32) {
        let base = self.at(place, 0);
        for (from, to, command) in [(from, EDU_BUFFER, 1), (EDU_BUFFER, to, 3)] {
            move_bytes(deeds, base, from, to, command);
            deeds.await_bits(base + 0x98, 0, 1);
        }
    }

    /// Switches the card's power off as far as software can, or on again: its control is behind the capability at `offset`.
    pub(crate) fn power(&self, deeds: &mut Deeds, offset: u32, on: bool) {
        // PCI Power Management 1.2, 3.2.4: D0 and D3hot.
        deeds.write16(self.config(offset + 4), if on { 0 } else { 3 });
    }

    /// Makes the card ready for work, as its driver would.
    pub(crate) fn set_up(&self, deeds: &mut Deeds, place: u32) {
        if self.kind != Kind::Nvme {
            return;
        }
        let base = self.at(place, 0);
        // Off; queues of a power of two of entries; on, with entries of 64 and 16 bytes; ready.
        deeds.write32(base + 0x14, 0);
        deeds.await_bits(base + 0x1c, 0, 1);
        deeds.write32(base + 0x24, (NVME_ENTRIES - 1) << 16 | (NVME_ENTRIES - 1));
        for (register, address) in [(0x28, NVME_QUEUE), (0x30, NVME_COMPLETIONS)] {
            deeds.write32(base + register, address);
            deeds.write32(base + register + 4, 0);
        }
        for entry in 0..NVME_ENTRIES {
            // Memory is as the life before has left it.
            deeds.write32(NVME_COMPLETIONS + 16 * entry + 12, 0);
        }
        deeds.write32(base + 0x14, 0x46_0001);
        deeds.await_bits(base + 0x1c, 1, 1);
    }
}

const NVME_ENTRIES: u32 = 8;
/// The buffer of `edu`, in its own address space.
const EDU_BUFFER: u32 = 0x4_0000;

/// Begins a transfer of four bytes by `edu`: 1 from memory, 3 to memory.
fn move_bytes(deeds: &mut Deeds, base: u32, from: u32, to: u32, command: u32) {
    for (register, value) in
        [(0x80, from), (0x84, 0), (0x88, to), (0x8c, 0), (0x90, 4), (0x94, 0), (0x98, command)]
    {
        deeds.write32(base + register, value);
    }
}
