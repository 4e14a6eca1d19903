//! Machines with firmware, run in the lab's host; what scenarios of firmware share.

pub(crate) mod disks;
pub(crate) mod kills;

use std::time::Duration;

use lab::{Failure, Host, Output};

/// OVMF starts Debian in thirty seconds in the lab; in many times that when the machine under it is busy.
pub(crate) const LIMIT: Duration = Duration::from_secs(300);

/// Runs a shell line in the host.
pub(crate) fn run(host: &Host, script: &str) -> Result<Output, Failure> {
    host.run_within(script, LIMIT)
}

/// Runs a machine with these flags until it ends.
pub(crate) fn machine(host: &Host, flags: &str) -> Result<(Output, serde_json::Value), Failure> {
    let output = run(
        host,
        &format!("rm -f /tmp/fw-report; allod run --memory 512M --report /tmp/fw-report {flags} < /dev/null"),
    )?;
    let report = run(host, "cat /tmp/fw-report")?.stdout;
    Ok((output, serde_json::from_str(&report).unwrap_or_default()))
}

/// The text without what moves the terminal's cursor.
pub(crate) fn without_escapes(text: &str) -> String {
    let mut plain = String::new();
    let mut parts = text.split('\x1b');
    plain.extend(parts.next());
    for part in parts {
        plain.extend(
            part.find(|letter: char| letter.is_ascii_alphabetic()).and_then(|end| part.get(end + 1..)),
        );
    }
    plain
}
