//! Disk images in the format qcow2 (QEMU docs/interop/qcow2.rst), versions 2 and 3: read and written in place.
//!
//! The whole image is looked over when it is opened, and refused when it contradicts itself: later there is nobody to tell.
//! Not here: backing files, snapshots that are written to, encryption, external data; such images are refused, each with
//! the command that turns it into one of ours. Why this is ours: docs/decisions/0009-qcow2-in-the-machine.md.

mod check;
mod header;
mod refcounts;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use linux::disk::Disk;
use linux::memory::VolatileSlice;

use self::header::{AUTOCLEAR_AT, HEADER_BYTES, Header};
use self::refcounts::Refcounts;
use super::Storage;

/// An image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenImageError {
    /// It does not begin as one.
    #[error("it does not begin as a qcow2 image does; if its bytes are the disk's, say format=raw")]
    NotOne,
    /// A version of the format that we do not know.
    #[error("it is qcow2 of version {0}, and there are 2 and 3")]
    Version(u32),
    /// It says what cannot be.
    #[error("the image is corrupt ({0}); `qemu-img check -r all FILE` may mend it, of a copy first")]
    Corrupt(&'static str),
    /// It stands on another one.
    #[error("the image has a backing file; make one that stands alone (`qemu-img convert -O qcow2 OLD NEW`)")]
    Backing,
    /// A feature that we do not have.
    #[error("the image has {0}; make one without (`qemu-img convert -O qcow2 OLD NEW`)")]
    Unsupported(&'static str),
    /// The file ends before what it says that it has.
    #[error(
        "the image is cut short: its file ends before what its header names; if it was copied or downloaded, do that again"
    )]
    Cut,
    /// It could not be read.
    #[error("read the image: {0}")]
    Read(io::Error),
}

impl From<io::Error> for OpenImageError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Cut,
            _ => Self::Read(error),
        }
    }
}

/// Entries of tables: where in the file, and flags.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const ZERO: u64 = 1 << 0;
const COMPRESSED: u64 = 1 << 62;
const OWN: u64 = 1 << 63;

/// Bytes of tables of the second level that are kept at most; each covers a cluster's eighth of clusters.
const TABLES_LIMIT: usize = 32 << 20;

/// Clusters that wait to be let go of at most while others are taken: a guest that writes and discards without a flush
/// makes the file no longer than the disk and these.
const LET_GO_LIMIT: usize = 1024;

/// An open image.
pub struct Qcow2 {
    file: Arc<Disk>,
    header: Header,
    state: Mutex<State>,
}

struct State {
    l1: Vec<u64>,
    // Entries of the first level that are not in the file yet.
    l1_changed: Vec<usize>,
    tables: BTreeMap<usize, Table>,
    refcounts: Refcounts,
    // Clusters that no entry refers to any more, once the tables are in the file.
    let_go: Vec<u64>,
    // The last cluster that was decompressed: sequential reads want it again.
    inflated: Option<(u64, Vec<u8>)>,
}

/// A table of the second level.
struct Table {
    at: u64,
    entries: Vec<u64>,
    // Entries that are not in the file yet lie in here.
    changed: Range<usize>,
}

/// What an entry says of a cluster.
enum Cluster {
    Zero,
    At(u64),
    Compressed { at: u64, bytes: usize },
}

impl Qcow2 {
    /// Looks an image over and opens it; one that is `read_only` is never changed.
    ///
    /// # Errors
    /// When it is not one, contradicts itself, or needs what we do not have.
    pub fn open(file: Arc<Disk>, read_only: bool) -> Result<Self, OpenImageError> {
        let len = file.len();
        let mut bytes = [0; HEADER_BYTES];
        let present = usize::try_from(len).unwrap_or(usize::MAX).min(HEADER_BYTES);
        read_bytes(&file, 0, bytes.get_mut(..present).unwrap_or_default())?;
        let header = Header::read(&bytes)?;
        if !read_only && header.snapshots != 0 {
            return Err(OpenImageError::Unsupported("snapshots, which a machine would write to"));
        }
        let l1 = read_table(&file, header.l1_at, header.l1_len)?;
        let refcounts = Refcounts::load(&file, &header, len)?;
        check::check(&file, &header, &l1, &refcounts)?;
        if !read_only && header.autoclear != 0 {
            // What it says of the data (bitmaps) is no longer true once we write.
            write_bytes(&file, AUTOCLEAR_AT, &mut [0; 8])?;
        }
        let state = State {
            l1,
            l1_changed: Vec::new(),
            tables: BTreeMap::new(),
            refcounts,
            let_go: Vec::new(),
            inflated: None,
        };
        Ok(Self { file, header, state: Mutex::new(state) })
    }

