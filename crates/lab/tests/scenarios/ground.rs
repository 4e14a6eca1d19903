//! The lab keeps its own promises: what it says of commands, panics and power, and what its hosts have.

use lab::scenario::{Boot, Check, Scenario};
use lab::{Failure, Host};
use std::process::Command;
use std::time::{Duration, Instant};

pub(crate) const SCENARIOS: &[Scenario] = &[
    shared("host_has_kvm_vfio_and_groups", "plain", host_has_kvm_vfio_and_groups),
    shared("exit_status_and_streams_are_passed_on", "plain", exit_status_and_streams_are_passed_on),
    shared("command_that_cannot_start_is_no_exit_status", "plain", command_that_cannot_start),
    shared("slow_command_is_a_time_out_and_the_host_goes_on", "plain", slow_command_is_a_time_out),
    to_the_end("kernel_panic_is_told_from_a_failure", "plain", kernel_panic_is_told_from_a_failure),
    to_the_end("warning_of_the_kernel_is_heard", "plain", warning_of_the_kernel_is_heard),
    to_the_end("power_off_inside_is_told_from_a_failure", "plain", power_off_is_told_from_a_failure),
    to_the_end("silent_host_is_a_hang", "plain", silent_host_is_a_hang),
    to_the_end("power_cut_ends_the_emulator", "plain", power_cut_ends_the_emulator),
    Scenario {
        name: "killed_starter_leaves_no_emulator_behind",
        profile: "plain",
        programs: &["allod"],
        boot: Boot::Shared,
        check: Check::Inside(killed_starter_leaves_no_emulator),
    },
    shared("programs_are_in_the_path", "plain", programs_are_in_the_path),
    shared("small_guest_reaches_user_space_and_loads_modules", "plain", small_guest_reaches_user_space),
    shared("nested_ovmf_does_not_kill_the_emulator", "plain", nested_ovmf_does_not_kill_the_emulator),
    shared("cards_are_held_by_their_native_drivers", "cards", cards_are_held_by_their_native_drivers),
    shared("keys_reach_the_keyboard_of_their_screen", "cards", keys_reach_the_keyboard),
    to_the_end("pulled_card_is_gone_at_once", "cards", pulled_card_is_gone_at_once),
    shared("virtual_functions_get_their_drivers", "sriov", virtual_functions_get_their_drivers),
    shared("amd_host_has_kvm_vfio_and_groups", "amd", host_has_kvm_vfio_and_groups),
];

const fn shared(
    name: &'static str,
    profile: &'static str,
    check: fn(&Host) -> Result<(), Failure>,
) -> Scenario {
    Scenario { name, profile, programs: &[], boot: Boot::Shared, check: Check::Inside(check) }
}

const fn to_the_end(
    name: &'static str,
    profile: &'static str,
    check: fn(Host) -> Result<(), Failure>,
) -> Scenario {
    Scenario { name, profile, programs: &[], boot: Boot::Own, check: Check::ToTheEnd(check) }
}

fn host_has_kvm_vfio_and_groups(host: &Host) -> Result<(), Failure> {
    let output = host.run("ls /dev/kvm /dev/vfio/vfio && ls /sys/kernel/iommu_groups | wc -l")?;
    assert!(output.is_success(), "{output:?}");
    let groups: usize = output.stdout.lines().last().unwrap_or_default().parse().unwrap_or_default();
    assert!(groups >= 4, "only {groups} groups: {output:?}");
    Ok(())
}

fn exit_status_and_streams_are_passed_on(host: &Host) -> Result<(), Failure> {
    let rows = [
        ("true", 0, "", ""),
        ("exit 7", 7, "", ""),
        ("echo out; echo err >&2; exit 3", 3, "out\n", "err\n"),
        ("kill -9 $$", 137, "", ""),
        ("cat", 0, "", ""),
        // A daemon that keeps the stream open does not keep the command.
        ("sleep 1000 & echo started", 0, "started\n", ""),
    ];
    for (script, status, stdout, stderr) in rows {
        let output = host.run(script)?;
        assert_eq!((output.status, &*output.stdout, &*output.stderr), (status, stdout, stderr), "{script}");
    }
    let output = host.run("head -c 3000000 /dev/zero | tr '\\0' x")?;
    assert_eq!(output.stdout.len(), 3_000_000, "bytes of a long output");
    Ok(())
}

