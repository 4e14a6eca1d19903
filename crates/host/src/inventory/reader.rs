//! Reading facts from a tree: what is absent is `None`, what fails is `None` with a note why.

use std::cell::RefCell;
use std::str::FromStr;

use linux::sysfs::{ATTRIBUTE_LIMIT, Tree, TreeError};
use spec::PciAddress;
use spec::inventory::Unread;

/// The most notes that are kept; a host that fails more often is described well enough by these.
const UNREAD_LIMIT: usize = 500;

/// A tree with the notes on what could not be read from it.
pub(super) struct Reader<'a> {
    tree: &'a dyn Tree,
    unread: RefCell<Vec<Unread>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(tree: &'a dyn Tree) -> Self {
        Self { tree, unread: RefCell::new(Vec::new()) }
    }

    pub(super) fn tree(&self) -> &'a dyn Tree {
        self.tree
    }

    /// The notes, once everything is read.
    pub(super) fn into_unread(self) -> Vec<Unread> {
        self.unread.into_inner()
    }

    /// Notes that a fact is unknown although something was read.
    pub(super) fn note(&self, path: &str, reason: impl Into<String>) {
        let mut unread = self.unread.borrow_mut();
        if unread.len() < UNREAD_LIMIT {
            unread.push(Unread { path: path.to_owned(), reason: reason.into() });
        }
    }

    /// Turns a failed read into `None`; only failures other than "it is not there" are noted.
    pub(super) fn known<T>(&self, result: Result<T, TreeError>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                if !error.errno.is_absent() {
                    self.note(&error.path, error.errno.to_string());
                }
                None
            }
        }
    }

    /// Reads an attribute; an empty one counts as absent.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        self.known(self.tree.text(path)).map(printable).filter(|text| !text.is_empty())
    }

    /// Reads an attribute that every host has: its absence is noted too.
    pub(super) fn needed_text(&self, path: &str) -> Option<String> {
        match self.tree.text(path) {
            Ok(text) => Some(printable(text)),
            Err(error) => {
                self.note(path, error.errno.to_string());
                None
            }
        }
    }

    /// Reads a table of `/proc` or another longer text.
    pub(super) fn table(&self, path: &str) -> Option<String> {
        self.known(self.tree.table(path))
    }

    /// Reads a table that every host has: its absence is noted too.
    pub(super) fn needed_table(&self, path: &str) -> Option<String> {
        if !self.tree.exists(path) {
            self.note(path, "it is not there");
        }
        self.table(path)
    }

    /// Reads a binary attribute of at most `limit` bytes.
    pub(super) fn bytes(&self, path: &str, limit: usize) -> Option<Vec<u8>> {
        self.known(self.tree.read(path, limit))
    }

    /// Reads an attribute and parses it; what does not parse is noted.
    pub(super) fn parsed<T: FromStr>(&self, path: &str) -> Option<T> {
        let text = self.text(path)?;
        let value = text.parse().ok();
        if value.is_none() {
            self.note(path, format!("`{}` makes no sense here", shorten(&text)));
        }
        value
    }

    /// Reads an attribute that is `1` or `0`.
    pub(super) fn flag(&self, path: &str) -> Option<bool> {
        self.parsed::<u32>(path).map(|number| number != 0)
    }

    /// Lists a directory; one that is absent is empty.
    pub(super) fn list(&self, path: &str) -> Vec<String> {
        self.known(self.tree.list(path)).unwrap_or_default()
    }

    /// The last name of where a link points to, for example the driver of a device.
    pub(super) fn link_name(&self, path: &str) -> Option<String> {
        let target = self.known(self.tree.read_link(path))?;
        target.rsplit('/').next().filter(|name| !name.is_empty()).map(str::to_owned)
    }

    /// The PCI function that a path in sysfs belongs to: the last address in its canonical form.
    ///
    /// A disk behind an adapter, an interface of a USB stick and a connector all lie below their function.
    pub(super) fn function_of(&self, path: &str) -> Option<PciAddress> {
        let canonical = self.known(self.tree.canonical(path))?;
        last_function(&canonical)
    }
}

/// The last PCI address among the names of a path.
pub(super) fn last_function(path: &str) -> Option<PciAddress> {
    path.rsplit('/').find_map(full_address)
}

/// Reads a name that is a PCI address with its domain; `0000:00` or `1.0` are none.
pub(super) fn full_address(name: &str) -> Option<PciAddress> {
    // Shape first: the parser would also take `03:00.1`, which sysfs never writes.
    let shape =
        name.len() == 12 && name.as_bytes().get(4) == Some(&b':') && name.as_bytes().get(10) == Some(&b'.');
    shape.then(|| name.parse().ok())?
}

/// Takes control characters out of a text: names that devices give themselves end up on terminals.
fn printable(text: String) -> String {
    let bad = |c: char| c.is_control() && c != '\n' && c != '\t';
    if text.contains(bad) { text.replace(bad, "?") } else { text }
}

/// Shortens a text from outside for a message.
pub(super) fn shorten(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// The limit for small binary attributes.
pub(super) const PAGE: usize = ATTRIBUTE_LIMIT;
