//! The files, directories, links and device nodes of a tree in memory.
//!
//! Not here: what a write does (rules) and what fails (faults): see the fake tree, which owns one of these.

use std::collections::BTreeMap;

use super::{LINK_LIMIT, NodeKind};

/// The files, directories and links of a [`FakeTree`](super::FakeTree), as rules see them.
#[derive(Clone, Debug, Default)]
pub struct Nodes {
    nodes: BTreeMap<String, Node>,
}

#[derive(Clone, Debug)]
pub(super) enum Node {
    Directory,
    File(Vec<u8>),
    Link(String),
    Device(NodeKind),
}

impl Nodes {
    /// Makes a file with its directories, or gives an existing one new content.
    pub fn put_file(&mut self, path: &str, content: impl Into<Vec<u8>>) {
        self.put(path, Node::File(content.into()));
    }

    /// Makes a directory with those above it.
    pub fn put_directory(&mut self, path: &str) {
        self.put(path, Node::Directory);
    }

    /// Makes a symbolic link with the directories above it.
    pub fn put_link(&mut self, path: &str, target: &str) {
        self.put(path, Node::Link(target.to_owned()));
    }

    /// Makes a device node with the directories above it.
    pub fn put_device(&mut self, path: &str, kind: NodeKind) {
        self.put(path, Node::Device(kind));
    }

    /// The node at a canonical path.
    pub(super) fn node(&self, path: &str) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// Takes away a path and all that is below it.
    pub fn remove(&mut self, path: &str) {
        let below = format!("{path}/");
        self.nodes.retain(|name, _| name != path && !name.starts_with(&below));
    }

    /// The content of the file at a path, links followed.
    pub fn content(&self, path: &str) -> Option<&[u8]> {
        match self.nodes.get(&self.resolve(path, true).ok()?) {
            Some(Node::File(content)) => Some(content),
            _ => None,
        }
    }

    /// Where the link at a path points to, as it is written.
    pub fn link(&self, path: &str) -> Option<&str> {
        match self.nodes.get(&self.resolve(path, false).ok()?) {
            Some(Node::Link(target)) => Some(target),
            _ => None,
        }
    }

    /// The canonical form of a path that exists.
    pub fn canonical(&self, path: &str) -> Option<String> {
        self.resolve(path, true).ok()
    }

    /// Moves a path and all that is below it out of the tree, as when a driver goes that has made it.
    pub fn take(&mut self, path: &str) -> Self {
        let below = format!("{path}/");
        let (taken, left) = std::mem::take(&mut self.nodes)
            .into_iter()
            .partition(|(name, _)| name == path || name.starts_with(&below));
        self.nodes = left;
        Self { nodes: taken }
    }

    /// Puts back what was taken out.
    pub fn put_back(&mut self, taken: Self) {
        self.nodes.extend(taken.nodes);
    }

    /// Every path with its content, without surrounding white space, or the target of its link: to compare trees.
    pub fn contents(&self) -> BTreeMap<String, String> {
        let text = |node: &Node| match node {
            Node::Directory => "directory".to_owned(),
            Node::File(content) => String::from_utf8_lossy(content).trim().to_owned(),
            Node::Link(target) => format!("-> {target}"),
            Node::Device(kind) => format!("{kind:?}"),
        };
        self.nodes.iter().map(|(path, node)| (path.clone(), text(node))).collect()
    }

    /// The names directly below a directory, in sorted order.
    pub fn names(&self, path: &str) -> Vec<String> {
        let Ok(path) = self.resolve(path, true) else { return Vec::new() };
        let below = if path == "/" { path } else { format!("{path}/") };
        let after = self.nodes.range(below.clone()..).take_while(|(name, _)| name.starts_with(&below));
        let names = after.filter_map(|(name, _)| name.get(below.len()..));
        names.filter(|name| !name.is_empty() && !name.contains('/')).map(str::to_owned).collect()
    }

    fn put(&mut self, path: &str, node: Node) {
        for (index, _) in path.match_indices('/').skip(1) {
            if let Some(directory) = path.get(..index) {
                self.nodes.entry(directory.to_owned()).or_insert(Node::Directory);
            }
        }
        self.nodes.insert("/".to_owned(), Node::Directory);
        self.nodes.insert(path.to_owned(), node);
    }

    /// Resolves a path name by name, as the kernel does; the last name's link only if `follow_last`.
    pub(super) fn resolve(&self, path: &str, follow_last: bool) -> Result<String, i32> {
        let mut rest: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
        let mut resolved = String::new();
        let mut links = 0;
        while let Some(name) = rest.pop() {
            match name.as_str() {
                "" | "." => continue,
                ".." => {
                    resolved.truncate(resolved.rfind('/').unwrap_or(0));
                    continue;
                }
                _ => {}
            }
            let here = format!("{resolved}/{name}");
            let last = rest.iter().all(String::is_empty);
            match self.nodes.get(&here) {
                None => return Err(libc::ENOENT),
                Some(Node::Link(target)) if follow_last || !last => {
                    links += 1;
                    if links > LINK_LIMIT {
                        return Err(libc::ELOOP);
                    }
                    if target.starts_with('/') {
                        resolved.clear();
                    }
                    rest.extend(target.split('/').rev().map(str::to_owned));
                }
                Some(Node::Directory) => resolved = here,
                Some(_) if last => resolved = here,
                Some(_) => return Err(libc::ENOTDIR),
            }
        }
        Ok(if resolved.is_empty() { "/".to_owned() } else { resolved })
    }
}
