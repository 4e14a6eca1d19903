//! `cargo xtask demo`: the main job, seen with one's own eyes on any machine.
//!
//! Sets up, builds the release binaries, boots the lab and starts a Debian kernel in a machine of ours inside it. Not
//! here: a test of it; the lab's scenarios are. `main` calls this.

use crate::process::follow;
use crate::report::{Findings, Report};
use crate::setup;
use crate::test::build_release;
use crate::workspace::Workspace;
use std::process::Command;

/// The machine that is started inside the lab, as one would type it there.
const MACHINE: &[&str] = &[
    "/opt/allod/allod",
    "run",
    "--kernel",
    "/boot/vmlinux",
    "--initrd",
    "/boot/guest-initrd",
    "--cpus",
    "2",
    "--memory",
    "256M",
    "--cmdline",
];

/// What the guest says of itself; the initial RAM disk of the lab's image runs `guest_run`.
const COMMAND_LINE: &str = "console=ttyS0 quiet guest_run=\"echo; echo I am $(uname -sr) on $(nproc) processors; \
    echo My memory: $(grep MemTotal /proc/meminfo); echo I run on: $(dmesg | grep -o Hypervisor.detected:.[A-Z][A-Z]*); \
    echo My PCI functions: $(ls /sys/bus/pci/devices); echo; sleep 1\"";

/// What a guest that came up and went down again has printed.
const MILESTONES: &[&str] = &["GUEST user space reached", "I am Linux", "reboot: Power down"];

/// Shows the main job as phases of `report`.
pub(crate) fn run(workspace: &Workspace, report: &mut Report) {
    eprintln!(
        "This boots a virtual host (an emulated PC with an IOMMU, slow but real software inside), and in it starts a"
    );
    eprintln!(
        "Debian kernel in a machine of Allod's. The first time it installs and builds what that needs, named below."
    );
    if setup::run(&setup::Options::default(), report) && build_release(report) {
        report.phase("demo", || {
            let mut demo = Command::new(workspace.target.join("release/allod"));
            demo.args(["lab", "run", "--verbose", "--profile", "plain", "--"])
                .args(MACHINE)
                .arg(COMMAND_LINE);
            let mut seen = Seen::default();
            let status = follow(&mut demo, |line| seen.take(line))?;
            Ok(seen.findings(status.success()))
        });
    }
}

/// Which milestones the guest has reached.
#[derive(Default)]
struct Seen {
    reached: usize,
}

impl Seen {
    /// Takes a line of output; all are worth showing.
    fn take(&mut self, line: &str) -> bool {
        if MILESTONES.get(self.reached).is_some_and(|milestone| line.contains(milestone)) {
            self.reached += 1;
        }
        true
    }

    fn findings(&self, well: bool) -> Findings {
        let mut findings = Findings::default();
        if let Some(missed) = MILESTONES.get(self.reached) {
            findings.problems.push(format!("the guest never said `{missed}`"));
        } else if !well {
            findings.problems.push("the guest powered off, and yet the command failed".into());
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_demo_worked_when_the_guest_came_up_and_went_down() {
        let whole =
            ["GUEST user space reached", "I am Linux 6.12 on 2 processors", "[ 26.2] reboot: Power down"];
        let rows: [(&[&str], bool, usize); 5] = [
            (&whole, true, 0),
            (&whole, false, 1),
            (&whole[..2], true, 1),
            (&[], true, 1),
            (&[whole[2], whole[1], whole[0]], true, 1),
        ];
        for (lines, well, problems) in rows {
            let mut seen = Seen::default();
            assert!(lines.iter().all(|line| seen.take(line)));
            assert_eq!(seen.findings(well).problems.len(), problems, "{lines:?} {well}");
        }
    }
}
