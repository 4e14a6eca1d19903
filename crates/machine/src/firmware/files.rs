//! What stock firmware is told of the board: the contents of its fw_cfg device.
//!
//! Who reads what: SeaBIOS src/fw/paravirt.c, OVMF OvmfPkg/Library/PlatformInitLib and OvmfPkg/AcpiPlatformDxe. Not here:
//! the tables themselves (`acpi`, `smbios`) and the device (`fw_cfg`).

use std::ops::Range;

use pci::Ecam;

use super::acpi::{self, Board, BoardError, loader};
use crate::fw_cfg::Contents;
use crate::layout;

/// What the files say.
pub(crate) struct Told {
    /// The board as it is at power-on.
    pub(crate) board: Board,
    /// Bytes of RAM.
    pub(crate) ram_size: u64,
    /// Device paths to boot from, the first one first.
    pub(crate) boot_order: Vec<String>,
    /// Whether the machine has a display card, so that a BIOS need not write to the serial port.
    pub(crate) display: bool,
    /// The SMBIOS entry point and its structures.
    pub(crate) smbios: (Vec<u8>, Vec<u8>),
}

/// What the guest has set up by now, asked for when the tables are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SetUp {
    /// Where config space is in memory.
    pub(crate) ecam: Option<Ecam>,
    /// What encloses all BARs above 4 GiB.
    pub(crate) high: Option<Range<u64>>,
}

// Items that are known by number (QEMU include/standard-headers/linux/qemu_fw_cfg.h).
const NO_GRAPHIC: u16 = 0x04;
const CPUS_PRESENT: u16 = 0x05;
const BOOT_MENU: u16 = 0x0e;
const CPUS_MOST: u16 = 0x0f;

/// The window above RAM is announced in steps of this, which leaves bridges' windows their room.
const HIGH_STEP: u64 = 1 << 30;

/// Types of an entry in `etc/e820`.
const E820_RAM: u32 = 1;
const E820_RESERVED: u32 = 2;

/// S0 to S5, the upper bit for "can be entered": no S3 and no S4, whose sleep types stand beside it.
const SYSTEM_STATES: [u8; 6] = [0x80, 0, 0, 1, 2, 0x80];

/// Fills the device. `set_up` is asked each time the guest begins to read its tables.
///
/// # Errors
/// The description contradicts itself.
pub(crate) fn contents(
    told: Told,
    set_up: impl Fn() -> SetUp + Send + 'static,
) -> Result<Contents, BoardError> {
    let mut contents = Contents::default();
    let cpus = (told.board.cpus.len() as u16).to_le_bytes();
    contents.key(CPUS_PRESENT, cpus.to_vec());
    contents.key(CPUS_MOST, cpus.to_vec());
    contents.key(NO_GRAPHIC, u16::from(!told.display).to_le_bytes().to_vec());
    contents.key(BOOT_MENU, vec![0; 2]);
    contents.file("etc/e820", e820(told.ram_size));
    contents.file("etc/system-states", SYSTEM_STATES.to_vec());
    if !told.boot_order.is_empty() {
        contents.file("bootorder", boot_order(&told.boot_order));
    }
    let (anchor, structures) = told.smbios;
    contents.file("etc/smbios/smbios-anchor", anchor);
    contents.file("etc/smbios/smbios-tables", structures);
    if let Some(window) = told.board.memory_windows_64.first() {
        // SeaBIOS starts its 64-bit window here; OVMF wants its size, in MiB, and finds a place for it.
        contents.file("etc/reserved-memory-end", window.start().to_le_bytes().to_vec());
        let mib = ((window.end() - window.start() + 1) >> 20).next_power_of_two();
        contents.file("opt/ovmf/X-PciMmio64Mb", mib.to_string().into_bytes());
    }
    if told.board.tpm {
        contents.file(loader::LOG_FILE, vec![0; acpi::TPM_LOG_LEN as usize]);
    }
    // Once before the guest runs, so that a board that cannot be described is told to the owner.
    let board = told.board;
    acpi::tables(&as_set_up(&board, &SetUp::default()))?;
    contents.live_files(
        loader::SCRIPT_FILE,
        Box::new(move || {
            // A guest that sets up what no table can say is told of the board at power-on.
            let described = acpi::tables(&as_set_up(&board, &set_up())).or_else(|_| acpi::tables(&board));
            let files = loader::files(&described.unwrap_or_default());
            vec![
                (loader::SCRIPT_FILE, files.script),
                (loader::RSDP_FILE, files.rsdp),
                (loader::TABLES_FILE, files.tables),
            ]
        }),
    );
    Ok(contents)
}

