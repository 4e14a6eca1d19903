//! `linux::vfio` and `linux::iommu` on the real kernel: every emulated card opened, mapped, interrupted, reset, pulled.
//!
//! The probe of the `linux` crate does the work inside the host and tells it as JSON; this looks at the answer. It
//! stands here because `linux` lies below the lab.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario says what it expects")]

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lab::{Failure, Host, Lab, Output, Profile};
use serde_json::Value;

/// A probe takes about a second; much more when the machine is loaded.
const LIMIT: Duration = Duration::from_secs(60);
/// The probe, and where one that waits tells what it saw.
const PROBE: &str = "/share/vfio_probe";
const TOLD: &str = "/run/told";
/// A function is left alone for this long after a function-level reset (PCIe 6.0, 6.6.2).
const RESET_US: u64 = 100_000;

#[test]
fn intel_every_card_opens_maps_signals_and_resets() {
    let Some(bench) = ready(&CARDS) else { return };
    bench.check_cards();
}

#[test]
fn every_card_opens_maps_signals_and_resets_by_its_own_file() {
    let Some(bench) = ready(&CDEV) else { return };
    // Without the other way, so that what works has gone this one.
    bench.run("rm -f /dev/vfio/vfio");
    bench.check_cards();
    bench.check_dma();
    let slot = format!(
        "{} {}",
        bench.bind("8086:10d3 function 0 of two"),
        bench.bind("1b36:000d function 1 of two")
    );
    for function in bench.probe(&format!("--hot-reset {slot}")) {
        assert_eq!(function["hot_reset"]["error"], Value::Null, "{function}");
    }
}

#[test]
fn intel_dma_reaches_mapped_memory_and_nothing_else() {
    let Some(bench) = ready(&CARDS) else { return };
    bench.check_dma();
    let log = bench.run("dmesg").stdout;
    for fault in ["DMA Write NO_PASID", "DMA Read NO_PASID", "fault addr 0x2000000", "fault addr 0x1000000"] {
        assert!(log.contains(fault), "no `{fault}` in {log}");
    }
}

#[test]
fn amd_dma_reaches_mapped_memory_and_nothing_else() {
    let Some(bench) = ready(&AMD) else { return };
    // QEMU 10 blocks without an entry in the event log, so there is nothing to look for in the kernel's.
    bench.check_dma();
}

#[test]
fn functions_opened_at_once_are_reset_at_once() {
    let Some(bench) = ready(&CARDS) else { return };
    let (one, other) = (bench.bind("1b36:0010"), bench.bind("1af4:1050"));
    // A loaded machine is late now and then, so the quickest of some; and late in all of them alike, so beside each other.
    let quickest = |functions: &str| {
        let times = (0..4).map(|_| bench.probe(functions)[0]["all_open_us"].as_u64().unwrap());
        times.min().unwrap()
    };
    let (alone, beside) = (quickest(&one), quickest(&other));
    let both = quickest(&format!("{one} {other}"));
    assert!(both + RESET_US / 2 < alone + beside, "{alone} us and {beside} us, both in {both} us");
}

#[test]
fn what_cannot_be_opened_is_refused_with_its_cause() {
    let Some(bench) = ready(&GROUPS) else { return };
    // Two functions of one card, the second at its host driver.
    bench.give_back("1b36:000d");
    let first = bench.bind("8086:10d3 function 0 of two");
    let half = bench.refusal(&first);
    assert!(half.contains("a host driver holds a function of the group"), "{half}");

    let missing = bench.refusal("0000:7f:00.0");
    assert!(missing.contains("find function 0000:7f:00.0"), "{missing}");
    let unbound = bench.refusal(&bench.find("1af4:1001"));
    assert!(unbound.contains("at a VFIO driver; it is bound to virtio-pci"), "{unbound}");

    let disk = bench.bind("1b36:0010");
    bench.start_waiting(&disk);
    let busy = bench.refusal(&disk);
    assert!(busy.contains("it is in use"), "{busy}");
    bench.run("kill $(pidof vfio_probe)");
}

