//! The header of a qcow2 image (QEMU docs/interop/qcow2.rst): what it says, and why an image is refused. Pure.

use super::OpenImageError as Error;

const MAGIC: &[u8; 4] = b"QFI\xfb";
/// Bytes of the part that every version has.
pub(super) const HEADER_BYTES: usize = 104;
/// Where features that end with the first writer are.
pub(super) const AUTOCLEAR_AT: u64 = 88;

/// Incompatible features.
const DIRTY: u64 = 1 << 0;
const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA: u64 = 1 << 2;
const COMPRESSION_TYPE: u64 = 1 << 3;
const EXTENDED_ENTRIES: u64 = 1 << 4;

/// Clusters are from 512 bytes to 2 MiB large.
const CLUSTER_BITS: std::ops::RangeInclusive<u32> = 9..=21;
/// Bytes of a first-level table, and of a refcount table, at most (QEMU block/qcow2.h: QCOW_MAX_L1_SIZE,
/// QCOW_MAX_REFTABLE_SIZE).
const TABLE_LIMIT: u64 = 32 << 20;
const REFCOUNT_TABLE_LIMIT: u64 = 8 << 20;
/// References are counted in 16 bits, which is what everything makes.
const REFCOUNT_ORDER: u32 = 4;

/// What an image is made of. Offsets and sizes are bytes of the file, unless they say otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) cluster_bits: u32,
    /// Bytes of the disk.
    pub(super) size: u64,
    pub(super) l1_at: u64,
    /// Entries.
    pub(super) l1_len: usize,
    pub(super) refcounts_at: u64,
    /// Entries.
    pub(super) refcounts_len: usize,
    pub(super) snapshots: u32,
    /// Features that a writer who does not know them must clear.
    pub(super) autoclear: u64,
}

impl Header {
    /// Reads a header, or says why it is none of ours.
    pub(super) fn read(bytes: &[u8; HEADER_BYTES]) -> Result<Self, Error> {
        let long = |at: usize| {
            let mut value = [0; 4];
            value.copy_from_slice(bytes.get(at..at + 4).unwrap_or(&[0; 4]));
            u32::from_be_bytes(value)
        };
        let quad = |at: usize| u64::from(long(at)) << 32 | u64::from(long(at + 4));
        let corrupt = |what| Err(Error::Corrupt(what));
        if !bytes.starts_with(MAGIC) {
            return Err(Error::NotOne);
        }
        let incompatible = match long(4) {
            2 => 0,
            3 => quad(72),
            version => return Err(Error::Version(version)),
        };
        for (bit, what) in [
            (EXTERNAL_DATA, "its data in another file"),
            (EXTENDED_ENTRIES, "parts of clusters (extended_l2)"),
            (COMPRESSION_TYPE, "a compression other than zlib"),
            (
                !(DIRTY | CORRUPT | EXTERNAL_DATA | EXTENDED_ENTRIES | COMPRESSION_TYPE),
                "features of a later version",
            ),
        ] {
            if incompatible & bit != 0 {
                return Err(Error::Unsupported(what));
            }
        }
        if quad(8) != 0 {
            return Err(Error::Backing);
        }
        if long(32) != 0 {
            return Err(Error::Unsupported("encryption"));
        }
        if incompatible & DIRTY != 0 {
            return corrupt("it was not closed, so its reference counts are not true");
        }
        if incompatible & CORRUPT != 0 {
            return corrupt("it is marked as corrupt");
        }
        if long(4) == 3 && long(96) != REFCOUNT_ORDER {
            return Err(Error::Unsupported("reference counts that are not of 16 bits"));
        }
        let cluster_bits = long(20);
        if !CLUSTER_BITS.contains(&cluster_bits) {
            return corrupt("its clusters are of no size that there is");
        }
        let header = Self {
            cluster_bits,
            size: quad(24),
            l1_at: quad(40),
            l1_len: long(36) as usize,
            refcounts_at: quad(48),
            refcounts_len: (u64::from(long(56)) << cluster_bits >> 3) as usize,
            snapshots: long(60),
            autoclear: if long(4) == 3 { quad(88) } else { 0 },
        };
        header.check()?;
        Ok(header)
    }

    fn check(&self) -> Result<(), Error> {
        let corrupt = |what| Err(Error::Corrupt(what));
        let cluster = self.cluster();
        // A table of the second level covers a cluster's worth of entries of 8 bytes.
        let covered = (self.l1_len as u64).checked_shl(2 * self.cluster_bits - 3).unwrap_or(u64::MAX);
        let covered_all =
            covered >> (2 * self.cluster_bits - 3) != self.l1_len as u64 || covered >= self.size;
        if self.l1_len as u64 * 8 > TABLE_LIMIT || !covered_all || self.size > 1 << 56 {
            return corrupt("its first table does not fit its size");
        }
        if self.refcounts_len == 0 || self.refcounts_len as u64 * 8 > REFCOUNT_TABLE_LIMIT {
            return corrupt("its table of reference counts is of no size that there is");
        }
        for table in [self.l1_at, self.refcounts_at] {
            if table == 0 || !table.is_multiple_of(cluster) {
                return corrupt("its tables do not begin at clusters");
            }
        }
        Ok(())
    }

    /// Bytes of a cluster.
    pub(super) fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Entries of a table of the second level.
    pub(super) fn entries(&self) -> usize {
        1 << (self.cluster_bits - 3)
    }

    /// Clusters that a block of reference counts covers.
    pub(super) fn counts(&self) -> usize {
        1 << (self.cluster_bits - 1)
    }
}
