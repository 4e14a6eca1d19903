//! Machines booted in the lab, on a real kernel's KVM: Linux to user space, every way to end and to reset, and everything
//! that must be refused.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario says what it expects")]

mod machines;
mod micro_guest;

use std::collections::BTreeSet;
use std::process::ExitCode;

use lab::scenario::{self, Scenario, run_all};
use lab::{Failure, Host};
use machines::{debian, machine, micro, run};

fn main() -> ExitCode {
    run_all(SCENARIOS)
}

const SCENARIOS: &[Scenario] = &[
    shared(
        "linux_reaches_user_space_with_each_number_of_vcpus_and_powers_off",
        linux_reaches_user_space_with_each_number_of_vcpus_and_powers_off,
    ),
    shared("a_bzimage_boots_as_an_elf_kernel_does", a_bzimage_boots_as_an_elf_kernel_does),
    shared("the_guest_sees_the_board_it_was_given", the_guest_sees_the_board_it_was_given),
    shared("each_reset_path_is_noticed_and_named", each_reset_path_is_noticed_and_named),
    shared(
        "a_reset_machine_boots_again_until_it_is_told_to_quit",
        a_reset_machine_boots_again_until_it_is_told_to_quit,
    ),
    shared(
        "the_control_socket_pauses_resumes_and_presses_the_power_button",
        the_control_socket_pauses_resumes_and_presses_the_power_button,
    ),
    shared("what_is_typed_reaches_the_guest", what_is_typed_reaches_the_guest),
    shared("a_guest_that_faults_three_times_resets", a_guest_that_faults_three_times_resets),
    shared(
        "a_guest_that_halts_for_ever_still_obeys_its_owner",
        a_guest_that_halts_for_ever_still_obeys_its_owner,
    ),
    shared(
        "the_timer_makes_up_for_no_late_tick_in_any_life",
        the_timer_makes_up_for_no_late_tick_in_any_life,
    ),
    shared("a_guest_may_write_to_every_port_and_every_hole", a_guest_may_write_to_every_port_and_every_hole),
    shared("what_cannot_run_is_refused_in_one_paragraph", what_cannot_run_is_refused_in_one_paragraph),
    shared(
        "a_host_without_kvm_or_a_user_without_the_right_is_told_the_remedy",
        a_host_without_kvm_or_a_user_without_the_right_is_told_the_remedy,
    ),
    shared(
        "the_firmware_test_suite_finds_no_failure_in_the_tables",
        the_firmware_test_suite_finds_no_failure_in_the_tables,
    ),
];

const fn shared(name: &'static str, check: fn(&Host) -> Result<(), Failure>) -> Scenario {
    scenario::shared(name, "plain", check)
}

const USER_SPACE: &str = "GUEST user space reached";

fn linux_reaches_user_space_with_each_number_of_vcpus_and_powers_off(host: &Host) -> Result<(), Failure> {
    for cpus in [1, 2, 4] {
        let (output, report) =
            machine(host, &format!("--cpus {cpus} {}", debian("echo cpus=$(nproc)", "poweroff", "")))?;
        assert!(output.stdout.contains(USER_SPACE), "{output:?}");
        assert!(output.stdout.contains(&format!("cpus={cpus}\r\n")), "{output:?}");
        assert_eq!((output.status, &report["cause"]), (0, &"power-off".into()), "{output:?}");
    }
    Ok(())
}

fn a_bzimage_boots_as_an_elf_kernel_does(host: &Host) -> Result<(), Failure> {
    let (output, report) = machine(host, &debian("uname -r", "poweroff", "").replace("vmlinux", "vmlinuz"))?;
    assert!(output.stdout.contains(USER_SPACE), "{output:?}");
    assert_eq!(report["cause"], "power-off", "{output:?}");
    Ok(())
}

