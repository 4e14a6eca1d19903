//! The project as data: its crates from cargo's metadata and its files from git, for the verbs and the tidy rules.
//!
//! Not here: any opinion about them; `tidy` and `check` have those.

use crate::process::{capture, cargo};
use anyhow::{Context, Result, bail};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, TargetKind};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The project's folder, its crates and all packages they build with.
pub(crate) struct Workspace {
    /// The folder with the root manifest.
    pub(crate) root: PathBuf,
    /// The folder cargo builds into.
    pub(crate) target: PathBuf,
    /// Our crates.
    pub(crate) crates: Vec<Crate>,
    /// Everybody else's packages that the lock file names.
    pub(crate) externals: Vec<External>,
}

/// One crate of ours.
#[derive(Clone, Debug, Default)]
pub(crate) struct Crate {
    /// The package's name.
    pub(crate) name: String,
    /// Its folder, relative to the root.
    pub(crate) folder: String,
    /// The root files of its library and its binaries, relative to the project's root.
    pub(crate) roots: Vec<String>,
    /// Its integration tests by name.
    pub(crate) tests: Vec<String>,
    /// What it depends on directly.
    pub(crate) dependencies: Vec<Dependency>,
}

/// A direct dependency of a crate of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dependency {
    /// The package's name.
    pub(crate) name: String,
    /// Whether only tests use it.
    pub(crate) dev: bool,
    /// Whether it is a crate of this workspace.
    pub(crate) ours: bool,
}

/// A package of somebody else's.
#[derive(Clone, Debug)]
pub(crate) struct External {
    /// The package's name.
    pub(crate) name: String,
    /// Its SPDX expression, where it states one.
    pub(crate) licence: Option<String>,
}

/// A text file of the project.
#[derive(Clone, Debug)]
pub(crate) struct SourceFile {
    /// Its path relative to the root.
    pub(crate) path: String,
    /// Its content.
    pub(crate) text: String,
}

impl Workspace {
    /// Reads the workspace that this command was built from.
    pub(crate) fn load() -> Result<Workspace> {
        let metadata = MetadataCommand::new()
            .cargo_path(cargo(&[]).get_program())
            .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
            .exec()
            .context("cannot read the workspace's metadata")?;
        Ok(Workspace::from_metadata(&metadata))
    }

    fn from_metadata(metadata: &Metadata) -> Workspace {
        let root = metadata.workspace_root.as_std_path();
        let (ours, theirs): (Vec<&Package>, Vec<&Package>) =
            metadata.packages.iter().partition(|package| metadata.workspace_members.contains(&package.id));
        let names: Vec<&str> = ours.iter().map(|package| package.name.as_str()).collect();
        Workspace {
            root: root.to_owned(),
            target: metadata.target_directory.as_std_path().to_owned(),
            crates: ours.iter().map(|package| Crate::from_package(package, root, &names)).collect(),
            externals: theirs
                .iter()
                .map(|package| External { name: package.name.to_string(), licence: package.license.clone() })
                .collect(),
        }
    }

    /// Lists the project's files as git sees them, new ones that are not ignored included.
    pub(crate) fn paths(&self) -> Result<Vec<String>> {
        let mut git = Command::new("git");
        git.arg("-C").arg(&self.root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        let (status, listing) = capture(&mut git)?;
        if !status.success() {
            bail!("`git ls-files` ended with {status}: the structure tests read the list of files from git");
        }
        let mut paths: Vec<String> =
            listing.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect();
        paths.sort();
        paths.dedup();
        paths.retain(|path| self.root.join(path).is_file());
        Ok(paths)
    }

    /// Reads those of `paths` that are text.
    pub(crate) fn texts(&self, paths: &[String]) -> Result<Vec<SourceFile>> {
        let mut files = Vec::new();
        for path in paths {
            let bytes = std::fs::read(self.root.join(path)).with_context(|| format!("cannot read {path}"))?;
            if let Ok(text) = String::from_utf8(bytes) {
                files.push(SourceFile { path: path.clone(), text });
            }
        }
        Ok(files)
    }
}

impl Crate {
    fn from_package(package: &Package, root: &Path, ours: &[&str]) -> Crate {
        let relative = |path: &Path| path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned();
        let is_test = |kinds: &[TargetKind]| kinds.contains(&TargetKind::Test);
        let is_shipped =
            |kinds: &[TargetKind]| kinds.iter().any(|k| matches!(k, TargetKind::Lib | TargetKind::Bin));
        Crate {
            name: package.name.to_string(),
            folder: package
                .manifest_path
                .parent()
                .map(|folder| relative(folder.as_std_path()))
                .unwrap_or_default(),
            roots: package
                .targets
                .iter()
                .filter(|target| is_shipped(&target.kind))
                .map(|target| relative(target.src_path.as_std_path()))
                .collect(),
            tests: package.targets.iter().filter(|t| is_test(&t.kind)).map(|t| t.name.clone()).collect(),
            dependencies: package
                .dependencies
                .iter()
                .map(|dependency| Dependency {
                    name: dependency.name.clone(),
                    dev: dependency.kind == DependencyKind::Development,
                    ours: ours.contains(&dependency.name.as_str()),
                })
                .collect(),
        }
    }
}
