//! The figures as a table in Markdown, which is readable as it is.

use crate::result::{Condition, Engine, Result, Series};
use crate::summary::{Beside, Place, Rounds, beside_qemu, summary};
use crate::workload::{Better, WORKLOADS, Workload};
use std::fmt::Write as _;

/// The seats' columns.
const SEATS: [(Condition, Engine); 4] = [
    (Condition::OneSeat, Engine::Allod),
    (Condition::OneSeat, Engine::Qemu),
    (Condition::AllSeats, Engine::Allod),
    (Condition::AllSeats, Engine::Qemu),
];

/// Writes the table, with what the figures depend on below it. Columns nobody measured are left out.
pub fn table(result: &Result) -> String {
    let columns: Vec<(Condition, Engine)> = SEATS
        .into_iter()
        .filter(|(condition, engine)| {
            result.series.iter().any(|series| series.condition == *condition && series.engine == *engine)
        })
        .collect();
    let mut text = String::from("| workload | unit | native |");
    for (condition, engine) in &columns {
        let seats = match condition {
            Condition::AllSeats => format!("{} seats at once", seat_count(result, *engine)),
            _ => "one seat".to_owned(),
        };
        write!(text, " {seats}, {} |", engine.name()).ok();
    }
    text.push_str("\n|---|---|---|");
    text.push_str(&"---|".repeat(columns.len()));
    text.push('\n');
    for workload in WORKLOADS {
        if is_measured(result, workload) {
            row(&mut text, result, workload, &columns);
        }
    }
    text.push('\n');
    verdict(&mut text, &beside_qemu(result));
    rounds(&mut text, &summary(result));
    for (name, value) in &result.conditions {
        writeln!(text, "- {name}: {value}").ok();
    }
    for Workload { name, about, .. } in WORKLOADS.iter().filter(|workload| is_measured(result, workload)) {
        writeln!(text, "- {name}: {about}").ok();
    }
    if result.not_made > 0 {
        let count = result.not_made;
        writeln!(text, "\n**Not the whole run**: {count} rounds of workloads were not made.").ok();
    }
    let named = [
        ("Made at the second try", &result.made_again),
        ("Left out, because they did not come out at the second try either", &result.left_out),
    ];
    for (what, rounds) in named.into_iter().filter(|(_, rounds)| !rounds.is_empty()) {
        writeln!(text, "\n{what}:").ok();
        for round in rounds {
            writeln!(text, "- {round}").ok();
        }
    }
    text
}

fn is_measured(result: &Result, workload: &Workload) -> bool {
    result.series.iter().any(|series| series.workload == workload.name)
}

fn seat_count(result: &Result, engine: Engine) -> usize {
    let seats = |workload: &Workload| result.of_seats(workload.name, Condition::AllSeats, engine).len();
    WORKLOADS.iter().map(seats).max().unwrap_or(0)
}

fn row(text: &mut String, result: &Result, workload: &Workload, columns: &[(Condition, Engine)]) {
    let less = if workload.better == Better::Smaller { ", less is better" } else { "" };
    let native = result.of_seats(workload.name, Condition::Native, Engine::Host);
    let native = native.first().map_or("-".to_owned(), |series| cell(series));
    write!(text, "| {} | {}{less} | {native} |", workload.name, workload.unit).ok();
    for (condition, engine) in columns {
        let seats: Vec<String> =
            result.of_seats(workload.name, *condition, *engine).iter().map(|series| cell(series)).collect();
        let percent = result.percent(workload.name, workload.better, *condition, *engine);
        match percent {
            Some(percent) if !seats.is_empty() => {
                write!(text, " {} = **{percent:.1} %** |", seats.join(" + ")).ok()
            }
            _ => write!(text, " - |").ok(),
        };
    }
    text.push('\n');
}

/// Writes a mean with how far apart its rounds are.
fn cell(series: &Series) -> String {
    let deviation = series.spread().map_or(0.0, |spread| spread.deviation_percent);
    format!("{} ±{deviation:.0} %", number(series.mean()))
}

fn number(value: f64) -> String {
    let digits = if value < 100.0 { 1 } else { 0 };
    format!("{value:.digits$}")
}