fn command_that_cannot_start(host: &Host) -> Result<(), Failure> {
    let request = lab::wire::Request { command: vec!["/no/such/program".into()], ..Default::default() };
    let exit = host.stream(&request, Duration::from_secs(60), &mut |_| {})?;
    assert!(matches!(exit, lab::wire::Exit::NotStarted(_)), "{exit:?}");
    Ok(())
}

fn slow_command_is_a_time_out(host: &Host) -> Result<(), Failure> {
    let result = host.run_within("sleep 555", Duration::from_secs(2));
    assert!(matches!(result, Err(Failure::TimedOut { .. })), "{result:?}");
    let output = host.run("pgrep -f '[s]leep 555' | wc -l; echo alive")?;
    assert_eq!(output.stdout, "0\nalive\n", "the command was killed and the line is free");
    Ok(())
}

fn kernel_panic_is_told_from_a_failure(host: Host) -> Result<(), Failure> {
    let result = host.run("echo c > /proc/sysrq-trigger");
    let crashed = matches!(&result, Err(Failure::Panic { tail }) if tail.contains("sysrq triggered crash"));
    assert!(crashed, "not a panic: {result:?}");
    Ok(())
}

fn warning_of_the_kernel_is_heard(host: Host) -> Result<(), Failure> {
    assert_eq!(host.complaint()?, None);
    host.run(
        "echo '<4>WARNING: CPU: 0 PID: 1 at a/test.c:1' > /dev/kmsg; echo '<4>what it met' > /dev/kmsg",
    )?;
    let words = host.complaint()?.unwrap_or_default();
    assert!(words.contains("a/test.c") && words.contains("what it met"), "{words}");
    assert!(!words.contains("Command line:"), "only what stands behind it: {words}");
    Ok(())
}

fn power_off_is_told_from_a_failure(host: Host) -> Result<(), Failure> {
    let result = host.run("poweroff -f");
    assert!(matches!(result, Err(Failure::PoweredOff { .. })), "{result:?}");
    Ok(())
}

fn silent_host_is_a_hang(mut host: Host) -> Result<(), Failure> {
    host.set_silence_limit(Duration::from_secs(8));
    // Signs of life keep a command that says nothing.
    assert!(host.run("sleep 10")?.is_success());
    host.hardware().control()?.execute("stop", Default::default())?;
    let result = host.run("true");
    assert!(result.as_ref().is_err_and(Failure::is_hang), "{result:?}");
    Ok(())
}

fn power_cut_ends_the_emulator(host: Host) -> Result<(), Failure> {
    let process = host.process();
    host.power_cut();
    let left = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    assert!(left.is_empty() || left.contains(") Z "), "the emulator is still there: {left}");
    Ok(())
}

fn killed_starter_leaves_no_emulator(_: &Host) -> Result<(), Failure> {
    let setup = |cause| Failure::Setup { operation: "start another host".to_owned(), cause };
    let allod = lab::start::programs_folder()?.join("allod");
    let share = tempfile::tempdir().map_err(setup)?;
    let mut starter = Command::new(allod)
        .args(["lab", "run", "--profile", "plain", "--share"])
        .arg(share.path())
        .arg("touch /share/alive; sleep 1000")
        .spawn()
        .map_err(setup)?;
    let begin = Instant::now();
    while !share.path().join("alive").exists() && begin.elapsed() < Duration::from_secs(120) {
        std::thread::sleep(Duration::from_millis(100));
    }
    let marked = share.path().to_string_lossy().into_owned();
    assert!(processes_with(&marked) >= 2, "the starter and its emulator run");
    starter.kill().and_then(|()| starter.wait()).map_err(setup)?;
    let begin = Instant::now();
    while processes_with(&marked) > 0 && begin.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(processes_with(&marked), 0, "an emulator outlived its starter");
    Ok(())
}

/// Counts the processes with a word in their command line.
fn processes_with(word: &str) -> usize {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(word)).count()
}

fn programs_are_in_the_path(host: &Host) -> Result<(), Failure> {
    let output = host.run("command -v allod-lab-init fwts iasl qemu-system-x86_64 nvme")?;
    assert_eq!(output.stdout.lines().count(), 5, "{output:?}");
    assert!(host.run("fwts --version && iasl -v")?.is_success());
    Ok(())
}

/// A guest under the QEMU inside, in the given words, with its console as output.
fn guest(words: &str) -> String {
    format!(
        "timeout 100 qemu-system-x86_64 -accel kvm -cpu host -m 512 -nodefaults -display none -no-reboot {words}"
    )
}