/// The board with the windows as the guest has set them up.
fn as_set_up(board: &Board, set_up: &SetUp) -> Board {
    let mut board = board.clone();
    board.memory_windows_64 = set_up
        .high
        .iter()
        .map(|high| high.start - high.start % HIGH_STEP..=high.end.next_multiple_of(HIGH_STEP) - 1)
        .collect();
    let Some(ecam) = &set_up.ecam else { return board };
    let (Ok(base), Ok(last_bus)) = (u32::try_from(ecam.base), u8::try_from(ecam.buses - 1)) else {
        return board;
    };
    board.ecam = acpi::Ecam { base, last_bus };
    let whole = layout::LOW_RAM_LIMIT..layout::PCI_32_BIT[1].end;
    let range = ecam.range();
    let around = [whole.start..range.start.min(whole.end), range.end.max(whole.start)..whole.end];
    let windows = [layout::VGA_HOLE].into_iter().chain(around).filter(|window| window.start < window.end);
    board.memory_windows_32 = windows.map(|window| window.start as u32..=(window.end - 1) as u32).collect();
    board
}

fn e820(ram_size: u64) -> Vec<u8> {
    let low = ram_size.min(layout::LOW_RAM_LIMIT);
    let mut entries = vec![
        (0..low, E820_RAM),
        (layout::KVM_PRIVATE..layout::KVM_PRIVATE + layout::KVM_PRIVATE_LEN, E820_RESERVED),
    ];
    if ram_size > low {
        entries.push((layout::ABOVE_4G..layout::ABOVE_4G + (ram_size - low), E820_RAM));
    }
    let mut bytes = Vec::new();
    for (range, kind) in entries {
        bytes.extend(range.start.to_le_bytes());
        bytes.extend((range.end - range.start).to_le_bytes());
        bytes.extend(kind.to_le_bytes());
    }
    bytes
}

/// Device paths, one a line.
fn boot_order(paths: &[String]) -> Vec<u8> {
    let mut bytes = paths.join("\n").into_bytes();
    bytes.push(0);
    bytes
}

#[cfg(test)]
mod tests {
    use pci::Ecam;

    use super::{SetUp, as_set_up, boot_order, e820};
    use crate::firmware::acpi::Board;

    #[test]
    fn tables_follow_the_windows_that_firmware_sets_up() {
        let board = Board::new(vec![0]);
        let ecam = |base, buses| Some(Ecam { base, buses });
        for (ecam, base, last_bus, windows) in [
            (None, 0xb000_0000, 0, vec![0x8000_0000..=0xafff_ffff, 0xc000_0000..=0xfebf_ffff]),
            (
                ecam(0xb000_0000, 256),
                0xb000_0000,
                255,
                vec![0x8000_0000..=0xafff_ffff, 0xc000_0000..=0xfebf_ffff],
            ),
            (
                ecam(0xe000_0000, 256),
                0xe000_0000,
                255,
                vec![0x8000_0000..=0xdfff_ffff, 0xf000_0000..=0xfebf_ffff],
            ),
            (ecam(0x8000_0000, 64), 0x8000_0000, 63, vec![0x8400_0000..=0xfebf_ffff]),
            (
                ecam(0x4_0000_0000, 64),
                0xb000_0000,
                0,
                vec![0x8000_0000..=0xafff_ffff, 0xc000_0000..=0xfebf_ffff],
            ),
        ] {
            let told = as_set_up(&board, &SetUp { ecam, high: None });
            assert_eq!((told.ecam.base, told.ecam.last_bus), (base, last_bus), "{ecam:x?}");
            assert_eq!(told.memory_windows_32[1..], windows, "{ecam:x?}");
        }
        let high = Some(0x38_1234_0000..0x38_8000_1000);
        let told = as_set_up(&board, &SetUp { ecam: None, high });
        assert_eq!(told.memory_windows_64, [0x38_0000_0000..=0x38_bfff_ffff]);
    }

    #[test]
    fn memory_is_told_in_packed_entries() {
        for (size, entries) in [(512_u64 << 20, 2), (6 << 30, 3)] {
            let bytes = e820(size);
            assert_eq!(bytes.len(), entries * 20, "{size:#x}");
            let sum: u64 = bytes
                .chunks(20)
                .filter(|entry| entry[16] == 1)
                .map(|entry| u64::from_le_bytes(entry[8..16].try_into().unwrap()))
                .sum();
            assert_eq!(sum, size);
        }
    }

    #[test]
    fn the_boot_order_is_lines_that_end_with_a_zero() {
        assert_eq!(boot_order(&["/a".to_owned(), "/b".to_owned()]), b"/a\n/b\0");
    }
}
