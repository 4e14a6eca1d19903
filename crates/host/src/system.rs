//! The running system as claims see it: its trees of files, its modules, its processes, its clock.
//!
//! Not here: what is done with it. Tests have a made-up one; everything else takes [`RunningSystem`].

use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use linux::link::{self, LinkError, PortSetting, VirtualPort};
use linux::sysfs::{DirectoryTree, Tree, TreeError};
use spec::ledger::ProcessMark;

/// What acting on the host takes.
pub trait System {
    /// The trees of files, changed and read.
    fn tree(&self) -> &dyn Tree;

    /// Loads a module with those it needs.
    ///
    /// # Errors
    ///
    /// What `modprobe` says.
    fn load_module(&self, module: &str) -> Result<(), String>;

    /// Seconds since 1970, for notes.
    fn now(&self) -> u64;

    /// What the virtual functions of a network interface, by its number, may do on the network.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    fn virtual_ports(&self, interface: u32) -> Result<Vec<VirtualPort>, LinkError> {
        link::virtual_ports(interface)
    }

    /// Changes that for the virtual function `index`.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    fn set_virtual_port(&self, interface: u32, index: u32, setting: PortSetting) -> Result<(), LinkError> {
        link::set_virtual_port(interface, index, setting)
    }

    /// Lets some time pass while the kernel finishes something.
    fn pause(&self, time: Duration);

    /// This process.
    fn process(&self) -> ProcessMark;

    /// The number of the host's present start; empty when the kernel does not tell.
    fn boot(&self) -> String {
        self.tree().text("/proc/sys/kernel/random/boot_id").unwrap_or_default()
    }

    /// Whether a process is still there.
    fn is_alive(&self, process: ProcessMark) -> bool {
        start_of(self.tree(), process.pid) == Some(process.start)
    }
}

/// When a process started, in clock ticks since the host did; `None` when there is no such process.
pub fn start_of(tree: &dyn Tree, pid: u32) -> Option<u64> {
    let stat = tree.text(&format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may hold any character; field 3 follows the last one.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    // A zombie holds nothing any more, and stays until its parent looks.
    if matches!(fields.first(), Some(&"Z" | &"X")) {
        return None;
    }
    fields.get(19)?.parse().ok()
}

/// The system this process runs on.
#[derive(Debug)]
pub struct RunningSystem {
    tree: DirectoryTree,
}

impl RunningSystem {
    /// Opens the running system.
    ///
    /// # Errors
    ///
    /// What the kernel says about `/`.
    pub fn open() -> Result<Self, TreeError> {
        Ok(Self { tree: DirectoryTree::system()? })
    }
}

impl System for RunningSystem {
    fn tree(&self) -> &dyn Tree {
        &self.tree
    }

    fn load_module(&self, module: &str) -> Result<(), String> {
        let output = Command::new("modprobe").args(["--", module]).output();
        let output = output.map_err(|error| format!("cannot run modprobe: {error}"))?;
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        }
    }

    fn now(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
    }

    fn pause(&self, time: Duration) {
        std::thread::sleep(time);
    }

    fn process(&self) -> ProcessMark {
        let pid = std::process::id();
        ProcessMark { pid, start: start_of(&self.tree, pid).unwrap_or(0) }
    }
}

#[cfg(test)]
mod tests {
    use linux::sysfs::FakeTree;

    use super::start_of;

    #[test]
    fn a_process_is_known_by_its_start_whatever_its_name_is() {
        let rest = "1 1 0 0 -1 4194560 9 0 0 0 1 2 0 0 20 0 1 0";
        for (stat, start) in [
            (format!("7 (allod) S {rest} 4711 9"), Some(4711)),
            (format!("7 (a) R 99 (b)) S {rest} 4711 9"), Some(4711)),
            (format!("7 (allod) Z {rest} 4711 9"), None),
            ("7 (allod".to_owned(), None),
            ("7 (allod) S 1".to_owned(), None),
        ] {
            let tree = FakeTree::new();
            tree.edit(|nodes| nodes.put_file("/proc/7/stat", stat.as_str()));
            assert_eq!(start_of(&tree, 7), start, "{stat}");
        }
    }
}
