//! A machine's TPM under Debian's own driver, with Debian's swtpm behind it, in the lab: it measures, keeps what it was given
//! over resets and starts, and its end is not the machine's.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario says what it expects")]

use std::process::ExitCode;
use std::time::Duration;

use lab::scenario::{self, Scenario, run_all};
use lab::{Failure, Host, Output};

fn main() -> ExitCode {
    run_all(&[
        shared(
            "a_tpm_keeps_what_it_was_given_and_forgets_what_it_measured",
            a_tpm_keeps_what_it_was_given_and_forgets_what_it_measured,
        ),
        shared("a_tpm_that_dies_takes_nothing_along", a_tpm_that_dies_takes_nothing_along),
        shared("a_tpm_that_cannot_be_had_is_refused", a_tpm_that_cannot_be_had_is_refused),
    ])
}

const fn shared(name: &'static str, check: fn(&Host) -> Result<(), Failure>) -> Scenario {
    scenario::shared(name, "plain", check)
}

/// A guest boots in ten seconds in the lab; in many times that when the machine under it is busy.
const LIMIT: Duration = Duration::from_secs(300);

/// Shell functions of the guest: `tpm BYTES` sends a command, in hexadecimal digits, and gives the answer likewise.
///
/// Commands of the TPM 2.0 library, part 3, with an empty password: NV_DefineSpace, NV_Write and NV_Read of four bytes at
/// index 0x01500001 by the owner, PCR_Extend of register 16 by SHA-256, GetRandom of eight bytes.
const COMMANDS: &str = r#"
tpm() {
  exec 3<> /dev/tpm0
  printf "$(echo $* | sed 's/ //g; s/../\\x&/g')" >&3
  dd bs=4096 count=1 <&3 2> /dev/null | hexdump -v -e '/1 "%02x"'
  exec 3>&-
}
password='00000009 40000009 0000 00 0000'
define() { tpm 8002 0000002d 0000012a 40000001 $password 0000 000e 01500001 000b 02060006 0000 0004; }
store() { tpm 8002 00000027 00000137 40000001 01500001 $password 0004 6b657074 0000; }
load() { tpm 8002 00000023 0000014e 40000001 01500001 $password 0004 0000; }
ones=1111111111111111
extend() { tpm 8002 00000041 00000182 00000010 $password 00000001 000b $ones $ones $ones $ones; }
random() { tpm 8001 0000000c 0000017b 0008; }
pcr=/sys/class/tpm/tpm0/pcr-sha256/16
"#;

/// Runs a machine with a TPM, whose guest runs `script`; `behind` is what the host does with what it says.
fn machine(host: &Host, flags: &str, script: &str, behind: &str) -> Result<Output, Failure> {
    host.run(&format!("cat > /tmp/tpm-script <<'END'\n{COMMANDS}\n{script}\nEND"))?;
    host.run_within(
        &format!(
            "cd /tmp; mkdir -p tpm-root && mv tpm-script tpm-root/script && \
             (cat /boot/guest-initrd; cd tpm-root && echo script | busybox cpio -o -H newc 2> /dev/null) > tpm-initrd; \
             allod run {flags} --kernel /boot/vmlinux --initrd /tmp/tpm-initrd \
             --cmdline 'console=ttyS0 quiet panic=-1' < /dev/null {behind}"
        ),
        LIMIT,
    )
}

/// The values of `name=VALUE` lines.
fn values<'a>(output: &'a Output, name: &str) -> Vec<&'a str> {
    let lines = output.stdout.lines();
    lines.filter_map(|line| line.trim().strip_prefix(name)?.strip_prefix('=')).collect()
}

