//! What the controller and its namespace say of themselves (NVM Express 1.4, sections 5.14 and 5.15), as bytes. Pure.

/// Bytes of every structure here.
pub(super) const PAGE: usize = 4096;
/// A block on the disk, as a power of two of bytes.
pub(super) const BLOCK_BITS: u32 = 9;
/// What one command moves at most, as a power of two of pages: 1 MiB.
const TRANSFER_PAGES: u8 = 8;
/// Requests to be told of events that may wait, less one.
pub(super) const EVENT_REQUESTS: u8 = 3;

const VERSION: u32 = 0x0001_0400;
const VENDOR: u16 = 0x1b36;
const SUBSYSTEM_VENDOR: u16 = 0x1af4;

/// What the disk is.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// Its name among the machine's, which is its serial number.
    pub(super) name: String,
    /// Its number among the machine's.
    pub(super) number: u8,
    pub(super) blocks: u64,
    pub(super) read_only: bool,
}

fn page(fields: &[(usize, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; PAGE];
    for (at, field) in fields {
        for (place, byte) in bytes.iter_mut().skip(*at).zip(*field) {
            *place = *byte;
        }
    }
    bytes
}

fn letters(text: &str, len: usize) -> Vec<u8> {
    text.bytes().chain(std::iter::repeat(b' ')).take(len).collect()
}

/// The controller (figure 247).
pub(super) fn controller(facts: &Facts) -> Vec<u8> {
    let name = format!("nqn.2014-08.org.nvmexpress:allod:{}", facts.name);
    page(&[
        (0, &VENDOR.to_le_bytes()),
        (2, &SUBSYSTEM_VENDOR.to_le_bytes()),
        (4, &letters(&facts.name, 20)),
        (24, &letters("Allod NVMe", 40)),
        (64, &letters("1.0", 8)),
        (72, &[6]),
        (77, &[TRANSFER_PAGES]),
        (80, &VERSION.to_le_bytes()),
        // An I/O controller.
        (111, &[1]),
        (258, &[3]),
        (259, &[EVENT_REQUESTS]),
        // One slot of firmware, which is only read.
        (260, &[0x03]),
        // Temperatures that worry, in kelvin.
        (266, &343_u16.to_le_bytes()),
        (268, &373_u16.to_le_bytes()),
        // Commands of 64 bytes, answers of 16.
        (512, &[0x66]),
        (513, &[0x44]),
        (516, &1_u32.to_le_bytes()),
        // Ranges can be given back, and written with zeros.
        (520, &0x000c_u16.to_le_bytes()),
        // A cache that can be flushed, for all namespaces at once as well.
        (525, &[0x07]),
        (768, name.as_bytes()),
        // 25 W in the one power state.
        (2048, &2500_u16.to_le_bytes()),
    ])
}

/// The namespace (figure 245).
pub(super) fn namespace(facts: &Facts) -> Vec<u8> {
    let size = facts.blocks.to_le_bytes();
    page(&[
        (0, &size),
        (8, &size),
        (16, &size),
        // Blocks that were given back read as zeros.
        (33, &[0x01]),
        (99, &[u8::from(facts.read_only)]),
        (120, &unique(facts)),
        (128, &(BLOCK_BITS << 16).to_le_bytes()),
    ])
}

/// The namespaces after `after`, of which there is number 1 alone.
pub(super) fn namespaces(after: u32) -> Vec<u8> {
    page(&[(0, &u32::from(after < 1).to_le_bytes())])
}

/// By what the namespace is known (figure 246): its unique number.
pub(super) fn descriptors(facts: &Facts) -> Vec<u8> {
    page(&[(0, &[1, 8]), (4, &unique(facts))])
}

/// The health page (figure 194): nothing is wrong with it.
pub(super) fn health() -> Vec<u8> {
    // 27 degrees; all of the spare blocks, of which a tenth is worrying.
    page(&[(1, &300_u16.to_le_bytes()), (3, &[100, 10])])
}

/// The firmware page (figure 195).
pub(super) fn firmware() -> Vec<u8> {
    page(&[(0, &[1]), (8, &letters("1.0", 8))])
}

/// An EUI-64, locally administered, different for the disks of one machine.
fn unique(facts: &Facts) -> [u8; 8] {
    [0x52, 0x54, 0x00, 0xff, 0xfe, 0x00, 0x00, facts.number]
}
