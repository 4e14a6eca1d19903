//! What the lab needs on the user's machine: one list, for `cargo xtask setup` and for messages.

use crate::tool;

/// A program the lab starts, and the Debian package that brings it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requirement {
    /// The program.
    pub program: &'static str,
    /// The package.
    pub package: &'static str,
    /// What it is for.
    pub purpose: &'static str,
}

/// Everything the lab needs; most of it is on every Debian.
pub const ALL: [Requirement; 10] = [
    Requirement {
        program: "mmdebstrap",
        package: "mmdebstrap",
        purpose: "fetches the packages of the lab image",
    },
    // Without privilege mmdebstrap works in a user namespace.
    Requirement {
        program: "newuidmap",
        package: "uidmap",
        purpose: "lets mmdebstrap work without privilege",
    },
    Requirement { program: "tar", package: "tar", purpose: "unpacks the lab image" },
    Requirement { program: "xz", package: "xz-utils", purpose: "unpacks kernel modules" },
    Requirement { program: "zstd", package: "zstd", purpose: "unpacks the kernel" },
    Requirement {
        program: "mke2fs",
        package: "e2fsprogs",
        purpose: "writes the root file system of the lab",
    },
    Requirement {
        program: "unshare",
        package: "util-linux",
        purpose: "builds kernel modules in a tree of their own",
    },
    Requirement { program: "setpriv", package: "util-linux", purpose: "ends the emulator with its starter" },
    Requirement { program: "setsid", package: "util-linux", purpose: "keeps an emulator running" },
    Requirement { program: "du", package: "coreutils", purpose: "measures the lab image" },
];

/// Returns what is missing on this machine.
pub fn missing() -> Vec<Requirement> {
    ALL.into_iter().filter(|requirement| !tool::is_installed(requirement.program)).collect()
}