fn a_tpm_keeps_what_it_was_given_and_forgets_what_it_measured(host: &Host) -> Result<(), Failure> {
    // The first life has nothing to load: it stores, measures, and resets the machine.
    let script = "
        echo loaded=$(load); echo before=$(cat $pcr)
        case $(load) in *6b657074*) ;; *)
          echo defined=$(define); echo stored=$(store); echo extended=$(extend); echo after=$(cat $pcr)
          echo random=$(random); reboot -f;;
        esac
        cat /proc/iomem | grep -i MSFT0101";
    let first = machine(host, "--tpm /tmp/tpm-state", script, "")?;
    assert!(first.is_success(), "{first:?}");
    let loaded = values(&first, "loaded");
    assert!(loaded.len() == 2 && !loaded[0].contains("6b657074"), "{first:?}");
    assert!(loaded[1].contains("00046b657074"), "kept over a reset: {first:?}");
    for name in ["defined", "stored", "extended"] {
        // Success, behind the tag and the size.
        assert!(values(&first, name)[0].get(12..).unwrap().starts_with("00000000"), "{name}: {first:?}");
    }
    let (zeros, random) = ("0".repeat(64), values(&first, "random"));
    assert_eq!(values(&first, "before"), [&zeros, &zeros], "a reset starts the TPM anew: {first:?}");
    // SHA-256 of 32 bytes of 0 and then 32 of 0x11.
    assert_eq!(values(&first, "after"), [EXTENDED], "{first:?}");
    assert!(random[0].starts_with("80010000001400000000") && random[0].len() == 40, "{first:?}");
    assert!(first.stdout.contains("fed40000-fed40fff : MSFT0101"), "{first:?}");
    let second = machine(host, "--tpm /tmp/tpm-state", "echo loaded=$(load)", "")?;
    assert!(values(&second, "loaded")[0].contains("00046b657074"), "kept over a start: {second:?}");
    let left = host.run("pidof swtpm")?;
    assert!(left.stdout.trim().is_empty(), "{left:?}");
    Ok(())
}

/// SHA-256 of 32 bytes of 0 and 32 of 0x11.
const EXTENDED: &str = "8878B15A7D6A3A4F464E8F9F42591DBC0CF4BEDEA0EC309003D2B2EE53655EF8";

fn a_tpm_that_dies_takes_nothing_along(host: &Host) -> Result<(), Failure> {
    let script = "
        echo first=$(random); echo ready; n=0
        while n=$((n + 1)); answer=$(random); [ ${#answer} = 40 -a $n -lt 600 ]; do sleep 0.1; done
        echo later=$answer; echo again=$(random); uname -r";
    let kill = "2> /tmp/tpm-errors | while read -r line; do echo \"$line\"; case \"$line\" in \
                ready*) kill -9 $(pidof swtpm);; esac; done; cat /tmp/tpm-errors";
    let output = machine(host, "--tpm /tmp/tpm-dying", script, kill)?;
    assert!(values(&output, "first")[0].starts_with("800100000014"), "{output:?}");
    // TPM_RC_FAILURE.
    for name in ["later", "again"] {
        assert_eq!(values(&output, name), ["80010000000a00000101"], "{output:?}");
    }
    assert!(output.stdout.contains("GUEST script ended with 0"), "{output:?}");
    assert_eq!(output.stdout.matches("the guest's TPM is gone").count(), 1, "{output:?}");
    Ok(())
}

fn a_tpm_that_cannot_be_had_is_refused(host: &Host) -> Result<(), Failure> {
    host.run(
        "mkdir -p /tmp/tpm-used /tmp/tpm-bad /tmp/tpm-path; head -c 500 /dev/zero > /tmp/tpm-bad/tpm2-00.permall; \
         : > /tmp/tpm-file; ln -sf $(command -v allod) $(command -v allod-vmm) /tmp/tpm-path",
    )?;
    for (before, folder, words) in [
        ("PATH=/tmp/tpm-path", "/tmp/tpm-none", "apt install swtpm"),
        ("flock /tmp/tpm-used", "/tmp/tpm-used", "in use by another machine"),
        ("", "/tmp/tpm-bad", "swtpm does not start its TPM"),
        ("", "/nowhere/tpm", "make the folder"),
        ("", "/tmp/tpm-file", "open the folder"),
    ] {
        let output = host.run_within(
            &format!("{before} allod run --tpm {folder} --kernel /boot/vmlinux < /dev/null"),
            LIMIT,
        )?;
        assert_eq!(output.status, 1, "{folder}: {output:?}");
        assert!(output.stderr.contains(words), "{folder}: no `{words}` in {}", output.stderr);
    }
    Ok(())
}