/// Writes where Allod stands beside QEMU; nothing when only one of them was measured.
fn verdict(text: &mut String, places: &[Beside]) {
    let behind: Vec<&Beside> = places.iter().filter(|place| place.is_behind()).collect();
    let ahead = places.iter().filter(|place| place.is_clearly_ahead()).count();
    let (all, not_behind) = (places.len(), places.len() - behind.len());
    if all == 0 {
        return;
    }
    writeln!(
        text,
        "Allod beside QEMU, in this run: not behind in {not_behind} of {all} places, and ahead by two standard errors of the \
         difference or more in {ahead}. Behind: {}",
        if behind.is_empty() { "none." } else { "" }
    )
    .ok();
    for Beside { workload, condition, allod_percent, qemu_percent, standard_errors } in behind {
        let by = standard_errors.map_or("which may be chance".to_owned(), |errors| {
            format!("by {:.1} standard errors", errors.abs())
        });
        writeln!(
            text,
            "- {workload}, {}: {allod_percent:.1} % against {qemu_percent:.1} %, {by}",
            condition.words()
        )
        .ok();
    }
    text.push('\n');
}

/// Writes a row for each place and seat: the sum of its rounds, and between what they lie.
fn rounds(text: &mut String, places: &[Place]) {
    text.push_str("| workload | where | rounds | sum | mean | least | greatest | deviation | of native |\n");
    text.push_str("|---|---|---|---|---|---|---|---|---|\n");
    for Place { workload, condition, engine, seats, .. } in places {
        for Rounds { seat, rounds, sum, mean, least, greatest, deviation_percent, percent } in seats {
            let at = match seat {
                Some(seat) => format!("{}, {}: {seat}", condition.words(), engine.name()),
                None => condition.words().to_owned(),
            };
            let [sum, mean, least, greatest] = [sum, mean, least, greatest].map(|value| number(*value));
            let percent = percent.map_or("-".to_owned(), |percent| format!("{percent:.1} %"));
            writeln!(
                text,
                "| {workload} | {at} | {rounds} | {sum} | {mean} | {least} | {greatest} | {deviation_percent:.0} % | \
                 {percent} |"
            )
            .ok();
        }
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_allod_is_behind_its_peer_is_said_by_name() {
        let place = |workload, allod_percent, qemu_percent, standard_errors| Beside {
            workload,
            condition: Condition::OneSeat,
            allod_percent,
            qemu_percent,
            standard_errors,
        };
        let (fill, wake, cpu) = (
            place("fill", 90.0, 80.0, Some(3.0)),
            place("wake", 5.8, 19.0, Some(-3.21)),
            place("cpu", 90.0, 90.5, None),
        );
        let said = |places: &[Beside]| {
            let mut text = String::new();
            verdict(&mut text, places);
            text
        };
        let all = said(&[fill.clone(), wake, cpu]);
        assert!(
            all.contains("not behind in 1 of 3 places") && all.contains("or more in 1. Behind: \n"),
            "{all}"
        );
        assert!(all.contains("- wake, one seat: 5.8 % against 19.0 %, by 3.2 standard errors\n"), "{all}");
        assert!(all.contains("- cpu, one seat: 90.0 % against 90.5 %, which may be chance\n"), "{all}");
        assert!(said(&[fill]).contains("Behind: none.\n"));
        assert_eq!(said(&[]), "");
    }

    #[test]
    fn what_was_not_measured_has_no_column() {
        let series = |condition, engine, seat: Option<&str>, rounds: &[f64]| Series {
            workload: "fill".into(),
            condition,
            engine,
            seat: seat.map(str::to_owned),
            rounds: rounds.to_vec(),
        };
        let result = Result {
            conditions: vec![("kernel".into(), "6.12".into())],
            series: vec![
                series(Condition::Native, Engine::Host, None, &[100.0, 100.0]),
                series(Condition::AllSeats, Engine::Allod, Some("a"), &[60.0]),
                series(Condition::AllSeats, Engine::Allod, Some("b"), &[50.0]),
            ],
            left_out: vec!["disk, one seat: silent".into()],
            not_made: 2,
            ..Result::default()
        };
        let expected = "\
| workload | unit | native | 2 seats at once, Allod |
|---|---|---|---|
| fill | Mpixels/s | 100 ±0 % | 60.0 ±0 % + 50.0 ±0 % = **110.0 %** |

| workload | where | rounds | sum | mean | least | greatest | deviation | of native |
|---|---|---|---|---|---|---|---|---|
| fill | native | 2 | 200 | 100 | 100 | 100 | 0 % | 100.0 % |
| fill | all seats at once, Allod: a | 1 | 60.0 | 60.0 | 60.0 | 60.0 | 0 % | 60.0 % |
| fill | all seats at once, Allod: b | 1 | 50.0 | 50.0 | 50.0 | 50.0 | 0 % | 50.0 % |

- kernel: 6.12
- fill: 2D: the whole picture of the seat's own card, filled

**Not the whole run**: 2 rounds of workloads were not made.

Left out, because they did not come out at the second try either:
- disk, one seat: silent
";
        assert_eq!(table(&result), expected);
    }
}
