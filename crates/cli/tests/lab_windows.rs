//! The machine of a seat for Windows, as a guest finds it: nothing in it that Windows has no driver for.
//!
//! Windows itself is not in the lab: Debian's kernel lists what it finds.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario says what it expects")]

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use lab::scenario::{Scenario, run_all, shared};
use lab::{Failure, Host};

fn main() -> ExitCode {
    run_all(SCENARIOS)
}

const SCENARIOS: &[Scenario] = &[shared(
    "a_seat_for_windows_has_nothing_that_windows_has_no_driver_for",
    "plain",
    a_seat_for_windows_has_nothing_that_windows_has_no_driver_for,
)];

/// A guest is started in seconds, and in many times that when the machine under it is busy.
const LIMIT: Duration = Duration::from_secs(300);

/// What Windows 10 and 11 bring a driver for: by its ids, or by its class (VGA, NVM Express, AHCI).
const KNOWN: [(&str, &str); 5] = [
    ("0x8086 0x29c0", "host bridge"),
    ("0x8086 0x2918", "LPC bridge"),
    ("0x8086 0x2922", "AHCI controller of the discs"),
    ("0x1234 0x1111", "VGA"),
    ("0x1b36 0x0010", "NVMe disk"),
];

fn a_seat_for_windows_has_nothing_that_windows_has_no_driver_for(host: &Host) -> Result<(), Failure> {
    // It stays until it is ended: nobody knows which comes first, the end of a guest by itself or the word to end it.
    let script = "for d in /sys/bus/pci/devices/*; do echo found $(cat $d/vendor $d/device); done; echo all told; read line";
    let seat = |more: &str| {
        format!(
            "[host]\nmemory = \"256MiB\"\n[[seat]]\nname = \"anna\"\ncpus = {{ count = 1, shared = true }}\n\
             memory.size = \"256MiB\"\ndisplay = \"emulated\"\n{more}kernel.image = \"/boot/vmlinux\"\n\
             kernel.initrd = \"/boot/guest-initrd\"\nkernel.cmdline = '''console=ttyS0 quiet panic=-1 \
             guest_run=\"{script}\"'''\n\
             disk = [{{ path = \"/tmp/wi-disk\" }}, {{ path = \"/tmp/wi.iso\", media = \"cdrom\" }}]\n"
        )
    };
    let known: BTreeSet<String> = KNOWN.iter().map(|(ids, _)| (*ids).to_owned()).collect();
    for (more, foreign) in [
        ("hypervisor.shows = \"both\"\n", &[][..]),
        // The others have virtio's disk, tablet and source of random numbers.
        ("", &["0x1af4 0x1042", "0x1af4 0x1044", "0x1af4 0x1052"]),
    ] {
        let said = host.run_within(
            &format!(
                "cd /tmp; truncate -s 8M wi-disk; mkdir -p wi; echo disc > wi/disc; xorriso -as mkisofs -quiet -o wi.iso wi; \
                 cat > wi.toml <<'END'\n{}END\nallod up wi.toml >&2 && for i in $(seq 2400); do \
                 allod logs anna | grep -q 'all told' && break; sleep 0.1; done; allod logs anna; \
                 allod kill anna >&2",
                seat(more)
            ),
            LIMIT,
        )?;
        let found: BTreeSet<String> = said
            .stdout
            .lines()
            .filter_map(|line| line.trim_end().strip_prefix("found "))
            .map(str::to_owned)
            .collect();
        assert!(said.is_success() && found.contains("0x1234 0x1111"), "{said:?}");
        let strangers: Vec<_> = found.difference(&known).collect();
        assert_eq!(strangers, foreign, "{said:?}");
    }
    Ok(())
}
