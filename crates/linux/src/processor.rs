//! Where threads run.

use rustix::io::Errno;
use rustix::thread::{CpuSet, sched_setaffinity};

/// Keeps the calling thread on one processor of the host.
///
/// # Errors
/// `EINVAL` when there is no such processor, or it is not among those that the process may use.
pub fn run_on(cpu: u32) -> Result<(), Errno> {
    let mut set = CpuSet::new();
    let cpu = usize::try_from(cpu).unwrap_or(usize::MAX);
    if cpu >= CpuSet::MAX_CPU {
        return Err(Errno::INVAL);
    }
    set.set(cpu);
    sched_setaffinity(None, &set)
}

#[cfg(test)]
mod tests {
    use super::run_on;
    use rustix::io::Errno;

    #[test]
    fn a_thread_stays_where_it_is_put() {
        std::thread::spawn(|| {
            let before = rustix::thread::sched_getaffinity(None).unwrap();
            let last = (0..rustix::thread::CpuSet::MAX_CPU).rev().find(|cpu| before.is_set(*cpu)).unwrap();
            run_on(u32::try_from(last).unwrap()).unwrap();
            let after = rustix::thread::sched_getaffinity(None).unwrap();
            assert!(after.count() == 1 && after.is_set(last));
            assert_eq!(rustix::thread::sched_getcpu(), last);
            assert_eq!(run_on(u32::MAX), Err(Errno::INVAL));
        })
        .join()
        .unwrap();
    }
}
