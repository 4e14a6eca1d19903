//! Where the lab keeps what it builds and what it runs: never inside the source tree.
//!
//! Images live under the user's cache folder by the hash of what they are made of; a running host has a short
//! folder under the runtime directory, because the path of a unix socket may not exceed 107 bytes.

use std::path::PathBuf;

/// Overrides the folder that images are kept in.
pub const CACHE_VARIABLE: &str = "ALLOD_LAB_CACHE";

/// Returns the folder of built images: `$ALLOD_LAB_CACHE`, else `$XDG_CACHE_HOME/allod/lab`, else `~/.cache/allod/lab`.
pub fn image_root() -> PathBuf {
    if let Some(dir) = non_empty(CACHE_VARIABLE) {
        return dir;
    }
    non_empty("XDG_CACHE_HOME")
        .or_else(|| non_empty("HOME").map(|home| home.join(".cache")))
        .unwrap_or_else(std::env::temp_dir)
        .join("allod/lab")
}

/// Returns the folder of running hosts: `$XDG_RUNTIME_DIR/allod-lab`, else one in the temporary folder.
pub fn runtime_root() -> PathBuf {
    match non_empty("XDG_RUNTIME_DIR") {
        Some(dir) => dir.join("allod-lab"),
        // The user's number keeps two users of one machine apart.
        None => std::env::temp_dir().join(format!("allod-lab-{}", rustix::process::getuid().as_raw())),
    }
}

fn non_empty(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}
