//! Waiting: one thread sleeps until an fd is ready, a timer fires or a signal comes.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::event::epoll;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

use crate::EventFd;

/// A kernel call of this module failed.
#[derive(Debug, thiserror::Error)]
#[error("{call}")]
pub struct EventError {
    /// What was tried.
    pub call: &'static str,
    /// What the kernel said.
    #[source]
    pub errno: rustix::io::Errno,
}

fn fail(call: &'static str) -> impl FnOnce(rustix::io::Errno) -> EventError {
    move |errno| EventError { call, errno }
}

/// What one waits for on an fd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Something can be read, or the other side is gone.
    Readable,
    /// Something can be written.
    Writable,
}

/// A set of fds to wait for, each with a number that says which it is.
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
}

/// How many ready fds one wait reports; the others are reported by the next.
const BATCH: usize = 16;

impl Poller {
    /// An empty set.
    pub fn new() -> Result<Self, EventError> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(fail("epoll_create1"))?;
        Ok(Self { epoll })
    }

    /// Adds `fd`, to be reported as `token`. The set does not own it: it leaves the set when it is closed.
    pub fn add(&self, fd: impl AsFd, interest: Interest, token: u64) -> Result<(), EventError> {
        let flags = match interest {
            Interest::Readable => epoll::EventFlags::IN,
            Interest::Writable => epoll::EventFlags::OUT,
        };
        epoll::add(&self.epoll, fd, epoll::EventData::new_u64(token), flags).map_err(fail("epoll_ctl add"))
    }

    /// Adds an event, to be reported as `token` when it is signalled.
    pub fn add_event(&self, event: &EventFd, token: u64) -> Result<(), EventError> {
        self.add(fd_of(event), Interest::Readable, token)
    }

    /// Takes `fd` out.
    pub fn remove(&self, fd: impl AsFd) -> Result<(), EventError> {
        epoll::delete(&self.epoll, fd).map_err(fail("epoll_ctl delete"))
    }

    /// Waits until at least one fd is ready and gives the tokens of those that are.
    pub fn wait(&self) -> Result<Vec<u64>, EventError> {
        let mut events = Vec::with_capacity(BATCH);
        loop {
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) => return Ok(events.iter().map(|event| event.data.u64()).collect()),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(fail("epoll_wait")(errno)),
            }
        }
    }
}

/// A set can be waited for inside another: its fd is readable while one of its own is ready.
impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

/// A timer that makes its fd readable.
#[derive(Debug)]
pub struct Timer {
    fd: OwnedFd,
}

impl Timer {
    /// A timer on the monotonic clock, not set.
    pub fn new() -> Result<Self, EventError> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let fd =
            rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags).map_err(fail("timerfd_create"))?;
        Ok(Self { fd })
    }

    /// Sets it to the moment `ns` of the monotonic clock; `None` stops it.
    pub fn set(&self, ns: Option<u64>) -> Result<(), EventError> {
        // Zero would stop it: a moment long past is as good.
        let at = ns.map_or(0, |ns| ns.max(1));
        let it_value = Timespec { tv_sec: (at / 1_000_000_000) as i64, tv_nsec: (at % 1_000_000_000) as i64 };
        let spec = Itimerspec { it_interval: Timespec::default(), it_value };
        rustix::time::timerfd_settime(&self.fd, TimerfdTimerFlags::ABSTIME, &spec)
            .map_err(fail("timerfd_settime"))?;
        Ok(())
    }

    /// Makes the fd unreadable until the timer fires again.
    pub fn clear(&self) {
        // Nothing to read means that it was cleared already.
        let _ = rustix::io::read(&self.fd, &mut [0_u8; 8]);
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Makes an event whose fd never blocks.
pub fn new_event() -> std::io::Result<EventFd> {
    EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)
}

/// The fd of an event, for calls that want to borrow one: vmm-sys-util shows it as a raw number only.
pub fn fd_of(event: &EventFd) -> BorrowedFd<'_> {
    // SAFETY: the fd belongs to the event, which is borrowed for as long as the result.
    unsafe { BorrowedFd::borrow_raw(event.as_raw_fd()) }
}

