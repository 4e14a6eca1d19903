//! A machine's firmware: its files found and opened, and a file for its variables made when there is none.
//!
//! Not here: whether the files are what they should be; the machine looks at what is in them.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, MemfdFlags};
use spec::seat_file::{BootFirst, FirmwareKind};
use spec::{FirmwareSpec, InheritedFd};

use crate::drives::lock_at_last;

/// Firmware, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firmware {
    /// Which of the two.
    pub kind: FirmwareKind,
    /// Its code; without a name, the one that Debian's package installs.
    pub image: Option<PathBuf>,
    /// Where UEFI variables are kept; made when it is not there. Without a name they end with the machine.
    pub variables: Option<PathBuf>,
    /// Where to write what it says on its debug port.
    pub log: Option<PathBuf>,
    /// What it tries to start from first.
    pub boot: BootFirst,
}

/// Firmware cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FirmwareUnfit {
    /// The package is not installed.
    #[error(
        "there is no {} firmware on this host ({} is missing); install it with `sudo apt install {}`, or name the file with --firmware-image", name(*kind), path.display(), package(*kind)
    )]
    Missing {
        /// Which of the two.
        kind: FirmwareKind,
        /// Where it should be.
        path: PathBuf,
    },
    /// A file could not be opened.
    #[error("open the {what} {}: {errno}", path.display())]
    Open {
        /// What it is to the machine.
        what: &'static str,
        /// Where it should be.
        path: PathBuf,
        /// What the kernel said.
        errno: std::io::Error,
    },
    /// There is nothing to make the variables from.
    #[error(
        "new UEFI variables cannot be made: {} is not there, and that is what they are made from; it comes with OVMF_CODE_4M.fd", path.display()
    )]
    NoTemplate {
        /// Where it should be.
        path: PathBuf,
    },
    /// The code's name does not lead to its variables.
    #[error(
        "new UEFI variables cannot be made: {} has no `CODE` in its name, by which the file that they are made from is found; give a file of variables that is there (--vars), or code that is called like OVMF_CODE_4M.fd", path.display()
    )]
    Unpaired {
        /// The code.
        path: PathBuf,
    },
    /// The file of variables could not be made.
    #[error("make the file of UEFI variables {}: {errno}; its folder must exist and have room for it", path.display())]
    Make {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        errno: std::io::Error,
    },
    /// Variables of another firmware.
    #[error(
        "the UEFI variables {} have {is} bytes, and those of this host's firmware have {should}; move the file away, and a new one is made", path.display()
    )]
    Length {
        /// Which.
        path: PathBuf,
        /// Bytes of the file.
        is: u64,
        /// Bytes that it should have.
        should: usize,
    },
    /// Another machine has these variables.
    #[error(
        "the UEFI variables {} are in use by another machine; each machine needs a file of its own", path.display()
    )]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// Variables for a BIOS.
    #[error("a BIOS keeps no UEFI variables; leave them out, or choose UEFI firmware")]
    VariablesForBios,
}

/// Where Debian's packages `seabios` and `ovmf` put them.
const BIOS: &str = "/usr/share/seabios/bios-256k.bin";
const UEFI: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";

fn name(kind: FirmwareKind) -> &'static str {
    match kind {
        FirmwareKind::Bios => "BIOS",
        FirmwareKind::Uefi => "UEFI",
    }
}

fn package(kind: FirmwareKind) -> &'static str {
    match kind {
        FirmwareKind::Bios => "seabios",
        FirmwareKind::Uefi => "ovmf",
    }
}

/// The open files.
#[derive(Debug)]
pub(crate) struct OpenFirmware {
    kind: FirmwareKind,
    image: OwnedFd,
    variables: Option<OwnedFd>,
    log: Option<OwnedFd>,
    boot: BootFirst,
}

