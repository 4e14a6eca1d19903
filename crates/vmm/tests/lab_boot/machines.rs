//! Running machines inside the lab's host.

use std::time::Duration;

use lab::{Failure, Host, Output};

/// Debian's kernel boots in ten seconds in the lab; in many times that when the machine under it is busy.
const LIMIT: Duration = Duration::from_secs(240);

/// Runs a shell line in the host.
pub(crate) fn run(host: &Host, script: &str) -> Result<Output, Failure> {
    host.run_within(script, LIMIT)
}

/// Runs a machine with these flags, nothing typed, and gives its output and its report (null when there is none).
pub(crate) fn machine(host: &Host, flags: &str) -> Result<(Output, serde_json::Value), Failure> {
    let output =
        run(host, &format!("rm -f /tmp/report; allod run --report /tmp/report {flags} < /dev/null"))?;
    let report = run(host, "cat /tmp/report")?.stdout;
    Ok((output, serde_json::from_str(&report).unwrap_or_default()))
}

/// Flags that start Debian's kernel with the small guest, which runs `script` and then ends as `end` says.
pub(crate) fn debian(script: &str, end: &str, parameters: &str) -> String {
    format!(
        "--kernel /boot/vmlinux --initrd /boot/guest-initrd \
         --cmdline 'console=ttyS0 quiet panic=-1 {parameters} guest_end={end} guest_run=\"{script}\"'"
    )
}

/// Flags that start a guest of a few instructions.
pub(crate) fn micro(host: &Host, kernel: &[u8]) -> Result<String, Failure> {
    let escaped: String = kernel.iter().map(|byte| format!("\\x{byte:02x}")).collect();
    run(host, &format!("printf '{escaped}' > /tmp/micro-guest"))?;
    Ok("--kernel /tmp/micro-guest".to_owned())
}
