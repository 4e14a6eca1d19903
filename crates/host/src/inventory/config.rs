//! What a PCI configuration space tells, from bytes that may be short, hung or hostile.
//!
//! Offsets are those of the PCI Local Bus Specification 3.0, chapter 6, and the PCI Express Base Specification 6.0,
//! chapter 7; names as in Linux `include/uapi/linux/pci_regs.h`. Called when functions are read; reads no files.

use spec::Bytes;
use spec::inventory::{AcsControls, ConfigAccess, FunctionKind};

/// The most capabilities that fit: the chain starts at 0x40 and each takes at least 4 bytes.
const MAX_CAPABILITIES: usize = 48;
/// The most extended capabilities that fit between 0x100 and 0x1000 with 8 bytes each.
const MAX_EXTENDED: usize = 480;

const HEADER_BYTES: usize = 64;
const STATUS_HAS_CAPABILITIES: u16 = 1 << 4;

const CAP_PCIE: u8 = 0x10;
const CAP_MSIX: u8 = 0x11;

const EXT_SERIAL: u16 = 0x0003;
const EXT_ACS: u16 = 0x000d;
const EXT_SRIOV: u16 = 0x0010;
const EXT_REBAR: u16 = 0x0015;

/// The facts of one configuration space.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ConfigFacts {
    pub(super) access: ConfigAccess,
    pub(super) kind: FunctionKind,
    pub(super) serial: Option<String>,
    pub(super) msix_vectors: Option<u16>,
    pub(super) interrupt_pin: Option<bool>,
    pub(super) acs: Option<AcsControls>,
    pub(super) sriov_total: Option<u16>,
    /// The sizes that Resizable BAR offers, by BAR number.
    pub(super) resizable: Vec<(u8, Vec<Bytes>)>,
    /// What contradicts itself.
    pub(super) doubts: Vec<&'static str>,
}

/// Reads the facts of a configuration space; `class` decides what the header does not say.
pub(super) fn read(config: &[u8], class: u32) -> ConfigFacts {
    let space = Space { bytes: config };
    if config.len() < HEADER_BYTES {
        return ConfigFacts::default();
    }
    if config.iter().all(|byte| *byte == 0xff) {
        return ConfigFacts { access: ConfigAccess::AllOnes, ..ConfigFacts::default() };
    }
    let access = if config.len() > HEADER_BYTES { ConfigAccess::Full } else { ConfigAccess::HeaderOnly };
    let mut facts = ConfigFacts { access, ..ConfigFacts::default() };
    facts.interrupt_pin = space.byte(0x3d).map(|pin| (1..=4).contains(&pin));
    let pcie = read_chain(&space, &mut facts);
    if access == ConfigAccess::Full {
        read_extended(&space, &mut facts);
    }
    facts.kind = kind(space.byte(0x0e).unwrap_or(0), class, pcie, access);
    facts
}

/// The kind from the PCIe device/port type, else from header type and class.
fn kind(header: u8, class: u32, pcie: Option<u16>, access: ConfigAccess) -> FunctionKind {
    let by_class = match class >> 8 {
        0x0600 => Some(FunctionKind::HostBridge),
        0x0601 => Some(FunctionKind::IsaBridge),
        _ => None,
    };
    if let Some(kind) = by_class {
        return kind;
    }
    // PCI Express Capabilities Register, bits 7:4 (section 7.5.3.2).
    match pcie.map(|flags| flags >> 4 & 0xf) {
        Some(0 | 1) => FunctionKind::Endpoint,
        Some(4) => FunctionKind::RootPort,
        Some(5) => FunctionKind::SwitchUpstream,
        Some(6) => FunctionKind::SwitchDownstream,
        Some(7 | 8) => FunctionKind::PcieToPciBridge,
        Some(9 | 10) => FunctionKind::RootComplexEndpoint,
        Some(_) => FunctionKind::Unknown,
        None if header & 0x7f == 1 => FunctionKind::ConventionalBridge,
        // Without the capability chain a PCIe function cannot be told from a conventional one.
        None if access == ConfigAccess::Full => FunctionKind::ConventionalDevice,
        None => FunctionKind::Unknown,
    }
}