    /// Cuts a transfer where clusters end: the cluster's number, the place in it, and the parts.
    fn pieces<'p>(&self, offset: u64, parts: &[VolatileSlice<'p>]) -> io::Result<Vec<Piece<'p>>> {
        let mut pieces: Vec<Piece<'p>> = Vec::new();
        let mut at = offset;
        for part in parts {
            let mut rest = *part;
            while !rest.is_empty() {
                let (number, start) = (at >> self.header.cluster_bits, at % self.header.cluster());
                let len = rest.len().min((self.header.cluster() - start) as usize);
                let (this, behind) = rest.split_at(len).map_err(io::Error::other)?;
                match pieces.last_mut().filter(|piece| piece.number == number) {
                    Some(piece) => piece.parts.push(this),
                    None => pieces.push(Piece { number, start, parts: vec![this] }),
                }
                at += len as u64;
                rest = behind;
            }
        }
        if at > self.header.size { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(pieces) }
    }

    fn read_piece(&self, state: &mut State, piece: &Piece<'_>) -> io::Result<()> {
        match self.cluster(state, piece.number)? {
            Cluster::Zero => fill(&piece.parts, |_| 0),
            Cluster::At(at) => return self.read_present(at + piece.start, &piece.parts),
            Cluster::Compressed { at, bytes } => {
                let data = self.inflate(state, at, bytes)?;
                fill(&piece.parts, |index| data.get(piece.start as usize + index).copied().unwrap_or(0));
            }
        }
        Ok(())
    }

    /// Reads a cluster's bytes; the file may end inside of its last one, and what is behind its end is zero.
    fn read_present(&self, at: u64, parts: &[VolatileSlice<'_>]) -> io::Result<()> {
        match self.file.read_at(at, parts) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            read => return read,
        }
        let mut bytes = vec![0; parts.iter().map(VolatileSlice::len).sum()];
        let present = usize::try_from(self.file.len().saturating_sub(at)).unwrap_or(usize::MAX);
        if let Some(present) = bytes.get_mut(..present).filter(|present| !present.is_empty()) {
            read_bytes(&self.file, at, present)?;
        }
        fill(parts, |index| bytes.get(index).copied().unwrap_or(0));
        Ok(())
    }

    fn write_piece(&self, state: &mut State, piece: &Piece<'_>) -> io::Result<()> {
        let old = self.cluster(state, piece.number)?;
        if let Cluster::At(at) = old {
            return self.file.write_at(at + piece.start, &piece.parts);
        }
        if state.let_go.len() >= LET_GO_LIMIT {
            self.settle(state)?;
        }
        let (index, _) = self.place(piece.number);
        self.make_table(state, index)?;
        // What the guest does not write of the cluster is there before anything refers to it.
        let whole = piece.len() == self.header.cluster();
        let mut around = match old {
            Cluster::Compressed { at, bytes } if !whole => self.inflate(state, at, bytes)?.to_vec(),
            _ => vec![0; self.header.cluster() as usize],
        };
        let new = state.refcounts.allocate(&self.file)?;
        let written = if whole { Ok(()) } else { write_bytes(&self.file, new, &mut around) }
            .and_then(|()| self.file.write_at(new + piece.start, &piece.parts));
        if let Err(error) = written {
            // Nothing refers to it, so it can go at once; if that fails as well, it is lost until the image is checked.
            let _ = state.refcounts.release(&self.file, new >> self.header.cluster_bits);
            return Err(error);
        }
        self.set_entry(state, piece.number, new | OWN)
    }

    /// Makes a cluster's entry another one, and lets go of what it referred to.
    fn set_entry(&self, state: &mut State, number: u64, entry: u64) -> io::Result<()> {
        let (index, slot) = self.place(number);
        let Some(table) = self.table(state, index)? else { return Err(corrupt()) };
        let old = std::mem::replace(table.entries.get_mut(slot).ok_or_else(corrupt)?, entry);
        let changed = &mut table.changed;
        *changed = if changed.start == changed.end {
            slot..slot + 1
        } else {
            changed.start.min(slot)..changed.end.max(slot + 1)
        };
        match self.meaning(old) {
            Cluster::Zero => {
                // A cluster kept for later.
                let kept = old & OFFSET;
                if kept != 0 {
                    state.let_go.push(kept >> self.header.cluster_bits);
                }
            }
            Cluster::At(at) => state.let_go.push(at >> self.header.cluster_bits),
            Cluster::Compressed { at, bytes } => {
                let last = (at + bytes as u64 - 1) >> self.header.cluster_bits;
                state.let_go.extend(at >> self.header.cluster_bits..=last);
            }
        }
        Ok(())
    }

    /// Makes sure that there is a table of the second level at `index`.
    fn make_table(&self, state: &mut State, index: usize) -> io::Result<()> {
        if self.table(state, index)?.is_some() {
            return Ok(());
        }
        self.make_room(state)?;
        let at = state.refcounts.allocate(&self.file)?;
        // Its place on the disk is taken now, so that a full one fails this write and not the flush behind it.
        if let Err(error) = write_bytes(&self.file, at, &mut vec![0; self.header.cluster() as usize]) {
            // As with a cluster of data.
            let _ = state.refcounts.release(&self.file, at >> self.header.cluster_bits);
            return Err(error);
        }
        *state.l1.get_mut(index).ok_or_else(corrupt)? = at | OWN;
        state.l1_changed.push(index);
        state.tables.insert(index, Table { at, entries: vec![0; self.header.entries()], changed: 0..0 });
        Ok(())
    }

    fn cluster(&self, state: &mut State, number: u64) -> io::Result<Cluster> {
        let (index, slot) = self.place(number);
        let Some(table) = self.table(state, index)? else { return Ok(Cluster::Zero) };
        Ok(self.meaning(table.entries.get(slot).copied().unwrap_or(0)))
    }

    fn meaning(&self, entry: u64) -> Cluster {
        meaning(&self.header, entry)
    }

    /// The table of the second level at `index`, read when it is wanted; `None` when there is none.
    fn table<'s>(&self, state: &'s mut State, index: usize) -> io::Result<Option<&'s mut Table>> {
        if !state.tables.contains_key(&index) {
            let at = state.l1.get(index).copied().unwrap_or(0) & OFFSET;
            if at == 0 {
                return Ok(None);
            }
            self.make_room(state)?;
            let entries = read_table(&self.file, at, self.header.entries())?;
            state.tables.insert(index, Table { at, entries, changed: 0..0 });
        }
        Ok(state.tables.get_mut(&index))
    }

    /// Makes room for one more table of the second level in memory.
    fn make_room(&self, state: &mut State) -> io::Result<()> {
        if state.tables.len() * self.header.cluster() as usize >= TABLES_LIMIT {
            self.settle(state)?;
            state.tables.clear();
        }
        Ok(())
    }

    /// Where a cluster's entry is: the table, and the place in it.
    fn place(&self, number: u64) -> (usize, usize) {
        let entries = self.header.entries() as u64;
        ((number / entries) as usize, (number % entries) as usize)
    }

    fn inflate<'s>(&self, state: &'s mut State, at: u64, bytes: usize) -> io::Result<&'s [u8]> {
        if state.inflated.as_ref().is_none_or(|(known, _)| *known != at) {
            // The last sector may reach past the file's end.
            let bytes = bytes.min(usize::try_from(self.file.len().saturating_sub(at)).unwrap_or(usize::MAX));
            let mut packed = vec![0; bytes];
            read_bytes(&self.file, at, &mut packed)?;
            let mut data = vec![0; self.header.cluster() as usize];
            let inflated = miniz_oxide::inflate::decompress_slice_iter_to_slice(
                &mut data,
                std::iter::once(&packed[..]),
                false,
                true,
            );
            if inflated != Ok(data.len()) {
                return Err(corrupt());
            }
            state.inflated = Some((at, data));
        }
        Ok(state.inflated.as_ref().map(|(_, data)| data.as_slice()).unwrap_or_default())
    }

    /// Makes everything last, in the order in which nothing refers to what is not there.
    fn settle(&self, state: &mut State) -> io::Result<()> {
        // Data and reference counts.
        self.file.flush()?;
        let changed = state.tables.values_mut().filter(|table| !table.changed.is_empty());
        let (mut tables, first) = (0, !state.l1_changed.is_empty());
        for table in changed {
            let entries = table.entries.get(table.changed.clone()).unwrap_or_default();
            let mut bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.to_be_bytes()).collect();
            write_bytes(&self.file, table.at + table.changed.start as u64 * 8, &mut bytes)?;
            tables += 1;
            table.changed = 0..0;
        }
        if tables > 0 || first {
            self.file.flush()?;
        }
        while let Some(index) = state.l1_changed.last().copied() {
            let entry = state.l1.get(index).copied().unwrap_or(0);
            write_bytes(&self.file, self.header.l1_at + index as u64 * 8, &mut entry.to_be_bytes())?;
            state.l1_changed.pop();
        }
        if first {
            self.file.flush()?;
        }
        // Nothing on the disk refers to these now.
        for cluster in std::mem::take(&mut state.let_go) {
            state.inflated = None;
            state.refcounts.release(&self.file, cluster)?;
        }
        Ok(())
    }

    /// A transfer that panicked has been reported; what it has changed so far is whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A part of a transfer inside one cluster.
