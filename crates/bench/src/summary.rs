//! What the rounds come to: each place's sums, means and spreads, its percent of native, and Allod beside QEMU. Pure.

use crate::result::{Condition, Engine, Result, Series};
use crate::workload::{Better, WORKLOADS, Workload};
use serde::Serialize;

/// Standard errors of a difference from which on it is not taken for chance.
const CLEAR: f64 = 2.0;

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

/// A place of Allod's beside the same place of QEMU's.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Beside {
    /// The workload's name.
    pub workload: &'static str,
    /// Where.
    pub condition: Condition,
    /// Allod's percent of native.
    pub allod_percent: f64,
    /// QEMU's.
    pub qemu_percent: f64,
    /// How many standard errors of their difference Allod is better by; negative where it is worse. None where fewer than
    /// two rounds, or rounds that are all alike, say nothing of chance.
    pub standard_errors: Option<f64>,
}

impl Beside {
    /// Whether Allod's figure is the worse one.
    pub fn is_behind(&self) -> bool {
        self.allod_percent < self.qemu_percent
    }

    /// Whether Allod's figure is better by more than chance explains.
    pub fn is_clearly_ahead(&self) -> bool {
        self.standard_errors.is_some_and(|errors| errors >= CLEAR)
    }
}

/// All that is told of a run as JSON.
#[derive(Clone, Debug, Serialize)]
pub struct Document<'a> {
    #[serde(flatten)]
    result: &'a Result,
    summary: Vec<Place>,
    beside_qemu: Vec<Beside>,
}

impl<'a> Document<'a> {
    /// Tells of a result.
    pub fn of(result: &'a Result) -> Self {
        Self { result, summary: summary(result), beside_qemu: beside_qemu(result) }
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

/// Returns each place that both have measured.
pub(crate) fn beside_qemu(result: &Result) -> Vec<Beside> {
    let beside = |workload: &'static Workload, condition| {
        let Workload { name, better, .. } = *workload;
        let percent = |engine| {
            let measured = !result.of_seats(name, condition, engine).is_empty();
            result.percent(name, better, condition, engine).filter(|_| measured)
        };
        let (allod_percent, qemu_percent) = (percent(Engine::Allod)?, percent(Engine::Qemu)?);
        let of = |engine| result.of_seats(name, condition, engine);
        let standard_errors = standard_errors(&of(Engine::Allod), &of(Engine::Qemu), better);
        Some(Beside { workload: name, condition, allod_percent, qemu_percent, standard_errors })
    };
    let conditions = [Condition::OneSeat, Condition::AllSeats];
    WORKLOADS
        .iter()
        .flat_map(|workload| conditions.into_iter().filter_map(move |condition| beside(workload, condition)))
        .collect()
}

/// Returns by how many standard errors of the difference the seats' mean is better than the others'.
fn standard_errors(own: &[&Series], others: &[&Series], better: Better) -> Option<f64> {
    let ((own, own_error), (others, others_error)) = (mean_with_error(own)?, mean_with_error(others)?);
    let difference = match better {
        Better::Larger => own - others,
        Better::Smaller => others - own,
    };
    let errors = difference / own_error.hypot(others_error);
    errors.is_finite().then_some(errors)
}

/// Returns the mean over seats of the means of their rounds, and its standard error.
fn mean_with_error(seats: &[&Series]) -> Option<(f64, f64)> {
    let mut sum = 0.0;
    let mut variance = 0.0;
    for series in seats {
        let rounds = series.rounds.len();
        if rounds < 2 {
            return None;
        }
        let deviation = series.spread()?.deviation_percent / 100.0 * series.mean();
        sum += series.mean();
        variance += deviation.powi(2) / rounds as f64;
    }
    let count = seats.len() as f64;
    Some((sum / count, variance.sqrt() / count))
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

    #[test]
    fn allod_is_behind_ahead_or_not_to_be_told_from_qemu() {
        // Workload (more is better with the first, less with the second), Allod's rounds, QEMU's, behind, clearly ahead.
        type Row<'a> = (&'a str, &'a [f64], &'a [f64], bool, bool);
        let rows: [Row; 7] = [
            ("fill", &[90.0, 91.0, 92.0], &[70.0, 71.0, 72.0], false, true),
            ("fill", &[70.0, 71.0, 72.0], &[90.0, 91.0, 92.0], true, false),
            ("fill", &[60.0, 90.0, 120.0], &[59.0, 89.0, 119.0], false, false),
            ("wake", &[70.0, 71.0, 72.0], &[90.0, 91.0, 92.0], false, true),
            ("wake", &[90.0, 91.0, 92.0], &[70.0, 71.0, 72.0], true, false),
            // A single round says nothing of chance, and neither do equal ones.
            ("fill", &[90.0], &[70.0], false, false),
            ("fill", &[90.0, 90.0], &[70.0, 70.0], false, false),
        ];
        for (workload, allod, qemu, behind, ahead) in rows {
            let result = run(workload, &[100.0, 100.0], allod, qemu);
            let [beside] = beside_qemu(&result).try_into().unwrap();
            let found = (beside.is_behind(), beside.is_clearly_ahead());
            assert_eq!(found, (behind, ahead), "{workload}: {allod:?} beside {qemu:?}: {beside:?}");
        }
        assert_eq!(beside_qemu(&run("fill", &[100.0], &[90.0], &[])), []);
    }
}
