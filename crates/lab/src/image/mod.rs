//! The lab image: kernel, initial RAM disk and root file system of the virtual host, and the QEMU that runs it.
//!
//! Everything comes from Debian packages named in `image/recipe.toml`. The result is kept by the hash of the
//! recipe and of this builder, so a second build takes nothing. Our own programs are not in it: they are
//! brought in at each start.

mod cpio;
mod debian;
mod finish;
mod kernel;
mod modules;
mod rebuilt;
mod recipe;

pub use cpio::{Archive, Entry};
pub use recipe::Recipe;

use crate::cache;
use crate::tool::{self, ToolError};
use rustix::fs::FlockOperation;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// Changes whenever the builder makes something else of the same recipe.
const BUILDER_VERSION: u32 = 3;
/// Touched at each use of an image.
const USED_FILE: &str = "used";
/// An image unused for this long goes when another is built.
const KEEP_UNUSED: Duration = Duration::from_secs(14 * 24 * 3600);
/// Room left in the root file system beyond its contents, in percent.
const ROOT_HEADROOM_PERCENT: u64 = 25;

/// Why no image could be had.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A program the builder needs failed or is missing.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// A file of the image could not be read or written.
    #[error("cannot {operation} {path}: {cause}")]
    File {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's reason.
        cause: io::Error,
    },
    /// The recipe or a file out of a package is not what the builder expects.
    #[error("{what}: {problem}")]
    Contents {
        /// Which file.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl ImageError {
    pub(crate) fn file(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |cause| Self::File { operation, path, cause }
    }

    pub(crate) fn contents(what: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Contents { what: what.into(), problem: problem.into() }
    }
}

/// A built image; its files are read-only and shared by every host that runs.
#[derive(Debug, Clone)]
pub struct Image {
    dir: PathBuf,
}

impl Image {
    /// Returns the image of the built-in recipe, building it first when the cache has none.
    ///
    /// `progress` is told each step in a few words. A second caller waits for the first instead of building twice.
    pub fn ready(progress: &dyn Fn(&str)) -> Result<Self, ImageError> {
        let image = Self::expected();
        if image.is_complete() {
            image.note_use();
            return Ok(image);
        }
        let root = cache::image_root();
        fs::create_dir_all(&root).map_err(ImageError::file("create", &root))?;
        let _lock = lock(&root, progress)?;
        if image.is_complete() {
            return Ok(image);
        }
        image.build(&root, progress)?;
        image.note_use();
        prune(&root, SystemTime::now(), progress);
        Ok(image)
    }

    /// Returns where the image of the built-in recipe is or will be, without building it.
    pub fn expected() -> Self {
        Self { dir: cache::image_root().join(key()) }
    }

    /// Says whether the image is built.
    pub fn is_complete(&self) -> bool {
        // The folder appears under this name by one rename, after everything in it was written.
        self.dir.is_dir()
    }

    /// Returns the folder of the image.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the kernel as Debian ships it (bzImage).
    pub fn vmlinuz(&self) -> PathBuf {
        self.dir.join("vmlinuz")
    }

    /// Returns the kernel as an uncompressed ELF file, for PVH boots.
    pub fn vmlinux(&self) -> PathBuf {
        self.dir.join("vmlinux")
    }

    /// Returns the first-stage RAM disk of the host; [`crate::start`] appends our own init to a copy.
    pub fn initrd(&self) -> PathBuf {
        self.dir.join("initrd")
    }

    /// Returns the root file system (ext4, only ever mounted read-only).
    pub fn rootfs(&self) -> PathBuf {
        self.dir.join("root.ext4")
    }

    /// Returns the unpacked folder the outer QEMU runs from.
    pub fn emulator_tree(&self) -> PathBuf {
        self.dir.join("emulator")
    }

    /// Leaves the time of the last use for [`prune`].
    fn note_use(&self) {
        // At worst the image is built anew some day.
        let _ = File::create(self.dir.join(USED_FILE));
    }

