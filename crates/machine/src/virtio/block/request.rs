//! A block request taken apart (section 5.2.6): what it asks for, if a disk of this size can do it at all.
//!
//! Pure: it decides, and `Block` does.

use std::ops::Range;

use super::super::Broken;
use super::{DISCARD_RANGES, DISCARD_SECTORS, NAME_BYTES, SECTOR, TRANSFER_LIMIT};
use crate::parts::Parts;

/// Request types.
const READ: u32 = 0;
const WRITE: u32 = 1;
const FLUSH: u32 = 4;
const IDENTIFY: u32 = 8;
const DISCARD: u32 = 11;

const HEADER_BYTES: u64 = 16;
const RANGE_BYTES: u64 = 16;

/// The answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// Done.
    Ok,
    /// Not done, or not possible.
    Error,
    /// There is no such request.
    Unsupported,
}

impl Status {
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Error => 1,
            Self::Unsupported => 2,
        }
    }
}

/// The first bytes of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    kind: u32,
    sector: u64,
}

/// Something that can be done. Offsets are bytes.
pub(super) enum Task<'m> {
    Read { offset: u64, to: Parts<'m> },
    Write { offset: u64, from: Parts<'m> },
    Flush,
    Discard(Vec<Range<u64>>),
    Identify { to: Parts<'m> },
}

impl Task<'_> {
    /// Bytes of data that it writes to the guest when it goes well.
    pub(super) fn written(&self) -> u64 {
        match self {
            Self::Read { to, .. } => to.len(),
            Self::Identify { .. } => NAME_BYTES as u64,
            Self::Write { .. } | Self::Flush | Self::Discard(_) => 0,
        }
    }
}

impl Header {
    /// Reads the header off; gives what the driver wrote after it.
    ///
    /// # Errors
    /// When it is cut short.
    pub(super) fn read(readable: Parts<'_>) -> Result<(Self, Parts<'_>), Broken> {
        let (header, rest) = readable.split_at(HEADER_BYTES).ok_or(Broken::Request)?;
        let mut bytes = [0; HEADER_BYTES as usize];
        header.read(&mut bytes);
        let [k0, k1, k2, k3, _, _, _, _, s0, s1, s2, s3, s4, s5, s6, s7] = bytes;
        let kind = u32::from_le_bytes([k0, k1, k2, k3]);
        Ok((Self { kind, sector: u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]) }, rest))
    }

    /// What it asks of a disk of `sectors`: from `from`, or into `to`.
    ///
    /// # Errors
    /// The answer to a request that is not to be carried out.
    pub(super) fn task<'m>(
        &self,
        from: Parts<'m>,
        to: Parts<'m>,
        sectors: u64,
        read_only: bool,
    ) -> Result<Task<'m>, Status> {
        match self.kind {
            WRITE | DISCARD if read_only => Err(Status::Error),
            READ => Ok(Task::Read { offset: self.transfer(to.len(), sectors)?, to }),
            WRITE => Ok(Task::Write { offset: self.transfer(from.len(), sectors)?, from }),
            FLUSH => Ok(Task::Flush),
            IDENTIFY if to.len() >= NAME_BYTES as u64 => Ok(Task::Identify { to }),
            IDENTIFY => Err(Status::Error),
            DISCARD => Ok(Task::Discard(ranges(from, sectors)?)),
            _ => Err(Status::Unsupported),
        }
    }

    /// The byte at which a transfer starts.
    fn transfer(&self, len: u64, sectors: u64) -> Result<u64, Status> {
        let whole = len.is_multiple_of(SECTOR) && len <= TRANSFER_LIMIT;
        if !whole || !within(self.sector, len / SECTOR, sectors) {
            return Err(Status::Error);
        }
        Ok(self.sector * SECTOR)
    }
}

/// The ranges of a discard request, in bytes.
fn ranges(mut from: Parts<'_>, sectors: u64) -> Result<Vec<Range<u64>>, Status> {
    let count = from.len() / RANGE_BYTES;
    if !from.len().is_multiple_of(RANGE_BYTES) || count == 0 || count > DISCARD_RANGES.into() {
        return Err(Status::Error);
    }
    let mut ranges = Vec::new();
    for _ in 0..count {
        let (range, rest) = from.split_at(RANGE_BYTES).ok_or(Status::Error)?;
        from = rest;
        let mut bytes = [0; RANGE_BYTES as usize];
        range.read(&mut bytes);
        let [s0, s1, s2, s3, s4, s5, s6, s7, c0, c1, c2, c3, f0, f1, f2, f3] = bytes;
        let sector = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
        let count = u32::from_le_bytes([c0, c1, c2, c3]);
        // The one flag there is belongs to another request (section 5.2.6.2).
        if u32::from_le_bytes([f0, f1, f2, f3]) != 0 {
            return Err(Status::Unsupported);
        }
        if count > DISCARD_SECTORS || !within(sector, count.into(), sectors) {
            return Err(Status::Error);
        }
        if count > 0 {
            ranges.push(sector * SECTOR..(sector + u64::from(count)) * SECTOR);
        }
    }
    Ok(ranges)
}

fn within(sector: u64, count: u64, sectors: u64) -> bool {
    sector.checked_add(count).is_some_and(|end| end <= sectors)
}
