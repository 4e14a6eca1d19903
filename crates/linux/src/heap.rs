//! The process's heap.

/// Keeps all threads on one heap. To be called before the first thread is made.
///
/// Else the C library makes a heap for each thread that allocates, with 128 MiB of address space and four system calls:
/// good for many threads that allocate all the time, which those of a machine do not.
pub fn share_among_threads() {
    // SAFETY: a call with two numbers that sets a limit inside the allocator.
    // Its failure leaves things as they are, which costs a little memory and time.
    let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}
