//! The Debian packages that this machine needs, and their installation.
//!
//! What the lab needs is the lab's list. Not here: packages that go into the lab's image. `setup` calls this.

use crate::process::{capture, run, works};
use anyhow::{Result, bail};
use lab::{requirements, tool};
use std::path::Path;
use std::process::Command;

/// A Debian package, what it is for, and a way to see whether it is there: by what it brings, so that a system which has
/// that from elsewhere is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Need {
    package: &'static str,
    purpose: &'static str,
    brings: Brings,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Brings {
    Program(&'static str),
    File(&'static str),
}

/// What is needed besides what the lab itself asks for.
const ALSO: &[Need] = &[
    Need {
        package: "acpica-tools",
        purpose: "iasl checks the ACPI tables that a machine is given",
        brings: Brings::Program("iasl"),
    },
    Need {
        package: "debian-archive-keyring",
        purpose: "the lab's packages are checked against Debian's keys",
        brings: Brings::File("/usr/share/keyrings/debian-archive-keyring.gpg"),
    },
];

/// Installs what is missing after saying so; says so too when nothing is.
pub(super) fn install(dry_run: bool) -> Result<()> {
    let missing = missing(&needs(), is_here);
    if missing.is_empty() {
        eprintln!("    every program that is needed is here: nothing to install");
        return Ok(());
    }
    eprintln!("    missing Debian packages, to be installed with apt-get:");
    for Need { package, purpose, .. } in &missing {
        eprintln!("      {package:<22}  {purpose}");
    }
    if dry_run {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|need| need.package).collect();
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
        if !tool::is_installed("apt-get") {
            bail!(
                "this is not a Debian-like system (there is no apt-get): install what your system has for {} by hand, \
                 or run this on Debian 12 or newer",
                names.join(", ")
            );
        }
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

/// Everything that is needed on this machine.
fn needs() -> Vec<Need> {
    let of_lab = requirements::ALL.iter().map(|requirement| Need {
        package: requirement.package,
        purpose: requirement.purpose,
        brings: Brings::Program(requirement.program),
    });
    ALSO.iter().copied().chain(of_lab).collect()
}

fn is_here(brings: Brings) -> bool {
    match brings {
        Brings::Program(name) => tool::is_installed(name),
        Brings::File(path) => Path::new(path).exists(),
    }
}

/// Those of `needs` that are not here, each package once.
fn missing(needs: &[Need], is_here: impl Fn(Brings) -> bool) -> Vec<Need> {
    let mut missing: Vec<Need> = needs.iter().copied().filter(|need| !is_here(need.brings)).collect();
    missing.sort_by_key(|need| need.package);
    missing.dedup_by_key(|need| need.package);
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_once_and_nothing_else() {
        let need = |package, program| Need { package, purpose: "", brings: Brings::Program(program) };
        let needs = [need("b", "b1"), need("a", "a1"), need("b", "b2")];
        let rows: [(&[&str], &[&str]); 4] = [
            (&["a1", "b1", "b2"], &[]),
            (&["b1", "b2"], &["a"]),
            (&["a1", "b1"], &["b"]),
            (&[], &["a", "b"]),
        ];
        for (here, expected) in rows {
            let is_here = |brings| matches!(brings, Brings::Program(name) if here.contains(&name));
            let found: Vec<&str> = missing(&needs, is_here).iter().map(|need| need.package).collect();
            assert_eq!(found, expected, "{here:?}");
        }
    }

    #[test]
    fn without_root_and_sudo_the_command_is_named() {
        assert_eq!(Rights::choose(true, false, &[]).unwrap(), Rights::Root);
        assert_eq!(Rights::choose(false, true, &[]).unwrap(), Rights::Sudo);
        let refusal = Rights::choose(false, false, &["zstd"]).unwrap_err().to_string();
        assert!(refusal.ends_with("apt-get install zstd"), "{refusal}");
    }
}
