//! The control group of one machine's process: what it may use of the host, and the way to end all of it at once.
//!
//! Files of cgroup v2 (Documentation/admin-guide/cgroup-v2.rst in the kernel). Not here: how much a machine may use.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use spec::{Bytes, CpuSet};

/// Where the kernel shows the tree.
pub const ROOT: &str = "/sys/fs/cgroup";
/// The folder that all seats of this host are in.
const PARENT: &str = "allod";
/// The controllers that limits are set with.
const CONTROLLERS: [&str; 4] = ["memory", "cpu", "cpuset", "pids"];
/// How long the kernel may take to end the processes of a group.
const KILL_TIME: Duration = Duration::from_secs(10);
/// How often it is asked.
const KILL_STEP: Duration = Duration::from_millis(5);

/// What a machine's process may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Memory, with the guest's.
    pub memory: Bytes,
    /// The processors it runs on; empty: all.
    pub cpus: CpuSet,
    /// Threads.
    pub threads: u32,
}

/// A control group that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    path: PathBuf,
}

/// A control group could not be made, left or ended.
#[derive(Debug, thiserror::Error)]
#[error("{what} {}: {error}", path.display())]
pub struct CgroupError {
    what: &'static str,
    path: PathBuf,
    #[source]
    error: std::io::Error,
}

impl Cgroup {
    /// Whether the host has cgroup v2 at `root`.
    pub fn is_there(root: &Path) -> bool {
        root.join("cgroup.controllers").is_file()
    }

    /// Makes the group of a seat below `root` and sets its limits; tells in words which of them the host cannot keep.
    ///
    /// # Errors
    /// The kernel refuses to make it.
    pub fn make(root: &Path, seat: &str, limits: &Limits) -> Result<(Self, Vec<String>), CgroupError> {
        let parent = root.join(PARENT);
        let group = Self { path: parent.join(seat) };
        make_directory(&parent)?;
        make_directory(&group.path)?;
        let mut unkept = Vec::new();
        for controller in CONTROLLERS {
            let enable =
                |folder: &Path| fs::write(folder.join("cgroup.subtree_control"), format!("+{controller}"));
            if let Err(error) = enable(root).and_then(|()| enable(&parent)) {
                unkept.push(format!("the host's control groups have no `{controller}` ({error})"));
            }
        }
        let cpus = (!limits.cpus.is_empty()).then(|| ("cpuset.cpus", limits.cpus.to_string()));
        let settings = [
            ("memory.max", limits.memory.0.to_string()),
            // Half a machine is none: when memory is short, all of its process ends.
            ("memory.oom.group", "1".to_owned()),
            ("pids.max", limits.threads.to_string()),
        ];
        for (file, value) in settings.into_iter().chain(cpus) {
            if let Err(error) = fs::write(group.path.join(file), &value) {
                unkept.push(format!("`{file}` cannot be {value} ({error})"));
            }
        }
        Ok((group, unkept))
    }

    /// The group of a seat, whether it is there or not.
    pub fn of(root: &Path, seat: &str) -> Self {
        Self { path: root.join(PARENT).join(seat) }
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts a process in.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn add(&self, pid: u32) -> Result<(), CgroupError> {
        self.write("cgroup.procs", &pid.to_string())
    }

    /// How often the kernel has ended a process of the group because its memory was used up.
    pub fn memory_kills(&self) -> u64 {
        let text = fs::read_to_string(self.path.join("memory.events")).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
    }

    /// Kills whatever is left in the group, waits until it is gone, and removes the group. One that is not there is removed.
    ///
    /// # Errors
    /// What the kernel says, or a process that does not go.
    pub fn remove(&self) -> Result<(), CgroupError> {
        if !self.path.is_dir() {
            return Ok(());
        }
        let end = Instant::now() + KILL_TIME;
        // Kernels before 5.14 have no such file; there the processes' own parents have ended them.
        let _ = fs::write(self.path.join("cgroup.kill"), "1");
        loop {
            match fs::remove_dir(&self.path) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ResourceBusy && Instant::now() < end => {}
                Err(error) => return Err(CgroupError { what: "remove", path: self.path.clone(), error }),
            }
            std::thread::sleep(KILL_STEP);
        }
    }

    fn write(&self, file: &str, value: &str) -> Result<(), CgroupError> {
        let path = self.path.join(file);
        fs::write(&path, value).map_err(|error| CgroupError { what: "write", path, error })
    }
}

fn make_directory(path: &Path) -> Result<(), CgroupError> {
    match fs::create_dir(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(CgroupError { what: "make", path: path.to_owned(), error }),
    }
}

#[cfg(test)]
mod tests {
    use super::{Cgroup, Limits};
    use spec::{Bytes, CpuSet};

    fn limits() -> Limits {
        Limits { memory: Bytes::mib(512), cpus: [2, 3].into_iter().collect::<CpuSet>(), threads: 9 }
    }

    #[test]
    fn limits_are_written_where_the_kernel_reads_them() {
        let root = tempfile::tempdir().unwrap();
        let (group, unkept) = Cgroup::make(root.path(), "anna", &limits()).unwrap();
        assert_eq!(unkept, Vec::<String>::new());
        for (file, value) in [
            ("memory.max", "536870912"),
            ("cpuset.cpus", "2-3"),
            ("pids.max", "9"),
            ("memory.oom.group", "1"),
        ] {
            assert_eq!(std::fs::read_to_string(group.path().join(file)).unwrap(), value);
        }
        group.add(7).unwrap();
        assert_eq!(std::fs::read_to_string(group.path().join("cgroup.procs")).unwrap(), "7");
        std::fs::write(group.path().join("memory.events"), "oom 2\noom_kill 1\n").unwrap();
        assert_eq!(group.memory_kills(), 1);
    }

    #[test]
    fn a_group_that_is_not_there_is_removed_and_one_that_stays_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        Cgroup::of(root.path(), "anna").remove().unwrap();
        let (group, _) = Cgroup::make(root.path(), "anna", &limits()).unwrap();
        // Files that no kernel made keep the folder from going.
        assert!(group.remove().is_err());
    }
}
