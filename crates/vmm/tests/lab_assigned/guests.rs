//! Guests with assigned functions, inside the lab's host.

use std::time::{Duration, Instant};

use lab::{Failure, Host, Output};
use serde_json::Value;

/// A guest that does all it is told in these scenarios; in many times that when the machine under the lab is busy.
const LIMIT: Duration = Duration::from_secs(300);

/// How often a guest in the background is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A guest's kernel says so when a device of it is set up; here it says little.
const QUIET: &str = "console=ttyS0 quiet panic=-1";

/// Keeps our programs in the host's memory: from where the lab shows them, every start would read all of them again.
const PROGRAMS: &str = "[ -d /tmp/bin ] || { mkdir /tmp/bin.new && cp /opt/allod/allod /opt/allod/allod-vmm /tmp/bin.new \
    && mv /tmp/bin.new /tmp/bin; }; export PATH=/tmp/bin:$PATH;";

/// Runs a shell line in the host.
pub(crate) fn run(host: &Host, script: &str) -> Result<Output, Failure> {
    host.run_within(&format!("{PROGRAMS} {script}"), LIMIT)
}

/// Runs a shell line in the host; it must go well.
pub(crate) fn does(host: &Host, script: &str) -> Result<String, Failure> {
    let output = run(host, script)?;
    assert!(output.is_success(), "{script}: {output:?}");
    Ok(output.stdout)
}

/// Writes a file of the host, in pieces that a command line has room for.
pub(crate) fn put_file(host: &Host, path: &str, bytes: &[u8]) -> Result<(), Failure> {
    does(host, &format!("rm -f {path}"))?;
    for piece in bytes.chunks(PIECE) {
        let text: String = piece.iter().map(|byte| format!("{byte:02x}")).collect();
        does(host, &format!("echo {text} | xxd -r -p >> {path}"))?;
    }
    Ok(())
}

const PIECE: usize = 12 << 10;

/// The address of the host's function with these ids, as `lspci -n` writes them.
pub(crate) fn find(host: &Host, ids: &str) -> Result<String, Failure> {
    let output = run(host, &format!("lspci -Dn -d {ids} | cut -d' ' -f1 | head -1"))?;
    let address = output.stdout.trim().to_owned();
    assert!(!address.is_empty(), "the host has no {ids}");
    Ok(address)
}

/// Hands functions over to vfio-pci, as the host side will do.
pub(crate) fn take(host: &Host, addresses: &[&str]) -> Result<(), Failure> {
    let one = "d=/sys/bus/pci/devices/$b; [ \"$(basename $(readlink $d/driver) 2>/dev/null)\" = vfio-pci ] && continue; \
               [ -e $d/driver ] && echo $b > $d/driver/unbind; \
               echo vfio-pci > $d/driver_override; echo $b > /sys/bus/pci/drivers_probe; \
               test -e $d/driver || exit 1";
    let output = run(host, &format!("modprobe vfio-pci; for b in {}; do {one}; done", addresses.join(" ")))?;
    assert!(output.is_success(), "{output:?}");
    Ok(())
}

/// A shell line that starts Debian's kernel with the modules it needs, these functions, and a script as its work.
pub(crate) fn debian(functions: &[&str], flags: &str, parameters: &str) -> String {
    let devices: Vec<_> = functions.iter().map(|address| format!("--device {address}")).collect();
    format!(
        "allod run --report /tmp/report --kernel /boot/vmlinux --initrd /tmp/initrd {} {flags} \
         --cmdline '{QUIET} {parameters}' < /dev/null",
        devices.join(" ")
    )
}

/// Makes `/tmp/initrd` with `script` as the guest's work.
pub(crate) fn prepare(host: &Host, script: &str) -> Result<(), Failure> {
    assert!(!script.contains("END-OF-SCRIPT"));
    let output = run(
        host,
        &format!(
            "rm -f /tmp/report; cd /tmp && cat > script <<'END-OF-SCRIPT'\n{script}\nEND-OF-SCRIPT\n\
             cp $(modinfo -n crc32c_generic) crc32c.ko && \
             printf 'script\\ncrc32c.ko\\n' | cpio -o -H newc > script.cpio && \
             cat /boot/guest-initrd /boot/guest-modules script.cpio > initrd"
        ),
    )?;
    assert!(output.is_success(), "{output:?}");
    Ok(())
}

/// Runs a guest to its end, and gives its output and report (null when there is none).
pub(crate) fn guest(
    host: &Host,
    functions: &[&str],
    flags: &str,
    script: &str,
) -> Result<(Output, Value), Failure> {
    prepare(host, script)?;
    let output = run(host, &debian(functions, flags, ""))?;
    Ok((output, report(host)?))
}

/// The report of the last machine; null when it left none.
pub(crate) fn report(host: &Host) -> Result<Value, Failure> {
    Ok(serde_json::from_str(&run(host, "cat /tmp/report")?.stdout).unwrap_or_default())
}

/// What a guest does first to have the programs of the host's root file system: its disk, read only, at `/host`.
/// `in_host` runs a program of it.
///
/// ext4 asks for its checksum by a name that `modprobe` does not find.
pub(crate) const TOOLS: &str = "modprobe virtio_blk; insmod /crc32c.ko; modprobe ext4; mkdir /host; mount -o ro /dev/vda /host; \
    for m in dev proc sys tmp; do mount --bind /$m /host/$m; done; in_host() { chroot /host \"$@\"; };";

/// Gives a machine the disk that [`TOOLS`] looks for.
pub(crate) const TOOLS_DISK: &str = "--disk /dev/vda,ro";

/// Starts a guest in the background; its console goes to `/tmp/console`.
pub(crate) fn start(host: &Host, command: &str) -> Result<(), Failure> {
    does(host, &format!("(exec {command}) > /tmp/console 2>&1 & echo $! > /tmp/machine"))?;
    Ok(())
}

/// Ends the guest in the background from outside: the machine's own process is asked, so that it leaves a report.
pub(crate) fn stop(host: &Host) -> Result<(), Failure> {
    does(host, "pkill -TERM -P $(cat /tmp/machine)")?;
    wait_for_end(host)?;
    Ok(())
}

/// Waits until the guest in the background has printed `words`, and gives all it has printed.
pub(crate) fn wait_for(host: &Host, words: &str) -> Result<String, Failure> {
    let begin = Instant::now();
    loop {
        let console = run(host, "cat /tmp/console")?.stdout;
        if console.contains(words) {
            return Ok(console);
        }
        assert!(begin.elapsed() < LIMIT, "the guest never said `{words}`: {console}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Waits until the machine in the background has left its report.
pub(crate) fn wait_for_end(host: &Host) -> Result<(String, Value), Failure> {
    let begin = Instant::now();
    loop {
        let report = report(host)?;
        if !report.is_null() {
            return Ok((run(host, "cat /tmp/console")?.stdout, report));
        }
        assert!(begin.elapsed() < LIMIT, "the machine does not end");
        std::thread::sleep(LOOK_EVERY);
    }
}