#[test]
fn a_slot_or_bus_is_reset_when_all_of_it_is_ours() {
    let Some(bench) = ready(&GROUPS) else { return };
    // The kernel counts a bridge at its hot-plug driver as held by the host; one at no driver harms nobody.
    bench.run("echo 0000:03:00.0 > /sys/bus/pci/drivers/shpchp/unbind");
    let twins = format!("{} {}", bench.bind("8086:10d3 function 0 of two"), bench.bind("1b36:000d"));
    let bridged = format!("{} {}", bench.bind("1234:11e8"), bench.bind("8086:100e"));
    for pair in [&twins, &bridged] {
        let told = bench.probe(&format!("--hot-reset {pair}"));
        for function in &told {
            assert_eq!(function["scope"].as_array().unwrap().len(), 2, "{function}");
            assert_eq!(function["hot_reset"]["error"], Value::Null, "{function}");
        }
    }
}

#[test]
fn a_pulled_card_answers_all_ones_where_the_kernel_keeps_no_copy() {
    let Some(bench) = ready(&GROUPS) else { return };
    bench.start_waiting(&bench.bind("8086:10d3"));
    bench.host.pull("alone0").unwrap();
    let waited = bench.waited();
    assert!(waited["gone_us"].is_u64(), "{waited}");
    assert_eq!((&waited["class"], &waited["ids"]), (&"ffffffff".into(), &"10d38086".into()), "{waited}");
    // Before the host has heard of it no reset works; then it waits with the function locked.
    let reset = waited["reset"]["error"].as_str().unwrap_or_default();
    assert!(
        ["Inappropriate ioctl", "temporarily unavailable"].iter().any(|said| reset.contains(said)),
        "{waited}"
    );
}

#[test]
fn a_function_is_asked_for_when_the_host_wants_it_back() {
    let Some(bench) = ready(&GROUPS) else { return };
    let disk = bench.bind("1b36:0010");
    bench.start_waiting(&disk);
    // Blocks in the kernel until the probe has closed the function.
    bench.run(&format!("echo {disk} > /sys/bus/pci/drivers/vfio-pci/unbind"));
    let waited = bench.waited();
    assert!(waited["asked_us"].is_u64() && waited["gone_us"].is_null(), "{waited}");
    // The host waits with the function locked: nobody resets it now.
    let reset = "reset the function: Resource temporarily unavailable (os error 11)";
    assert_eq!(waited["reset"]["error"], reset, "{waited}");
    let driver = bench.run(&format!("readlink /sys/bus/pci/devices/{disk}/driver"));
    assert!(!driver.is_success(), "{driver:?}");
}

/// The hosts, each booted when first asked for and gone with this process.
static CARDS: Shared = LazyLock::new(|| Bench::new("cards"));
static GROUPS: Shared = LazyLock::new(|| Bench::new("groups"));
static CDEV: Shared = LazyLock::new(|| Bench::new("cdev"));
static AMD: Shared = LazyLock::new(|| Bench::new("amd"));

type Shared = LazyLock<Result<Mutex<Bench>, String>>;

/// A host, or `None` after saying aloud what is missing for one.
fn ready(shared: &'static Shared) -> Option<Watched> {
    match &**shared {
        Ok(bench) => Some(Watched(bench.lock().unwrap_or_else(PoisonError::into_inner))),
        Err(reason) => {
            println!("SKIPPED: no lab host: {reason}");
            None
        }
    }
}

/// A host in a test's hands, whose kernel is listened to when the test is over.
struct Watched(MutexGuard<'static, Bench>);

impl Deref for Watched {
    type Target = Bench;

    fn deref(&self) -> &Bench {
        &self.0
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let complaint = self.0.host.complaint().unwrap_or_else(|failure| panic!("{failure}"));
            assert_eq!(complaint, None, "the host's kernel complained");
        }
    }
}

