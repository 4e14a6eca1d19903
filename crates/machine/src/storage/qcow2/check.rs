//! Looks a whole image over: everything referred to lies in the file, is counted, and belongs to one place alone.

use linux::disk::Disk;

use super::header::Header;
use super::refcounts::Refcounts;
use super::{Cluster, OFFSET, OpenImageError, ZERO, meaning, read_table};

/// Clusters of the file that are taken, a bit each.
struct Taken<'a> {
    bits: Vec<u64>,
    header: &'a Header,
    refcounts: &'a Refcounts,
    end: u64,
}

/// Checks the tables of an image.
pub(super) fn check(
    file: &Disk,
    header: &Header,
    l1: &[u64],
    refcounts: &Refcounts,
) -> Result<(), OpenImageError> {
    // Every cluster of the disk, the tables for them, and the counts of all that.
    let clusters = header.size.div_ceil(header.cluster());
    let needed = clusters + clusters / header.entries() as u64 + l1.len() as u64;
    if refcounts.capacity() < needed + needed / 16 {
        return Err(OpenImageError::Unsupported("too small a table of reference counts to be filled"));
    }
    let end = file.len().div_ceil(header.cluster());
    let bits = vec![0; (end / 64 + 1) as usize];
    let mut taken = Taken { bits, header, refcounts, end };
    taken.take(0, 1)?;
    taken.take(header.l1_at, (l1.len() as u64 * 8).div_ceil(header.cluster()))?;
    taken.take(header.refcounts_at, (header.refcounts_len as u64 * 8).div_ceil(header.cluster()))?;
    for block in refcounts.block_places() {
        taken.take(block, 1)?;
    }
    for table in l1.iter().map(|entry| entry & OFFSET).filter(|at| *at != 0) {
        taken.take(table, 1)?;
        for entry in read_table(file, table, header.entries())? {
            match meaning(header, entry) {
                Cluster::Zero if entry & ZERO == 0 || entry & OFFSET == 0 => {}
                Cluster::Zero => taken.take(entry & OFFSET, 1)?,
                Cluster::At(at) => taken.take(at, 1)?,
                Cluster::Compressed { at, bytes } => taken.has(at, bytes as u64)?,
            }
        }
    }
    Ok(())
}

impl Taken<'_> {
    /// Takes `count` clusters from `at` for one place alone.
    fn take(&mut self, at: u64, count: u64) -> Result<(), OpenImageError> {
        let corrupt = |what| Err(OpenImageError::Corrupt(what));
        if !at.is_multiple_of(self.header.cluster()) {
            return corrupt("a table refers to the middle of a cluster");
        }
        let first = at >> self.header.cluster_bits;
        for cluster in first..first.saturating_add(count) {
            if cluster >= self.end {
                return corrupt("a table refers to what is not in the file");
            }
            if self.refcounts.count(cluster) != 1 && self.header.snapshots == 0 {
                return corrupt("a cluster's reference count is not true");
            }
            let Some(bits) = self.bits.get_mut((cluster / 64) as usize) else { continue };
            let bit = 1 << (cluster % 64);
            // Snapshots share clusters with the disk, and the disk none with itself: so each table is read once.
            if *bits & bit != 0 {
                return corrupt("two places have one cluster");
            }
            *bits |= bit;
        }
        Ok(())
    }

    /// Whether the bytes lie in the file and are counted; packed data shares its clusters.
    fn has(&self, at: u64, bytes: u64) -> Result<(), OpenImageError> {
        let last = at.saturating_add(bytes - 1) >> self.header.cluster_bits;
        for cluster in at >> self.header.cluster_bits..=last {
            if cluster >= self.end || self.refcounts.count(cluster) == 0 {
                return Err(OpenImageError::Corrupt("packed data is not in the file, or not counted"));
            }
        }
        Ok(())
    }
}