struct Piece<'p> {
    number: u64,
    start: u64,
    parts: Vec<VolatileSlice<'p>>,
}

impl Piece<'_> {
    fn len(&self) -> u64 {
        self.parts.iter().map(|part| part.len() as u64).sum()
    }
}

impl Storage for Arc<Qcow2> {
    fn len(&self) -> u64 {
        self.header.size
    }

    fn read_at(&self, offset: u64, parts: &[VolatileSlice<'_>]) -> io::Result<()> {
        let state = &mut *self.lock();
        self.pieces(offset, parts)?.iter().try_for_each(|piece| self.read_piece(state, piece))
    }

    fn write_at(&self, offset: u64, parts: &[VolatileSlice<'_>]) -> io::Result<()> {
        let state = &mut *self.lock();
        self.pieces(offset, parts)?.iter().try_for_each(|piece| self.write_piece(state, piece))
    }

    fn flush(&self) -> io::Result<()> {
        self.settle(&mut self.lock())
    }

    /// Whole clusters in the range are given back; the rest stays as it is.
    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        let cluster = self.header.cluster();
        let end = offset.saturating_add(len).min(self.header.size) / cluster;
        let state = &mut *self.lock();
        let mut number = offset.div_ceil(cluster);
        while number < end {
            let (index, slot) = self.place(number);
            let Some(table) = self.table(state, index)? else {
                // Nothing of what it would cover is there.
                number = (index as u64 + 1) * self.header.entries() as u64;
                continue;
            };
            if table.entries.get(slot).is_some_and(|entry| *entry != 0) {
                self.set_entry(state, number, 0)?;
            }
            number += 1;
        }
        Ok(())
    }
}

impl Drop for Qcow2 {
    /// What the guest had not flushed is kept where that is possible.
    fn drop(&mut self) {
        let changed = {
            let state = self.lock();
            !state.l1_changed.is_empty() || state.tables.values().any(|table| !table.changed.is_empty())
        };
        if changed {
            let _ = self.settle(&mut self.lock());
        }
    }
}

impl std::fmt::Debug for Qcow2 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Qcow2").field("header", &self.header).finish_non_exhaustive()
    }
}

