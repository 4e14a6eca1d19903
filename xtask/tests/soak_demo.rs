//! The demo with the figures that it measures, as the README has it typed. What else the demo shows, `lab_demo` asks.
//!
//! A program of its own because it boots two hosts, one after the other: `cargo xtask soak demo`.

use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn the_demo_measures_a_taste_of_what_a_seat_costs() {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("demo-figures");
    let _ = fs::remove_dir_all(&out);
    let demo = Command::new(env!("CARGO_BIN_EXE_xtask")).args(["demo", "--out"]).arg(&out).output().unwrap();
    let said = String::from_utf8_lossy(&demo.stderr);
    assert!(demo.status.success(), "{said}");
    let page = fs::read_to_string(out.join("index.html")).unwrap();
    for words in
        ["native, one seat and two seats at once were measured", "Measured just now", "<td>disk</td>"]
    {
        assert!(page.contains(words), "the page does not say `{words}`\n{said}");
    }
    for name in ["bench.md", "bench.json", "bench.svg"] {
        assert!(fs::metadata(out.join(name)).is_ok_and(|file| file.len() > 0), "there is no {name}");
    }
    assert!(said.contains("A taste of what a seat costs"), "{said}");
    assert!(!page.contains("class=\"no\""), "{said}");
}
