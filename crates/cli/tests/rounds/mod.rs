//! A whole run of `allod bench` in the lab, from its first round to its last, in the guest that `allod lab guest` makes: that
//! every place has its figures, that a run that is made is not made again, and that the devices are back. What the figures
//! are is no scenario's matter: those of a busy machine say nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lab::{Failure, Host, Lab, Profile};
use serde_json::Value;

/// A command that only looks.
const SOON: Duration = Duration::from_secs(120);
/// Who has which function.
const DRIVERS: &str = "for function in /sys/bus/pci/devices/*; do echo $(basename $function) $(readlink $function/driver); done";
/// Processes that would be left.
const MACHINES: &str = "pgrep -a allod-vmm; pgrep -a qemu-system; true";
/// How the bars are coloured: one seat by Allod and by QEMU, all seats by both.
const COLORS: [(&str, &str, &str); 4] = [
    ("#0b5394", "one-seat", "allod"),
    ("#9fc5e8", "one-seat", "qemu"),
    ("#b45f06", "all-seats", "allod"),
    ("#f9cb9c", "all-seats", "qemu"),
];

/// What is to be measured, one short round of each.
pub(crate) struct Asked {
    /// The lab's host.
    pub(crate) profile: &'static str,
    /// A file of docs/examples/bench, and the seats in it.
    pub(crate) file: &'static str,
    pub(crate) seats: &'static [&'static str],
    pub(crate) workloads: &'static [&'static str],
    pub(crate) engines: &'static [&'static str],
    /// Further flags.
    pub(crate) flags: &'static str,
    /// Many times what it takes when the machine under the lab is idle.
    pub(crate) limit: Duration,
}

impl Asked {
    /// The disk is the lab's own, at hand in the host already.
    fn command(&self) -> String {
        let listed = |flag: &str, words: &[&str]| -> String {
            words.iter().map(|word| format!(" --{flag} {word}")).collect()
        };
        format!(
            "allod bench /share/{} --guest /share/guest --guest-disk /dev/vda --rounds 1 --laps 1 --seconds 0.2 \
             --journal /share/rounds.jsonl{}{} {}",
            self.file,
            listed("workload", self.workloads),
            listed("engine", self.engines),
            self.flags
        )
    }

    /// The conditions and engines that each workload has figures of, with the seats of each.
    fn places(&self) -> Vec<(&'static str, &'static str, Vec<Value>)> {
        let named = |seats: &[&str]| seats.iter().map(|seat| Value::from(*seat)).collect::<Vec<_>>();
        let mut places = vec![("native", "host", vec![Value::Null])];
        for engine in self.engines {
            places.push(("one-seat", engine, named(&self.seats[..1])));
            if self.seats.len() > 1 {
                places.push(("all-seats", engine, named(self.seats)));
            }
        }
        places
    }
}

/// Measures on a host of its own, once more where the emulator hung.
pub(crate) fn are_measured(asked: &Asked) {
    let share = share(asked);
    let lab = Lab::new(Profile::named(asked.profile).unwrap()).share(&share);
    let measured = match measure(asked, &lab, &share) {
        Err(failure) if failure.is_hang() => {
            eprintln!("lab: {failure}; trying once more");
            let _ = fs::remove_file(share.join("rounds.jsonl"));
            measure(asked, &lab, &share)
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
fn share(asked: &Asked) -> PathBuf {
    let share = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("bench-rounds-{}", asked.profile));
    let _ = fs::remove_dir_all(&share);
    fs::create_dir(&share).unwrap();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples/bench");
    for file in [asked.file, "host.sh", "edid.sh"] {
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

fn measure(asked: &Asked, lab: &Lab, share: &Path) -> Result<(), Failure> {
    let host = lab.boot(&|stage| eprintln!("lab: {stage}"))?;
    does(&host, "sh /share/host.sh", SOON)?;
    let before = does(&host, DRIVERS, SOON)?;
    let said = does(&host, &format!("{} --json --svg /share/bars.svg", asked.command()), asked.limit)?;
    every_place_is_told(
        asked,
        &serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}")),
    );
    every_place_is_drawn(asked, &fs::read_to_string(share.join("bars.svg")).unwrap());
    assert_eq!(does(&host, DRIVERS, SOON)?, before);
    assert_eq!(does(&host, MACHINES, SOON)?, "");
    let claims = does(&host, "allod claims", SOON)?;
    assert!(asked.seats.iter().all(|seat| !claims.contains(seat)), "{claims}");
    what_is_in_the_journal_is_not_made_again(asked, &host)
}

fn every_place_is_told(asked: &Asked, told: &Value) {
    assert_eq!((&told["left_out"], &told["not_made"]), (&Value::Array(vec![]), &Value::from(0)), "{told:#}");
    let places = told["summary"].as_array().unwrap();
    let all = asked.places();
    assert_eq!(places.len(), asked.workloads.len() * all.len(), "{told:#}");
    for workload in asked.workloads {
        for (condition, engine, seats) in &all {
            let fits = |place: &&Value| {
                place["workload"] == *workload
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
    let compared = all.iter().filter(|(_, engine, _)| *engine == "qemu").count() * asked.workloads.len();
    assert_eq!(told["beside_qemu"].as_array().map_or(0, Vec::len), compared, "{told:#}");
    let conditions = told["conditions"].to_string();
    let version = asked.engines.contains(&"qemu").then_some("QEMU emulator version");
    for words in ["IOMMU", "Intel VT-d", "beware"].into_iter().chain(version) {
        assert!(conditions.contains(words), "no `{words}` in {conditions}");
    }
    for seat in asked.seats {
        assert!(conditions.contains(&format!("seat {seat}")), "{conditions}");
    }
}

fn every_place_is_drawn(asked: &Asked, bars: &str) {
    let places = asked.places();
    for (color, condition, engine) in COLORS {
        let has = places.iter().any(|place| (place.0, place.1) == (condition, engine));
        let drawn = bars.matches(&format!("fill=\"{color}\"")).count();
        assert_eq!(drawn, if has { asked.workloads.len() } else { 0 }, "bars of {color} in {bars}");
    }
}

/// The same command again has nothing to make, and so nothing to claim; it prints the same figures, as a table this time.
fn what_is_in_the_journal_is_not_made_again(asked: &Asked, host: &Host) -> Result<(), Failure> {
    let again = host.run_within(&asked.command(), SOON)?;
    assert!(again.is_success(), "{again:?}");
    let made = asked.places().len() * asked.workloads.len();
    assert!(again.stderr.contains(&format!("{made} rounds of workloads were made before")), "{again:?}");
    assert!(!again.stderr.contains("claiming"), "{again:?}");
    for workload in asked.workloads {
        assert!(again.stdout.contains(&format!("| {workload} | ")), "no row of {workload} in {again:?}");
    }
    if asked.engines.contains(&"qemu") {
        assert!(again.stdout.contains("Allod beside QEMU, in this run"), "{again:?}");
    }
    Ok(())
}
