//! A tree in memory for tests: it keeps the kernel's rules, fails where it is told to, and remembers every write.
//!
//! What a write to an attribute *does* is a [`Rule`] (binding a driver makes a link; a second binding says
//! `EBUSY`); the tree itself knows none. Called by tests of this and other crates only; it is not part of any
//! decision in a running product.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::nodes::{Node, Nodes};
use super::{Errno, LIST_LIMIT, NodeKind, Operation, Tree, TreeError};

/// The errno of every operation after a crash was played: no kernel returns it for files.
const CRASHED: i32 = libc::EOWNERDEAD;

/// A tree in memory.
#[derive(Default)]
pub struct FakeTree {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    nodes: Nodes,
    rules: Vec<Box<dyn Rule>>,
    faults: Vec<Fault>,
    writes: Vec<Write>,
    crashed: bool,
}

/// One write that the tree was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The path as it was named, links unresolved.
    pub path: String,
    /// What was written, as text.
    pub data: String,
}

/// A failure to play.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Write number `index` (from 0, over the tree's life) fails with `errno` and changes nothing.
    FailWrite {
        /// Which write.
        index: usize,
        /// What the kernel says.
        errno: i32,
    },
    /// Every write to `path` (as it is named) fails.
    FailWritesTo {
        /// The path.
        path: String,
        /// What the kernel says.
        errno: i32,
    },
    /// Every read of `path` (as it is named) fails.
    FailReadsOf {
        /// The path.
        path: String,
        /// What the kernel says.
        errno: i32,
    },
    /// The process dies just before write number `index` takes effect: this and all later operations fail.
    CrashBefore {
        /// Which write.
        index: usize,
    },
    /// The process dies just after write number `index` took effect: it and all later operations fail.
    CrashAfter {
        /// Which write.
        index: usize,
    },
}

/// What the kernel does when something is written.
pub trait Rule: Send {
    /// Answers a write of `data` to the canonical path `path`, or lets it pass to the next rule.
    ///
    /// Without an answer from any rule the data becomes the file's content.
    fn written(&mut self, nodes: &mut Nodes, path: &str, data: &str) -> Reaction;
}

/// What a [`Rule`] makes of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// It is not this rule's matter.
    Pass,
    /// It was carried out; the file's content is not changed by the tree.
    Done,
    /// The kernel refuses with this errno.
    Refuse(Errno),
}

impl FakeTree {
    /// Makes an empty tree without rules.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a tree of nodes, without rules.
    pub fn of(nodes: Nodes) -> Self {
        Self { state: Mutex::new(State { nodes, ..State::default() }) }
    }

    /// Changes the nodes directly, as hardware or the kernel would: no rule, no fault, no record.
    pub fn edit<R>(&self, change: impl FnOnce(&mut Nodes) -> R) -> R {
        change(&mut self.state().nodes)
    }

    /// Adds a rule; rules are asked in the order they were added.
    pub fn add_rule(&self, rule: Box<dyn Rule>) {
        self.state().rules.push(rule);
    }

