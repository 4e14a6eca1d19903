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

// Each number is given out once, so that no fd has two owners.
static TAKEN: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());

/// Takes over fd `number`; children will not inherit it. To be called before the process opens anything itself.
pub fn take(number: RawFd) -> Result<OwnedFd, InheritError> {
    if number < 0 {
        return Err(InheritError::Missing(number));
    }
    let mut taken = TAKEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if taken.contains(&number) {
        return Err(InheritError::Twice(number));
    }
    // SAFETY: borrowed for one call that only sets a flag; a number that is no fd makes it fail.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl_setfd(borrowed, FdFlags::CLOEXEC).map_err(|_| InheritError::Missing(number))?;
    taken.push(number);
    // SAFETY: the fd is open, it came with the process, and the list above makes this its only owner.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
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