fn the_guest_sees_the_board_it_was_given(host: &Host) -> Result<(), Failure> {
    let script = "cat /sys/devices/system/clocksource/clocksource0/current_clocksource; \
                  cat /proc/interrupts; cat /proc/iomem; head -1 /proc/meminfo; date +%Y; \
                  ls /sys/bus/pci/devices; cat /sys/class/rtc/rtc0/name";
    let (output, _) = machine(host, &format!("--memory 768M {}", debian(script, "poweroff", "")))?;
    let seen = |text: &str| assert!(output.stdout.contains(text), "no `{text}` in {}", output.stdout);
    seen("kvm-clock");
    seen("IO-APIC   4-edge      ttyS0");
    seen("IO-APIC   9-fasteoi   acpi");
    seen("0000:00:00.0");
    seen("0000:00:1f.0");
    seen("rtc_cmos");
    seen("b0000000-b00fffff : PCI ECAM 0000 [bus 00-00]");
    let year = run(host, "date +%Y")?.stdout;
    seen(year.trim());
    let total = output.stdout.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or("missing");
    let kib: u64 = total.trim().trim_end_matches(" kB").parse().unwrap();
    assert!((680_000..768 * 1024).contains(&kib), "{kib} KiB of 768 MiB");
    Ok(())
}

fn each_reset_path_is_noticed_and_named(host: &Host) -> Result<(), Failure> {
    for (how, path) in
        [("a", "reset-control"), ("p", "reset-control"), ("k", "keyboard-controller"), ("t", "triple-fault")]
    {
        let (output, report) =
            machine(host, &format!("--no-reboot {}", debian("true", "reboot", &format!("reboot={how}"))))?;
        assert!(output.stdout.contains(USER_SPACE), "{output:?}");
        assert_eq!((output.status, &report["path"]), (3, &path.into()), "reboot={how}: {output:?}");
    }
    Ok(())
}

fn a_reset_machine_boots_again_until_it_is_told_to_quit(host: &Host) -> Result<(), Failure> {
    let flags = debian("true", "reboot", "");
    // Quits at the third time that user space is reached: two resets lie behind.
    let output = run(
        host,
        &format!(
            "allod run --control /tmp/control --report /tmp/report.json {flags} < /dev/null | {{ n=0; while read -r line; do \
         echo \"$line\"; case \"$line\" in *'user space reached'*) n=$((n+1)); [ $n = 3 ] && \
         echo '{{\"command\":\"quit\"}}' | socat -t 60 - UNIX-CONNECT:/tmp/control;; esac; done; }}; \
         cat /tmp/report.json; ls /tmp/control"
        ),
    )?;
    assert_eq!(output.stdout.matches(USER_SPACE).count(), 3, "{output:?}");
    let report = output.stdout.rfind("{\n").and_then(|start| output.stdout.get(start..)).unwrap_or_default();
    let report: serde_json::Value = serde_json::from_str(report).unwrap_or_default();
    assert_eq!(report["cause"], "quit", "{output:?}");
    // The guest may be quick enough to reset once more before the word to quit arrives.
    assert!(matches!(report["resets"].as_u64(), Some(2 | 3)), "{output:?}");
    assert!(output.stderr.contains("/tmp/control"), "the control socket is gone: {output:?}");
    Ok(())
}

fn the_control_socket_pauses_resumes_and_presses_the_power_button(host: &Host) -> Result<(), Failure> {
    // The guest shuts down when its power button tells, by an input event of 24 bytes.
    let script = "modprobe -a button evdev; echo waiting; head -c 24 /dev/input/event0 | wc -c";
    let flags = debian(script, "poweroff", "").replace("/boot/guest-initrd", "/tmp/initrd");
    let say = |command: &str| {
        format!("echo '{{\"command\":\"{command}\"}}' | socat -t 5 - UNIX-CONNECT:/tmp/control")
    };
    let output = run(
        host,
        &format!(
            "cat /boot/guest-initrd /boot/guest-modules > /tmp/initrd; \
         allod run --control /tmp/control --report /tmp/report.json {flags} < /dev/null | while read -r line; do \
         echo \"$line\"; case \"$line\" in *waiting*) {pause}; {status}; {status}; {resume}; {status}; {button};; esac; done; \
         cat /tmp/report.json",
            pause = say("pause"),
            status = say("status"),
            resume = say("resume"),
            button = say("power-button"),
        ),
    )?;
    let statuses: Vec<serde_json::Value> = output
        .stdout
        .lines()
        .filter(|line| line.contains("\"answer\":\"status\""))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let states: Vec<_> = statuses.iter().map(|status| status["state"].as_str().unwrap_or_default()).collect();
    assert_eq!(states, ["paused", "paused", "running"], "{output:?}");
    assert_eq!(statuses[0]["exits"], statuses[1]["exits"], "a paused machine does nothing: {output:?}");
    assert_eq!(output.stdout.matches("{\"answer\":\"done\"}").count(), 3, "{output:?}");
    assert!(output.stdout.contains("\"cause\": \"power-off\""), "{output:?}");
    Ok(())
}