/// Walks the capability chain; gives the PCIe flags if there are any.
fn read_chain(space: &Space<'_>, facts: &mut ConfigFacts) -> Option<u16> {
    let has = space.word(0x06).is_some_and(|status| status & STATUS_HAS_CAPABILITIES != 0);
    if facts.access == ConfigAccess::Full {
        facts.msix_vectors = Some(0);
    }
    let mut at = if has { space.byte(0x34)? & !3 } else { 0 };
    let mut pcie = None;
    for _ in 0..MAX_CAPABILITIES {
        if at < 0x40 {
            return pcie;
        }
        let Some(id) = space.byte(at.into()) else { return pcie };
        match id {
            // Table size minus one in bits 10:0 of message control (section 7.7.2.2).
            CAP_MSIX => {
                facts.msix_vectors = space.word(usize::from(at) + 2).map(|control| (control & 0x7ff) + 1)
            }
            CAP_PCIE => pcie = space.word(usize::from(at) + 2),
            _ => {}
        }
        at = space.byte(usize::from(at) + 1).unwrap_or(0) & !3;
    }
    facts.doubts.push("its capability chain does not end");
    pcie
}

/// Walks the extended capabilities.
fn read_extended(space: &Space<'_>, facts: &mut ConfigFacts) {
    facts.acs = Some(AcsControls::default());
    let mut at = 0x100;
    for _ in 0..MAX_EXTENDED {
        let Some(header) = space.long(at).filter(|header| *header != 0 && *header != u32::MAX) else {
            return;
        };
        match (header & 0xffff) as u16 {
            EXT_SERIAL => facts.serial = serial(space, at),
            EXT_ACS => {
                let capable = space.word(at + 4).unwrap_or(0);
                facts.acs =
                    Some(AcsControls { present: true, capable, enabled: space.word(at + 6).unwrap_or(0) });
            }
            EXT_SRIOV => facts.sriov_total = space.word(at + 0x0e),
            EXT_REBAR => facts.resizable = resizable(space, at),
            _ => {}
        }
        let next = (header >> 20) as usize & !3;
        if next == 0 {
            return;
        }
        if next < 0x100 {
            facts.doubts.push("its extended capabilities lead back below 0x100");
            return;
        }
        at = next;
    }
    facts.doubts.push("its extended capabilities do not end");
}

/// The serial number (section 7.9.3), most significant byte first as `lspci` writes it.
fn serial(space: &Space<'_>, at: usize) -> Option<String> {
    let (low, high) = (space.long(at + 4)?, space.long(at + 8)?);
    let number = u64::from(high) << 32 | u64::from(low);
    // Cards whose EEPROM was never written give all zeros or all ones: that identifies nothing.
    if number == 0 || number == u64::MAX {
        return None;
    }
    let pairs: Vec<String> = number.to_be_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    Some(pairs.join("-"))
}

/// The sizes of Resizable BAR (section 7.8.6): bit n + 4 of the capability register means 1 MiB << n.
fn resizable(space: &Space<'_>, at: usize) -> Vec<(u8, Vec<Bytes>)> {
    const MOST_BARS: u32 = 6;
    let count = space.long(at + 8).map_or(0, |control| control >> 5 & 7).min(MOST_BARS);
    let entries = (0..count as usize).filter_map(|entry| {
        let (capable, control) = (space.long(at + 4 + entry * 8)?, space.long(at + 8 + entry * 8)?);
        let sizes =
            (0..28).filter(|bit| capable >> (bit + 4) & 1 == 1).map(|bit| Bytes(1 << (20 + bit))).collect();
        Some(((control & 7) as u8, sizes))
    });
    entries.collect()
}

/// Bytes that are read as little-endian registers; beyond the end there is nothing.
struct Space<'a> {
    bytes: &'a [u8],
}

