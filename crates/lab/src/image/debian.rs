//! Fetches Debian packages and unpacks them into a folder, without running any of their scripts.
//!
//! mmdebstrap does the work. It writes a tar stream that we unpack ourselves, so that the files belong to
//! whoever builds and can be deleted again by them.

use super::ImageError;
use super::recipe::{Annex, Rebuilt, Recipe};
use crate::tool::{self, ToolError};
use std::fs;
use std::path::Path;
use std::process::Stdio;

/// Overrides the Debian mirror.
const MIRROR_VARIABLE: &str = "ALLOD_LAB_MIRROR";

/// Which packages of which suite.
pub(super) struct Selection<'a> {
    suite: &'a str,
    packages: &'a [String],
}

impl<'a> Selection<'a> {
    pub(super) fn of(recipe: &'a Recipe) -> Self {
        Self { suite: &recipe.suite, packages: &recipe.packages }
    }

    pub(super) fn of_rebuilt(suite: &'a str, rebuilt: &'a Rebuilt) -> Self {
        Self { suite, packages: &rebuilt.packages }
    }

    pub(super) fn of_annex(annex: &'a Annex) -> Self {
        Self { suite: &annex.suite, packages: &annex.packages }
    }
}

/// Unpacks the selection and all it depends on into the new folder `into`.
pub(super) fn unpack(selection: &Selection, into: &Path) -> Result<(), ImageError> {
    fs::create_dir_all(into).map_err(ImageError::file("create", into))?;
    let mut fetch = tool::command("mmdebstrap");
    fetch
        .args(["--quiet", "--variant=extract", "--format=tar"])
        .arg(format!("--include={}", selection.packages.join(",")))
        // Suites under development let their index lapse between updates.
        .arg("--aptopt=Acquire::Check-Valid-Until \"false\"")
        .args([selection.suite, "-"]);
    if let Some(mirror) = mirror() {
        fetch.arg(mirror);
    }
    let mut fetching = fetch
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|cause| tool::start_error(&fetch, cause))?;
    let stream = fetching.stdout.take().map_or_else(Stdio::null, Stdio::from);
    let mut unpack = tool::command("tar");
    // Device nodes cannot be made without privilege, and the kernel makes them anyway.
    unpack.args(["--extract", "--no-same-owner", "--exclude=./dev/*", "--directory"]).arg(into).stdin(stream);
    unpack.stdout(Stdio::null()).stderr(Stdio::piped());
    let unpacked = unpack.output().map_err(|cause| tool::start_error(&unpack, cause))?;
    let fetched = fetching.wait_with_output().map_err(|cause| tool::start_error(&fetch, cause))?;
    // The fetch first: when it fails, tar's complaint is only the echo.
    tool::check(&fetch, &fetched)?;
    tool::check(&unpack, &unpacked).map_err(|error: ToolError| error.into())
}

/// Returns the mirror to use: the environment's, else the one this machine's own apt uses; none means mmdebstrap's default.
fn mirror() -> Option<String> {
    if let Some(mirror) = std::env::var(MIRROR_VARIABLE).ok().filter(|mirror| !mirror.is_empty()) {
        return Some(mirror);
    }
    let mut texts = vec![fs::read_to_string("/etc/apt/sources.list").unwrap_or_default()];
    for entry in fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten() {
        texts.push(fs::read_to_string(entry.path()).unwrap_or_default());
    }
    texts.iter().find_map(|text| mirror_in(text))
}

/// Finds the first Debian archive named in an apt source list of either format.
fn mirror_in(text: &str) -> Option<String> {
    text.lines()
        .map(str::trim)
        .filter(|line| line.starts_with("URIs:") || line.starts_with("deb "))
        .flat_map(str::split_whitespace)
        .find(|word| {
            word.starts_with("http")
                && matches!(word.trim_end_matches('/').rsplit('/').next(), Some("debian"))
        })
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::mirror_in;

    #[test]
    fn the_users_own_debian_mirror_is_found_in_both_formats() {
        let rows: [(&str, Option<&str>); 5] = [
            ("deb http://mirror.example/debian trixie main", Some("http://mirror.example/debian")),
            (
                "deb [signed-by=/k.gpg] https://m.example/debian/ trixie main",
                Some("https://m.example/debian/"),
            ),
            ("Types: deb\nURIs: http://m.example/debian\nSuites: trixie", Some("http://m.example/debian")),
            ("deb https://packages.example/other stable main", None),
            ("# deb http://m.example/debian trixie main\ndeb http://s.example/debian-security x main", None),
        ];
        for (text, expected) in rows {
            assert_eq!(mirror_in(text).as_deref(), expected, "{text}");
        }
    }
}
