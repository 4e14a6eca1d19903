//! The SMBIOS tables: who made the machine, what it is called, its processors and memory (SMBIOS 3.0, DMTF DSP0134).
//!
//! One set of structures for both ways to start: placed in memory for a kernel without firmware, else handed to the
//! firmware, which writes type 0, the one that is about itself.

mod structure;
mod structures;

/// What the tables say.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The machine's name: its serial number, and what its UUID is made of.
    pub name: &'a str,
    /// Number of vCPUs.
    pub cpus: usize,
    /// Bytes of RAM.
    pub ram_size: u64,
}

/// Bytes of the entry point, section 5.2.2 of the specification.
const ENTRY_LEN: u8 = 0x18;
/// The version that the structures are written by.
const VERSION: [u8; 2] = [3, 0];

/// The entry point and the structures for firmware, which places them and writes their address.
pub fn for_firmware(facts: &Facts<'_>) -> (Vec<u8>, Vec<u8>) {
    let structures = structures::all(facts, false);
    (entry_point(&structures, 0), structures)
}

/// The entry point and the structures behind it, to be placed at `address`, a multiple of 16 from 0xF0000 on.
pub fn at(facts: &Facts<'_>, address: u64) -> Vec<u8> {
    let structures = structures::all(facts, true);
    let start = address + u64::from(ENTRY_LEN).next_multiple_of(16);
    let mut bytes = entry_point(&structures, start);
    bytes.resize((start - address) as usize, 0);
    bytes.extend(structures);
    bytes
}

fn entry_point(structures: &[u8], address: u64) -> Vec<u8> {
    let mut entry = b"_SM3_".to_vec();
    let [major, minor] = VERSION;
    // Checksum, length, version, revision of the specification's text and of the entry point, reserved.
    entry.extend([0, ENTRY_LEN, major, minor, 0, 1, 0]);
    entry.extend((structures.len() as u32).to_le_bytes());
    entry.extend(address.to_le_bytes());
    let sum = entry.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    if let Some(checksum) = entry.get_mut(5) {
        *checksum = sum.wrapping_neg();
    }
    entry
}

#[cfg(test)]
mod tests;
