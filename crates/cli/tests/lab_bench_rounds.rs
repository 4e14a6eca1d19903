//! `allod bench` in the lab from its first round to its last: the host itself, one seat and two at once, by Allod and by QEMU,
//! in the guest that `allod lab guest` makes. What the figures are is no scenario's matter: those of a busy machine say
//! nothing. That they are all there is, and that the devices are back.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario says what it expects")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lab::{Failure, Host, Lab, Profile};
use serde_json::Value;

/// Five legs and six boots of guests; many times what they take when the machine under the lab is idle.
const LIMIT: Duration = Duration::from_secs(1200);
/// A command that only looks.
const SOON: Duration = Duration::from_secs(120);
/// One short round: the way is what is tried. The disk is the lab's own, at hand in the host already.
const BENCH: &str = "allod bench /share/seats.toml --guest /share/guest --guest-disk /dev/vda --rounds 1 --laps 1 --seconds 0.2 \
                     --engine allod --engine qemu --workload cpu --workload fill --workload irq --journal /share/rounds.jsonl";
const WORKLOADS: [&str; 3] = ["cpu", "fill", "irq"];
/// Who has which function.
const DRIVERS: &str = "for function in /sys/bus/pci/devices/*; do echo $(basename $function) $(readlink $function/driver); done";
/// Processes that would be left.
const MACHINES: &str = "pgrep -a allod-vmm; pgrep -a qemu-system; true";

#[test]
fn the_host_one_seat_and_two_are_measured_by_both_engines() {
    let share = share();
    let lab = Lab::new(Profile::named("pairs").unwrap()).share(&share);
    let measured = match measure(&lab, &share) {
        Err(failure) if failure.is_hang() => {
            eprintln!("lab: {failure}; trying once more");
            let _ = fs::remove_file(share.join("rounds.jsonl"));
            measure(&lab, &share)
        }
        measured => measured,
    };
    fs::remove_dir_all(&share).unwrap();
    match measured {
        Err(Failure::Image(error)) => println!("SKIPPED: no lab host: {error}"),
        measured => measured.unwrap_or_else(|failure| panic!("{failure}")),
    }
}

/// Makes a folder with the example and a guest in it.
fn share() -> PathBuf {
    let share = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-rounds");
    let _ = fs::remove_dir_all(&share);
    fs::create_dir(&share).unwrap();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples/bench");
    for file in ["seats.toml", "host.sh", "edid.sh"] {
        fs::copy(example.join(file), share.join(file)).unwrap();
    }
    let allod = lab::start::programs_folder().unwrap().join("allod");
    let made = Command::new(allod).args(["lab", "guest"]).arg(share.join("guest")).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    share
}

fn does(host: &Host, script: &str, limit: Duration) -> Result<String, Failure> {
    let output = host.run_within(script, limit)?;
    assert!(output.is_success(), "{script}: {output:?}");
    eprintln!("{}", output.stderr);
    Ok(output.stdout)
}

fn measure(lab: &Lab, share: &Path) -> Result<(), Failure> {
    let host = lab.boot(&|stage| eprintln!("lab: {stage}"))?;
    does(&host, "sh /share/host.sh", SOON)?;
    let before = does(&host, DRIVERS, SOON)?;
    let said = does(&host, &format!("{BENCH} --json --svg /share/bars.svg"), LIMIT)?;
    every_place_is_told(&serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}")));
    let bars = fs::read_to_string(share.join("bars.svg")).unwrap();
    for color in ["#0b5394", "#9fc5e8", "#b45f06", "#f9cb9c"] {
        let drawn = bars.matches(&format!("fill=\"{color}\"")).count();
        assert_eq!(drawn, WORKLOADS.len(), "bars of {color} in {bars}");
    }
    assert_eq!(does(&host, DRIVERS, SOON)?, before);
    assert_eq!(does(&host, MACHINES, SOON)?, "");
    let claims = does(&host, "allod claims", SOON)?;
    assert!(!claims.contains("left") && !claims.contains("right"), "{claims}");
    what_is_in_the_journal_is_not_made_again(&host)
}

fn every_place_is_told(told: &Value) {
    assert_eq!((&told["left_out"], &told["not_made"]), (&Value::Array(vec![]), &Value::from(0)), "{told:#}");
    let places = told["summary"].as_array().unwrap();
    let all = [
        ("native", "host", vec![Value::Null]),
        ("one-seat", "allod", vec!["left".into()]),
        ("one-seat", "qemu", vec!["left".into()]),
        ("all-seats", "allod", vec!["left".into(), "right".into()]),
        ("all-seats", "qemu", vec!["left".into(), "right".into()]),
    ];
    assert_eq!(places.len(), WORKLOADS.len() * all.len(), "{told:#}");
    for workload in WORKLOADS {
        for (condition, engine, seats) in &all {
            let fits = |place: &&Value| {
                place["workload"] == workload
                    && place["condition"] == *condition
                    && place["engine"] == *engine
            };
            let place = places
                .iter()
                .find(fits)
                .unwrap_or_else(|| panic!("{workload} {condition} {engine}: {told:#}"));
            let found = place["seats"].as_array().unwrap();
            assert_eq!(
                &found.iter().map(|seat| seat["seat"].clone()).collect::<Vec<_>>(),
                seats,
                "{place:#}"
            );
            for seat in found {
                assert!(seat["sum"].as_f64().unwrap() > 0.0 && seat["rounds"] == 1, "{place:#}");
            }
            assert!(place["percent"].as_f64().unwrap() > 0.0, "{place:#}");
        }
    }
    assert_eq!(told["beside_qemu"].as_array().unwrap().len(), 2 * WORKLOADS.len(), "{told:#}");
    let conditions = told["conditions"].to_string();
    for words in ["seat left", "seat right", "IOMMU", "Intel VT-d", "QEMU emulator version", "beware"] {
        assert!(conditions.contains(words), "no `{words}` in {conditions}");
    }
}

/// The same command again has nothing to make, and so nothing to claim; it prints the same figures, as a table this time.
fn what_is_in_the_journal_is_not_made_again(host: &Host) -> Result<(), Failure> {
    let again = host.run_within(BENCH, SOON)?;
    assert!(again.is_success(), "{again:?}");
    assert!(again.stderr.contains("15 rounds of workloads were made before"), "{again:?}");
    assert!(!again.stderr.contains("claiming"), "{again:?}");
    for words in [
        "| cpu | Mloops/s |",
        "Allod beside QEMU, in this run",
        "| irq | all seats at once, QEMU: right | 1 |",
    ] {
        assert!(again.stdout.contains(words), "no `{words}` in {again:?}");
    }
    Ok(())
}
