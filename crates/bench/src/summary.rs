//! What the rounds come to: each place's sums, means and spreads, its percent of native. Pure.

use crate::result::{Condition, Engine, Result, Series};
use crate::workload::{Better, WORKLOADS, Workload};
use serde::Serialize;

/// A place where a workload was measured: the host, one seat, or all seats at once.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Place {
    /// The workload's name.
    pub workload: &'static str,
    /// Its figure's unit.
    pub unit: &'static str,
    /// Which way is up.
    pub better: Better,
    /// Where.
    pub condition: Condition,
    /// Under whom.
    pub engine: Engine,
    /// Of all its seats together, as [`Result::percent`] has it; none when native was not measured.
    pub percent: Option<f64>,
    /// Its seats, or the host.
    pub seats: Vec<Rounds>,
}

/// What the rounds in one seat, or on the host, come to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rounds {
    /// Which seat; none on the host.
    pub seat: Option<String>,
    /// How many there are.
    pub rounds: usize,
    /// Their sum, as Table 1 has it.
    pub sum: f64,
    /// Their mean.
    pub mean: f64,
    /// The least of them.
    pub least: f64,
    /// The greatest.
    pub greatest: f64,
    /// Their standard deviation as percent of the mean; 0 with fewer than two.
    pub deviation_percent: f64,
    /// This one alone as percent of native.
    pub percent: Option<f64>,
}

/// All that is told of a run as JSON.
#[derive(Clone, Debug, Serialize)]
pub struct Document<'a> {
    #[serde(flatten)]
    result: &'a Result,
    summary: Vec<Place>,
}

impl<'a> Document<'a> {
    /// Tells of a result.
    pub fn of(result: &'a Result) -> Self {
        Self { result, summary: summary(result) }
    }
}

/// Returns every place that was measured, workload by workload, native first.
pub(crate) fn summary(result: &Result) -> Vec<Place> {
    let places = [
        (Condition::Native, Engine::Host),
        (Condition::OneSeat, Engine::Allod),
        (Condition::OneSeat, Engine::Qemu),
        (Condition::AllSeats, Engine::Allod),
        (Condition::AllSeats, Engine::Qemu),
    ];
    let place = |workload: &'static Workload, (condition, engine)| {
        let series = result.of_seats(workload.name, condition, engine);
        let Workload { name, unit, better, .. } = *workload;
        let percent = result.percent(name, better, condition, engine);
        let native =
            result.of_seats(name, Condition::Native, Engine::Host).first().map(|native| native.mean());
        let seats: Vec<Rounds> =
            series.into_iter().filter_map(|series| rounds(series, native, better)).collect();
        (!seats.is_empty()).then_some(Place {
            workload: name,
            unit,
            better,
            condition,
            engine,
            percent,
            seats,
        })
    };
    WORKLOADS
        .iter()
        .flat_map(|workload| places.into_iter().filter_map(move |at| place(workload, at)))
        .collect()
}

fn rounds(series: &Series, native: Option<f64>, better: Better) -> Option<Rounds> {
    let spread = series.spread()?;
    let mean = series.mean();
    let percent = native.map(|native| match better {
        Better::Larger => 100.0 * mean / native,
        Better::Smaller => 100.0 * native / mean,
    });
    Some(Rounds {
        seat: series.seat.clone(),
        rounds: series.rounds.len(),
        sum: series.sum(),
        mean,
        least: spread.least,
        greatest: spread.greatest,
        deviation_percent: spread.deviation_percent,
        percent: percent.filter(|percent| percent.is_finite()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(workload: &str, condition: Condition, engine: Engine, rounds: &[f64]) -> Series {
        let seat = (condition != Condition::Native).then(|| "left".to_owned());
        Series { workload: workload.into(), condition, engine, seat, rounds: rounds.to_vec() }
    }

    fn run(workload: &str, native: &[f64], allod: &[f64], qemu: &[f64]) -> Result {
        let rows = [
            (Condition::Native, Engine::Host, native),
            (Condition::OneSeat, Engine::Allod, allod),
            (Condition::OneSeat, Engine::Qemu, qemu),
        ];
        let rows = rows.into_iter().filter(|(.., rounds)| !rounds.is_empty());
        let series =
            rows.map(|(condition, engine, rounds)| series(workload, condition, engine, rounds)).collect();
        Result { series, ..Result::default() }
    }

    #[test]
    fn sums_and_spreads_are_told_of_every_place() {
        let result = run("fill", &[100.0, 102.0, 98.0], &[49.0, 50.0, 51.0], &[]);
        let [native, seat] = summary(&result).try_into().unwrap();
        assert_eq!(
            (native.condition, native.percent, native.unit),
            (Condition::Native, Some(100.0), "Mpixels/s")
        );
        assert_eq!((seat.percent, seat.seats.len()), (Some(50.0), 1));
        let expected = Rounds {
            seat: Some("left".into()),
            rounds: 3,
            sum: 150.0,
            mean: 50.0,
            least: 49.0,
            greatest: 51.0,
            deviation_percent: 2.0,
            percent: Some(50.0),
        };
        assert_eq!(seat.seats, [expected]);
        let json = serde_json::to_value(Document::of(&result)).unwrap();
        assert_eq!(json["summary"][1]["seats"][0]["sum"], 150.0);
        assert_eq!(json["series"][0]["rounds"][1], 102.0);
    }
}
