//! UEFI variables of machines that are killed on the way to the file that keeps them.

use std::time::Duration;

use lab::{Failure, Host};

use super::disks::shell_disk;
use super::{run, without_escapes};

/// What a start may take. Firmware that finds a variable of which only the beginning was written makes the whole store anew,
/// and each of its bytes is an exit of a machine within a machine: five minutes.
const RECOVERED_WITHIN: Duration = Duration::from_secs(1200);

/// A variable's value as the shell shows it.
pub(crate) const KEPT: &str = "72 65 76 6F";
/// The vendor of our variables.
pub(crate) const OURS: &str = "-guid 7235c51c-0c80-4cab-87ac-3b084a6304b1";

/// Kills machines that write variables without end, each at a system call by which they reach the file, counted from a moment
/// on; each start, and one at the end, finds the variable that was written before all that, and another one whole.
pub(crate) fn leave_variables(host: &Host, kills: &[(&str, u32)]) -> Result<(), Failure> {
    let show = format!("setvar Kept {OURS}\r\nsetvar Other {OURS}\r\n");
    let script = format!(
        "{show}if %lasterror% ne 0x0 then\r\nsetvar Kept {OURS} -nv -bs -rt =0x6F766572\r\n\
         setvar Other {OURS} -nv -bs -rt =0x1\r\nendif\r\necho WRITES\r\nfor %a run (1 5000)\r\n\
         setvar Other {OURS} -nv -bs -rt =0x%a\r\nendfor\r\n"
    );
    run(host, "rm -f /tmp/fw-vars")?;
    let flags = "--memory 512M --firmware uefi --vars /tmp/fw-vars";
    let disk = shell_disk(host, &script)?;
    for (index, (call, number)) in kills.iter().enumerate() {
        // The kernel ends the machine as it enters the call.
        let output = host.run_within(
            &format!(
                "rm -f /tmp/fw-calls; allod run {flags} --disk {disk} < /dev/null | {{ n=; while read -r line; do echo \"$line\"; \
                 case \"$n$line\" in traced*) ;; *WRITES*) n=traced; strace -f -q -o /tmp/fw-calls -p $(pidof allod-vmm) -e trace={call} \
                 -e inject={call}:signal=KILL:when={number} > /dev/null 2>&1 & ;; esac; done; wait; }}; cat /tmp/fw-calls"
            ),
            RECOVERED_WITHIN,
        )?;
        let calls = output.stdout.lines().filter(|line| line.contains(&format!("{call}("))).count();
        assert!(calls as u32 >= *number && output.stdout.contains("killed by SIGKILL"), "{call}: {output:?}");
        if index > 0 {
            are_whole(&output.stdout);
        }
    }
    let disk = shell_disk(host, &format!("{show}reset -s\r\n"))?;
    let output =
        host.run_within(&format!("allod run {flags} --disk {disk} < /dev/null"), RECOVERED_WITHIN)?;
    assert!(output.is_success(), "{output:?}");
    are_whole(&output.stdout);
    Ok(())
}

/// The other one has a whole value, of the last round or of the one before.
fn are_whole(said: &str) {
    let text = without_escapes(said);
    assert!(text.contains(KEPT), "{text}");
    assert_eq!(text.matches(" Bytes").count(), 2, "{text}");
}