fn what_is_typed_reaches_the_guest(host: &Host) -> Result<(), Failure> {
    // A serial driver forgets what came before it was ready, so nothing is typed until the guest asks for it.
    let flags = debian("echo listening; read line; echo heard=$line", "poweroff", "");
    let output = run(
        host,
        &format!(
            "rm -f /tmp/keys; mkfifo /tmp/keys; exec 3<>/tmp/keys; allod run {flags} <&3 | while read -r line; do \
             echo \"$line\"; case \"$line\" in *listening*) echo 'a line for the guest' >&3;; esac; done"
        ),
    )?;
    assert!(output.stdout.contains("heard=a line for the guest"), "{output:?}");
    Ok(())
}

fn a_guest_that_faults_three_times_resets(host: &Host) -> Result<(), Failure> {
    let kernel = micro(host, &micro_guest::elf(&micro_guest::triple_fault()))?;
    let (output, report) = machine(host, &format!("--no-reboot {kernel}"))?;
    assert_eq!((output.status, &report["path"]), (3, &"triple-fault".into()), "{output:?}");
    Ok(())
}

fn a_guest_that_halts_for_ever_still_obeys_its_owner(host: &Host) -> Result<(), Failure> {
    let kernel = micro(host, &micro_guest::elf(&micro_guest::SPIN_IN_HALT))?;
    // The socket is there before the machine's process is: what is said early is heard when the machine runs.
    let output = run(
        host,
        &format!(
            "allod run --control /tmp/control {kernel} < /dev/null & until [ -S /tmp/control ]; do sleep 0.1; done; \
             echo '{{\"command\":\"quit\"}}' | socat -t 60 - UNIX-CONNECT:/tmp/control; wait $!"
        ),
    )?;
    assert_eq!((output.status, output.stdout.trim()), (4, "{\"answer\":\"done\"}"), "{output:?}");
    Ok(())
}

fn the_timer_makes_up_for_no_late_tick_in_any_life(host: &Host) -> Result<(), Failure> {
    let kernel = micro(host, &micro_guest::elf(&micro_guest::SPIN_IN_HALT))?;
    // Seen in the kernel: each timer begins as one that makes up for them. One more word is said to that of the first
    // life when it ends.
    let output = run(
        host,
        &format!(
            "cd /sys/kernel/tracing; echo > trace; \
             echo 'p:ticks kvm_pit_set_reinject timer=%di:x64 made_up=%si:u8' > kprobe_events; \
             echo 1 > events/kprobes/ticks/enable; \
             allod run --control /tmp/control {kernel} < /dev/null & \
             say() {{ echo \"{{\\\"command\\\":\\\"$1\\\"}}\" | socat -t 60 - UNIX-CONNECT:/tmp/control; }}; \
             timeout 60 grep -m 2 -o 'timer=.*' trace_pipe; say reset; \
             timeout 60 grep -m 3 -o 'timer=.*' trace_pipe; say quit; wait $!; \
             echo 0 > events/kprobes/ticks/enable; echo > kprobe_events"
        ),
    )?;
    let told: Vec<_> = output.stdout.lines().filter_map(|line| line.split_once(" made_up=")).collect();
    let timers: BTreeSet<_> = told.iter().map(|(timer, _)| timer).collect();
    let of = |timer| told.iter().filter(|(of, _)| of == timer).map(|(_, word)| *word).collect::<String>();
    let words: BTreeSet<_> = timers.into_iter().map(of).collect();
    assert_eq!(words, BTreeSet::from(["10".to_owned(), "100".to_owned()]), "{output:?}");
    Ok(())
}

fn a_guest_may_write_to_every_port_and_every_hole(host: &Host) -> Result<(), Failure> {
    let kernel = micro(host, &micro_guest::elf(&micro_guest::poke_everything()))?;
    let (output, report) = machine(host, &format!("--no-reboot {kernel}"))?;
    assert_eq!(report["cause"], "power-off", "{output:?} {report}");
    Ok(())
}