fn small_guest_reaches_user_space(host: &Host) -> Result<(), Failure> {
    let script = guest(
        "-serial stdio -kernel /boot/vmlinux -initrd /tmp/initrd -device virtio-rng-pci -append 'console=ttyS0 quiet'",
    );
    let prepare = "cd /tmp && echo 'modprobe virtio_rng; cat /sys/class/misc/hw_random/rng_current; exit 3' > script && \
                   echo script | cpio -o -H newc > script.cpio && \
                   cat /boot/guest-initrd /boot/guest-modules script.cpio > initrd &&";
    let output = host.run(&format!("{prepare} {script} </dev/null"))?;
    for expected in ["GUEST user space reached", "virtio_rng.0", "GUEST script ended with 3"] {
        assert!(output.stdout.contains(expected), "no `{expected}` in {output:?}");
    }
    Ok(())
}

fn nested_ovmf_does_not_kill_the_emulator(host: &Host) -> Result<(), Failure> {
    let firmware = "-M q35 -serial file:/tmp/serial -drive if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd";
    let wait = "for i in $(seq 90); do sleep 1; grep -aq 'Shell>' /tmp/serial && break; done; kill %1; grep -ac 'Shell>' /tmp/serial";
    let output = host.run(&format!("set -m; {} & {wait}", guest(firmware)))?;
    assert!(output.is_success(), "OVMF did not reach its shell: {output:?}");
    // Whether an interrupt waits just when the firmware writes CR8 is chance: then this boot proves less, and says so.
    if !host.emulator_log().contains("nested write of CR8") {
        println!("        the emulator's flaw was not met this time");
    }
    Ok(())
}

fn cards_are_held_by_their_native_drivers(host: &Host) -> Result<(), Failure> {
    let rows = [
        ("8086:10d3", "e1000e"),
        ("1b36:0010", "nvme"),
        ("1234:1111", "bochs-drm"),
        ("1b36:000d", "xhci_hcd"),
    ];
    for (id, driver) in rows {
        let script =
            format!("basename $(readlink /sys/bus/pci/devices/$(lspci -Dnd {id} | cut -d' ' -f1)/driver)");
        assert_eq!(host.run(&script)?.stdout.trim(), driver, "driver of {id}");
    }
    Ok(())
}

fn keys_reach_the_keyboard(host: &Host) -> Result<(), Failure> {
    host.run("for e in /dev/input/event*; do (timeout 60 evtest --grab $e > /tmp/$(basename $e) 2>&1 &) ; done; sleep 1")?;
    host.key("screen0", "a shift-f5")?;
    let seen = "grep -ho 'KEY_[A-Z0-9]*), value [01]' /tmp/event*";
    let output = host.run(&format!(
        "for i in $(seq 50); do [ $({seen} | wc -l) -ge 6 ] && break; sleep 0.1; done; {seen}"
    ))?;
    let keys: Vec<&str> = output.stdout.lines().collect();
    let expected = [
        "KEY_A), value 1",
        "KEY_A), value 0",
        "KEY_LEFTSHIFT), value 1",
        "KEY_F5), value 1",
        "KEY_F5), value 0",
        "KEY_LEFTSHIFT), value 0",
    ];
    assert_eq!(keys, expected);
    Ok(())
}

fn virtual_functions_get_their_drivers(host: &Host) -> Result<(), Failure> {
    let create = "echo 2 > /sys/bus/pci/devices/$(lspci -Dnd 8086:10c9 | cut -d' ' -f1)/sriov_numvfs";
    let bound = "ls -d /sys/bus/pci/drivers/igbvf/0000:* | wc -l";
    let output = host.run(&format!(
        "{create}; for i in $(seq 100); do [ $({bound}) = 2 ] && break; sleep 0.1; done; {bound}"
    ))?;
    assert_eq!(output.stdout, "2\n", "{output:?}");
    Ok(())
}

fn pulled_card_is_gone_at_once(host: Host) -> Result<(), Failure> {
    assert_eq!(host.run("lspci -nd 1b36:0010 | wc -l")?.stdout, "1\n");
    host.pull("disk0")?;
    let output = host.run("for i in $(seq 100); do lspci -nd 1b36:0010 | grep -q . || break; sleep 0.1; done; lspci -nd 1b36:0010 | wc -l; ls /dev/nvme0n1")?;
    assert_eq!(output.stdout, "0\n", "{output:?}\n{}", host.console_log());
    let refused = host.pull("edu0");
    assert!(
        matches!(refused, Err(Failure::Request(_))),
        "a card on the root bus cannot be pulled: {refused:?}"
    );
    Ok(())
}
