//! What a machine's process shuts itself into, after it has its file descriptors and before it touches anything of the
//! guest's: no file can be opened (Landlock), no system call is made but those a machine needs (seccomp), no right can be
//! gained.
//!
//! Not here: the user, limits and control group it is started with (`seat`). The list of calls is `calls`.

mod calls;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetError, Scope,
};
use rustix::process::Signal;

/// The newest rules that are asked for; an older kernel gives those it has.
const LANDLOCK: ABI = ABI::V6;

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
    /// Landlock.
    #[error("give up the file system: {0}")]
    Files(#[from] RulesetError),
    /// Seccomp.
    #[error("give up system calls: {0}; the kernel needs CONFIG_SECCOMP_FILTER, which distributions have")]
    Calls(#[from] seccompiler::Error),
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

/// Shuts this thread in, and all that it makes from now on; to be called while it is the only one.
///
/// A kernel without Landlock leaves only seccomp to keep the process from files, which does it as well.
///
/// # Errors
/// What the kernel says. The process must not go on then.
pub fn enter() -> Result<(), SandboxError> {
    // The first look at the clock finds out how to look; on kernels before 6.4 it reads a file for that.
    crate::event::monotonic_ns();
    // Not one rule: nothing is reached beside what is open already. No right is gained from here on either
    // (no_new_privs), whatever the kernel knows of Landlock.
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .handle_access(AccessNet::from_all(LANDLOCK))?
        .scope(Scope::from_all(LANDLOCK))?
        .create()?
        .restrict_self()?;
    for filter in calls::filters()? {
        seccompiler::apply_filter(&filter)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
