//! `allod doctor`: is this host ready, and the exact fix for everything that is not.

use std::process::ExitCode;

use anyhow::Context;
use spec::inventory::{DoctorReport, Finding, Remedy, Severity, Verdict};

use crate::host_source::HostSource;
use crate::print::{self, WIDTH, wrap};

/// Say whether this host is ready for seats: every finding with its reason and the exact fix.
///
/// Changes nothing. Exit status: 0 ready; 1 blocked; 2 the inventory or the command line makes no sense.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The findings as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    source: HostSource,
}

/// Examines the host and prints the findings.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    match examine(arguments) {
        Ok(Verdict::Ready) => ExitCode::SUCCESS,
        Ok(Verdict::Blocked) => ExitCode::from(1),
        Err(error) => {
            eprintln!("allod: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn examine(arguments: &Arguments) -> anyhow::Result<Verdict> {
    let report = host::doctor::examine(&arguments.source.read()?);
    let text = match arguments.json {
        true => serde_json::to_string_pretty(&report)? + "\n",
        false => text(&report, print::coloured()),
    };
    print::out(&text).context("cannot write to standard output")?;
    Ok(report.verdict)
}

/// The report for people: graver findings with everything, good ones on a line each.
fn text(report: &DoctorReport, colours: bool) -> String {
    let mut text: String = report.findings.iter().map(|finding| paragraph(finding, colours)).collect();
    let count = |severity| report.findings.iter().filter(|finding| finding.severity == severity).count();
    let (blockers, warnings) = (count(Severity::Blocker), count(Severity::Warning));
    let plural = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    let (blockers, warnings) = (plural(blockers, "blocker"), plural(warnings, "warning"));
    text.push_str(&match report.verdict {
        Verdict::Ready => format!("\nThis host is ready: nothing blocks, {warnings}.\n"),
        Verdict::Blocked => format!("\nThis host is not ready: {blockers}, {warnings}.\n"),
    });
    text
}

fn paragraph(finding: &Finding, colours: bool) -> String {
    let (word, colour) = match finding.severity {
        Severity::Blocker => ("BLOCKED", 31),
        Severity::Warning => ("WARNING", 33),
        Severity::Note => ("note", 36),
        Severity::Good => ("good", 32),
    };
    const INDENT: usize = 9;
    let head = format!("{word:<INDENT$}");
    let is = wrap(&format!("{} [{}]", finding.finding, finding.code), &head, INDENT, WIDTH);
    // Colours go in after wrapping, which counts characters.
    let mut text = match colours {
        true => is.replacen(word, &format!("\x1b[1;{colour}m{word}\x1b[0m"), 1),
        false => is,
    };
    let field = |name: &str, value: &str| wrap(value, &format!("{:INDENT$}{name} ", ""), INDENT + 4, WIDTH);
    if finding.severity == Severity::Good {
        return text;
    }
    text.push_str(&field("why:", &finding.reason));
    text.push_str(&field("so:", &finding.consequence));
    for remedy in &finding.remedies {
        match remedy {
            Remedy::Command { command, purpose } => {
                // On a line of its own and never wrapped: it is there to be copied.
                text.push_str(&format!("{:INDENT$}fix: # {command}\n", ""));
                text.push_str(&wrap(purpose, &format!("{:1$}", "", INDENT + 7), INDENT + 7, WIDTH));
            }
            Remedy::FirmwareSetting { setting } => text.push_str(&field("fix: in firmware:", setting)),
            Remedy::Step { step } => text.push_str(&field("fix:", step)),
            Remedy::Unknown => {}
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use host::{doctor, fixtures, inventory};
    use spec::inventory::IommuKind;

    use super::*;

    #[test]
    fn a_blocked_host_shows_the_command_that_helps_on_one_line() {
        let mut host = inventory::read(&fixtures::desktop_with_two_gpus());
        host.groups.clear();
        host.iommu.kind = IommuKind::None;
        let text = text(&doctor::examine(&host), false);
        assert!(
            text.starts_with("BLOCKED  the kernel does not use the IOMMU [iommu-off-kernel]\n"),
            "{text}"
        );
        let command = text.lines().find(|line| line.trim_start().starts_with("fix: # ")).unwrap();
        assert!(command.ends_with("&& update-grub"), "{command}");
        assert!(text.ends_with("This host is not ready: 1 blocker, 1 warning.\n"), "{text}");
    }

    #[test]
    fn a_ready_host_is_said_to_be_ready() {
        let host = inventory::read(&fixtures::host_with_nvme_root());
        let text = text(&doctor::examine(&host), true);
        assert!(text.contains("\x1b[1;32mgood\x1b[0m     KVM is there"), "{text}");
        assert!(text.contains("\nThis host is ready: nothing blocks"), "{text}");
    }
}
