//! `allod claim`, `release`, `claims` and `trial` on a real kernel: devices come back as they were, whatever dies meanwhile.
//!
//! The next start after a death is `allod release --all`, which like every change first pays what is owed.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario says what it expects")]

mod bench;

use std::time::Duration;

use bench::Bench;
use lab::Output;

/// What every script may use: the driver and the settings of a function, by its ids.
const WORDS: &str = r#"
at() { lspci -Dn -d "$1" | head -n 1 | cut -d' ' -f1; }
driver() { basename "$(readlink -f "/sys/bus/pci/devices/$1/driver")"; }
settings() {
    for file in driver_override power/control d3cold_allowed reset_method; do
        echo "$file: $(cat "/sys/bus/pci/devices/$1/$file" 2>/dev/null)"
    done
    echo "driver: $(driver "$1")"
}
disk_is_there() { for _ in $(seq 200); do [ -b /dev/nvme0n1 ] && return; sleep 0.1; done; return 1; }
"#;

const NVME: &str = "1b36:0010";

fn script(text: &str) -> String {
    format!("{WORDS}{text}")
}

/// What a command has printed, both ways, for messages.
fn all(output: &Output) -> String {
    format!("status {}\n{}\n{}", output.status, output.stdout, output.stderr)
}

#[test]
fn all_kinds_of_card_are_handed_over_and_work_again_on_the_host() {
    let Some(bench) = Bench::boot("cards") else { return };
    let ids = [NVME, "8086:10d3", "1b36:000d", "1234:1111", "1af4:1050"];
    let list = ids.join(" ");
    bench.does("echo 'written before' | dd of=/dev/nvme0n1 conv=fsync status=none");
    let usb = "ls -d /sys/bus/usb/devices/[0-9]*-[0-9] | wc -l";
    let screens =
        "cat /sys/class/graphics/fb*/name; grep -h . /sys/class/vtconsole/*/name /sys/class/vtconsole/*/bind";
    let before =
        bench.does(&script(&format!("for id in {list}; do settings $(at $id); done; {usb}; {screens}")));

    let claimed = bench.within(
        &script(&format!(
            "allod claim $(for id in {list}; do at $id; done) --name all --give-console --json && \
             for id in {list}; do driver $(at $id); cat /sys/bus/pci/devices/$(at $id)/power/control; done"
        )),
        Duration::from_secs(120),
    );
    println!("{}", claimed.stderr);
    assert_eq!(claimed.stdout.matches("vfio-pci\non\n").count(), ids.len(), "{}", all(&claimed));
    let listed = bench.does("allod claims");
    assert!(listed.stdout.contains("by hand"), "{}", all(&listed));
    let gone = bench.run("ls /dev/nvme0n1 /sys/class/graphics/fb0");
    assert_ne!(gone.status, 0, "{}", all(&gone));

    let released = bench.within("allod release all", Duration::from_secs(120));
    println!("{}", released.stderr);
    assert_eq!(released.status, 0, "{}", all(&released));
    bench.does(&script(&format!(
        "disk_is_there; for _ in $(seq 100); do [ $({usb}) = 2 ] && [ -e /sys/class/graphics/fb1 ] && break; sleep 0.1; done"
    )));
    let after =
        bench.does(&script(&format!("for id in {list}; do settings $(at $id); done; {usb}; {screens}")));
    let sorted = |text: &str| {
        // The two cards may change numbers: who comes first is first.
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&after.stdout), sorted(&before.stdout));
    let disk = bench.does("head -n 1 /dev/nvme0n1");
    assert_eq!(disk.stdout.trim(), "written before");
    let pings = bench.does(&script(
        "name=$(ls /sys/bus/pci/devices/$(at 8086:10d3)/net) && ip link set $name up && \
         ip address add 10.0.2.15/24 dev $name && ping -c 3 -W 10 10.0.2.2",
    ));
    assert!(pings.stdout.contains("3 received"), "{}", all(&pings));
    // The console is drawn again: what is written to it is in the framebuffer.
    bench.does("for console in /sys/class/vtconsole/*; do grep -q 'frame buffer' $console/name && grep -q 1 $console/bind && exit 0; done; exit 1");
    assert_eq!(bench.does("allod claims").stdout, "no claims\n");
}

