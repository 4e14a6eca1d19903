//! `cargo xtask demo`: the main job, seen with one's own eyes on any machine.
//!
//! Sets up, builds the release binaries, boots the lab and lets a disk of it change hands: host, guest, host. Not here:
//! what happens inside (docs/examples/hand-over.sh), nor a test of it; the lab's scenarios are. `main` calls this.

use crate::process::follow;
use crate::report::{Findings, Report};
use crate::setup;
use crate::test::build_release;
use crate::workspace::Workspace;
use std::process::Command;

/// What is said before anything is done.
const ANNOUNCEMENT: &str = "\
This boots the lab, a virtual host with an IOMMU, and hands its NVMe disk to a machine of Allod's: a Debian kernel in
it reads and writes the disk with its own driver, then the host has the disk back. The first time it installs and
builds what that needs, named below.";

/// The demo, as one would type it behind `allod` in the project's folder.
const COMMAND: &str = "lab run --verbose --profile seats --share docs/examples -- bash /share/hand-over.sh";

/// What has been printed, in this order, when the disk has changed hands twice.
const MILESTONES: &[&str] = &[
    "The guest reads: written by the host",
    "reboot: Power down",
    "at the driver nvme again",
    "The host reads: written by the guest",
];

/// Shows the main job as phases of `report`.
pub(crate) fn run(workspace: &Workspace, report: &mut Report) {
    eprintln!("{ANNOUNCEMENT}");
    if setup::run(&setup::Options::default(), report) && build_release(report) {
        report.phase("demo", || {
            let mut demo = Command::new(workspace.target.join("release/allod"));
            demo.args(COMMAND.split(' ')).current_dir(&workspace.root);
            let mut seen = Seen::default();
            let status = follow(&mut demo, |line| seen.take(line))?;
            Ok(seen.findings(status.success()))
        });
    }
}

/// How many milestones were reached.
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
            findings.problems.push(format!("nobody said `{missed}`"));
        } else if !well {
            findings.problems.push("the disk changed hands, and yet the command failed".into());
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_demo_worked_when_the_disk_changed_hands_twice() {
        let whole = [
            "The guest reads: written by the host\r",
            "[    3.9] reboot: Power down",
            "It is at the driver nvme again.",
            "The host reads: written by the guest",
        ];
        let unread = ["The guest reads: ", whole[1], whole[2], whole[3]];
        let rows: [(&[&str], bool, usize); 5] = [
            (&whole, true, 0),
            (&whole, false, 1),
            (&whole[..3], true, 1),
            (&[], true, 1),
            (&unread, true, 1),
        ];
        for (lines, well, problems) in rows {
            let mut seen = Seen::default();
            assert!(lines.iter().all(|line| seen.take(line)));
            assert_eq!(seen.findings(well).problems.len(), problems, "{lines:?} {well}");
        }
    }
}
