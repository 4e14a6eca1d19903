//! The README's first command, from outside: two people and an ordinary machine share a host. What has to be true of
//! it the demo checks itself; here is asked whether all of it was, and whether the page shows it.
//!
//! What it measures takes longer than all of this, and is left to `soak_demo`.
//!
//! A program of its own because it boots a host for minutes: `cargo xtask test --scenario demo`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario says what it expects")]

mod picture;

use scene::judge::judge;
use scene::layout::Facts;
use std::fs;
use std::path::Path;
use std::process::Command;

/// What the demo has to have found true, in this order.
const SEEN: [&str; 21] = [
    "anna draws",
    "ben draws",
    "keyboard arrives",
    "clicks of ben's pointer arrive",
    "Anna's monitor shows",
    "Ben's first monitor shows ben's scene at 1920x1080",
    "Ben's second monitor shows ben 2's scene at 1920x1080",
    "Carl's window shows carl's scene at 1280x800, with nothing typed",
    "all three run at this moment",
    "Anna's monitor: its picture moves",
    "Ben's first monitor: its picture moves",
    "Ben's second monitor: ",
    "Ben's second monitor: its picture moves",
    "Carl's window: its picture moves, and still has nothing else on it",
    "ben saw the clicks of its own pointer, 2, and no other's",
    "anna's part carries packets to the gateway and back",
    "ben's part of the network card has the address that the seat file gives it",
    "ben's part carries packets to the gateway and back",
    "ben reads on its disk what the host wrote there",
    "every device is at the driver",
    "the host reads on ben's disk what the guest wrote there",
];

/// What a reader has to be told of the figures.
const SAID_OF_FIGURES: [&str; 3] =
    ["say nothing about speed on hardware", "<code>cpu</code> is the tax on all of them", "<td>cpu</td>"];

/// The pictures that are left, and what each has to show: name, colour, typed text.
const SHOWN: [(&str, &str, u16, &str); 4] = [
    ("anna-0", "anna", 20, "left"),
    ("ben-0", "ben", 200, "right"),
    ("ben-1", "ben 2", 260, "right"),
    ("carl-0", "carl", 130, ""),
];

/// Looks at each picture again: it shows its own scene, and none of the others.
fn judge_again(out: &Path) {
    let facts = |(_, name, hue, typed): (&str, &str, u16, &str)| Facts {
        name: name.into(),
        hue,
        typed: typed.into(),
    };
    for own in SHOWN {
        for moment in ["", "-later"] {
            let file = out.join(format!("{}{moment}.png", own.0));
            let picture = picture::read(&file).unwrap();
            for other in SHOWN {
                let judged = judge(&picture, &facts(other));
                assert_eq!(judged.is_ok(), own == other, "{} as {other:?}: {judged:?}", file.display());
            }
            // The other word on the right scene.
            let strange = Facts { typed: format!("{}x", own.3), ..facts(own) };
            assert!(judge(&picture, &strange).is_err(), "{}", file.display());
        }
    }
}

#[test]
fn two_people_share_a_host_and_its_devices_come_back() {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("demo");
    let _ = fs::remove_dir_all(&out);
    fs::create_dir_all(&out).unwrap();
    let [stale, mine] = ["bench.svg", "mine.txt"].map(|name| out.join(name));
    [&stale, &mine].iter().for_each(|file| fs::write(file, "of an earlier demo").unwrap());
    let demo = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["demo", "--no-figures", "--out"])
        .arg(&out)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&demo.stderr);
    assert!(demo.status.success(), "{said}");
    let page = fs::read_to_string(out.join("index.html")).unwrap();
    let mut rest = page.as_str();
    for words in SEEN {
        let at =
            rest.find(words).unwrap_or_else(|| panic!("the page does not say `{words}` (any more)\n{said}"));
        rest = &rest[at..];
    }
    assert_eq!(page.matches("data:image/png;base64,").count(), 8, "two pictures of each monitor");
    assert_eq!(
        page.matches("data:image/svg+xml;base64,").count(),
        2,
        "the host with its plan, and kept figures"
    );
    for name in ["seats.toml", "plan.svg", "plan.json", "inventory.json", "story.json"] {
        assert!(fs::metadata(out.join(name)).is_ok_and(|file| file.len() > 0), "there is no {name}");
    }
    for words in SAID_OF_FIGURES {
        assert!(page.contains(words), "the page does not say `{words}`");
    }
    assert!(!page.contains("class=\"no\""));
    assert!(!stale.exists() && mine.exists(), "what an earlier demo left goes, and nothing else");
    judge_again(&out);
}