#[test]
fn what_the_host_needs_or_another_has_is_refused() {
    let Some(bench) = Bench::boot("groups") else { return };
    for (what, text, status, says) in [
        ("no such device", "allod claim 7f:00.0", 4, "no device"),
        ("the root disk", "allod claim $(at 1af4:1001)", 1, "mounted"),
        ("half a group", "allod claim $(at 1234:11e8)", 1, "whole"),
        (
            "the only way to the network",
            "name=$(ls /sys/bus/pci/devices/$(at 8086:10d3)/net) && ip link set $name up && \
             ip address add 192.0.2.2/24 dev $name && ip route add default via 192.0.2.1; \
             allod claim $(at 8086:10d3)",
            1,
            "way of the host to the network",
        ),
        (
            "another's device",
            "allod claim $(at 1b36:0010) --name one && allod claim $(at 1b36:0010) --name two",
            6,
            "`one`",
        ),
        ("a name that stands", "allod claim $(at 1b36:0010) --name one", 6, "one"),
        ("a claim that is none", "allod release two", 4, "no claim `two`"),
        (
            "a ledger that another has",
            "flock -o /var/lib/allod/lock sleep 60 & sleep 1; allod release one; status=$?; kill %1; exit $status",
            6,
            "changing the host just now",
        ),
        ("an ordinary user", "setpriv --reuid 65534 --clear-groups allod release one", 5, "root"),
    ] {
        let output = bench.run(&script(text));
        assert_eq!(output.status, status, "{what}: {}", all(&output));
        assert!(output.stderr.contains(says), "{what}: {}", all(&output));
    }
    // An ordinary user may look, and plans beside what stands.
    let looks = bench.run("setpriv --reuid 65534 --clear-groups allod claims");
    assert!(looks.stdout.contains("one"), "{}", all(&looks));
    bench.does(&script("allod release one && [ $(driver $(at 1b36:0010)) = nvme ]"));

    let both = bench.run(&script(
        "disk=$(at 1b36:0010); allod claim $disk --name one & first=$!; allod claim $disk --name two; second=$?; \
         wait $first; echo statuses $? $second",
    ));
    let one_wins = ["statuses 0 6", "statuses 6 0"].iter().any(|line| both.stdout.contains(line));
    assert!(one_wins, "{}", all(&both));
    bench.does(&script("allod release --all && [ $(driver $(at 1b36:0010)) = nvme ]"));
}

#[test]
fn a_killed_allod_leaves_nothing_that_the_next_start_does_not_put_back() {
    let Some(bench) = Bench::boot("cards") else { return };
    bench.does("echo 'written before' | dd of=/dev/nvme0n1 conv=fsync status=none");
    let before = bench.does(&script(&format!("settings $(at {NVME})"))).stdout;
    // strace kills at the exact flush of a line, or at the exact write to the kernel, before it is made.
    let line = |number: u32| format!("-e trace=fdatasync -e inject=fdatasync:signal=KILL:when={number}");
    let write = |path: &str| format!("-e trace=write -P {path} -e inject=write:signal=KILL");
    let claim = format!("allod claim $(at {NVME}) --name one");
    for (moment, verb, at) in [
        ("taking, the first change announced", claim.as_str(), line(2)),
        ("taking, before the driver lets go", &claim, write("/sys/bus/pci/drivers/nvme/unbind")),
        ("taking, without a driver", &claim, line(4)),
        ("taking, before vfio-pci has it", &claim, write("/sys/bus/pci/drivers/vfio-pci/bind")),
        ("taking, before the last line", &claim, line(7)),
        (
            "releasing, before the reset",
            "allod release one",
            write("/sys/bus/pci/devices/$(at 1b36:0010)/reset"),
        ),
        ("releasing, without a driver", "allod release one", line(4)),
        (
            "releasing, before the old driver has it",
            "allod release one",
            write("/sys/bus/pci/drivers/nvme/bind"),
        ),
    ] {
        let setup = if verb.contains("release") { claim.as_str() } else { "true" };
        let killed = bench.within(
            &script(&format!("{setup} 2>/dev/null >&2; strace -f -o /tmp/trace {at} {verb}; echo status $?")),
            Duration::from_secs(120),
        );
        assert!(killed.stdout.contains("status 137"), "{moment}: it was not killed: {}", all(&killed));
        let next = bench.within(
            &script(&format!("allod release --all && settings $(at {NVME})")),
            Duration::from_secs(120),
        );
        assert_eq!(next.status, 0, "{moment}: {}", all(&next));
        assert!(next.stdout.ends_with(&before), "{moment}: {}\nbefore:\n{before}", all(&next));
        let rest = bench.does(&script("disk_is_there && head -n 1 /dev/nvme0n1 && allod claims")).stdout;
        assert_eq!(rest, "written before\nno claims\n", "{moment}");
        println!("killed while {moment}: whole after the next start");
    }
}