impl Firmware {
    /// Opens what is there of it as [`Firmware::open`] does, and makes nothing; gives the file of variables, if there is one.
    pub(crate) fn look(&self) -> Result<Option<OwnedFd>, FirmwareUnfit> {
        self.open_image()?;
        let (FirmwareKind::Uefi, Some(variables)) = (self.kind, &self.variables) else { return Ok(None) };
        let new = template(self.image_path())?;
        let folder = variables.parent().unwrap_or(Path::new("/"));
        match std::fs::metadata(variables) {
            Ok(of) if of.len() != new.len() as u64 => {
                let path = variables.clone();
                Err(FirmwareUnfit::Length { path, is: of.len(), should: new.len() })
            }
            Err(errno) if errno.kind() == std::io::ErrorKind::NotFound => match std::fs::metadata(folder) {
                Ok(_) => Ok(None),
                Err(errno) => Err(FirmwareUnfit::Make { path: variables.clone(), errno }),
            },
            _ => open_variables(variables, self.image_path()).map(Some),
        }
    }

    fn image_path(&self) -> &Path {
        self.image.as_deref().unwrap_or(Path::new(match self.kind {
            FirmwareKind::Bios => BIOS,
            FirmwareKind::Uefi => UEFI,
        }))
    }

    fn open_image(&self) -> Result<File, FirmwareUnfit> {
        let path = self.image_path();
        File::open(path).map_err(|errno| match errno.kind() {
            std::io::ErrorKind::NotFound if self.image.is_none() => {
                FirmwareUnfit::Missing { kind: self.kind, path: path.to_owned() }
            }
            _ => FirmwareUnfit::Open { what: "firmware", path: path.to_owned(), errno },
        })
    }

    /// Opens what it needs, and makes what is missing.
    pub(crate) fn open(&self) -> Result<OpenFirmware, FirmwareUnfit> {
        if self.kind == FirmwareKind::Bios && self.variables.is_some() {
            return Err(FirmwareUnfit::VariablesForBios);
        }
        let (path, image) = (self.image_path(), self.open_image()?);
        let variables = match (self.kind, &self.variables) {
            (FirmwareKind::Bios, _) => None,
            (FirmwareKind::Uefi, Some(variables)) => Some(open_variables(variables, path)?),
            (FirmwareKind::Uefi, None) => Some(unnamed_variables(path)?),
        };
        let log = self.log.as_deref().map(|path| {
            let failed = |errno| FirmwareUnfit::Open { what: "firmware log", path: path.to_owned(), errno };
            File::create(path).map(OwnedFd::from).map_err(failed)
        });
        Ok(OpenFirmware {
            kind: self.kind,
            image: image.into(),
            variables,
            log: log.transpose()?,
            boot: self.boot,
        })
    }
}

impl OpenFirmware {
    /// What the machine is told of them.
    pub(crate) fn spec(&self) -> FirmwareSpec {
        let number = |fd: &OwnedFd| InheritedFd(fd.as_raw_fd());
        FirmwareSpec {
            kind: self.kind,
            image: number(&self.image),
            variables: self.variables.as_ref().map(number),
            log: self.log.as_ref().map(number),
            boot: self.boot,
        }
    }

    /// All of them, to be inherited.
    pub(crate) fn files(&self) -> impl Iterator<Item = &OwnedFd> {
        [Some(&self.image), self.variables.as_ref(), self.log.as_ref()].into_iter().flatten()
    }
}

/// Opens the file of variables and keeps other machines from it, as with disks.
fn open_variables(path: &Path, code: &Path) -> Result<OwnedFd, FirmwareUnfit> {
    let open = || File::options().read(true).write(true).open(path);
    let failed = |errno| FirmwareUnfit::Open { what: "file of UEFI variables", path: path.to_owned(), errno };
    let file = match open() {
        Err(errno) if errno.kind() == std::io::ErrorKind::NotFound => {
            make_variables(path, &template(code)?)
                .map_err(|errno| FirmwareUnfit::Make { path: path.to_owned(), errno })?;
            open()
        }
        opened => opened,
    }
    .map_err(failed)?;
    match lock_at_last(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file.into()),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(FirmwareUnfit::InUse { path: path.to_owned() }),
        Err(errno) => Err(failed(errno.into())),
    }
}

/// The variables that come with the code: its name with VARS for CODE.
fn template(code: &Path) -> Result<Vec<u8>, FirmwareUnfit> {
    let name = code.file_name().unwrap_or_default().to_string_lossy().replace("CODE", "VARS");
    let path = code.with_file_name(name);
    if path == code {
        return Err(FirmwareUnfit::Unpaired { path });
    }
    std::fs::read(&path).map_err(|_| FirmwareUnfit::NoTemplate { path })
}

