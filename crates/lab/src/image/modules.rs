//! Kernel modules: which depend on which, and storing those that count uncompressed.

use super::ImageError;
use crate::tool;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Modules unpacked by one call of xz.
const XZ_BATCH: usize = 200;

/// Which module files need which others, out of `modules.dep`.
pub(super) struct Dependencies {
    /// Path below the modules folder -> paths it needs, direct and indirect.
    needs: BTreeMap<String, Vec<String>>,
}

impl Dependencies {
    /// Reads `modules.dep` of a tree.
    pub(super) fn read(tree: &Path, release: &str) -> Result<Self, ImageError> {
        let path = folder(tree, release).join("modules.dep");
        Ok(Self::parse(&fs::read_to_string(&path).map_err(ImageError::file("read", &path))?))
    }

    fn parse(text: &str) -> Self {
        let needs = text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(path, rest)| (path.to_owned(), rest.split_whitespace().map(str::to_owned).collect()))
            .collect();
        Self { needs }
    }

    /// Returns the files of the named modules and all they need, each after what it needs.
    ///
    /// Names that no file has are modules built into the kernel and are passed over.
    pub(super) fn load_order(&self, names: &[String]) -> Vec<String> {
        let by_name: BTreeMap<String, &String> =
            self.needs.keys().map(|path| (module_name(path), path)).collect();
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        for path in names.iter().filter_map(|name| by_name.get(&name.replace('-', "_"))) {
            // depmod lists the needs of a module from the nearest to the farthest.
            let needs = self.needs[*path].iter().rev();
            for file in needs.chain([*path]) {
                if seen.insert(file.clone()) {
                    order.push(file.clone());
                }
            }
        }
        order
    }

    /// Returns a `modules.dep` of the chosen modules, all lying in one folder.
    pub(super) fn flat_index(&self, chosen: &[String]) -> String {
        let line = |file: &String| {
            let needs = self.needs.get(file).into_iter().flatten();
            let needs: String = needs.map(|need| format!(" {}", file_name(need))).collect();
            format!("{}:{needs}\n", file_name(file))
        };
        chosen.iter().map(line).collect()
    }
}

/// Returns the lines of a `modules.alias` that belong to the chosen modules.
pub(super) fn aliases_of(text: &str, chosen: &[String]) -> String {
    let names: BTreeSet<String> = chosen.iter().map(|file| module_name(file)).collect();
    let lines = text.lines().filter(|line| line.rsplit(' ').next().is_some_and(|name| names.contains(name)));
    lines.map(|line| format!("{line}\n")).collect()
}

/// Returns the file name of a module's path.
pub(super) fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Returns the folder that `modules.dep` and its paths are relative to.
pub(super) fn folder(tree: &Path, release: &str) -> PathBuf {
    tree.join("usr/lib/modules").join(release)
}

/// Unpacks the named modules and all they need in place, and writes the module index.
pub(super) fn decompress(tree: &Path, release: &str, names: &[String]) -> Result<(), ImageError> {
    index(tree, release)?;
    let dependencies = Dependencies::read(tree, release)?;
    let packed: Vec<PathBuf> = dependencies
        .load_order(names)
        .iter()
        .filter(|file| file.ends_with(".xz"))
        .map(|file| folder(tree, release).join(file))
        .collect();
    for batch in packed.chunks(XZ_BATCH) {
        tool::run(tool::command("xz").arg("--decompress").args(batch))?;
    }
    for path in packed.iter().map(|path| path.with_extension("")) {
        let module = fs::read(&path).map_err(ImageError::file("read", &path))?;
        if let Some(bare) = without_signature(&module) {
            fs::write(&path, bare).map_err(ImageError::file("write", &path))?;
        }
    }
    index(tree, release)
}

/// Returns a module without the signature behind it; none if it has none.
///
/// Checking signatures takes half the time of loading inside an emulated processor, and nobody but us wrote the
/// image. The layout is `struct module_signature` of the kernel's include/linux/module_signature.h.
fn without_signature(module: &[u8]) -> Option<&[u8]> {
    let rest = module.strip_suffix(b"~Module signature appended~\n")?;
    let (rest, trailer) = rest.split_last_chunk::<12>()?;
    let length = u32::from_be_bytes([trailer[8], trailer[9], trailer[10], trailer[11]]) as usize;
    rest.get(..rest.len().checked_sub(length)?)
}

/// Runs depmod out of the unpacked tree, with the tree's own loader: the builder's machine may have none.
fn index(tree: &Path, release: &str) -> Result<(), ImageError> {
    let libraries = tree.join("usr/lib/x86_64-linux-gnu");
    let mut depmod = Command::new(libraries.join("ld-linux-x86-64.so.2"));
    depmod.arg("--library-path").arg(&libraries).args(["--argv0", "depmod"]).arg(tree.join("usr/bin/kmod"));
    tool::run(depmod.arg("--basedir").arg(tree).arg(release)).map(drop).map_err(ImageError::from)
}

fn module_name(path: &str) -> String {
    let file = file_name(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::{Dependencies, aliases_of, without_signature};

    #[test]
    fn only_a_whole_signature_is_cut_off() {
        let signed = |length: u32| {
            let mut module = b"ELFsig".to_vec();
            module.extend([0; 8]);
            module.extend(length.to_be_bytes());
            module.extend(b"~Module signature appended~\n");
            module
        };
        assert_eq!(without_signature(&signed(3)), Some(&b"ELF"[..]));
        assert_eq!(without_signature(&signed(7)), None);
        assert_eq!(without_signature(b"ELF"), None);
    }

    const DEP: &str = "kernel/a/top.ko.xz: kernel/a/mid-dle.ko.xz kernel/a/base.ko.xz\n\
                       kernel/a/mid-dle.ko.xz: kernel/a/base.ko.xz\n\
                       kernel/a/base.ko.xz:\n";

    #[test]
    fn the_index_of_a_few_modules_names_no_folders_and_no_others() {
        let dependencies = Dependencies::parse(DEP);
        let chosen = dependencies.load_order(&["mid_dle".to_owned()]);
        assert_eq!(dependencies.flat_index(&chosen), "base.ko.xz:\nmid-dle.ko.xz: base.ko.xz\n");
        let aliases = "# head\nalias pci:v1 mid_dle\nalias pci:v2 top\n";
        assert_eq!(aliases_of(aliases, &chosen), "alias pci:v1 mid_dle\n");
    }

    #[test]
    fn modules_come_after_what_they_need_and_only_once() {
        let dependencies = Dependencies::parse(DEP);
        let (base, middle, top) = ("kernel/a/base.ko.xz", "kernel/a/mid-dle.ko.xz", "kernel/a/top.ko.xz");
        let rows: [(&[&str], &[&str]); 4] = [
            (&["top"], &[base, middle, top]),
            (&["mid_dle", "top"], &[base, middle, top]),
            (&["mid-dle"], &[base, middle]),
            (&["built_in"], &[]),
        ];
        for (names, expected) in rows {
            let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
            assert_eq!(dependencies.load_order(&names), expected, "{names:?}");
        }
    }
}