/// A host with the probe in it.
struct Bench {
    host: Host,
}

impl Bench {
    fn new(profile: &str) -> Result<Mutex<Self>, String> {
        let lab = Lab::new(Profile::named(profile).unwrap()).share(probe_folder());
        let boot = || lab.boot(&|stage| eprintln!("lab: {stage}"));
        let host = match boot() {
            Err(Failure::Image(error)) => return Err(error.to_string()),
            Err(failure) if failure.is_hang() => {
                eprintln!("lab: {failure}; trying once more");
                boot().unwrap_or_else(|failure| panic!("{failure}"))
            }
            booted => booted.unwrap_or_else(|failure| panic!("{failure}")),
        };
        let bench = Self { host };
        bench.run("modprobe vfio-pci");
        Ok(Mutex::new(bench))
    }

    fn run(&self, script: &str) -> Output {
        self.host.run_within(script, LIMIT).unwrap_or_else(|failure| panic!("{failure}"))
    }

    /// The address of the function with these ids; of several, the one in a slot of two when `function N of two`
    /// follows.
    fn find(&self, ids: &str) -> String {
        let (ids, two) = ids.split_once(' ').map_or((ids, false), |(ids, _)| (ids, true));
        let (vendor, device) = ids.split_once(':').unwrap();
        let beside = if two { "[ -e ${d%.?}.1 ] || continue;" } else { "" };
        let found = self.run(&format!(
            "for d in /sys/bus/pci/devices/*; do {beside} [ $(cat $d/vendor) = 0x{vendor} ] && \
             [ $(cat $d/device) = 0x{device} ] && basename $d; done; true"
        ));
        let mut found = found.stdout.lines().map(str::to_owned);
        found.next().unwrap_or_else(|| panic!("no function {ids}"))
    }

    /// Takes a function from its host driver and gives it to vfio-pci.
    fn bind(&self, ids: &str) -> String {
        let function = self.find(ids);
        let bound = self.run(&format!(
            "cd /sys/bus/pci/devices/{function}; [ -e driver ] && echo {function} > driver/unbind; \
             echo vfio-pci > driver_override; echo {function} > /sys/bus/pci/drivers_probe; readlink driver"
        ));
        assert!(bound.stdout.contains("vfio-pci"), "{bound:?}");
        function
    }

    /// Gives a function back to its host driver.
    fn give_back(&self, ids: &str) {
        let function = self.find(ids);
        self.run(&format!(
            "cd /sys/bus/pci/devices/{function}; echo {function} > driver/unbind; echo > driver_override; \
             echo {function} > /sys/bus/pci/drivers_probe"
        ));
    }

    /// Starts a probe that waits to be asked for its function.
    fn start_waiting(&self, function: &str) {
        self.run(&format!(
            "{PROBE} --wait 30 {function} > {TOLD} 2>&1 & until grep -q waiting {TOLD}; do sleep 0.1; done"
        ));
    }

    /// What the waiting probe saw in the end.
    fn waited(&self) -> Value {
        let told = self.run(&format!(
            "for i in $(seq 300); do grep -q '^{{' {TOLD} && break; sleep 0.1; done; grep '^{{' {TOLD}"
        ));
        let told: Value =
            serde_json::from_str(&told.stdout).unwrap_or_else(|error| panic!("{error}: {told:?}"));
        told["wait"].clone()
    }

