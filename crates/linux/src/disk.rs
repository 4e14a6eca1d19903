//! A file or block device as a disk: positioned reads and writes straight between it and guest memory.
//!
//! Not here: what a guest may ask for, and sectors. Offsets and lengths are bytes.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::Errno;
use vm_memory::VolatileSlice;
use vm_memory::bitmap::BitmapSlice;

/// An open disk.
#[derive(Debug)]
pub struct Disk {
    file: OwnedFd,
    len: u64,
}

/// Most parts of memory in one call (IOV_MAX, include/uapi/linux/uio.h: UIO_MAXIOV).
const PARTS_IN_ONE_CALL: usize = 1024;

#[derive(Clone, Copy)]
enum Direction {
    Read,
    Write,
}

impl Disk {
    /// Uses `file`, a regular file or a block device, as a disk of its present length.
    ///
    /// # Errors
    /// When it has no length, as a pipe or a terminal.
    pub fn from_file(file: OwnedFd) -> io::Result<Self> {
        // A block device has its length here and not in stat(2).
        let len = rustix::fs::seek(&file, SeekFrom::End(0))?;
        Ok(Self { file, len })
    }

    /// Its length when it was opened, in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it had no byte when it was opened.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Fills `parts`, one after another, with what is at `offset`.
    ///
    /// # Errors
    /// What the kernel said, or that the file ends before.
    pub fn read_at(&self, offset: u64, parts: &[VolatileSlice<'_>]) -> io::Result<()> {
        self.transfer(Direction::Read, offset, parts)
    }

    /// Writes `parts`, one after another, at `offset`.
    ///
    /// # Errors
    /// What the kernel said. What was written before is not undone.
    pub fn write_at(&self, offset: u64, parts: &[VolatileSlice<'_>]) -> io::Result<()> {
        self.transfer(Direction::Write, offset, parts)
    }

    /// Returns once everything written so far is on stable storage.
    ///
    /// # Errors
    /// What the kernel said: data may be lost.
    pub fn flush(&self) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(&self.file)?)
    }