/// Makes the file whole or not at all.
fn make_variables(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let unfinished = path.with_file_name(name);
    let made = File::create(&unfinished)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .and_then(|()| std::fs::rename(&unfinished, path));
    if made.is_err() {
        // What is left of it is of no use.
        let _ = std::fs::remove_file(&unfinished);
    }
    made
}

/// Variables that nobody asked to keep.
fn unnamed_variables(code: &Path) -> Result<OwnedFd, FirmwareUnfit> {
    let bytes = template(code)?;
    let fail = |errno| FirmwareUnfit::Make { path: "(in memory)".into(), errno };
    let fd = rustix::fs::memfd_create("uefi-variables", MemfdFlags::CLOEXEC);
    let mut file = File::from(fd.map_err(|errno| fail(errno.into()))?);
    file.write_all(&bytes).map_err(fail)?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use spec::seat_file::{BootFirst, FirmwareKind};

    use super::{Firmware, FirmwareUnfit};

    fn uefi(folder: &std::path::Path) -> Firmware {
        Firmware {
            kind: FirmwareKind::Uefi,
            image: Some(folder.join("OVMF_CODE_4M.fd")),
            variables: Some(folder.join("anna.vars")),
            log: None,
            boot: BootFirst::Disks,
        }
    }

    #[test]
    fn variables_are_made_once_from_those_beside_the_code_and_have_one_user() {
        let folder = tempfile::tempdir().unwrap();
        let firmware = uefi(folder.path());
        std::fs::write(folder.path().join("OVMF_CODE_4M.fd"), b"code").unwrap();
        assert!(matches!(firmware.open(), Err(FirmwareUnfit::NoTemplate { .. })));
        std::fs::write(folder.path().join("OVMF_VARS_4M.fd"), b"variables").unwrap();
        let open = firmware.open().unwrap();
        let path = folder.path().join("anna.vars");
        assert_eq!(std::fs::read(&path).unwrap(), b"variables");
        assert!(matches!(firmware.open(), Err(FirmwareUnfit::InUse { .. })));
        drop(open);
        std::fs::write(&path, b"changed").unwrap();
        firmware.open().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"changed");
        assert!(!folder.path().join("anna.vars.new").exists());
    }

    #[test]
    fn a_look_makes_nothing_and_finds_what_would_not_do() {
        let folder = tempfile::tempdir().unwrap();
        for file in ["OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"] {
            std::fs::write(folder.path().join(file), b"sixteen bytes of").unwrap();
        }
        let firmware = uefi(folder.path());
        assert!(firmware.look().unwrap().is_none());
        let path = folder.path().join("anna.vars");
        assert!(!path.exists());
        std::fs::write(&path, b"too few").unwrap();
        let error = firmware.look().unwrap_err().to_string();
        assert!(error.contains("anna.vars have 7 bytes") && error.contains("have 16"), "{error}");
        std::fs::write(&path, b"another sixteen.").unwrap();
        let held = firmware.look().unwrap();
        assert!(held.is_some() && matches!(firmware.look(), Err(FirmwareUnfit::InUse { .. })));
        let no_folder = Firmware { variables: Some("/nowhere/anna.vars".into()), ..firmware };
        assert!(no_folder.look().unwrap_err().to_string().contains("its folder must exist"));
    }

    #[test]
    fn what_cannot_be_had_is_named_with_its_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let bios = Firmware { kind: FirmwareKind::Bios, ..uefi(folder.path()) };
        let nowhere = Firmware { variables: None, image: Some("/nowhere/bios".into()), ..bios.clone() };
        let no_folder = Firmware { variables: Some("/nowhere/anna.vars".into()), ..uefi(folder.path()) };
        for file in ["OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"] {
            std::fs::write(folder.path().join(file), b"x").unwrap();
        }
        for (firmware, words) in [
            (bios, "keeps no UEFI variables"),
            (nowhere, "open the firmware /nowhere/bios"),
            (no_folder, "its folder must exist"),
        ] {
            let error = firmware.open().unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let missing = FirmwareUnfit::Missing { kind: FirmwareKind::Uefi, path: PathBuf::from("/x") };
        assert!(missing.to_string().contains("apt install ovmf"));
    }
}
