//! What a machine shows of Hyper-V, leaf by leaf and as Debian's kernel uses it in the lab; and a clock that shows local time.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario says what it expects")]

use std::process::ExitCode;
use std::time::Duration;

use lab::scenario::{self, Scenario, run_all};
use lab::{Failure, Host, Output};

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
    scenario::shared(name, "plain", check)
}

/// A guest with its modules boots in ten seconds in the lab; in many times that when the machine under it is busy.
const LIMIT: Duration = Duration::from_secs(300);

/// A zone for the host, as POSIX writes one: five and a half hours ahead of universal time.
const ZONE: &str = "XYZ-5:30";
const AHEAD_S: i64 = 19_800;

/// Runs a machine with these flags whose guest runs `script`; gives what it said, and the machine's report.
fn run(host: &Host, flags: &str, script: &str) -> Result<(Output, serde_json::Value), Failure> {
    host.run(&format!("cat > /tmp/hyperv-script <<'END'\n{script}\nEND"))?;
    let output = host.run_within(
        &format!(
            "cat /boot/guest-initrd /boot/guest-modules > /tmp/hyperv-initrd; \
             (cd /tmp && mkdir -p root && mv hyperv-script root/script && cd root && echo script | \
              busybox cpio -o -H newc 2> /dev/null) >> /tmp/hyperv-initrd; \
             TZ={ZONE} allod run {flags} --report /tmp/hyperv-report --kernel /boot/vmlinux --initrd /tmp/hyperv-initrd \
             --cmdline 'console=ttyS0 panic=-1' < /dev/null"
        ),
        LIMIT,
    )?;
    let report = host.run("cat /tmp/hyperv-report")?.stdout;
    Ok((output, serde_json::from_str(&report).unwrap_or_default()))
}

/// The same of a machine that is powered off by its guest; gives what that said.
fn machine(host: &Host, flags: &str, script: &str) -> Result<String, Failure> {
    let (output, _) = run(host, flags, script)?;
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
const RESET: u32 = 0x4000_0003;

/// Says the leaves of Microsoft and those of KVM, as each of two processors shows them.
const LEAVES: &str = "modprobe cpuid; for n in 0 1; do for first in 1073741824:176 1073742080:32; do \
                      echo leaves $n $(dd if=/dev/cpu/$n/cpuid bs=${first#*:} count=1 iflag=skip_bytes \
                      skip=${first%:*} 2> /dev/null | hexdump -v -e '1/4 \"%08x \"'); done; done\n";

/// What a guest said by [`LEAVES`]: for each processor EAX, EBX, ECX and EDX of leaves 0x40000000 to 0x4000000A, then of
/// 0x40000100 and 0x40000101.
fn leaves(said: &str) -> [Vec<[u32; 4]>; 2] {
    let of = |processor: &str| {
        let lines =
            said.lines().filter_map(|line| line.trim().strip_prefix("leaves ")?.strip_prefix(processor));
        let words = lines.flat_map(str::split_whitespace).map(|word| u32::from_str_radix(word, 16).unwrap());
        words.collect::<Vec<u32>>().chunks_exact(4).map(|leaf| leaf.try_into().unwrap()).collect()
    };
    ["0 ", "1 "].map(of)
}

/// The letters of a signature, in EBX, ECX and EDX.
fn letters(leaf: [u32; 4]) -> String {
    leaf[1..].iter().flat_map(|word| word.to_le_bytes()).map(char::from).collect()
}

/// What KVM of Linux 6.12 offers: runtime, time, synthetic interrupts and timers, APIC, hypercalls, processor index, reset,
/// reference TSC, frequencies (Hypervisor Top Level Functional Specification, section 2.4).
const FEATURES: [u32; 4] = [0xaff, 0, 0, 1 << 8 | 1 << 19];
/// Calls to flush other processors' TLBs and to interrupt them, also sparse sets of those; the APIC's registers; relaxed
/// timing.
const HINTS: u32 = 0xc2c;

fn each_leaf_says_what_it_should(said: &str) {
    for leaves in leaves(said) {
        assert_eq!(leaves.len(), 13, "{said}");
        assert_eq!((leaves[0][0], letters(leaves[0]).as_str()), (0x4000_000a, "Microsoft Hv"), "{said}");
        let rows = [
            (1, [0x3123_7648, 0, 0, 0]),
            (2, [14_393, 10 << 16, 0, 0]),
            (3, FEATURES),
            (4, [HINTS, 0x1fff, 0, 0]),
            (5, [4096, 64, 0, 0]),
        ];
        for (number, leaf) in rows {
            assert_eq!(leaves[number], leaf, "leaf {number}: {said}");
        }
        // Nothing is promised of hardware, of nested guests; and of KVM nothing is seen.
        assert!(leaves[6..].iter().flatten().all(|word| *word == 0), "{said}");
    }
}

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
    // At last the guest writes Hyper-V's reset register.
    let script = format!(
        "cd /lib/modules/*/; modprobe msr; {LEAVES}{read}{read}
         cat /sys/devices/system/clocksource/clocksource0/current_clocksource
         cat /sys/devices/system/clockevents/clockevent*/current_device; sleep 0.2; echo slept
         printf '\\001\\000\\000\\000\\000\\000\\000\\000' | dd of=/dev/cpu/0/msr bs=8 oflag=seek_bytes seek={RESET} conv=notrunc"
    );
    let (output, report) = run(host, "--no-reboot --hyperv=only --cpus 2", &script)?;
    let said = &output.stdout;
    for found in [
        "Hypervisor detected: Microsoft Hyper-V",
        "Hyper-V: privilege flags low 0xaff, high 0x0, hints 0xc2c, misc 0x80100",
        "Hyper-V: Using IPI hypercalls",
        "Hyper-V: Using hypercall for remote TLB flush",
        "hyperv_clocksource_tsc_page\r\n",
        "Hyper-V clockevent",
        "slept",
    ] {
        assert!(said.contains(found), "no `{found}` in {said}");
    }
    each_leaf_says_what_it_should(said);
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
    assert_eq!((output.status, &report["path"]), (3, &"hypervisor".into()), "{output:?} {report}");
    kvm_is_found_behind_another_vendor(host)
}

fn kvm_is_found_behind_another_vendor(host: &Host) -> Result<(), Failure> {
    let script = format!("cd /lib/modules/*/; {LEAVES}dmesg | grep -i -e hypervisor -e kvm");
    let said = machine(host, "--hyperv --hyperv-vendor allod --cpus 2", &script)?;
    assert!(said.contains("Hypervisor detected: KVM"), "{said}");
    for leaves in leaves(&said) {
        assert_eq!(
            (leaves[0][0], letters(leaves[0]).as_str()),
            (0x4000_000a, "allod\0\0\0\0\0\0\0"),
            "{said}"
        );
        assert_eq!(leaves[3], FEATURES, "{said}");
        assert_eq!((leaves[11][0], letters(leaves[11]).as_str()), (0x4000_0101, "KVMKVMKVM\0\0\0"), "{said}");
        assert_ne!(leaves[12][0], 0, "{said}");
    }
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
