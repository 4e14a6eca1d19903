//! The demo on a host of one's own: the lab's host has an IOMMU and two cards to spare, so there the command asks, takes
//! them after a yes, shows both seats and gives everything back. The console's own card is none of them.
//!
//! A program of its own because it boots a host for minutes: `cargo xtask soak demo_here`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario says what it expects")]

mod picture;

use std::cell::RefCell;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use lab::wire::{Frame, Request};
use lab::{Failure, Hardware, Host, Lab, Piece, Profile};
use scene::judge::judge;
use scene::layout::Facts;

/// The whole story may take this long; a busy machine needs some of it.
const LIMIT: Duration = Duration::from_secs(400);
/// Two machines boot on one emulated processor.
const PICTURE_LIMIT: Duration = Duration::from_secs(150);
/// What the seats show, by the cards of the profile: name and colour.
const SHOWN: [(&str, &str, u16); 2] = [("screen-a", "demo-first", 20), ("screen-b", "demo-second", 200)];

/// The workspace as it is inside: `cargo` is asked for that alone.
const PREPARE: &str =
    "mkdir -p /run/tree/target /run/tree/docs/results && ln -s /opt/allod /run/tree/target/release";

fn share() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("demo-here");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let mut strip = Command::new("strip");
    strip.arg("-o").arg(folder.join("xtask")).arg(env!("CARGO_BIN_EXE_xtask"));
    if !strip.status().is_ok_and(|status| status.success()) {
        fs::copy(env!("CARGO_BIN_EXE_xtask"), folder.join("xtask")).unwrap();
    }
    // Where the workspace is inside.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let metadata =
        String::from_utf8(output.stdout).unwrap().replace(&root.display().to_string(), "/run/tree");
    fs::write(folder.join("metadata.json"), metadata).unwrap();
    fs::write(folder.join("cargo"), "#!/bin/sh\nexec cat /share/metadata.json\n").unwrap();
    fs::set_permissions(folder.join("cargo"), Permissions::from_mode(0o755)).unwrap();
    folder
}

/// Waits until a card's monitor shows its scene. Pictures are all that is seen from outside.
fn await_scene(hardware: &Hardware, (card, name, hue): (&str, &str, u16), (folder, said): (&Path, &str)) {
    let facts = Facts { name: name.into(), hue, typed: String::new() };
    let begin = Instant::now();
    loop {
        let file = folder.join(format!("{card}.png"));
        let seen = hardware
            .screenshot(card, 0, &file)
            .map_err(|failure| failure.to_string())
            .and_then(|()| picture::read(&file))
            .and_then(|picture| judge(&picture, &facts).map_err(|difference| difference.to_string()));
        match seen {
            Ok(_) => return,
            Err(why) => assert!(begin.elapsed() < PICTURE_LIMIT, "{card}: {why}\n{said}"),
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn drivers(host: &Host) -> String {
    let script =
        "cd /sys/bus/pci/devices; for f in *; do echo $f $(basename $(readlink $f/driver || echo -)); done";
    host.run_within(script, LIMIT).unwrap().stdout
}

/// Ways to end it: Enter, and what a terminal makes of Ctrl-C: SIGINT for all that run on it.
const ENDINGS: [&[u8]; 2] = [b"\n", b"\x03"];

#[test]
fn a_host_with_cards_to_spare_shows_the_demo_itself() {
    let share = share();
    let lab = Lab::new(Profile::named("pairs").unwrap()).share(&share);
    let host = match lab.boot(&|stage| eprintln!("lab: {stage}")) {
        Err(Failure::Image(error)) => return println!("SKIPPED: no lab host: {error}"),
        booted => booted.unwrap(),
    };
    let prepared = host.run_within(PREPARE, LIMIT).unwrap();
    assert!(prepared.is_success(), "{prepared:?}");
    let before = drivers(&host);
    for ending in ENDINGS {
        shows_itself(&host, &share, ending);
        assert_eq!(drivers(&host), before, "after {ending:?}");
    }
}

/// Says yes to the demo inside, looks at both monitors and ends it.
fn shows_itself(host: &Host, share: &Path, ending: &[u8]) {
    let request = Request {
        command: ["/share/xtask", "demo", "--no-build", "--out", "/share/out"].map(str::to_owned).to_vec(),
        environment: vec![("CARGO".into(), "/share/cargo".into())],
        terminal: Some((120, 40)),
        open_input: true,
        ..Request::default()
    };
    let said = RefCell::new(String::new());
    let hardware = host.hardware();
    let running = host.begin(&request).unwrap();
    let sender = running.sender();
    let (mut asked, mut shown) = (false, false);
    let exit = running.finish(LIMIT, &mut |piece| {
        let (Piece::Output(bytes) | Piece::Error(bytes)) = piece;
        let mut said = said.borrow_mut();
        said.push_str(&String::from_utf8_lossy(bytes));
        if !asked && said.contains("anything else shows the lab: ") {
            asked = true;
            sender.send(&Frame::Input(b"yes\n".to_vec())).unwrap();
        }
        if !shown && said.contains("Press Enter to end") {
            shown = true;
            SHOWN.iter().for_each(|shown| await_scene(hardware, *shown, (share, &said)));
            sender.send(&Frame::Input(ending.to_vec())).unwrap();
        }
    });
    let said = said.into_inner();
    assert_eq!(lab::host::status_of(&exit.unwrap()).unwrap(), 0, "{said}");
    assert!(asked && shown, "{said}");
    let page = fs::read_to_string(share.join("out/index.html")).unwrap();
    for words in ["this very host", "demo-first", "demo-second", "every device is at the driver"] {
        assert!(page.contains(words), "the page does not say `{words}`");
    }
    assert!(!page.contains("class=\"no\""), "{said}");
}