fn what_cannot_run_is_refused_in_one_paragraph(host: &Host) -> Result<(), Failure> {
    run(
        host,
        "head -c 1000000 /boot/vmlinux > /tmp/cut; truncate -s 600M /tmp/large; echo text > /tmp/text",
    )?;
    let boot = "--kernel /boot/vmlinux";
    for (flags, status, words) in [
        ("--kernel /nowhere".to_owned(), 1, &["open the kernel /nowhere", "No such file"][..]),
        ("--kernel /tmp".to_owned(), 1, &["open the kernel /tmp", "directory"]),
        ("--kernel /tmp/text".to_owned(), 1, &["neither a bzImage", "nor an ELF"]),
        ("--kernel /tmp/cut".to_owned(), 1, &["cannot be loaded", "complete"]),
        (format!("{boot} --initrd /tmp/large"), 1, &["initrd", "does not fit", "more memory"]),
        (format!("{boot} --memory 900G"), 1, &["900GiB", "this host has"]),
        (format!("{boot} --memory 1M"), 1, &["at least 16 MiB"]),
        (format!("{boot} --cpus 100000"), 1, &["1 to ", "not 100000"]),
        (format!("{boot} --pages 2M"), 1, &["huge pages", "nr_hugepages"]),
        (format!("{boot} --control /nowhere/socket"), 1, &["control socket", "folder"]),
        (format!("{boot} --frobnicate"), 2, &["--frobnicate", "--help"]),
        (format!("{boot} --memory lots"), 2, &["not an amount of memory", "512M"]),
    ] {
        let (output, report) = machine(host, &flags)?;
        assert_eq!(output.status, status, "{flags}: {output:?} {report}");
        for word in words {
            assert!(output.stderr.contains(word), "{flags}: no `{word}` in {}", output.stderr);
        }
    }
    Ok(())
}

fn a_host_without_kvm_or_a_user_without_the_right_is_told_the_remedy(host: &Host) -> Result<(), Failure> {
    let denied =
        run(host, "setpriv --reuid 65534 --clear-groups allod run --kernel /boot/vmlinux < /dev/null")?;
    assert_eq!(denied.status, 1, "{denied:?}");
    assert!(
        denied.stderr.contains("may not open /dev/kvm") && denied.stderr.contains("usermod"),
        "{denied:?}"
    );
    let absent = run(
        host,
        "mv /dev/kvm /dev/kvm.away; allod run --kernel /boot/vmlinux < /dev/null; s=$?; mv /dev/kvm.away /dev/kvm; exit $s",
    )?;
    assert_eq!(absent.status, 1, "{absent:?}");
    assert!(absent.stderr.contains("no /dev/kvm") && absent.stderr.contains("modprobe"), "{absent:?}");
    Ok(())
}

/// The firmware test suite's checks of what ACPI and SMBIOS tables say, run where the tables are used.
const ACPI_TESTS: &str = "apicinstance checksum cstates dmicheck ebda facs fadt madt mcfg method mtrr osilinux rsdp rsdt syntaxcheck xsdt";

fn the_firmware_test_suite_finds_no_failure_in_the_tables(host: &Host) -> Result<(), Failure> {
    // The suite with its libraries, as an archive behind the guest's RAM disk; it reads config space through /dev/mem.
    run(
        host,
        "cd /; { printf 'usr\\nusr/local\\nusr/local/bin\\nopt\\n'; find opt/fwts; echo usr/local/bin/fwts; } | \
         cpio -o -H newc > /tmp/fwts 2>/dev/null; cat /boot/guest-initrd /boot/guest-modules /tmp/fwts > /tmp/initrd",
    )?;
    let script = format!(
        "modprobe msr; mount -t tmpfs none /tmp; export PATH=/bin:/usr/local/bin; \
         fwts --quiet -r /tmp/fwts.log {ACPI_TESTS}; cat /tmp/fwts.log"
    );
    let flags = debian(&script, "poweroff", "iomem=relaxed").replace("/boot/guest-initrd", "/tmp/initrd");
    let (output, _) = machine(host, &format!("--memory 768M {flags}"))?;
    let failures: Vec<_> = output.stdout.lines().filter(|line| line.starts_with("FAILED")).collect();
    assert!(failures.is_empty(), "{failures:#?} in {}", output.stdout);
    assert!(output.stdout.contains("PASSED: Test"), "the suite ran: {}", output.stdout);
    Ok(())
}
