//! Where a verb gets its inventory from: the running host, or a file saved with `allod devices --json`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use host::vault::Vault;
use linux::sysfs::{DirectoryTree, Tree};
use seat::places::Places;
use spec::inventory::{HostInventory, INVENTORY_SCHEMA_VERSION};

/// The largest saved inventory that is read; a host with a thousand functions takes about 4 MB.
const MOST_BYTES: u64 = 64 << 20;

/// The choice of the host.
#[derive(Debug, clap::Args)]
pub(crate) struct HostSource {
    /// Look at the host saved in FILE (`allod devices --json > FILE`) instead of this one; - for standard input
    #[arg(long, value_name = "FILE")]
    inventory: Option<PathBuf>,
}

impl HostSource {
    /// Whether it is the host that this program runs on.
    pub(crate) fn is_this_host(&self) -> bool {
        self.inventory.is_none()
    }

    /// Reads the inventory, with what is kept in the usual state directory.
    pub(crate) fn read(&self) -> anyhow::Result<HostInventory> {
        self.read_with(&Places::of_environment().state)
    }

    /// Reads the inventory, with what is kept in the state directory `state`.
    pub(crate) fn read_with(&self, state: &Path) -> anyhow::Result<HostInventory> {
        match &self.inventory {
            Some(path) => saved(path),
            None => Ok(this_host(&DirectoryTree::system()?, state)),
        }
    }
}

/// The inventory of the host of `tree`, with what can be told of ROMs, and those that are kept in `state`.
pub(crate) fn this_host(tree: &dyn Tree, state: &Path) -> HostInventory {
    let mut inventory = host::inventory::read(tree);
    host::rom::describe(tree, &mut inventory);
    Vault::of(state).describe(&mut inventory);
    inventory
}

fn saved(path: &Path) -> anyhow::Result<HostInventory> {
    let text = if path == Path::new("-") {
        std::io::read_to_string(std::io::stdin().lock())
            .context("cannot read an inventory from standard input")?
    } else {
        let shown = path.display();
        let bytes = fs::metadata(path).with_context(|| format!("cannot read the inventory {shown}"))?.len();
        if bytes > MOST_BYTES {
            bail!("{shown} has {bytes} bytes: that is no inventory");
        }
        fs::read_to_string(path).with_context(|| format!("cannot read the inventory {shown}"))?
    };
    let inventory: HostInventory = serde_json::from_str(&text).with_context(|| {
        format!("{} is no inventory; make one with `allod devices --json > FILE`", path.display())
    })?;
    if inventory.schema_version > INVENTORY_SCHEMA_VERSION {
        eprintln!(
            "allod: this inventory has format {}, this program knows {INVENTORY_SCHEMA_VERSION}: what is new in it is left out",
            inventory.schema_version
        );
    }
    Ok(inventory)
}