/// Waits until `event` is signalled, and takes the signal.
pub fn wait_for(event: &EventFd) -> Result<(), EventError> {
    while !poll_readable(event, None)? {}
    // Another reader may have been faster.
    let _ = event.read();
    Ok(())
}

/// Says whether `event` is signalled, and leaves it so.
pub fn is_signalled(event: &EventFd) -> bool {
    // Nothing about an open event fd can fail here but memory for the call: then it is as if not asked.
    poll_readable(event, Some(&Timespec::default())).unwrap_or(false)
}

fn poll_readable(event: &EventFd, timeout: Option<&Timespec>) -> Result<bool, EventError> {
    let fd = fd_of(event);
    let mut fds = [rustix::event::PollFd::new(&fd, rustix::event::PollFlags::IN)];
    match rustix::event::poll(&mut fds, timeout) {
        Ok(ready) => Ok(ready != 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(errno) => Err(fail("poll")(errno)),
    }
}

/// Nanoseconds of the monotonic clock.
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Signals that end a process in good order, as readable events instead of interruptions.
#[derive(Debug)]
pub struct Signals {
    fd: OwnedFd,
}

impl Signals {
    /// Blocks SIGINT, SIGTERM and SIGHUP for this thread and those it makes, and reports them here instead.
    ///
    /// To be called before the first thread is made: another thread would still be killed by them.
    pub fn of_termination() -> Result<Self, EventError> {
        let last = |call| move || EventError { call, errno: last_errno() };
        // SAFETY: the set is plain data, filled in by sigemptyset before use; the calls keep no pointer to it.
        let fd = unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
                libc::sigaddset(&mut set, signal);
            }
            if libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) != 0 {
                return Err(last("sigprocmask")());
            }
            libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
        };
        if fd < 0 {
            return Err(last("signalfd")());
        }
        // SAFETY: the kernel has just made this fd for us.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// The number of the next signal that has come, if any.
    pub fn next(&self) -> Option<u32> {
        let mut info = [0_u8; size_of::<libc::signalfd_siginfo>()];
        let read = rustix::io::read(&self.fd, &mut info).ok()?;
        // `ssi_signo` is the first field (signalfd(2)).
        let number = info.first_chunk::<4>().filter(|_| read == info.len())?;
        Some(u32::from_ne_bytes(*number))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn last_errno() -> rustix::io::Errno {
    let raw = std::io::Error::last_os_error().raw_os_error();
    rustix::io::Errno::from_raw_os_error(raw.unwrap_or(libc::EIO))
}

#[cfg(test)]
mod tests {
    use super::{Interest, Poller, Timer, is_signalled, monotonic_ns, new_event, wait_for};

    #[test]
    fn looking_at_an_event_leaves_it_and_waiting_takes_it() {
        let event = new_event().unwrap();
        assert!(!is_signalled(&event));
        event.write(1).unwrap();
        assert!(is_signalled(&event) && is_signalled(&event));
        wait_for(&event).unwrap();
        assert!(!is_signalled(&event));
    }

    #[test]
    fn a_timer_set_to_the_past_is_ready_and_a_cleared_one_is_not() {
        let poller = Poller::new().unwrap();
        let timer = Timer::new().unwrap();
        poller.add(&timer, Interest::Readable, 7).unwrap();
        timer.set(Some(0)).unwrap();
        assert_eq!(poller.wait().unwrap(), [7]);
        timer.clear();
        timer.set(Some(monotonic_ns() + 1_000_000)).unwrap();
        assert_eq!(poller.wait().unwrap(), [7], "fires at its moment");
        assert!(monotonic_ns() > 0);
    }

    #[test]
    fn what_was_removed_is_not_reported() {
        let poller = Poller::new().unwrap();
        let (first, second) = (Timer::new().unwrap(), Timer::new().unwrap());
        for (timer, token) in [(&first, 1), (&second, 2)] {
            poller.add(timer, Interest::Readable, token).unwrap();
            timer.set(Some(0)).unwrap();
        }
        poller.remove(&first).unwrap();
        assert_eq!(poller.wait().unwrap(), [2]);
    }
}
