//! The windows of guest addresses that a seat's devices need, and whether they fit.
//!
//! Not here: placing single BARs, which the guest's firmware does inside the windows.

use spec::inventory::{BarKind, Function, PhysicalAddress, Rom};
use spec::plan::{Aperture, NoticeCode, PlannedSlot, ReasonCode, Source};
use spec::seat_file::SeatRequest;
use spec::{Bytes, guest_address_bits};

use crate::findings::{Findings, Subject};
use crate::ground::Ground;

/// Where the machine's memory goes on above the hole: so much lies below, the rest from 4 GiB on.
const LOW_MEMORY: u64 = Bytes::gib(2).0;

/// What stock firmware gives to 32-bit registers: from 3 GiB to the flash below 4 GiB.
const LOW_APERTURE: Bytes = Bytes::mib(960);

/// The least window that a bridge can forward (PCI-to-PCI Bridge Architecture, section 3.2.5.8).
const BRIDGE_WINDOW: u64 = 1 << 20;

/// What is set aside for a virtual function that does not exist yet, so that its registers are not known.
const VIRTUAL_FUNCTION_REGISTERS: u64 = Bytes::mib(64).0;

/// Addresses that AMD processors use for HyperTransport: nothing may be there (QEMU, hw/i386/pc.c).
const HYPERTRANSPORT: (u64, u64) = (0xfd_0000_0000, 0x100_0000_0000);

/// Sizes of the windows of one slot.
#[derive(Clone, Copy, Default)]
struct Window {
    size: u64,
    alignment: u64,
}

impl Window {
    fn add(&mut self, size: u64) {
        self.size = self.size.saturating_add(size);
        self.alignment = self.alignment.max(size);
    }

    fn as_forwarded(self) -> Self {
        let alignment = self.alignment.max(BRIDGE_WINDOW);
        Self { size: self.size.checked_next_multiple_of(BRIDGE_WINDOW).unwrap_or(u64::MAX), alignment }
    }
}

/// Finds the windows for one seat; what does not fit goes to `findings`.
pub(crate) fn find(
    ground: &Ground<'_>,
    index: usize,
    seat: &SeatRequest,
    slots: &[PlannedSlot],
    findings: &mut Findings,
) -> Aperture {
    let windows: Vec<(Window, Window)> = slots.iter().map(|slot| of_slot(ground, slot)).collect();
    let low = packed(windows.iter().map(|(low, _)| *low));
    let high = packed(windows.iter().map(|(_, high)| *high));
    let about = Subject::seat(index, &seat.name, "devices");
    if low > LOW_APERTURE.0 {
        let sentence =
            format!("the devices need {} of addresses below 4 GiB, but there are {LOW_APERTURE}", Bytes(low));
        let remedy = "give the seat fewer devices".to_owned();
        findings.refuse(&about, ReasonCode::LowApertureShort, sentence, remedy);
    }
    // As OVMF does, so that both agree: a power of two, aligned to itself.
    let high = if high == 0 { 0 } else { high.checked_next_power_of_two().unwrap_or(u64::MAX) };
    let memory_end = (4_u64 << 30).saturating_add(seat.memory.size.0.saturating_sub(LOW_MEMORY));
    let start = high_start(ground, memory_end, high);
    check_high(ground, &about, memory_end, (start, high), slots, findings);
    Aperture { low: Bytes(low), high_start: PhysicalAddress(start), high: Bytes(high) }
}

fn of_slot(ground: &Ground<'_>, slot: &PlannedSlot) -> (Window, Window) {
    let (mut low, mut high) = (Window::default(), Window::default());
    for function in &slot.functions {
        let address = match &function.source {
            Source::Taken { address, .. } => Some(*address),
            Source::Virtual { .. } => None,
        };
        let Some(known) = address.and_then(|address| ground.function(address)) else {
            high.add(VIRTUAL_FUNCTION_REGISTERS);
            continue;
        };
        for bar in &known.bars {
            let size = bar.size.0.checked_next_power_of_two().unwrap_or(u64::MAX);
            match bar.kind {
                BarKind::Io => {}
                // A bridge forwards above 4 GiB only what can be prefetched.
                BarKind::Memory64 if bar.prefetchable => high.add(size),
                BarKind::Memory32 | BarKind::Memory64 | BarKind::Unknown => low.add(size),
            }
        }
        if let Rom::Present { size } = known.rom {
            low.add(size.0.checked_next_power_of_two().unwrap_or(u64::MAX));
        }
    }
    (low.as_forwarded(), high.as_forwarded())
}

