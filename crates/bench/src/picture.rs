//! The figures as a picture: for each workload a bar per place, native as the line they are measured against.

use crate::result::{Condition, Engine, Result};
use crate::workload::{WORKLOADS, Workload};
use std::fmt::Write as _;

/// Columns that the longest bar may take.
const BAR_LIMIT: f64 = 600.0;
/// Percent that there is room for, however short the bars are.
const ROOM: f64 = 150.0;
/// Where bars begin. Their names stand before them.
const LEFT: f64 = 260.0;
/// Height of a bar with its gap.
const STEP: f64 = 24.0;
/// The places that have a bar, with words and colours that also differ in brightness.
const BARS: [(Condition, Engine, &str, &str); 4] = [
    (Condition::OneSeat, Engine::Allod, "one seat, Allod", "#0b5394"),
    (Condition::OneSeat, Engine::Qemu, "one seat, QEMU", "#9fc5e8"),
    (Condition::AllSeats, Engine::Allod, "all seats, Allod", "#b45f06"),
    (Condition::AllSeats, Engine::Qemu, "all seats, QEMU", "#f9cb9c"),
];

/// Draws the percentages as SVG. What was not measured has no bar.
pub fn picture(result: &Result) -> String {
    let drawn: Vec<(&Workload, Vec<Bar>)> =
        WORKLOADS.iter().map(|workload| (workload, bars(result, workload))).collect();
    // All on one scale: two seats at full speed are 200 percent, and more seats are more.
    let most = drawn.iter().flat_map(|(_, bars)| bars).map(|(_, _, percent)| *percent).fold(ROOM, f64::max);
    let column = BAR_LIMIT / most;
    let mut body = String::new();
    let mut y = 40.0;
    for (workload, bars) in drawn.into_iter().filter(|(_, bars)| !bars.is_empty()) {
        text(&mut body, 12.0, y + 14.0, "start", &format!("{}, {}", workload.name, workload.unit));
        for (label, color, percent) in bars {
            let width = percent * column;
            writeln!(
                body,
                "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"{:.0}\" fill=\"{color}\"/>",
                STEP - 6.0
            )
            .ok();
            text(&mut body, LEFT - 8.0, y + 14.0, "end", label);
            text(&mut body, LEFT + width + 6.0, y + 14.0, "start", &format!("{percent:.1} %"));
            y += STEP;
        }
        y += STEP / 2.0;
    }
    let line = LEFT + 100.0 * column;
    text(&mut body, line, 24.0, "middle", "native = 100 %");
    let (width, height) = (LEFT + BAR_LIMIT + 80.0, y + 12.0);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <line x1=\"{line:.1}\" y1=\"30\" x2=\"{line:.1}\" y2=\"{y}\" stroke=\"#333\" stroke-dasharray=\"4 3\"/>\n{body}</svg>\n",
    )
}

/// Name, colour and percent.
type Bar = (&'static str, &'static str, f64);

fn bars(result: &Result, workload: &Workload) -> Vec<Bar> {
    let bar = |(condition, engine, label, color)| {
        if result.of_seats(workload.name, condition, engine).is_empty() {
            return None;
        }
        result
            .percent(workload.name, workload.better, condition, engine)
            .map(|percent| (label, color, percent))
    };
    BARS.into_iter().filter_map(bar).collect()
}

/// Writes words, all of them ours, with a margin that keeps the line off them.
fn text(body: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    writeln!(
        body,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" stroke=\"#fff\" stroke-width=\"5\" \
         paint-order=\"stroke\">{words}</text>"
    )
    .ok();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::Series;

    /// Draws one workload: native, one seat, two seats at once.
    fn of_percents(one: f64, both: f64) -> String {
        let series = |condition, engine, seat: &str, rounds: f64| Series {
            workload: "cpu".into(),
            condition,
            engine,
            seat: Some(seat.into()),
            rounds: vec![rounds],
        };
        picture(&Result {
            series: vec![
                series(Condition::Native, Engine::Host, "", 100.0),
                series(Condition::OneSeat, Engine::Allod, "a", one),
                series(Condition::AllSeats, Engine::Allod, "a", both / 2.0),
                series(Condition::AllSeats, Engine::Allod, "b", both / 2.0),
            ],
            ..Result::default()
        })
    }

    #[test]
    fn bars_are_as_long_as_their_percents_say() {
        let number = |text: &str, before: &str, after: &str| -> f64 {
            let (_, rest) = text.split_once(before).unwrap();
            rest.split_once(after).unwrap().0.parse().unwrap()
        };
        for (one, both) in [(90.0, 110.0), (98.0, 196.0), (99.0, 165.58), (100.0, 800.0)] {
            let picture = of_percents(one, both);
            let hundred = number(&picture, "<line x1=\"", "\"") - LEFT;
            for (color, percent) in [("#0b5394", one), ("#b45f06", both)] {
                let bar = picture.lines().find(|line| line.contains(color)).unwrap();
                let width = number(bar, "width=\"", "\"");
                assert!((width - hundred * percent / 100.0).abs() < 0.5, "{percent} %: {bar}");
                assert!(width <= BAR_LIMIT, "{percent} %: {bar}");
            }
        }
    }

    #[test]
    fn each_place_that_was_measured_has_a_bar() {
        let series = |condition, engine, rounds: &[f64]| Series {
            workload: "cpu".into(),
            condition,
            engine,
            seat: None,
            rounds: rounds.to_vec(),
        };
        let result = Result {
            series: vec![
                series(Condition::Native, Engine::Host, &[10.0]),
                series(Condition::OneSeat, Engine::Allod, &[9.0]),
                series(Condition::OneSeat, Engine::Qemu, &[8.0]),
            ],
            ..Result::default()
        };
        let picture = picture(&result);
        assert_eq!(picture.matches("fill=\"#0b5394\"").count(), 1);
        for words in ["one seat, Allod", "90.0 %", "one seat, QEMU", "80.0 %"] {
            assert!(picture.contains(&format!(">{words}</text>")), "{words}: {picture}");
        }
        assert!(!picture.contains("all seats"));
    }
}