impl Space<'_> {
    fn byte(&self, at: usize) -> Option<u8> {
        self.bytes.get(at).copied()
    }

    fn word(&self, at: usize) -> Option<u16> {
        Some(u16::from_le_bytes([self.byte(at)?, self.byte(at + 1)?]))
    }

    fn long(&self, at: usize) -> Option<u32> {
        Some(u32::from(self.word(at)?) | u32::from(self.word(at + 2)?) << 16)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A PCIe endpoint with MSI-X at 0x40, PCIe at 0x60 and what `extended` puts in.
    fn endpoint(extended: &[(usize, u32)]) -> Vec<u8> {
        let mut config = vec![0; 4096];
        config[0x06] = 0x10;
        config[0x34] = 0x40;
        config[0x40..0x44].copy_from_slice(&[0x11, 0x60, 0x1f, 0x00]);
        config[0x60..0x64].copy_from_slice(&[0x10, 0x00, 0x02, 0x00]);
        for (at, value) in extended {
            config[*at..*at + 4].copy_from_slice(&value.to_le_bytes());
        }
        config
    }

    #[test]
    fn capabilities_are_found_along_both_chains() {
        let config = endpoint(&[
            (0x100, 0x1500_0000 | 0x1_0003),
            (0x104, 0xffaa_bbcc),
            (0x108, 0x000c_29ff),
            (0x150, 0x1600_0000 | 0x1_000d),
            (0x154, 0x001d_005f),
            (0x160, 0x1700_0000 | 0x1_0010),
            (0x16c, 0x0008_0000),
            (0x170, 0x1_0015),
            (0x174, 0x0000_7f00),
            (0x178, 0x0000_0021),
        ]);
        let facts = read(&config, 0x02_0000);
        assert_eq!(facts.access, ConfigAccess::Full);
        assert_eq!(facts.kind, FunctionKind::Endpoint);
        assert_eq!(facts.msix_vectors, Some(32));
        assert_eq!(facts.serial.as_deref(), Some("00-0c-29-ff-ff-aa-bb-cc"));
        assert_eq!(facts.acs, Some(AcsControls { present: true, capable: 0x5f, enabled: 0x1d }));
        assert!(facts.acs.unwrap().isolates());
        assert_eq!(facts.sriov_total, Some(8));
        let sizes = (4..=10).map(|bit| Bytes::mib(1 << bit)).collect();
        assert_eq!(facts.resizable, [(1, sizes)]);
        assert!(facts.doubts.is_empty());
    }

    #[test]
    fn the_kind_comes_from_port_type_then_header_then_class() {
        for (port, header, class, expected) in [
            (0x42, 1, 0x06_0400, FunctionKind::RootPort),
            (0x52, 1, 0x06_0400, FunctionKind::SwitchUpstream),
            (0x62, 1, 0x06_0400, FunctionKind::SwitchDownstream),
            (0x72, 1, 0x06_0400, FunctionKind::PcieToPciBridge),
            (0x92, 0, 0x04_0300, FunctionKind::RootComplexEndpoint),
            (0x02, 0, 0x06_0000, FunctionKind::HostBridge),
            (0x02, 0, 0x06_0100, FunctionKind::IsaBridge),
        ] {
            let mut config = endpoint(&[]);
            config[0x62] = port;
            config[0x0e] = header;
            assert_eq!(read(&config, class).kind, expected, "{port:#x}");
        }
        let mut plain = vec![0; 256];
        assert_eq!(read(&plain, 0x03_0000).kind, FunctionKind::ConventionalDevice);
        plain[0x0e] = 0x81;
        assert_eq!(read(&plain, 0x06_0400).kind, FunctionKind::ConventionalBridge);
        assert_eq!(read(&[0; 64], 0x03_0000).kind, FunctionKind::Unknown);
    }

    #[test]
    fn a_dead_device_and_a_looping_chain_are_said_to_be_so() {
        assert_eq!(read(&[0xff; 4096], 0).access, ConfigAccess::AllOnes);
        assert_eq!(read(&[], 0).access, ConfigAccess::Unknown);
        let mut looping = endpoint(&[(0x100, 0x1000_0000 | 0x1_0001)]);
        looping[0x61] = 0x40;
        let facts = read(&looping, 0);
        assert_eq!(
            facts.doubts,
            ["its capability chain does not end", "its extended capabilities do not end"]
        );
        assert_eq!(facts.kind, FunctionKind::Endpoint);
    }

    #[test]
    fn a_serial_number_that_was_never_written_is_none() {
        for (low, high) in [(0, 0), (u32::MAX, u32::MAX)] {
            let config = endpoint(&[(0x100, 0x1_0003), (0x104, low), (0x108, high)]);
            assert_eq!(read(&config, 0).serial, None);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_can_stop_the_reader(config in proptest::collection::vec(any::<u8>(), 0..4200), class: u32) {
            let facts = read(&config, class);
            prop_assert!(facts.doubts.len() <= 2);
        }
    }
}
