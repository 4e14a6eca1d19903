//! What a fake device is and how it misbehaves: plain data, written by the test.

use std::time::Duration;

use rustix::io::Errno;

use crate::vfio::config::{CONFIG_SIZE, PowerState};
use crate::vfio::{Area, ResetScope};

/// Size of a configuration space without the extended part.
const SMALL_CONFIG_SIZE: usize = 256;
/// Capabilities that fit into a configuration space of 256 bytes.
pub(super) const MAX_CAPABILITIES: usize = 48;
/// Extended capabilities that fit above.
pub(super) const MAX_EXTENDED_CAPABILITIES: usize = 480;

/// A fake device before it is opened.
#[derive(Clone, Debug)]
pub struct Script {
    /// The configuration space as the hardware holds it: 256 or 4096 bytes. Lies are written here.
    pub config: Vec<u8>,
    /// The BARs; the upper half of a 64-bit BAR is `None`.
    pub bars: [Option<FakeBar>; 6],
    /// The expansion ROM.
    pub rom: FakeRom,
    /// Whether the kernel gives the legacy VGA region.
    pub vga: bool,
    /// The interrupts.
    pub irqs: FakeIrqs,
    /// What a reset of the function does, by whatever way it is asked for.
    pub reset: FakeReset,
    /// What a reset of the slot or bus does.
    pub hot_reset: FakeReset,
    /// Which functions a reset of the slot or bus concerns; `None` when the slot and bus have no reset.
    pub scope: Option<ResetScope>,
    /// The power state that the function does not leave, whatever is written.
    pub stuck_in: Option<PowerState>,
}

/// A BAR of a fake device, with memory behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FakeBar {
    /// Size in bytes, a power of two.
    pub size: u64,
    /// The low bits of the register: 0 or 8 memory, 4 or 12 memory of 64 bits, 1 I/O.
    pub flags: u32,
    /// The parts that can be mapped.
    pub areas: Vec<Area>,
    /// Bytes that answer; an access beyond moves fewer bytes than asked for.
    pub answers: u64,
}

/// The expansion ROM of a fake device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FakeRom {
    /// Size that the BAR asks for; 0 for no ROM.
    pub bar_size: u32,
    /// Size that the kernel tells for the region.
    pub region_size: u64,
    /// What is read; a read beyond moves fewer bytes than asked for.
    pub content: Vec<u8>,
    /// Reads fail with this.
    pub fails: Option<Errno>,
}

/// The interrupts of a fake device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FakeIrqs {
    /// Whether there is a pin.
    pub intx: bool,
    /// Vectors of MSI.
    pub msi: u32,
    /// Vectors of MSI-X.
    pub msix: u32,
    /// Whether the kernel can add vectors of MSI-X while it is enabled.
    pub growable: bool,
    /// Vectors that the host can really give, when fewer.
    pub given: Option<u32>,
    /// Whether errors of the function are reported.
    pub error: bool,
}

/// What a reset does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FakeReset {
    /// It works: the memory behind the BARs is zero again, the power state is D0.
    #[default]
    Works,
    /// The kernel knows no way: `EINVAL`, and the device information says so.
    Absent,
    /// It fails and changes nothing.
    Fails(Errno),
    /// It does not come back for so long, or until [`super::FakeDevice::let_go`]; then it fails with `ENOTTY`, as the
    /// kernel does when a function stays silent (`drivers/pci/pci.c`, `pci_dev_wait`).
    Hangs(Duration),
    /// It says it worked and has not: nothing changes.
    Lies,
}

impl Script {
    /// A function with an extended configuration space and nothing but its ids; the kernel can reset it.
    pub fn new(vendor: u16, device: u16) -> Self {
        let mut config = vec![0; CONFIG_SIZE as usize];
        // Class 0xff: a device that fits no class. All-ones in revision and class would be a function that is gone.
        for (place, byte) in config.iter_mut().zip(
            [vendor.to_le_bytes(), device.to_le_bytes(), [0; 2], [0; 2], [1, 0], [0, 0xff]]
                .into_iter()
                .flatten(),
        ) {
            *place = byte;
        }
        Self {
            config,
            bars: Default::default(),
            rom: FakeRom::default(),
            vga: false,
            irqs: FakeIrqs::default(),
            reset: FakeReset::Works,
            hot_reset: FakeReset::Works,
            scope: None,
            stuck_in: None,
        }
    }

