//! What a machine shows of Hyper-V, as Debian's kernel finds and uses it in the lab; and a clock that shows local time.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario says what it expects")]

use std::process::ExitCode;
use std::time::Duration;

use lab::scenario::{Boot, Check, Scenario, run_all};
use lab::{Failure, Host};

fn main() -> ExitCode {
    run_all(&[
        shared(
            "a_guest_finds_hyper_v_and_takes_its_time_from_it",
            a_guest_finds_hyper_v_and_takes_its_time_from_it,
        ),
        shared("a_clock_can_show_local_time", a_clock_can_show_local_time),
    ])
}

const fn shared(name: &'static str, check: fn(&Host) -> Result<(), Failure>) -> Scenario {
    let programs = &["allod", "allod-vmm"];
    Scenario { name, profile: "plain", programs, boot: Boot::Shared, check: Check::Inside(check) }
}

/// A guest with its modules boots in ten seconds in the lab; in many times that when the machine under it is busy.
const LIMIT: Duration = Duration::from_secs(300);

/// A zone for the host, as POSIX writes one: five and a half hours ahead of universal time.
const ZONE: &str = "XYZ-5:30";
const AHEAD_S: i64 = 19_800;

/// Runs a machine with these flags whose guest runs `script`, and gives what it said.
fn machine(host: &Host, flags: &str, script: &str) -> Result<String, Failure> {
    host.run(&format!("cat > /tmp/hyperv-script <<'END'\n{script}\nEND"))?;
    let output = host.run_within(
        &format!(
            "cat /boot/guest-initrd /boot/guest-modules > /tmp/hyperv-initrd; \
             (cd /tmp && mkdir -p root && mv hyperv-script root/script && cd root && echo script | \
              busybox cpio -o -H newc 2> /dev/null) >> /tmp/hyperv-initrd; \
             TZ={ZONE} allod run {flags} --kernel /boot/vmlinux --initrd /tmp/hyperv-initrd \
             --cmdline 'console=ttyS0 panic=-1' < /dev/null"
        ),
        LIMIT,
    )?;
    assert!(output.is_success(), "{output:?}");
    Ok(output.stdout)
}

/// Registers of Hyper-V by name (Microsoft, "Hypervisor Top Level Functional Specification", appendix of MSRs).
const REGISTERS: [(&str, u32); 8] = [
    ("guest-os", 0x4000_0000),
    ("hypercall", 0x4000_0001),
    ("processor", 0x4000_0002),
    ("runtime", 0x4000_0010),
    ("time", 0x4000_0020),
    ("reference-tsc", 0x4000_0021),
    ("tsc-frequency", 0x4000_0022),
    ("apic-frequency", 0x4000_0023),
];

fn a_guest_finds_hyper_v_and_takes_its_time_from_it(host: &Host) -> Result<(), Failure> {
    let read: String = REGISTERS
        .iter()
        .map(|(name, number)| {
            format!(
                "echo {name}=$(dd if=/dev/cpu/0/msr bs=8 count=1 iflag=skip_bytes skip={number} 2> /dev/null | \
                 hexdump -v -e '8/1 \"%02x\"')\n"
            )
        })
        .collect();
    let script = format!(
        "cd /lib/modules/*/; modprobe msr; {read}{read}
         cat /sys/devices/system/clocksource/clocksource0/current_clocksource
         cat /sys/devices/system/clockevents/clockevent*/current_device; sleep 0.2; echo slept"
    );
    let said = machine(host, "--hyperv=only --cpus 2", &script)?;
    for found in [
        "Hypervisor detected: Microsoft Hyper-V",
        "hyperv_clocksource_tsc_page\r\n",
        "Hyper-V clockevent",
        "slept",
    ] {
        assert!(said.contains(found), "no `{found}` in {said}");
    }
    // As bytes lie in memory, the lowest first.
    let register = |name: &str| -> Vec<u64> {
        let lines = said.lines().filter_map(|line| line.trim().strip_prefix(name)?.strip_prefix('='));
        lines
            .map(|digits| {
                u64::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("{name}={digits}")).swap_bytes()
            })
            .collect()
    };
    // Linux says who it is before it may call; the pages it chose are switched on by their lowest bit.
    assert!(register("guest-os").iter().all(|id| *id != 0), "{said}");
    assert!(register("hypercall").iter().all(|page| page & 1 == 1), "{said}");
    assert!(register("reference-tsc").iter().all(|page| page & 1 == 1), "{said}");
    assert_eq!(register("processor"), [0, 0]);
    assert!(register("runtime")[0] > 0 && register("tsc-frequency")[0] > 100_000_000, "{said}");
    // KVM's APIC timer counts nanoseconds (arch/x86/kvm/lapic.h, APIC_BUS_CYCLE_NS_DEFAULT).
    assert_eq!(register("apic-frequency"), [1_000_000_000; 2]);
    let time = register("time");
    assert!(time[0] < time[1], "{time:?}");
    let both = machine(host, "--hyperv --hyperv-vendor allod", "dmesg | grep -i -e hypervisor -e kvm")?;
    assert!(both.contains("Hypervisor detected: KVM"), "{both}");
    Ok(())
}

fn a_clock_can_show_local_time(host: &Host) -> Result<(), Failure> {
    let clock = "cat /sys/class/rtc/rtc0/since_epoch | sed s/^/clock=/";
    let read = |flags: &str| -> Result<i64, Failure> {
        let said = machine(host, flags, clock)?;
        let seconds = said.lines().find_map(|line| line.trim().strip_prefix("clock=")?.parse().ok());
        Ok(seconds.unwrap_or_else(|| panic!("{said}")))
    };
    let utc = read("")?;
    let local = read("--local-time")?;
    let ahead = local - utc;
    assert!((AHEAD_S..AHEAD_S + 300).contains(&ahead), "{utc} {local}");
    Ok(())
}