/// The length of all windows behind each other, the most strictly aligned first.
fn packed(windows: impl Iterator<Item = Window>) -> u64 {
    let mut windows: Vec<Window> = windows.filter(|window| window.size > 0).collect();
    windows.sort_by_key(|window| std::cmp::Reverse(window.alignment));
    windows.into_iter().fold(0_u64, |end, window| {
        let start = end.checked_next_multiple_of(window.alignment).unwrap_or(u64::MAX);
        start.saturating_add(window.size)
    })
}

fn high_start(ground: &Ground<'_>, memory_end: u64, size: u64) -> u64 {
    let alignment = size.max(1 << 30);
    let aligned = |from: u64| from.checked_next_multiple_of(alignment).unwrap_or(u64::MAX);
    let start = aligned(memory_end);
    let meets_hole = start < HYPERTRANSPORT.1 && start.saturating_add(size) > HYPERTRANSPORT.0;
    let amd = ground.inventory.cpus.vendor.as_deref() == Some("AuthenticAMD");
    if amd && meets_hole && size > 0 { aligned(HYPERTRANSPORT.1) } else { start }
}

fn check_high(
    ground: &Ground<'_>,
    about: &Subject,
    memory_end: u64,
    (start, size): (u64, u64),
    slots: &[PlannedSlot],
    findings: &mut Findings,
) {
    let limit = |bits: u8| 1_u64.checked_shl(u32::from(bits)).unwrap_or(u64::MAX);
    let Some(bits) = ground.inventory.cpus.physical_bits else {
        let sentence = "the inventory does not tell how many address bits the processor has".to_owned();
        let remedy = "read the inventory anew".to_owned();
        findings.notice(&Subject::host("cpus"), NoticeCode::NotKnown, sentence, remedy);
        return;
    };
    let vendor = ground.inventory.cpus.vendor.as_deref().unwrap_or_default();
    let bits = guest_address_bits(vendor, bits);
    let end = if size == 0 { memory_end } else { start.saturating_add(size) };
    if end > limit(bits) {
        let sentence = format!(
            "memory and device registers end at {:#x}, beyond the {bits} address bits that a guest has here; the \
             devices need {}",
            end,
            Bytes(size)
        );
        findings.refuse(about, ReasonCode::HighApertureShort, sentence, smaller(ground, slots));
    }
    // Registers beyond the IOMMU's reach only cost transfers between devices; memory must be within.
    if let Some(bits) = ground.inventory.iommu.address_bits.filter(|bits| memory_end > limit(*bits)) {
        let sentence =
            format!("the seat's memory ends at {memory_end:#x}, beyond the {bits} address bits of the IOMMU");
        findings.refuse(about, ReasonCode::HighApertureShort, sentence, "ask for less memory".to_owned());
    }
}

/// What makes the window smaller: the largest register that can be resized.
fn smaller(ground: &Ground<'_>, slots: &[PlannedSlot]) -> String {
    let functions =
        slots.iter().flat_map(|slot| &slot.functions).filter_map(|function| match &function.source {
            Source::Taken { address, .. } => ground.function(*address),
            Source::Virtual { .. } => None,
        });
    let resizable = functions.flat_map(|function: &Function| {
        let smaller = |size: &&Bytes, now: Bytes| **size < now;
        function.bars.iter().filter_map(move |bar| {
            let least = bar.resizable.iter().filter(|size| smaller(size, bar.size)).min()?;
            Some((bar.size, function.address, bar.index, *least))
        })
    });
    match resizable.max() {
        Some((now, address, index, least)) => {
            // The kernel takes the size as a power of two of MiB (`resourceN_resize`, drivers/pci/pci-sysfs.c).
            let power = (least.0 >> 20).max(1).ilog2();
            format!(
                "make register {index} of {address} smaller than its {now}: echo {power} > \
                 /sys/bus/pci/devices/{address}/resource{index}_resize gives {least}"
            )
        }
        None => "give the seat fewer devices or less memory".to_owned(),
    }
}
