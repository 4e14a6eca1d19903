//! Which clusters of the file are in use: reference counts of 16 bits, in blocks that a table names.
//!
//! A cluster is counted before anything refers to it, and let go of only after nothing on the disk does any more: whatever
//! ends in between leaves a cluster that nobody uses, and never one that two use.

use std::io;

use linux::disk::Disk;

use super::header::Header;
use super::{OpenImageError, corrupt, read_bytes, read_table, write_bytes};

/// Blocks of counts beyond those that the file's length asks for, at most: who makes them ahead makes few. All are kept in
/// memory, and a file can name a million.
const BLOCKS_BEYOND: u64 = 16;

/// Clusters that are remembered as free at most; when those are used up, the counts are looked through for others.
const FREE_LIMIT: usize = 1 << 16;

/// The counts, as they are in the file.
pub(super) struct Refcounts {
    table_at: u64,
    cluster_bits: u32,
    per_block: usize,
    /// Where the blocks are, and what is in them; nothing where there is none.
    blocks: Vec<Option<(u64, Vec<u8>)>>,
    /// Clusters in front of `next` that nobody uses, and whether there may be more of them than these.
    free: Vec<u64>,
    more_free: bool,
    /// The first cluster behind all those in use.
    next: u64,
}

impl Refcounts {
    /// Reads all of them. `len` is the file's length.
    pub(super) fn load(file: &Disk, header: &Header, len: u64) -> Result<Self, OpenImageError> {
        let table = read_table(file, header.refcounts_at, header.refcounts_len)?;
        let blocks = table.iter().filter(|at| **at != 0).count() as u64;
        if blocks > len.div_ceil(header.cluster()).div_ceil(header.counts() as u64) + BLOCKS_BEYOND {
            return Err(OpenImageError::Corrupt(
                "it has more reference counts than its file has clusters for",
            ));
        }
        let mut counts = Self {
            table_at: header.refcounts_at,
            cluster_bits: header.cluster_bits,
            per_block: header.counts(),
            blocks: Vec::new(),
            free: Vec::new(),
            // Those that were let go of when the image was open before.
            more_free: true,
            next: 0,
        };
        for at in table {
            if at == 0 {
                counts.blocks.push(None);
                continue;
            }
            if !at.is_multiple_of(header.cluster()) || at.saturating_add(header.cluster()) > len {
                return Err(OpenImageError::Corrupt("a block of reference counts is not in it"));
            }
            let mut block = vec![0; header.cluster() as usize];
            read_bytes(file, at, &mut block)?;
            counts.blocks.push(Some((at, block)));
        }
        counts.next = counts.last_used().map_or(0, |last| last + 1);
        Ok(counts)
    }

    /// A table may have room for a million blocks, and most images have few: what is not there is passed by.
    fn last_used(&self) -> Option<u64> {
        self.blocks.iter().enumerate().rev().find_map(|(index, block)| {
            let (_, counts) = block.as_ref()?;
            let last = counts.as_chunks::<2>().0.iter().rposition(|count| *count != [0; 2])?;
            Some((index * self.per_block + last) as u64)
        })
    }

    /// Where the blocks are.
    pub(super) fn block_places(&self) -> impl Iterator<Item = u64> {
        self.blocks.iter().flatten().map(|(at, _)| *at)
    }

    /// How many clusters can be counted.
    pub(super) fn capacity(&self) -> u64 {
        (self.blocks.len() * self.per_block) as u64
    }

    /// How often a cluster is referred to.
    pub(super) fn count(&self, cluster: u64) -> u16 {
        let block = self.blocks.get((cluster / self.per_block as u64) as usize).and_then(Option::as_ref);
        let Some((_, block)) = block else { return 0 };
        let at = (cluster % self.per_block as u64) as usize * 2;
        match block.get(at..at + 2) {
            Some([high, low]) => u16::from_be_bytes([*high, *low]),
            _ => 0,
        }
    }

    /// A cluster of the file that nobody uses, counted once; gives where it is.
    pub(super) fn allocate(&mut self, file: &Disk) -> io::Result<u64> {
        if self.free.is_empty() && self.more_free {
            self.find_free();
        }
        if let Some(cluster) = self.free.last().copied() {
            self.set(file, cluster, 1)?;
            self.free.pop();
            return Ok(cluster << self.cluster_bits);
        }
        // A cluster that no block counts yet becomes that block, and the next one is taken.
        loop {
            let cluster = self.next;
            let index = (cluster / self.per_block as u64) as usize;
            let place = self.blocks.get(index).ok_or(io::ErrorKind::StorageFull)?;
            if place.is_some() {
                self.set(file, cluster, 1)?;
                self.next += 1;
                return Ok(cluster << self.cluster_bits);
            }
            self.add_block(file, index, cluster)?;
            self.next += 1;
        }
    }

    /// Looks for clusters in front of `next` that nobody uses.
    fn find_free(&mut self) {
        let per_block = self.per_block as u64;
        let blocks = self.blocks.iter().zip((0..).step_by(self.per_block));
        let counts = blocks.filter_map(|(block, first)| Some((block.as_ref()?.1.as_chunks::<2>().0, first)));
        let free = counts.flat_map(|(counts, first)| {
            (first..first + per_block).zip(counts).filter(|(_, count)| **count == [0; 2])
        });
        let free = free.map(|(cluster, _)| cluster).take_while(|cluster| *cluster < self.next);
        self.free = free.take(FREE_LIMIT).collect();
        self.more_free = self.free.len() == FREE_LIMIT;
        // The first one is used first, so that the file stays short.
        self.free.reverse();
    }

    fn add_block(&mut self, file: &Disk, index: usize, cluster: u64) -> io::Result<()> {
        let at = cluster << self.cluster_bits;
        let mut block = vec![0; 1 << self.cluster_bits];
        let own = (cluster % self.per_block as u64) as usize * 2;
        if let Some(count) = block.get_mut(own..own + 2) {
            count.copy_from_slice(&1_u16.to_be_bytes());
        }
        write_bytes(file, at, &mut block)?;
        // The table must not name what is not there yet.
        file.flush()?;
        write_bytes(file, self.table_at + index as u64 * 8, &mut at.to_be_bytes())?;
        if let Some(place) = self.blocks.get_mut(index) {
            *place = Some((at, block));
        }
        Ok(())
    }

    /// Lets go of a cluster once.
    pub(super) fn release(&mut self, file: &Disk, cluster: u64) -> io::Result<()> {
        let left = self.count(cluster).checked_sub(1).ok_or_else(corrupt)?;
        self.set(file, cluster, left)?;
        if left == 0 {
            file.discard(cluster << self.cluster_bits, 1 << self.cluster_bits)?;
            match self.free.len() < FREE_LIMIT {
                true => self.free.push(cluster),
                false => self.more_free = true,
            }
        }
        Ok(())
    }

    fn set(&mut self, file: &Disk, cluster: u64, count: u16) -> io::Result<()> {
        let index = (cluster / self.per_block as u64) as usize;
        let (at, block) = self.blocks.get_mut(index).and_then(Option::as_mut).ok_or_else(corrupt)?;
        let offset = (cluster % self.per_block as u64) as usize * 2;
        let mut bytes = count.to_be_bytes();
        write_bytes(file, *at + offset as u64, &mut bytes)?;
        if let Some(place) = block.get_mut(offset..offset + 2) {
            place.copy_from_slice(&bytes);
        }
        Ok(())
    }
}
