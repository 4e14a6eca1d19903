//! Reads the made-up hosts and holds the result against what people would say about those boards.
//!
//! The same inventories lie as JSON beside the planner's tests. `ALLOD_WRITE_INVENTORIES=1 cargo test -p host --test
//! recorded` writes them anew.
#![forbid(unsafe_code)]

use std::fs;
use std::path::PathBuf;

use host::{fixtures, inventory};
use spec::inventory::HostInventory;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../plan/tests/inventories")
}

#[test]
fn saved_inventories_are_what_the_made_up_hosts_give() {
    for (name, make) in fixtures::all() {
        let read = inventory::read(&make());
        let path = folder().join(format!("{name}.json"));
        let text = serde_json::to_string_pretty(&read).unwrap() + "\n";
        if std::env::var_os("ALLOD_WRITE_INVENTORIES").is_some() {
            fs::create_dir_all(folder()).unwrap();
            fs::write(&path, &text).unwrap();
        }
        let saved = fs::read_to_string(&path).unwrap_or_default();
        assert!(saved == text, "{} differs; write it anew and look at the difference", path.display());
        let back: HostInventory = serde_json::from_str(&saved).unwrap();
        assert_eq!(back, read, "{name}");
    }
}
