//! Builds modules of the image's kernel again, with options that the distribution leaves out.
//!
//! Inside an unpacked tree of the same suite, so that compiler, headers and source are those of the kernel they are
//! loaded into; which options those are is the business of the script of that name. Loading them is the first process's.

use std::fs;
use std::path::Path;

use super::ImageError;
use super::debian::{Selection, unpack};
use super::recipe::{Rebuilt, Recipe};
use crate::tool;

/// The scripts that build, by the name of what they build; each runs in its tree and leaves `/modules`.
const SCRIPTS: [(&str, &str); 1] = [("vfio-cdev", VFIO_CDEV)];
/// All text of this step that decides what is in an image; part of its key.
pub(super) const VFIO_CDEV: &str = include_str!("../../image/vfio-cdev.sh");

/// Gives the tree a compiler's null device (device nodes cannot be made without privilege, but the host's can be shown
/// there), then builds in it.
const ENTER: &str =
    "mount --bind /dev/null \"$1/dev/null\" && exec chroot \"$1\" /usr/bin/bash /build-modules";

/// Builds `rebuilt`, of the suite of `recipe`, in the new folder `work` and puts the modules into `/opt/NAME` of `tree`.
pub(super) fn place(recipe: &Recipe, rebuilt: &Rebuilt, work: &Path, tree: &Path) -> Result<(), ImageError> {
    let known = SCRIPTS.iter().find(|(name, _)| *name == rebuilt.name);
    let script =
        known.ok_or_else(|| ImageError::contents(&rebuilt.name, "no script builds these modules"))?.1;
    unpack(&Selection::of_rebuilt(&recipe.suite, rebuilt), work)?;
    for (name, text) in [("dev/null", ""), ("build-modules", script)] {
        let path = work.join(name);
        fs::write(&path, text).map_err(ImageError::file("write", &path))?;
    }
    let mut build = tool::command("unshare");
    if !rustix::process::geteuid().is_root() {
        build.arg("--map-root-user");
    }
    tool::run(build.args(["--mount", "sh", "-c", ENTER, "sh"]).arg(work))?;

    let (built, place) = (work.join("modules"), tree.join("opt").join(&rebuilt.name));
    fs::rename(&built, &place).map_err(ImageError::file("put in place", &place))?;
    // The tree is half a gigabyte of compiler and headers.
    fs::remove_dir_all(work).map_err(ImageError::file("remove", work))
}

#[cfg(test)]
mod tests {
    use super::{Recipe, SCRIPTS};

    #[test]
    fn each_set_of_modules_of_the_recipe_has_the_script_that_builds_it() {
        let recipe = Recipe::built_in().unwrap();
        let named: Vec<&str> = recipe.rebuilt.iter().map(|rebuilt| rebuilt.name.as_str()).collect();
        assert_eq!(named, SCRIPTS.map(|(name, _)| name));
    }
}
