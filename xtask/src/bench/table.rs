//! The table of a benchmark: figures, their goals, the best peers, who passed.
//!
//! Pure. The peers' figures but QEMU's are not measured here: they were measured once in the same kind of host, by the
//! same method, and are shown as such. Not here: measuring; that is [`super::session`].

use super::figures::{Figures, Spread, Vmm};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// A line of the table.
pub(crate) struct Row {
    title: &'static str,
    /// The figure, as `measurement.figure`.
    figure: &'static str,
    decimals: usize,
    /// Ours at most.
    goal: Option<f64>,
    /// QEMU's figure when the peers were measured, where the goal depends on the guest as well as on the VMM: the goal
    /// is then moved by as much as QEMU's figure of this run differs.
    qemu_then: Option<f64>,
    /// The best of the peers that were measured then.
    peers: &'static str,
}

/// A line without a goal.
pub(crate) const fn row(
    title: &'static str,
    figure: &'static str,
    decimals: usize,
    peers: &'static str,
) -> Row {
    Row { title, figure, decimals, goal: None, qemu_then: None, peers }
}

impl Row {
    /// Sets the goal.
    pub(crate) const fn at_most(self, goal: f64) -> Row {
        Row { goal: Some(goal), ..self }
    }

    /// Moves the goal with QEMU's figure.
    pub(crate) const fn scaled_from(self, qemu: f64) -> Row {
        Row { qemu_then: Some(qemu), ..self }
    }

    /// Returns the goal for this run; none also where it cannot be moved for want of QEMU's figure.
    fn goal(&self, qemu: Option<Spread>) -> Option<f64> {
        match self.qemu_then {
            None => self.goal,
            Some(then) => Some(self.goal? * qemu?.median / then),
        }
    }
}

/// The goals that were looked at and those missed, a line each.
pub(crate) fn verdicts(rows: &[Row], figures: &Figures) -> (usize, Vec<String>) {
    let mut passed = 0;
    let mut missed = Vec::new();
    for row in rows.iter().filter(|row| row.goal.is_some()) {
        let qemu = figures.spread(Vmm::Qemu, row.figure);
        match (figures.spread(Vmm::Allod, row.figure), row.goal(qemu)) {
            (Some(ours), Some(goal)) if ours.median <= goal => passed += 1,
            (Some(ours), Some(goal)) => {
                let goal = goal_text(goal, row.decimals);
                missed.push(format!(
                    "{}: {:.*}, the goal is {goal}",
                    row.title.trim(),
                    row.decimals.max(1),
                    ours.median
                ));
            }
            _ => missed.push(format!("{}: not measured", row.title.trim())),
        }
    }
    (passed, missed)
}

/// Returns the table as text.
pub(crate) fn text(rows: &[Row], figures: &Figures) -> String {
    let mut text = String::new();
    let head = ["figure", "goal", "Allod", "QEMU q35, same run", "", "best peers, measured earlier"];
    line(&mut text, head.map(str::to_owned));
    for row in rows {
        let ours = figures.spread(Vmm::Allod, row.figure);
        let qemu = figures.spread(Vmm::Qemu, row.figure);
        let goal = row.goal(qemu);
        let verdict = match (ours, goal) {
            (Some(ours), Some(goal)) if ours.median <= goal => "ok",
            (_, Some(_)) => "MISSED",
            (_, None) => "",
        };
        line(
            &mut text,
            [
                row.title.to_owned(),
                goal.map_or(String::new(), |goal| goal_text(goal, row.decimals)),
                shown(ours, row.decimals),
                shown(qemu, row.decimals),
                verdict.to_owned(),
                row.peers.to_owned(),
            ],
        );
    }
    text
}

/// Returns the table as JSON.
pub(crate) fn json(rows: &[Row], figures: &Figures) -> Vec<Value> {
    let rows = rows.iter().map(|row| {
        let (ours, qemu) = (figures.spread(Vmm::Allod, row.figure), figures.spread(Vmm::Qemu, row.figure));
        let goal = row.goal(qemu);
        let passed = ours.zip(goal).map(|(ours, goal)| ours.median <= goal);
        json!({
            "title": row.title.trim(), "figure": row.figure, "goal": goal, "passed": passed,
            "allod": ours, "qemu": qemu, "peers_measured_earlier": row.peers,
        })
    });
    rows.collect()
}

fn line(text: &mut String, [figure, goal, ours, qemu, verdict, peers]: [String; 6]) {
    let line = format!("{figure:<44} {goal:>5}  {ours:<24} {verdict:<6}  {qemu:<26} {peers}");
    writeln!(text, "{}", line.trim_end()).ok();
}

/// A goal with the decimals of its figure, where it has any.
fn goal_text(goal: f64, decimals: usize) -> String {
    if goal < 10.0 && goal.fract() != 0.0 { format!("{goal:.decimals$}") } else { format!("{goal:.0}") }
}

fn shown(spread: Option<Spread>, decimals: usize) -> String {
    let Some(Spread { median, min, max, .. }) = spread else { return "-".to_owned() };
    format!("{median:.decimals$} [{min:.decimals$}-{max:.decimals$}]")
}

#[cfg(test)]
mod tests {
    use super::super::figures::Sample;
    use super::*;

    fn figures(rows: &[(Vmm, &str, &str, f64)]) -> Figures {
        let mut figures = Figures::default();
        for (vmm, measurement, figure, value) in rows {
            let text = json!({ "figures": { *figure: value }, "facts": {} }).to_string();
            figures.add(*vmm, measurement, Sample::parse(&text).unwrap());
        }
        figures
    }

    #[test]
    fn a_figure_passes_up_to_its_goal() {
        let rows = [(6.0, "ok"), (6.1, "MISSED")];
        for (value, expected) in rows {
            let rows = [row("time", "start.entry_ms", 1, "").at_most(6.0)];
            let text = text(&rows, &figures(&[(Vmm::Allod, "start", "entry_ms", value)]));
            let line = text.lines().nth(1).unwrap();
            assert!(line.contains(expected), "{line}");
        }
    }

    #[test]
    fn a_goal_that_depends_on_the_guest_moves_with_qemu() {
        let row = row("time", "boot.user_space_ms", 0, "").at_most(1120.0).scaled_from(1519.1);
        let qemu = figures(&[(Vmm::Qemu, "boot", "user_space_ms", 1519.1 / 2.0)]);
        let goal = row.goal(qemu.spread(Vmm::Qemu, row.figure)).unwrap();
        assert!((goal - 560.0).abs() < 0.01, "{goal}");
        assert_eq!(row.goal(None), None);
    }

    #[test]
    fn a_goal_without_a_figure_is_missed() {
        let rows = [
            row("calls", "syscalls.syscalls", 0, "").at_most(150.0),
            row("time", "start.entry_ms", 0, "").at_most(6.0),
        ];
        let (passed, missed) = verdicts(&rows, &figures(&[(Vmm::Allod, "syscalls", "syscalls", 150.0)]));
        assert_eq!((passed, missed), (1, vec!["time: not measured".to_owned()]));
    }
}