#[test]
fn after_a_power_cut_in_the_middle_nothing_of_a_claim_is_left() {
    let share = std::env::temp_dir().join(format!("allod-claims-{}", std::process::id()));
    std::fs::create_dir_all(&share).unwrap();
    let Some(bench) = Bench::boot_with("cards", Some(&share)) else { return };
    // The bind is held up for longer than the host lives.
    bench.does(&script(&format!(
        "strace -f -o /share/trace -e trace=write -P /sys/bus/pci/drivers/vfio-pci/bind \
         -e inject=write:delay_enter=600s allod claim $(at {NVME}) --name one --state /share/state > /share/log 2>&1 & \
         for _ in $(seq 600); do grep -q '\"change\":\"bind\"' /share/state/ledger.jsonl 2>/dev/null && exit 0; sleep 0.1; done; \
         cat /share/log; exit 1"
    )));
    bench.power_cut();

    let bench = Bench::boot_with("cards", Some(&share)).unwrap();
    let listed = bench.does("allod claims --state /share/state");
    assert_eq!(listed.stdout, "no claims\n");
    let again = bench.does(&script(&format!(
        "[ $(driver $(at {NVME})) = nvme ] && allod claim $(at {NVME}) --name one --state /share/state && \
         allod release one --state /share/state && [ $(driver $(at {NVME})) = nvme ] && disk_is_there && \
         grep -c host-restarted /share/state/ledger.jsonl"
    )));
    assert!(again.stdout.ends_with("1\n"), "{}", all(&again));
    drop(bench);
    std::fs::remove_dir_all(&share).unwrap();
}

#[test]
fn fifty_rounds_leave_no_trace_and_the_verdict_counts_for_plans() {
    let Some(bench) = Bench::boot("cards") else { return };
    let facts = "allod devices --json | grep -vE '\"(free|available)' > /tmp/";
    bench.does(&format!("{facts}before.json"));
    let begin = std::time::Instant::now();
    let trial = bench
        .within(&script(&format!("allod trial $(at {NVME}) --rounds 50 --json")), Duration::from_secs(500));
    println!(
        "50 rounds in {:.0} s; {}",
        begin.elapsed().as_secs_f32(),
        trial.stderr.lines().last().unwrap_or("")
    );
    assert_eq!(trial.status, 0, "{}", all(&trial));
    assert_eq!(trial.stdout.matches("\"verdict\": \"passed\"").count(), 1, "{}", all(&trial));
    assert!(
        trial.stdout.contains("\"rounds\": 50") && trial.stdout.contains("\"method\": \"flr\""),
        "{}",
        all(&trial)
    );
    bench.does(&script(&format!("disk_is_there; {facts}after.json; diff /tmp/before.json /tmp/after.json")));
    bench.does(
        "lines=$(wc -l < /var/lib/allod/ledger.jsonl); [ $lines -gt 500 ]; allod release --all; \
         [ $(wc -l < /var/lib/allod/ledger.jsonl) -le $lines ]",
    );

    let seat = "printf '[[seat]]\\nname = \"anna\"\\ncpus = { pin = [0] }\\nmemory.size = \"256MiB\"\\n\
                device = [{ class = \"nvme\" }]\\n' > /tmp/seat.toml; allod plan /tmp/seat.toml --json";
    let planned = bench.run(seat);
    assert!(!planned.stdout.contains("no-trial"), "{}", all(&planned));
}
