//! Counts a VMM's system calls up to the first KVM_RUN in a log of `strace -f -o`.
//!
//! Pure parsing; all threads of the VMM count, its starter does not.

use std::collections::{BTreeMap, BTreeSet};

/// What a log says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Calls {
    /// Calls from the exec of the VMM, itself included, to the first KVM_RUN, itself excluded.
    pub(crate) count: u64,
    /// The same by name; requests of `ioctl` apart.
    pub(crate) by_name: BTreeMap<String, u64>,
}

/// Counts the calls of `program` (the end of its path); none when the log has no exec of it or no KVM_RUN after that.
pub(crate) fn before_first_run(log: &str, program: &str) -> Option<Calls> {
    let exec = format!("/{program}\"");
    let mut lines = log.lines().filter_map(split);
    let (vmm, _) = lines.find(|(_, call)| call.starts_with("execve(") && call.contains(&exec))?;
    let mut threads = BTreeSet::from([vmm]);
    let mut calls = Calls { count: 1, by_name: BTreeMap::from([("execve".to_owned(), 1)]) };
    for (thread, call) in lines {
        if !threads.contains(thread) {
            continue;
        }
        if let Some(child) = new_thread(call) {
            threads.insert(child);
        }
        if call.contains("KVM_RUN") {
            return Some(calls);
        }
        if let Some(name) = name(call) {
            calls.count += 1;
            *calls.by_name.entry(name).or_default() += 1;
        }
    }
    None
}

/// Splits `1234  read(3, ...` into thread and call.
fn split(line: &str) -> Option<(&str, &str)> {
    let (thread, call) = line.split_once(' ')?;
    Some((thread, call.trim_start()))
}

/// Returns the number of the thread or process that a finished clone made.
fn new_thread(call: &str) -> Option<&str> {
    let made = ["clone(", "clone3(", "<... clone resumed>", "<... clone3 resumed>", "vfork(", "<... vfork"];
    if !made.iter().any(|start| call.starts_with(start)) {
        return None;
    }
    let (_, result) = call.rsplit_once("= ")?;
    let number = result.split_ascii_whitespace().next()?;
    number.bytes().all(|byte| byte.is_ascii_digit()).then_some(number)
}

/// Names the call a line begins; none for a line that ends one, for signals and for exits.
fn name(call: &str) -> Option<String> {
    if call.starts_with(['<', '+', '-']) {
        return None;
    }
    let (name, arguments) = call.split_once('(')?;
    if name == "ioctl" {
        let request = arguments.split(", ").nth(1).unwrap_or("").split([' ', ')']).next().unwrap_or("");
        return Some(format!("ioctl {request}"));
    }
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
10    openat(AT_FDCWD, \"/dev/kvm\", O_RDWR|O_CLOEXEC) = 3
10    vfork( <unfinished ...>
11    execve(\"/home/seat/allod-vmm\", [\"allod-vmm\"], 0x7ffc /* 5 vars */ <unfinished ...>
10    <... vfork resumed>)              = 11
11    <... execve resumed>)             = 0
11    brk(NULL)                         = 0x55d
10    read(4,  <unfinished ...>
11    ioctl(3, KVM_CREATE_VM, 0)        = 5
11    clone3({flags=CLONE_VM|CLONE_THREAD} => {parent_tid=[12]}, 88) = 12
12    rseq(0x7f, 0x20, 0, 0x53053053)   = 0
11    ppoll([{fd=7, events=POLLIN}], 1, NULL, NULL, 8 <unfinished ...>
12    --- SIGUSR1 {si_signo=SIGUSR1} ---
12    ioctl(6, KVM_RUN, 0)              = 0
12    ioctl(6, KVM_RUN, 0)              = 0
";

    #[test]
    fn all_threads_of_the_vmm_count_up_to_the_first_run() {
        let calls = before_first_run(LOG, "allod-vmm").unwrap();
        assert_eq!(calls.count, 6);
        let names: Vec<_> = calls.by_name.keys().map(String::as_str).collect();
        assert_eq!(names, ["brk", "clone3", "execve", "ioctl KVM_CREATE_VM", "ppoll", "rseq"]);
    }

    #[test]
    fn a_vmm_that_never_ran_its_guest_has_no_count() {
        let cut = LOG.split("12    ioctl").next().unwrap();
        for (log, program) in [(cut, "allod-vmm"), (LOG, "qemu-system-x86_64")] {
            assert_eq!(before_first_run(log, program), None);
        }
    }
}