fn meaning(header: &Header, entry: u64) -> Cluster {
    if entry & COMPRESSED != 0 {
        // The offset takes the lower bits, and the number of sectors behind the first one the others.
        let bits = 62 - (header.cluster_bits - 8);
        let at = entry & ((1 << bits) - 1);
        let sectors = (entry & (COMPRESSED - 1)) >> bits;
        return Cluster::Compressed { at, bytes: ((sectors + 1) * 512 - at % 512) as usize };
    }
    match entry & OFFSET {
        0 => Cluster::Zero,
        _ if entry & ZERO != 0 => Cluster::Zero,
        at => Cluster::At(at),
    }
}

fn fill(parts: &[VolatileSlice<'_>], byte: impl Fn(usize) -> u8) {
    let mut done = 0;
    for part in parts {
        let bytes: Vec<u8> = (done..done + part.len()).map(&byte).collect();
        part.copy_from(&bytes);
        done += part.len();
    }
}

/// The guest hears of an I/O error.
fn corrupt() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

fn read_bytes(file: &Disk, at: u64, bytes: &mut [u8]) -> io::Result<()> {
    file.read_at(at, &[VolatileSlice::from(bytes)])
}

fn write_bytes(file: &Disk, at: u64, bytes: &mut [u8]) -> io::Result<()> {
    file.write_at(at, &[VolatileSlice::from(bytes)])
}

/// A table of 64-bit entries.
fn read_table(file: &Disk, at: u64, len: usize) -> io::Result<Vec<u64>> {
    let mut bytes = vec![0; len * 8];
    read_bytes(file, at, &mut bytes)?;
    Ok(bytes.as_chunks::<8>().0.iter().map(|entry| u64::from_be_bytes(*entry)).collect())
}
