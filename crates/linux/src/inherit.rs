//! File descriptors that a process was started with, taken over by number.

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Mutex;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{FdFlags, fcntl_setfd};

/// An inherited fd could not be taken over.
#[derive(Debug, thiserror::Error)]
pub enum InheritError {
    /// The process has no such fd.
    #[error("the process was started without file descriptor {0}")]
    Missing(RawFd),
    /// It has been taken over already.
    #[error("file descriptor {0} is named twice")]
    Twice(RawFd),
}

/// What the process was started with, asked once for all numbers below [`LOW`].
struct Inherited {
    open: [bool; LOW],
    taken: Vec<RawFd>,
}

/// Whoever starts a process hands over the lowest numbers; higher ones are asked for one by one.
const LOW: usize = 64;

// Each number is given out once, so that no fd has two owners.
static INHERITED: Mutex<Option<Inherited>> = Mutex::new(None);

/// Takes over fd `number`; children will not inherit it. To be called before the process opens anything itself.
pub fn take(number: RawFd) -> Result<OwnedFd, InheritError> {
    let mut inherited = INHERITED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let inherited = inherited.get_or_insert_with(Inherited::look);
    if inherited.taken.contains(&number) {
        return Err(InheritError::Twice(number));
    }
    let known = usize::try_from(number).ok().and_then(|index| inherited.open.get(index));
    let is_open = number >= 0 && known.copied().unwrap_or_else(|| keep_from_children(number));
    if !is_open {
        return Err(InheritError::Missing(number));
    }
    inherited.taken.push(number);
    // SAFETY: the fd is open, it came with the process, and the list above makes this its only owner.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

impl Inherited {
    /// Asks which low numbers are open, with one call instead of one for each, and keeps those from children.
    fn look() -> Self {
        let mut open = [false; LOW];
        // SAFETY: borrowed for one call that waits for nothing and tells which numbers are no fds.
        let low = (0..LOW as RawFd).map(|number| unsafe { BorrowedFd::borrow_raw(number) });
        let mut polled: Vec<_> = low.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::empty())).collect();
        let told = poll(&mut polled, Some(&Timespec::default())).is_ok();
        // SAFETY: sets a flag on every fd of the process behind the standard three; closes none.
        let kept = unsafe { libc::close_range(3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC as i32) } == 0;
        for ((number, polled), open) in (0..).zip(&polled).zip(&mut open) {
            *open = match told && kept {
                true => !polled.revents().contains(PollFlags::NVAL),
                // Kernels before 5.11 cannot do that at once.
                false => keep_from_children(number),
            };
        }
        Self { open, taken: Vec::new() }
    }
}

/// Keeps children from inheriting fd `number`; says whether there is one.
fn keep_from_children(number: RawFd) -> bool {
    // SAFETY: borrowed for one call that only sets a flag; a number that is no fd makes it fail.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl_setfd(borrowed, FdFlags::CLOEXEC).is_ok()
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsRawFd, IntoRawFd};

    use super::{InheritError, take};

    #[test]
    fn an_fd_is_taken_once_and_only_if_it_is_there() {
        let number = rustix::event::eventfd(0, rustix::event::EventfdFlags::empty()).unwrap().into_raw_fd();
        assert_eq!(take(number).unwrap().as_raw_fd(), number);
        assert!(matches!(take(number), Err(InheritError::Twice(_))));
        for missing in [-1, 1 << 20] {
            assert!(matches!(take(missing), Err(InheritError::Missing(_))), "{missing}");
        }
    }
}
