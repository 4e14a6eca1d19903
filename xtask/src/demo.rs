//! `cargo xtask demo`: the main job, seen with one's own eyes on any machine.
//!
//! Sets up, builds the release binaries and plays a day at a desk of two in the lab: doctor, devices, plan, up, keys on
//! both keyboards, pictures of all monitors, down. One folder keeps all of it, with a page that shows it. Not here:
//! the story in the lab ([`desk`], with figures by [`taste`]) and on a host of one's own ([`here`]), and the page ([`page`]). `main` calls this.

mod desk;
mod folder;
mod here;
mod measured;
mod monitors;
mod offer;
mod page;
mod picture;
mod ramdisk;
mod story;
mod taste;

use crate::process::{capture, say};
use crate::report::{Findings, Report};
use crate::setup;
use crate::test::build_release;
use crate::workspace::Workspace;
use anyhow::Result;
use clap::Args;
use folder::Folder;
use lab::Failure;
use offer::Offer;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;
use story::Story;

/// What is said before anything is done.
const ANNOUNCEMENT: &str = "\
This boots the lab, a virtual host with an IOMMU, and lets two people and an ordinary machine share it: each person gets
a graphics card, a USB controller with keyboard and pointer, and a disk of their own. The first time it installs and
builds what that needs, named below. On a host with an IOMMU and a spare graphics card it could be shown for real: root is
asked whether it may, and nothing is taken without a yes.";

/// How the demo is shown.
#[derive(Args)]
pub(crate) struct Options {
    /// The folder the pictures and the page go to; target/demo when not given.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Leave out the set-up and the build: show what was built before.
    #[arg(long)]
    no_build: bool,
    /// Leave out the measuring of a seat against the host, about two minutes on a busy machine.
    #[arg(long)]
    no_figures: bool,
}

/// Shows the main job as phases of `report`.
pub(crate) fn run(options: &Options, workspace: &Workspace, report: &mut Report) {
    eprintln!("{ANNOUNCEMENT}");
    let out = options.out.clone().unwrap_or_else(|| workspace.target.join("demo"));
    // First, because a host that shows it itself needs no lab.
    let offer = here::asked(&out);
    let ready = options.no_build
        || (offer.is_some() || setup::run(&setup::Options::default(), workspace, report))
            && build_release(report);
    if !ready {
        return;
    }
    report.phase("demo", || show(workspace, &Folder::empty(&out)?, offer.as_ref(), !options.no_figures));
    let page = out.join(folder::PAGE);
    if page.exists() {
        report.close_with(format!("Look at {}", url(&page)));
    }
}

/// Returns the address that a browser opens a file by.
fn url(path: &Path) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut url = "file://".to_owned();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'-' | b'.' | b'_' | b'~' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => {
                url.push(char::from(*byte));
            }
            byte => url.push_str(&format!("%{byte:02X}")),
        }
    }
    url
}

fn show(workspace: &Workspace, out: &Folder, offer: Option<&Offer>, measuring: bool) -> Result<Findings> {
    let places = desk::Places {
        programs: &workspace.target.join("release"),
        example: &workspace.root.join("docs/examples/desk"),
        out: *out,
    };
    let begin = Instant::now();
    let facts = facts(workspace, offer.is_some());
    let mut story = Story { on_a_host: offer.is_some(), facts, ..Story::default() };
    let end = match offer {
        Some(offer) => here::play(offer, places.programs, out, &mut story),
        None => patiently(&mut story, |story| desk::play(&places, story)).and_then(|()| {
            let example = workspace.root.join("docs/examples/bench");
            let measure = |story: &mut Story| taste::measure(places.programs, &example, out, story);
            if measuring { patiently(&mut story, measure) } else { Ok(()) }
        }),
    };
    if let Some((table, drawing)) = measured::newest(&workspace.root.join("docs/results"))? {
        let chapter = story.begin(
            "What a seat costs, measured at length",
            "The newest result that is kept with the project.",
        );
        (chapter.table, chapter.drawing) = (Some(table), drawing);
    }
    story.broke_off = end.as_ref().err().map(|error| format!("{error:#}"));
    story.seconds = begin.elapsed().as_secs_f64();
    // What was seen until something went wrong is worth a page too.
    out.write("story.json", serde_json::to_string_pretty(&story)? + "\n")?;
    out.write(folder::PAGE, page::html(&story))?;
    say(story.summary());
    end?;
    Ok(Findings { problems: story.problems(), ..Findings::default() })
}

/// Plays a part of the story, once more when the emulator hung: that is no word about what is shown. It is counted.
fn patiently(story: &mut Story, play: impl Fn(&mut Story) -> Result<()>) -> Result<()> {
    let before = story.chapters.len();
    match play(story) {
        Err(error) if is_hang(&error) => {
            say("    HUNG: the emulator, not what is shown; once more in a fresh lab");
            story.hangs += 1;
            story.chapters.truncate(before);
            play(story)
        }
        end => end,
    }
}

fn is_hang(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|cause| cause.downcast_ref()).any(Failure::is_hang)
}

/// Returns when and where it is, and what with.
fn facts(workspace: &Workspace, on_a_host: bool) -> Vec<(&'static str, String)> {
    // A word that cannot be had is left out: it is no reason not to show the rest.
    let word = |command: &mut Command| {
        let (status, text) = capture(command).ok()?;
        (status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
    };
    let commit =
        word(Command::new("git").args(["describe", "--always", "--dirty"]).current_dir(&workspace.root));
    let version = env!("CARGO_PKG_VERSION");
    let version = commit.map_or(version.to_owned(), |commit| format!("{version}, {commit}"));
    let place = if on_a_host { "this very host" } else { "the lab" };
    let machine = word(Command::new("uname").args(["-s", "-r", "-m"]));
    let place = machine.map_or(place.to_owned(), |machine| format!("{place}, on {machine}"));
    let date = word(Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]));
    let facts = [("when", date), ("where", Some(place)), ("Allod", Some(version))];
    facts.into_iter().filter_map(|(what, fact)| Some((what, fact?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context, anyhow};

    #[test]
    fn a_hung_emulator_is_tried_once_more_and_nothing_else_is() {
        let hang = || Failure::Hang { sign: "silence".into(), tail: String::new() };
        let rows: [(Vec<Result<()>>, bool, u32, usize); 4] = [
            (vec![Ok(())], true, 0, 1),
            (vec![Err(hang()).context("run `allod up` in the lab"), Ok(())], true, 1, 1),
            (vec![Err(hang().into()), Err(hang().into())], false, 1, 1),
            (vec![Err(anyhow!("`allod up` ended with 1")), Ok(())], false, 0, 1),
        ];
        for (ends, expected, hangs, chapters) in rows {
            let ends = std::cell::RefCell::new(ends.into_iter());
            let mut story = Story::default();
            let end = patiently(&mut story, |story| {
                story.begin("a part", "");
                ends.borrow_mut().next().unwrap()
            });
            assert_eq!(
                (end.is_ok(), story.hangs, story.chapters.len()),
                (expected, hangs, chapters),
                "{end:?}"
            );
        }
    }

    #[test]
    fn a_browser_opens_the_page_whatever_the_folder_is_called() {
        let url = url(Path::new("/home/anna/two words/50%/é/index.html"));
        assert_eq!(url, "file:///home/anna/two%20words/50%25/%C3%A9/index.html");
    }
}