    /// Adds a failure to play.
    pub fn add_fault(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Starts anew after a crash: faults are gone, what was written stays.
    pub fn restart(&self) {
        let mut state = self.state();
        state.crashed = false;
        state.faults.clear();
    }

    /// Lets the process die now: all operations fail until [`FakeTree::restart`].
    pub fn crash(&self) {
        self.state().crashed = true;
    }

    /// Whether a crash was played, and no restart since.
    pub fn is_crashed(&self) -> bool {
        self.state().crashed
    }

    /// Every write that was asked for, failed ones too, in order.
    pub fn writes(&self) -> Vec<Write> {
        self.state().writes.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A test that panicked under the lock has failed already; others may still look.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn find(&self, operation: Operation, path: &str, follow_last: bool) -> Result<(String, Node), TreeError> {
        let failed = |errno| TreeError::new(operation, path, errno);
        if self.crashed {
            return Err(failed(CRASHED));
        }
        let resolved = self.nodes.resolve(path, follow_last).map_err(failed)?;
        let node = self.nodes.node(&resolved).cloned().unwrap_or(Node::Directory);
        Ok((resolved, node))
    }

    fn carry_out(&mut self, path: &str, data: &str) -> Result<(), i32> {
        for rule in &mut self.rules {
            match rule.written(&mut self.nodes, path, data) {
                Reaction::Pass => {}
                Reaction::Done => return Ok(()),
                Reaction::Refuse(errno) => return Err(errno.0),
            }
        }
        self.nodes.put_file(path, data.as_bytes());
        Ok(())
    }
}

impl Tree for FakeTree {
    fn read(&self, path: &str, limit: usize) -> Result<Vec<u8>, TreeError> {
        let state = self.state();
        let failed = |errno| TreeError::new(Operation::Read, path, errno);
        let fault = state.faults.iter().find_map(|fault| match fault {
            Fault::FailReadsOf { path: at, errno } if at == path => Some(*errno),
            _ => None,
        });
        if let Some(errno) = fault {
            return Err(failed(errno));
        }
        match state.find(Operation::Read, path, true)?.1 {
            Node::File(content) if content.len() > limit => Err(failed(libc::EFBIG)),
            Node::File(content) => Ok(content),
            Node::Directory => Err(failed(libc::EISDIR)),
            Node::Link(_) | Node::Device(_) => Err(failed(libc::EINVAL)),
        }
    }

    fn read_link(&self, path: &str) -> Result<String, TreeError> {
        match self.state().find(Operation::ReadLink, path, false)?.1 {
            Node::Link(target) => Ok(target),
            _ => Err(TreeError::new(Operation::ReadLink, path, libc::EINVAL)),
        }
    }

    fn list(&self, path: &str) -> Result<Vec<String>, TreeError> {
        let state = self.state();
        let (resolved, node) = state.find(Operation::List, path, true)?;
        let failed = |errno| TreeError::new(Operation::List, path, errno);
        if !matches!(node, Node::Directory) {
            return Err(failed(libc::ENOTDIR));
        }
        let names = state.nodes.names(&resolved);
        if names.len() > LIST_LIMIT { Err(failed(libc::EFBIG)) } else { Ok(names) }
    }

    fn write(&self, path: &str, data: &[u8]) -> Result<(), TreeError> {
        let mut state = self.state();
        let failed = |errno| TreeError::new(Operation::Write, path, errno);
        let (resolved, node) = state.find(Operation::Write, path, true)?;
        let index = state.writes.len();
        let data = String::from_utf8_lossy(data).into_owned();
        state.writes.push(Write { path: path.to_owned(), data: data.clone() });
        let mut after = false;
        for fault in &state.faults.clone() {
            match fault {
                Fault::FailWrite { index: at, errno } if *at == index => return Err(failed(*errno)),
                Fault::FailWritesTo { path: at, errno } if at == path => return Err(failed(*errno)),
                Fault::CrashBefore { index: at } if *at == index => {
                    state.crashed = true;
                    return Err(failed(CRASHED));
                }
                Fault::CrashAfter { index: at } if *at == index => after = true,
                _ => {}
            }
        }
        let result = match node {
            Node::File(_) => state.carry_out(&resolved, &data),
            Node::Directory => Err(libc::EISDIR),
            Node::Link(_) | Node::Device(_) => Err(libc::EINVAL),
        };
        if after {
            state.crashed = true;
            return Err(failed(CRASHED));
        }
        result.map_err(failed)
    }

    fn canonical(&self, path: &str) -> Result<String, TreeError> {
        self.state().find(Operation::Resolve, path, true).map(|(resolved, _)| resolved)
    }

    fn kind(&self, path: &str) -> Result<NodeKind, TreeError> {
        Ok(match self.state().find(Operation::Resolve, path, true)?.1 {
            Node::Directory => NodeKind::Directory,
            Node::File(_) => NodeKind::File,
            Node::Device(kind) => kind,
            Node::Link(_) => NodeKind::Other,
        })
    }

    fn accessible(&self, path: &str) -> bool {
        let state = self.state();
        let refused = state.faults.iter().any(
            |fault| matches!(fault, Fault::FailReadsOf { path: at, .. } | Fault::FailWritesTo { path: at, .. } if at == path),
        );
        !refused && state.find(Operation::Resolve, path, true).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> FakeTree {
        let tree = FakeTree::new();
        tree.edit(|nodes| {
            nodes.put_file("/sys/devices/a/vendor", "0x10de\n");
            nodes.put_link("/sys/bus/a", "../devices/a");
            nodes.put_link("/sys/absolute", "/sys/devices");
            nodes.put_link("/sys/loop", "loop");
            nodes.put_device("/dev/null", NodeKind::CharacterDevice { major: 1, minor: 3 });
        });
        tree
    }

    #[test]
    fn the_tree_in_memory_answers_as_a_directory_does() {
        let tree = small();
        assert_eq!(tree.text("/sys/bus/a/vendor").unwrap(), "0x10de");
        assert_eq!(tree.text("/sys/absolute/a/vendor").unwrap(), "0x10de");
        assert_eq!(tree.read_link("/sys/bus/a").unwrap(), "../devices/a");
        assert_eq!(tree.canonical("/sys/bus/a").unwrap(), "/sys/devices/a");
        assert_eq!(tree.canonical("/../../sys").unwrap(), "/sys");
        assert_eq!(tree.list("/sys").unwrap(), ["absolute", "bus", "devices", "loop"]);
        let errno = |error: TreeError| error.errno.0;
        assert_eq!(errno(tree.read("/sys/none", 9).unwrap_err()), libc::ENOENT);
        assert_eq!(errno(tree.read("/sys/devices/a/vendor", 6).unwrap_err()), libc::EFBIG);
        assert_eq!(errno(tree.read("/sys/bus", 6).unwrap_err()), libc::EISDIR);
        assert_eq!(errno(tree.read("/sys/loop", 6).unwrap_err()), libc::ELOOP);
        assert_eq!(errno(tree.read_link("/sys/bus").unwrap_err()), libc::EINVAL);
        assert_eq!(errno(tree.read("/sys/devices/a/vendor/x", 6).unwrap_err()), libc::ENOTDIR);
        assert_eq!(errno(tree.read("/dev/null", 6).unwrap_err()), libc::EINVAL);
        assert_eq!(errno(tree.write("/sys/none", b"1").unwrap_err()), libc::ENOENT);
    }

    /// Plays a driver: what is written to `bind` becomes a link.
    struct Binding;

    impl Rule for Binding {
        fn written(&mut self, nodes: &mut Nodes, path: &str, data: &str) -> Reaction {
            let Some(driver) = path.strip_suffix("/bind") else { return Reaction::Pass };
            let link = format!("/sys/devices/{data}/driver");
            if nodes.link(&link).is_some() {
                return Reaction::Refuse(Errno(libc::EBUSY));
            }
            nodes.put_link(&link, driver);
            Reaction::Done
        }
    }

    #[test]
    fn a_rule_changes_the_tree_as_the_kernel_would_and_may_refuse() {
        let tree = small();
        tree.add_rule(Box::new(Binding));
        tree.edit(|nodes| nodes.put_file("/sys/bus/drv/bind", ""));
        tree.write("/sys/bus/drv/bind", b"a").unwrap();
        assert_eq!(tree.canonical("/sys/bus/a/driver").unwrap(), "/sys/bus/drv");
        assert_eq!(tree.write("/sys/bus/drv/bind", b"a").unwrap_err().errno.0, libc::EBUSY);
        tree.write("/sys/bus/a/vendor", b"1").unwrap();
        assert_eq!(tree.text("/sys/devices/a/vendor").unwrap(), "1");
        assert_eq!(tree.writes().len(), 3);
    }

    #[test]
    fn faults_strike_at_the_named_write_and_a_crash_lasts_until_restart() {
        let vendor = "/sys/bus/a/vendor";
        for (fault, first, second, left) in [
            (Fault::FailWrite { index: 0, errno: libc::EIO }, Some(libc::EIO), None, "2"),
            (
                Fault::FailWritesTo { path: vendor.to_owned(), errno: libc::EPERM },
                Some(libc::EPERM),
                Some(libc::EPERM),
                "0x10de",
            ),
            (Fault::CrashBefore { index: 1 }, None, Some(CRASHED), "1"),
            (Fault::CrashAfter { index: 1 }, None, Some(CRASHED), "2"),
            (Fault::CrashAfter { index: 0 }, Some(CRASHED), Some(CRASHED), "1"),
        ] {
            let tree = small();
            tree.add_fault(fault.clone());
            let errno = |result: Result<(), TreeError>| result.err().map(|error| error.errno.0);
            assert_eq!(errno(tree.write(vendor, b"1")), first, "{fault:?}");
            assert_eq!(errno(tree.write(vendor, b"2")), second, "{fault:?}");
            tree.restart();
            assert_eq!(tree.text(vendor).unwrap(), left, "{fault:?}");
        }
    }
}
