//! The board as the ACPI tables see it: a plain description, and the facts that devices and tables share.
//!
//! Not here: any device. The machine's devices use the constants; [`super::tables`] reads the description.

use std::ops::{Range, RangeInclusive};

use crate::layout;

/// Where every local APIC answers (Intel SDM volume 3, section 11.4.1).
pub const LOCAL_APIC_BASE: u32 = 0xfee0_0000;
/// Where the I/O APIC answers (ICH9 datasheet, section 13.5).
pub const IO_APIC_BASE: u32 = 0xfec0_0000;
/// The I/O APIC's id.
pub const IO_APIC_ID: u8 = 0;
/// The GSI that the timer's IRQ 0 arrives at: pin 2 of the I/O APIC, because pin 0 belongs to the PIC's output.
pub const TIMER_GSI: u32 = 2;
/// The interrupt of ACPI events: GSI 9, level, active high.
pub const SCI_GSI: u8 = 9;
/// The first of the eight GSIs that PCI's INTx lines arrive at (PIRQA of the ICH9).
pub const INTX_GSI_BASE: u32 = 16;
/// The reset control register, one byte (ICH9 datasheet, section 13.7.5).
pub const RESET_PORT: u16 = 0xcf9;
/// What the guest writes to [`RESET_PORT`]: reset the system and the CPU.
pub const RESET_VALUE: u8 = 0x06;
/// The sleep type in PM1 control that means "power off" once the sleep-enable bit is set.
pub const S5_SLEEP_TYPE: u8 = 0;
/// The byte of the RTC's memory that holds the century, in BCD.
pub const RTC_CENTURY_INDEX: u8 = 0x32;

/// Where the power management registers are (PMBASE of the ICH9) when nobody moved them.
pub const POWER_BASE: u16 = 0x600;

/// Most CPUs the tables can name: three hexadecimal digits in the namespace.
pub const MAX_CPUS: usize = 4096;
/// Most serial ports a PC has places for.
pub const MAX_SERIAL_PORTS: usize = 4;
/// The device number of the host bridge on bus 0.
pub const HOST_BRIDGE_DEVICE: u8 = 0;
/// The device number of the LPC bridge on bus 0, and the highest there is.
pub const LPC_DEVICE: u8 = 31;

/// Names the GSI that INTx pin `pin` (0 is INTA#) of device `device` on bus 0 arrives at.
///
/// A function behind a root port arrives there as if it sat in the port's place with its pin turned by its own
/// device number (PCI-to-PCI Bridge Architecture 1.2, section 9.1); device 0 keeps its pin. As in the ICH9,
/// devices 25 to 31 keep pin and line together (registers D25IR to D31IR at reset, which is also what SeaBIOS
/// assumes); the others rotate, over all eight lines so that neighbouring root ports do not share one.
pub fn intx_gsi(device: u8, pin: u8) -> u32 {
    let (device, pin) = (u32::from(device), u32::from(pin % 4));
    let line = if device < 25 { (device + pin) % 8 } else { pin };
    INTX_GSI_BASE + line
}

/// Describes everything about a machine that its ACPI tables tell the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Board {
    /// The CPUs' APIC ids, ascending, the boot CPU first. A CPU's ACPI id is its APIC id.
    pub cpus: Vec<u32>,
    /// The enhanced configuration space.
    pub ecam: Ecam,
    /// Memory below 4 GiB that functions may be given, legacy VGA's included.
    pub memory_windows_32: Vec<RangeInclusive<u32>>,
    /// Memory above RAM that functions may be given.
    pub memory_windows_64: Vec<RangeInclusive<u64>>,
    /// Ports that functions may be given.
    pub io_windows: Vec<RangeInclusive<u16>>,
    /// The power management registers.
    pub power: PowerBlock,
    /// The 16550 serial ports, COM1 first.
    pub serial_ports: Vec<SerialPort>,
    /// Whether the guest is told of the RTC at ports 0x70 and 0x71. Linux reads a good part of it at boot when so.
    pub rtc: bool,
    /// Whether an i8042 with keyboard and mouse is at ports 0x60 and 0x64.
    pub keyboard_controller: bool,
    /// Whether there is a TPM at [`layout::TPM`].
    pub tpm: bool,
    /// Device numbers of the root ports on bus 0.
    pub root_ports: Vec<u8>,
    /// Device numbers of the other functions on bus 0 that have an INTx pin.
    pub endpoints: Vec<u8>,
}

impl Board {
    /// Describes the board as it is before any function sits on it.
    pub fn new(cpus: Vec<u32>) -> Self {
        Self {
            cpus,
            ecam: Ecam { base: layout::ECAM as u32, last_bus: 0 },
            memory_windows_32: [layout::VGA_HOLE]
                .into_iter()
                .chain(layout::PCI_32_BIT)
                .map(inclusive)
                .collect(),
            memory_windows_64: Vec::new(),
            // The board's own ports up to PCI's first configuration mechanism, and those for functions.
            io_windows: vec![0x0000..=0x0cf7, inclusive(layout::PCI_IO)],
            power: PowerBlock { pm1_event: POWER_BASE, timer: true, events: true },
            serial_ports: vec![SerialPort { base: 0x3f8, irq: 4 }],
            rtc: true,
            keyboard_controller: true,
            tpm: false,
            root_ports: Vec::new(),
            endpoints: Vec::new(),
        }
    }

