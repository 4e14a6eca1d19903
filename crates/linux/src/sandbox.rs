//! What a machine's process shuts itself into, after it has its file descriptors and before it touches anything of the
//! guest's.
//!
//! Not here: the user, limits and control group it is started with (`seat`).

use rustix::process::Signal;

/// The process could not be shut in.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// A step failed.
    #[error("{what}: {errno}")]
    Kernel {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        errno: rustix::io::Errno,
    },
    /// Who started it is gone.
    #[error("the process that started this machine is gone")]
    Orphan,
}

/// Ends this process when the one that started it, `starter`, does, however that happens. To be called by the first
/// thread: the kernel watches the thread that started this process (prctl(2), PR_SET_PDEATHSIG).
///
/// # Errors
/// [`SandboxError::Orphan`] when that has happened already; else what the kernel says.
pub fn end_with(starter: u32) -> Result<(), SandboxError> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|errno| SandboxError::Kernel { what: "ask to end with the starter", errno })?;
    // It may have ended before it was asked for.
    let parent = rustix::process::getppid().map(|parent| parent.as_raw_nonzero().get());
    if parent == i32::try_from(starter).ok() { Ok(()) } else { Err(SandboxError::Orphan) }
}

/// Shuts this process in: it gains no rights any more by starting a program.
///
/// # Errors
/// What the kernel says.
pub fn enter() -> Result<(), SandboxError> {
    rustix::thread::set_no_new_privs(true)
        .map_err(|errno| SandboxError::Kernel { what: "give up gaining rights", errno })
}