    /// Runs the probe; its answer for each function.
    fn probe(&self, arguments: &str) -> Vec<Value> {
        let output = self.run(&format!("{PROBE} {arguments}"));
        assert!(output.is_success(), "{arguments}: {output:?}");
        output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Runs the probe on what it must refuse; what it says.
    fn refusal(&self, arguments: &str) -> String {
        let output = self.run(&format!("{PROBE} {arguments}"));
        assert!(!output.is_success(), "{arguments}: {output:?}");
        output.stderr
    }

    /// Opens, maps, interrupts and resets one card of each kind.
    fn check_cards(&self) {
        for (ids, resettable, function_level, vectors, rom) in [
            ("1234:11e8", false, false, ("MSI", 1), 0),
            ("8086:293e", false, false, ("MSI", 1), 0),
            ("8086:10d3", true, false, ("MSI-X", 5), 0x4_0000),
            ("1b36:0010", true, true, ("MSI-X", 65), 0),
            ("1af4:1050", true, true, ("MSI-X", 3), 0),
            ("1234:1111", true, false, ("", 0), 0x8000),
            ("1b36:000d", true, false, ("MSI-X", 16), 0),
        ] {
            let function = self.bind(ids);
            let told = &self.probe(&function)[0];
            assert_eq!(told["resettable"], resettable, "{ids}: {told}");
            assert_eq!(told["reset_ways"]["function_level"], function_level, "{ids}: {told}");
            let reset = told["reset"]["error"].as_str().unwrap_or_default();
            let expected = if resettable { "" } else { "reset the function: Invalid argument (os error 22)" };
            assert_eq!(reset, expected, "{ids}: {told}");
            assert_eq!(told["present_after_reset"], true, "{ids}: {told}");

            let (kind, count) = vectors;
            if count > 0 {
                let loopback = &told["loopback"][kind];
                let last = u64::from(count > 1);
                assert_eq!(
                    [&loopback["vectors"], &loopback["first"], &loopback["last"], &loopback["after_disarm"]],
                    [count, 1, last, 0],
                    "{ids}: {told}"
                );
            }
            assert_eq!(told["loopback"]["request"], 1, "{ids}: {told}");
            assert_eq!(
                (&told["rom"]["bytes"], &told["rom"]["bar_size"]),
                (&rom.into(), &rom.into()),
                "{ids}: {told}"
            );
            for mapped in
                told["regions"].as_array().unwrap().iter().flat_map(|region| region["mapped"].as_array())
            {
                let whole = mapped.iter().all(|area| area["error"].is_null() && area["same"] != false);
                assert!(whole, "{ids}: {told}");
            }
            for (rule, holds) in told["rules"].as_object().unwrap() {
                assert_eq!(holds, true, "{ids}: {rule}");
            }
        }
    }

    fn check_dma(&self) {
        let function = self.bind("1234:11e8");
        let told = &self.probe(&function)[0]["edu"];
        let on_event = &told["written_on_event"];
        assert_eq!(*on_event, serde_json::json!([true, true, true, true]), "{told}");
        let facts = ["alive", "interrupt"].map(|fact| &told[fact]);
        assert_eq!(facts, [true, true], "{told}");
        // The pin fires, is quiet while masked, fires again while held, is quiet once served, and fires anew.
        assert_eq!(told["pin"], serde_json::json!([true, false, true, false, true]), "{told}");
        let dma = &told["dma"];
        for (fact, holds) in [
            ("inside_works", true),
            ("outside_leaked", false),
            ("untouched_after_unmap", true),
            ("untouched_read_only", true),
        ] {
            assert_eq!(dma[fact], holds, "{fact}: {told}");
        }
        for refusal in ["overlap_refused", "cut_refused", "second_unmap_refused"] {
            assert!(dma[refusal].is_string(), "{refusal}: {told}");
        }
    }
}

/// Builds the probe as this test was built, and names its folder. Cargo builds no example of another crate for a test.
fn probe_folder() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.ancestors().nth(2).map(Path::to_owned).unwrap();
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--package", "linux", "--example", "vfio_probe"]);
    if folder.ends_with("release") {
        build.arg("--release");
    }
    let status = build.env("CARGO_TARGET_DIR", folder.parent().unwrap()).status().unwrap();
    assert!(status.success(), "the probe is not built");
    folder.join("examples")
}