    /// Takes the extended configuration space away.
    pub fn conventional(mut self) -> Self {
        self.config.truncate(SMALL_CONFIG_SIZE);
        self
    }

    /// Gives the function a BAR; `number` above 5 changes nothing.
    pub fn with_bar(mut self, number: u8, bar: FakeBar) -> Self {
        if let Some(place) = self.bars.get_mut(usize::from(number)) {
            *place = Some(bar);
        }
        self
    }

    /// Gives the function interrupts.
    pub fn with_irqs(mut self, irqs: FakeIrqs) -> Self {
        self.irqs = irqs;
        self
    }

    /// Writes bytes of the configuration space, as hardware would hold them; what does not fit is left out.
    pub fn with_config(mut self, offset: usize, bytes: &[u8]) -> Self {
        self.put(offset, bytes);
        self
    }

    /// Adds a capability at the end of the chain: `body` follows its id and next pointer.
    pub fn with_capability(mut self, offset: u8, id: u8, body: &[u8]) -> Self {
        const STATUS: usize = 0x06;
        const FIRST: usize = 0x34;
        let mut link = FIRST;
        for _ in 0..MAX_CAPABILITIES {
            match self.config.get(link) {
                Some(0) | None => break,
                Some(next) => link = usize::from(*next) + 1,
            }
        }
        self.put(link, &[offset]);
        self.put(usize::from(offset), &[id, 0]);
        self.put(usize::from(offset) + 2, body);
        if let Some(status) = self.config.get_mut(STATUS) {
            *status |= 0x10;
        }
        self
    }

    /// Adds an extended capability at the end of the chain; the first one must be at 0x100.
    pub fn with_extended_capability(mut self, offset: u16, id: u16, version: u8, body: &[u8]) -> Self {
        let mut last = 0x100;
        for _ in 0..MAX_EXTENDED_CAPABILITIES {
            match self.extended_header(last) >> 20 {
                0 => break,
                next => last = next as usize,
            }
        }
        if offset != 0x100 {
            let header = self.extended_header(last) | (u32::from(offset) << 20);
            self.put(last, &header.to_le_bytes());
        }
        let header = u32::from(id) | (u32::from(version) << 16);
        self.put(usize::from(offset), &header.to_le_bytes());
        self.put(usize::from(offset) + 4, body);
        self
    }

    fn extended_header(&self, offset: usize) -> u32 {
        self.config
            .get(offset..)
            .and_then(|bytes| bytes.first_chunk())
            .map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }

    fn put(&mut self, offset: usize, bytes: &[u8]) {
        for (place, byte) in self.config.iter_mut().skip(offset).zip(bytes) {
            *place = *byte;
        }
    }
}

impl FakeBar {
    /// A BAR of 32-bit memory that can be mapped as a whole.
    pub fn memory(size: u64) -> Self {
        Self { size, flags: 0, areas: vec![Area { offset: 0, size }], answers: size }
    }

    /// A BAR of 64-bit prefetchable memory that can be mapped as a whole.
    pub fn memory64(size: u64) -> Self {
        Self { flags: 0xc, ..Self::memory(size) }
    }

    /// A BAR of I/O ports, which cannot be mapped.
    pub fn io(size: u64) -> Self {
        Self { size, flags: 1, areas: Vec::new(), answers: size }
    }

    /// Whether it holds I/O ports.
    pub fn is_io(&self) -> bool {
        self.flags & 1 != 0
    }

    /// Whether it takes two registers.
    pub fn is_wide(&self) -> bool {
        self.flags & 0b111 == 0b100
    }
}

impl FakeRom {
    /// A ROM that is as large as its content and can be read.
    pub fn honest(content: Vec<u8>) -> Self {
        let size = content.len().next_power_of_two().max(2048);
        Self {
            bar_size: u32::try_from(size).unwrap_or(0),
            region_size: size as u64,
            content: content.into_iter().chain(std::iter::repeat(0xff)).take(size).collect(),
            fails: None,
        }
    }
}
