//! The Debian packages that the tests and the lab need, and their installation.
//!
//! Not here: packages that go into the lab's image; the lab has its own list. `setup` calls this.

use crate::process::{capture, run, works};
use anyhow::{Result, bail};
use std::collections::BTreeSet;
use std::process::Command;

/// Each package and what needs it.
const NEEDED: &[(&str, &str)] = &[
    ("acpica-tools", "iasl checks the ACPI tables that a machine is given"),
    ("ca-certificates", "mirrors that are reached by TLS"),
    ("debian-archive-keyring", "the lab's packages are checked against Debian's keys"),
    ("e2fsprogs", "mke2fs packs the lab's image without mounting anything"),
    ("mmdebstrap", "makes the lab's Debian system"),
    ("uidmap", "lets mmdebstrap work without root"),
    ("xz-utils", "kernels and modules are compressed"),
    ("zstd", "kernels and modules are compressed"),
];

/// Installs what is missing after saying so; says so too when nothing is.
pub(super) fn install(dry_run: bool) -> Result<()> {
    let missing = missing(&installed()?);
    if missing.is_empty() {
        eprintln!("    all {} Debian packages are here: nothing to install", NEEDED.len());
        return Ok(());
    }
    eprintln!("    missing Debian packages, to be installed with apt-get:");
    for (package, reason) in &missing {
        eprintln!("      {package:<22}  {reason}");
    }
    if dry_run {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|(package, _)| *package).collect();
    let rights = Rights::find(&names)?;
    // A fresh machine has no package lists, an old one has stale ones: both show before or while installing.
    let known = works(rights.apt_get(&["install", "--simulate"]).args(&names));
    if known && run(rights.apt_get(&["install", "--yes"]).args(&names)).is_ok() {
        return Ok(());
    }
    run(&mut rights.apt_get(&["update"]))?;
    run(rights.apt_get(&["install", "--yes"]).args(&names))
}

/// How apt-get is run with the rights it needs.
#[derive(Debug, PartialEq, Eq)]
enum Rights {
    Root,
    Sudo,
}

impl Rights {
    fn find(names: &[&str]) -> Result<Rights> {
        let (_, user) = capture(Command::new("id").arg("-u"))?;
        Rights::choose(user.trim() == "0", works(Command::new("sudo").arg("--version")), names)
    }

    fn choose(root: bool, sudo: bool, names: &[&str]) -> Result<Rights> {
        match (root, sudo) {
            (true, _) => Ok(Rights::Root),
            (false, true) => Ok(Rights::Sudo),
            (false, false) => {
                bail!(
                    "installing packages needs root and there is no sudo; as root, run: apt-get install {}",
                    names.join(" ")
                )
            }
        }
    }

    fn apt_get(&self, arguments: &[&str]) -> Command {
        let mut command = match self {
            Rights::Root => Command::new("env"),
            Rights::Sudo => Command::new("sudo"),
        };
        // Through the command line, because sudo drops the environment; asking questions would hang a script.
        command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "--no-install-recommends", "--quiet"]);
        // No terminal of dpkg's own: its running percentages fill a log.
        command.args(["-o", "Dpkg::Use-Pty=0"]).args(arguments);
        command
    }
}

/// The names of all packages that dpkg has installed.
fn installed() -> Result<BTreeSet<String>> {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat", "${db:Status-Abbrev} ${Package}\n"]);
    match capture(&mut query) {
        Ok((status, listing)) if status.success() => Ok(parse(&listing)),
        _ => {
            let names: Vec<&str> = NEEDED.iter().map(|(package, _)| *package).collect();
            bail!(
                "this is not a Debian-like system (no working dpkg-query): install the equivalents of {} by hand, \
                 or run this on Debian 12 or newer",
                names.join(", ")
            )
        }
    }
}

fn parse(listing: &str) -> BTreeSet<String> {
    // The second letter of the status is what the package is now: i is installed, c is configuration files only.
    let here = |line: &str| line.as_bytes().get(1) == Some(&b'i');
    listing
        .lines()
        .filter(|line| here(line))
        .filter_map(|line| line.split_whitespace().nth(1))
        .map(str::to_owned)
        .collect()
}

fn missing(installed: &BTreeSet<String>) -> Vec<(&'static str, &'static str)> {
    NEEDED.iter().copied().filter(|(package, _)| !installed.contains(*package)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_installed_packages_count() {
        let listing = "ii  bash\nrc  mmdebstrap\nun  zstd\niU  half\nhi  held\n";
        let found = parse(listing);
        assert_eq!(found, ["bash", "held"].map(str::to_owned).into());
    }

    #[test]
    fn what_is_missing_is_named_and_nothing_else() {
        let all: BTreeSet<String> = NEEDED.iter().map(|(package, _)| (*package).to_owned()).collect();
        assert_eq!(missing(&all), []);
        let mut most = all.clone();
        most.remove("mmdebstrap");
        assert_eq!(missing(&most).iter().map(|(package, _)| *package).collect::<Vec<_>>(), ["mmdebstrap"]);
        assert_eq!(missing(&BTreeSet::new()).len(), NEEDED.len());
    }

    #[test]
    fn without_root_and_sudo_the_command_is_named() {
        assert_eq!(Rights::choose(true, false, &[]).unwrap(), Rights::Root);
        assert_eq!(Rights::choose(false, true, &[]).unwrap(), Rights::Sudo);
        let refusal = Rights::choose(false, false, &["zstd"]).unwrap_err().to_string();
        assert!(refusal.ends_with("apt-get install zstd"), "{refusal}");
    }
}