    /// Gives the storage behind a range back; what is read there afterwards is zero, or what was there where the file
    /// system cannot do it.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.file, hole, offset, len) {
            Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn transfer(&self, direction: Direction, offset: u64, parts: &[VolatileSlice<'_>]) -> io::Result<()> {
        let mut offset = offset;
        for parts in parts.chunks(PARTS_IN_ONE_CALL) {
            // A signal or a full device cuts a transfer short: what is left is tried again until nothing moves.
            let mut left: Vec<VolatileSlice<'_>> = parts.to_vec();
            left.retain(|part| !part.is_empty());
            while !left.is_empty() {
                let moved = transfer_once(self.file.as_fd(), direction, offset, &left)?;
                offset += moved as u64;
                skip(&mut left, moved);
            }
        }
        Ok(())
    }
}

/// Reads what comes at `offset` into guest memory, in one call: as much as there is and `part` takes.
///
/// # Errors
/// What the kernel said; the end of the file is one.
pub fn read_at<B: BitmapSlice>(
    file: impl AsFd,
    offset: u64,
    part: &VolatileSlice<'_, B>,
) -> io::Result<usize> {
    if part.is_empty() {
        Ok(0)
    } else {
        transfer_once(file.as_fd(), Direction::Read, offset, std::slice::from_ref(part))
    }
}

/// Makes one call; gives how many bytes moved, at least one.
fn transfer_once<B: BitmapSlice>(
    file: BorrowedFd<'_>,
    direction: Direction,
    offset: u64,
    parts: &[VolatileSlice<'_, B>],
) -> io::Result<usize> {
    let offset = libc::off_t::try_from(offset).map_err(|_| io::Error::from(Errno::OVERFLOW))?;
    let guards: Vec<_> = parts.iter().map(VolatileSlice::ptr_guard_mut).collect();
    let vectors: Vec<libc::iovec> = guards
        .iter()
        .map(|guard| libc::iovec { iov_base: guard.as_ptr().cast(), iov_len: guard.len() })
        .collect();
    // `chunks` has bounded the number.
    let count = vectors.len() as libc::c_int;
    let fd = file.as_raw_fd();
    loop {
        // Slices of guest memory are raw on purpose, as the guest may use it meanwhile: std's vectored calls want
        // references.
        // SAFETY: each vector names memory that its guard keeps mapped; the kernel writes or reads no more than
        // its length, and no Rust reference to that memory exists.
        let moved = unsafe {
            match direction {
                Direction::Read => libc::preadv(fd, vectors.as_ptr(), count, offset),
                Direction::Write => libc::pwritev(fd, vectors.as_ptr(), count, offset),
            }
        };
        match usize::try_from(moved) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(moved) => return Ok(moved),
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
}

/// Takes the first `moved` bytes off.
fn skip(parts: &mut Vec<VolatileSlice<'_>>, mut moved: usize) {
    let whole = parts
        .iter()
        .take_while(|part| {
            let done = part.len() <= moved;
            if done {
                moved -= part.len();
            }
            done
        })
        .count();
    parts.drain(..whole);
    if let Some(first) = parts.first_mut()
        && let Ok(rest) = first.offset(moved)
    {
        *first = rest;
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use rustix::fs::MemfdFlags;
    use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, VolatileSlice};

    use super::{Disk, skip};
    use crate::memory::{GuestRam, PageKind, RamSpec};

    fn disk(bytes: &[u8]) -> Disk {
        let file = rustix::fs::memfd_create("disk", MemfdFlags::CLOEXEC).unwrap();
        rustix::io::write(&file, bytes).unwrap();
        Disk::from_file(file).unwrap()
    }

    fn ram() -> GuestRam {
        let blocks = vec![0..0x4000];
        GuestRam::allocate(&RamSpec { blocks, pages: PageKind::Small, shared: false, prefault: false })
            .unwrap()
    }

    fn part(ram: &GuestRam, start: u64, len: usize) -> VolatileSlice<'_> {
        ram.view().get_slice(GuestAddress(start), len).unwrap()
    }

    #[test]
    fn parts_are_filled_in_order_and_written_in_order() {
        let disk = disk(b"0123456789abcdef");
        let ram = ram();
        let parts = [part(&ram, 0x1000, 3), part(&ram, 0, 0), part(&ram, 0x100, 4)];
        disk.read_at(2, &parts).unwrap();
        let mut bytes = [0; 4];
        ram.view().read_slice(&mut bytes, GuestAddress(0x100)).unwrap();
        assert_eq!(&bytes, b"5678");
        disk.write_at(0, &[part(&ram, 0x100, 4), part(&ram, 0x1000, 3)]).unwrap();
        disk.read_at(0, &[part(&ram, 0, 16)]).unwrap();
        let mut bytes = [0; 16];
        ram.view().read_slice(&mut bytes, GuestAddress(0)).unwrap();
        assert_eq!(&bytes, b"5678234789abcdef");
    }

    #[test]
    fn a_read_past_the_end_and_one_past_all_offsets_fail() {
        let disk = disk(&[1; 512]);
        let ram = ram();
        assert_eq!(disk.len(), 512);
        for offset in [256, 512, u64::MAX] {
            disk.read_at(offset, &[part(&ram, 0, 512)]).unwrap_err();
        }
        disk.flush().unwrap();
    }

    #[test]
    fn more_parts_than_one_call_takes_all_move() {
        let disk = disk(&[7; 4096]);
        let ram = ram();
        let parts: Vec<_> = (0..3000).map(|at| part(&ram, at, 1)).collect();
        disk.read_at(0, &parts).unwrap();
        let mut bytes = [0; 3001];
        ram.view().read_slice(&mut bytes, GuestAddress(0)).unwrap();
        assert!(bytes[..3000].iter().all(|byte| *byte == 7) && bytes[3000] == 0);
    }

    #[test]
    fn discarded_bytes_read_as_zeros_and_the_rest_stays() {
        let disk = disk(&[9; 0x3000]);
        disk.discard(0x1000, 0x1000).unwrap();
        let ram = ram();
        disk.read_at(0, &[part(&ram, 0, 0x3000)]).unwrap();
        for (address, byte) in [(0xfff_u64, 9_u8), (0x1000, 0), (0x1fff, 0), (0x2000, 9)] {
            assert_eq!(ram.view().read_obj::<u8>(GuestAddress(address)).unwrap(), byte, "{address:#x}");
        }
    }

    #[test]
    fn a_short_transfer_leaves_exactly_the_rest() {
        let ram = ram();
        for (moved, left) in [(0, vec![4, 2]), (1, vec![3, 2]), (4, vec![2]), (5, vec![1]), (6, vec![])] {
            let mut parts = vec![part(&ram, 0, 4), part(&ram, 8, 2)];
            skip(&mut parts, moved);
            assert_eq!(parts.iter().map(VolatileSlice::len).collect::<Vec<_>>(), left, "{moved}");
        }
    }

    #[test]
    fn a_pipe_is_no_disk() {
        let (reading, _writing) = rustix::pipe::pipe().unwrap();
        let error = Disk::from_file(reading).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotSeekable);
    }
}