    fn build(&self, root: &Path, progress: &dyn Fn(&str)) -> Result<(), ImageError> {
        let begin = Instant::now();
        let recipe = Recipe::built_in()?;
        // Beside the final place, so that the rename stays inside one file system.
        let work = tempfile::Builder::new()
            .prefix("building-")
            .tempdir_in(root)
            .map_err(ImageError::file("create a folder in", root))?;
        let tree = work.path().join("tree");
        let out = work.path().join("image");
        fs::create_dir(&out).map_err(ImageError::file("create", &out))?;

        progress("fetching and unpacking the packages");
        debian::unpack(&debian::Selection::of(&recipe), &tree)?;
        for annex in &recipe.annexes {
            progress(&format!("fetching and unpacking {}", annex.name));
            debian::unpack(&debian::Selection::of_annex(annex), &tree.join("opt").join(&annex.name))?;
        }
        progress("unpacking the kernel and its modules");
        let release = kernel::release(&tree)?;
        kernel::place(&tree, &release, &out)?;
        modules::decompress(&tree, &release, &recipe.decompressed_modules())?;
        for rebuilt in &recipe.rebuilt {
            progress(&format!("fetching the kernel's source and building {}", rebuilt.name));
            rebuilt::place(&recipe, rebuilt, &work.path().join("build"), &tree)?;
        }
        progress("writing the initial RAM disk");
        finish::host_initrd(&tree, &release, &recipe, &out.join("initrd"))?;
        finish::system_files(&tree, &release, &recipe)?;
        progress("writing the root file system");
        write_root(&tree, &out.join("root.ext4"))?;
        finish::keep_emulator(&tree, &out.join("emulator"))?;

        fs::rename(&out, &self.dir).map_err(ImageError::file("put in place", &self.dir))?;
        progress(&format!(
            "image ready after {:.1} s: {}",
            begin.elapsed().as_secs_f32(),
            self.dir.display()
        ));
        Ok(())
    }
}

/// Returns the cache key of the image: a hash of all that decides its contents.
pub fn key() -> String {
    let mut hash = Sha256::new();
    hash.update(BUILDER_VERSION.to_le_bytes());
    hash.update(recipe::TEXT);
    hash.update(finish::SCRIPTS);
    hash.update(rebuilt::VFIO_CDEV);
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Removes images that nobody used for a while: every change of the recipe leaves one behind.
fn prune(root: &Path, now: SystemTime, progress: &dyn Fn(&str)) {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let used = fs::metadata(entry.path().join(USED_FILE)).and_then(|file| file.modified());
        let age = used.ok().and_then(|used| now.duration_since(used).ok());
        if age.is_some_and(|age| age > KEEP_UNUSED) && fs::remove_dir_all(entry.path()).is_ok() {
            progress(&format!("removed an image unused for long: {}", entry.path().display()));
        }
    }
}

fn lock(root: &Path, progress: &dyn Fn(&str)) -> Result<File, ImageError> {
    let path = root.join("lock");
    let file = File::create(&path).map_err(ImageError::file("create", &path))?;
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        progress("another build is running; waiting for it");
        rustix::fs::flock(&file, FlockOperation::LockExclusive)
            .map_err(|errno| ImageError::file("lock", &path)(errno.into()))?;
    }
    Ok(file)
}

fn write_root(tree: &Path, image: &Path) -> Result<(), ImageError> {
    let used = tool::run(tool::command("du").args(["-s", "--block-size=1M"]).arg(tree))?;
    let megabytes: u64 = String::from_utf8_lossy(&used)
        .split_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .ok_or_else(|| ImageError::contents("du", "printed no size"))?;
    let size = megabytes + megabytes * ROOT_HEADROOM_PERCENT / 100 + 64;
    // No journal: the file is never mounted writable. In a user namespace of our own the files of whoever
    // builds belong to root.
    let mut command = tool::command("unshare");
    if rustix::process::geteuid().is_root() {
        command = tool::command("mke2fs");
    } else {
        command.args(["--map-root-user", "--"]).arg(tool::command("mke2fs").get_program());
    }
    command.args(["-q", "-t", "ext4", "-m", "0", "-O", "^has_journal", "-d"]).arg(tree).arg(image);
    tool::run(command.arg(format!("{size}M"))).map(drop).map_err(ImageError::from)
}