    /// Checks that the tables can say what the description says.
    pub(super) fn check(&self) -> Result<(), BoardError> {
        if self.cpus.is_empty() || self.cpus.len() > MAX_CPUS {
            return Err(BoardError::CpuCount(self.cpus.len()));
        }
        if let Some(pair) = self.cpus.windows(2).find(|pair| pair[0] >= pair[1]) {
            return Err(BoardError::CpuOrder { id: pair[1], after: pair[0] });
        }
        if u64::from(self.ecam.base) % layout::ECAM_PER_BUS != 0 || self.ecam.end() > 1 << 32 {
            return Err(BoardError::Ecam(self.ecam));
        }
        if self.serial_ports.len() > MAX_SERIAL_PORTS {
            return Err(BoardError::SerialPorts(self.serial_ports.len()));
        }
        self.check_windows()?;
        let mut seen = [false; 32];
        for &device in self.slots() {
            match seen.get_mut(usize::from(device)) {
                Some(taken) if !*taken && device != HOST_BRIDGE_DEVICE && device != LPC_DEVICE => {
                    *taken = true
                }
                _ => return Err(BoardError::Device(device)),
            }
        }
        Ok(())
    }

    /// Lists the device numbers on bus 0 whose INTx lines the tables route.
    pub(super) fn slots(&self) -> impl Iterator<Item = &u8> {
        self.root_ports.iter().chain(&self.endpoints)
    }

    fn check_windows(&self) -> Result<(), BoardError> {
        let memory_32 = self
            .memory_windows_32
            .iter()
            .map(|w| (u64::from(*w.start()), u64::from(*w.end()), u32::MAX.into()));
        let memory_64 = self.memory_windows_64.iter().map(|w| (*w.start(), *w.end(), u64::MAX));
        let io =
            self.io_windows.iter().map(|w| (u64::from(*w.start()), u64::from(*w.end()), u16::MAX.into()));
        for (first, last, space_end) in memory_32.chain(memory_64).chain(io) {
            // A descriptor's length field is no wider than its addresses: it cannot say "the whole space".
            if first > last || last - first == space_end {
                return Err(BoardError::Window { first, last });
            }
        }
        Ok(())
    }
}

/// Turns a range into one that an address space's last address fits in.
fn inclusive<T: TryFrom<u64> + Default>(range: Range<u64>) -> RangeInclusive<T> {
    let narrow = |address| T::try_from(address).unwrap_or_default();
    narrow(range.start)..=narrow(range.end - 1)
}

/// The enhanced configuration space: every function's 4 KiB of registers as memory, from bus 0 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ecam {
    /// Where bus 0 begins.
    pub base: u32,
    /// The last bus that exists. The guest scans every bus announced, so this is no larger than it must be.
    pub last_bus: u8,
}

impl Ecam {
    /// Gives the size in bytes.
    pub fn len_bytes(&self) -> u64 {
        (u64::from(self.last_bus) + 1) * layout::ECAM_PER_BUS
    }

    fn end(&self) -> u64 {
        u64::from(self.base) + self.len_bytes()
    }
}

/// The power management registers, laid out as [`crate::board::power`] has them. ACPI mode is on from the start: the
/// bit SCI_EN of PM1 control always reads 1, and nothing is written to an SMI port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PowerBlock {
    /// The first port, that of PM1's events.
    pub pm1_event: u16,
    /// Whether the guest is told of the PM timer. Linux reads it some twenty times at boot when so.
    pub timer: bool,
    /// Whether the guest is told of the general-purpose events. Linux clears their registers at boot when so, two
    /// writes for every eight events.
    pub events: bool,
}

/// A 16550 serial port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SerialPort {
    /// The first of its eight ports.
    pub base: u16,
    /// Its ISA interrupt, 0 to 15.
    pub irq: u8,
}

/// Why no tables can be made of a board's description.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BoardError {
    /// No CPU, or more than have names.
    #[error("{0} CPUs: the tables name 1 to {MAX_CPUS}")]
    CpuCount(usize),
    /// APIC ids out of order or given twice.
    #[error("APIC id {id} follows {after}: ids must ascend")]
    CpuOrder {
        /// The id out of order.
        id: u32,
        /// The one before it.
        after: u32,
    },
    /// The enhanced configuration space does not begin at a bus's boundary or does not end below 4 GiB.
    #[error("enhanced configuration space {0:x?} is not aligned to a bus or passes 4 GiB")]
    Ecam(Ecam),
    /// More serial ports than have names.
    #[error("{0} serial ports: the tables name at most {MAX_SERIAL_PORTS}")]
    SerialPorts(usize),
    /// A window with no addresses in it, or with more than a descriptor can say.
    #[error("window {first:#x}-{last:#x} is empty or too long")]
    Window {
        /// Its first address.
        first: u64,
        /// Its last address.
        last: u64,
    },
    /// A device number on bus 0 that is given twice, does not exist, or belongs to the host or LPC bridge.
    #[error("device number {0} on bus 0 is not free")]
    Device(u8),
}
