//! Whether there is room on disk for what set-up and builds will write, asked before any of it is written.

use crate::process::capture;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Something that will be written.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) what: &'static str,
    pub(super) place: PathBuf,
    pub(super) megabytes: u64,
}

/// A file system, and what is free on it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Room {
    name: String,
    megabytes: u64,
}

/// Looks whether there is room for all of it.
///
/// # Errors
/// There is not; every file system that is too small is named.
pub(super) fn check(wanted: &[Wanted]) -> Result<()> {
    let mut rooms = Vec::new();
    for one in wanted {
        // What cannot be asked is no reason to refuse: writing will tell.
        if let Ok(room) = room(&one.place) {
            rooms.push((one.clone(), room));
        }
    }
    let lacks = lacks(&rooms);
    if !lacks.is_empty() {
        bail!("{}", lacks.join("\n"));
    }
    Ok(())
}

/// Asks for the file system that a place is on, or will be.
fn room(place: &Path) -> Result<Room> {
    let there = place.ancestors().find(|folder| folder.is_dir()).context("no folder of the path is there")?;
    let mut command = Command::new("df");
    let (status, text) = capture(command.args(["--output=avail,target", "--block-size=1M"]).arg(there))?;
    parse(&text).filter(|_| status.success()).context("df has no answer")
}

/// Reads what df says: a line of headings, then the free megabytes and the name.
fn parse(text: &str) -> Option<Room> {
    let (free, name) = text.lines().nth(1)?.trim().split_once(' ')?;
    Some(Room { name: name.trim().to_owned(), megabytes: free.parse().ok()? })
}

/// Says of each file system on which there is not enough room what it lacks, and for what.
fn lacks(rooms: &[(Wanted, Room)]) -> Vec<String> {
    let mut names: Vec<&str> = rooms.iter().map(|(_, room)| room.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let of = |name: &str| {
        let here = || rooms.iter().filter(move |(_, room)| room.name == name);
        let free = here().map(|(_, room)| room.megabytes).min()?;
        let needed: u64 = here().map(|(wanted, _)| wanted.megabytes).sum();
        let one = |(wanted, _): &(Wanted, Room)| {
            format!("{} MB for {} in {}", wanted.megabytes, wanted.what, wanted.place.display())
        };
        let all: Vec<String> = here().map(one).collect();
        (free < needed)
            .then(|| format!("{free} MB are free on {name}, and {needed} are needed: {}", all.join(", ")))
    };
    names.into_iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shares_a_file_system_is_added_up() {
        let wanted = |what, place: &str, megabytes| Wanted { what, place: place.into(), megabytes };
        let (image, builds) = (wanted("the image", "/home/x", 2000), wanted("builds", "/src/target", 5000));
        let room = |name: &str, megabytes| Room { name: name.into(), megabytes };
        let rows: [(Room, Room, &[&str]); 4] = [
            (room("/", 7000), room("/", 7000), &[]),
            (room("/", 6999), room("/", 6999), &["6999 MB are free on /, and 7000 are needed"]),
            (room("/home", 2000), room("/src", 5000), &[]),
            (
                room("/home", 1000),
                room("/src", 4000),
                &["1000 MB are free on /home", "4000 MB are free on /src"],
            ),
        ];
        for (first, second, expected) in rows {
            let told = lacks(&[(image.clone(), first), (builds.clone(), second)]);
            assert_eq!(told.len(), expected.len(), "{told:?}");
            assert!(told.iter().zip(expected).all(|(told, start)| told.starts_with(start)), "{told:?}");
        }
    }

    #[test]
    fn the_answer_of_df_is_read_or_left_alone() {
        let rows = [
            (" Avail Mounted on\n 44966 /home/two words\n", Some(("/home/two words", 44966))),
            ("Avail Mounted on\n", None),
            ("Avail Mounted on\n- /proc\n", None),
            ("", None),
        ];
        for (text, expected) in rows {
            let read = parse(text);
            assert_eq!(read.as_ref().map(|room| (room.name.as_str(), room.megabytes)), expected, "{text:?}");
        }
    }
}
