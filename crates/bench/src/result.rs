//! The figures of a run, and what follows from them.

use crate::journal::Made;
use crate::workload::Better;
use serde::{Deserialize, Serialize};

/// Where a round ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// On the host itself, with its own drivers.
    Native,
    /// In one seat, no other running.
    OneSeat,
    /// In each of all seats at once.
    AllSeats,
}

impl Condition {
    /// Returns it in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::OneSeat => "one seat",
            Self::AllSeats => "all seats at once",
        }
    }
}

/// Who ran the machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// Nobody: the host itself.
    Host,
    /// Ourselves.
    Allod,
    /// QEMU, on the same devices in the same run.
    Qemu,
}

impl Engine {
    /// Returns its name as people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Allod => "Allod",
            Self::Qemu => "QEMU",
        }
    }
}

/// The rounds of one workload at one place.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Series {
    /// The workload's name.
    pub workload: String,
    /// Where.
    pub condition: Condition,
    /// Under whom.
    pub engine: Engine,
    /// In which seat; none on the host.
    pub seat: Option<String>,
    /// One figure per round.
    pub rounds: Vec<f64>,
}

/// How far apart rounds are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The least.
    pub least: f64,
    /// The greatest.
    pub greatest: f64,
    /// The standard deviation as percent of the mean; 0 with fewer than two rounds.
    pub deviation_percent: f64,
}

impl Series {
    /// Returns the sum of its rounds, as Table 1 has it.
    pub fn sum(&self) -> f64 {
        self.rounds.iter().sum()
    }

    /// Returns the mean of its rounds; 0 without rounds.
    pub fn mean(&self) -> f64 {
        if self.rounds.is_empty() { 0.0 } else { self.sum() / self.rounds.len() as f64 }
    }

    /// Returns how far apart its rounds are; none without rounds.
    pub fn spread(&self) -> Option<Spread> {
        let least = self.rounds.iter().copied().reduce(f64::min)?;
        let greatest = self.rounds.iter().copied().reduce(f64::max)?;
        let (mean, count) = (self.mean(), self.rounds.len());
        let squares: f64 = self.rounds.iter().map(|round| (round - mean).powi(2)).sum();
        let deviation = if count < 2 { 0.0 } else { (squares / (count - 1) as f64).sqrt() };
        let deviation_percent = if mean > 0.0 { 100.0 * deviation / mean } else { 0.0 };
        Some(Spread { least, greatest, deviation_percent })
    }
}

/// All figures of a run with the conditions they were measured under.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Result {
    /// What they depend on, as name and value.
    pub conditions: Vec<(String, String)>,
    /// The figures.
    pub series: Vec<Series>,
    /// Rounds that were made only at the second try, each with the reason's first line.
    pub made_again: Vec<String>,
    /// Rounds that did not come out at all and are in no figure, the same way.
    pub left_out: Vec<String>,
    /// Rounds of workloads that the run has beyond these: it broke off.
    pub not_made: usize,
}

impl Result {
    /// Gathers what a run made of its `steps` rounds of workloads.
    pub(crate) fn of(made: &[Made], steps: usize) -> Self {
        let mut result = Self { not_made: steps.saturating_sub(made.len()), ..Self::default() };
        for Made { step, figures, troubles } in made {
            let why = troubles.last().and_then(|why| why.lines().next()).unwrap_or_default();
            match figures.as_slice() {
                [] => result.left_out.push(format!("{step}: {why}")),
                _ if troubles.is_empty() => {}
                _ => result.made_again.push(format!("{step}: {why}")),
            }
            for figure in figures {
                let (condition, engine) = (step.condition, step.engine);
                result.add(&step.workload, condition, engine, figure.seat.as_deref(), figure.figure);
            }
        }
        result
    }

    fn add(&mut self, workload: &str, condition: Condition, engine: Engine, seat: Option<&str>, figure: f64) {
        let place = (workload, condition, engine, seat);
        let same = |series: &&mut Series| {
            (series.workload.as_str(), series.condition, series.engine, series.seat.as_deref()) == place
        };
        if let Some(series) = self.series.iter_mut().find(same) {
            return series.rounds.push(figure);
        }
        let (workload, seat) = (workload.to_owned(), seat.map(str::to_owned));
        self.series.push(Series { workload, condition, engine, seat, rounds: vec![figure] });
    }

    /// Returns the series of a workload at a place under somebody, one per seat.
    pub fn of_seats(&self, workload: &str, condition: Condition, engine: Engine) -> Vec<&Series> {
        let fits = |series: &&Series| {
            series.workload == workload && series.condition == condition && series.engine == engine
        };
        self.series.iter().filter(fits).collect()
    }

    /// Returns the seats' figures as percent of native: where more is better the sum over all seats, as Table 1 has it,
    /// so that two seats at full speed are 200; where less is better native over the mean of the seats, so that 100 is as
    /// good as native. None when either was not measured.
    pub fn percent(
        &self,
        workload: &str,
        better: Better,
        condition: Condition,
        engine: Engine,
    ) -> Option<f64> {
        let native = self.of_seats(workload, Condition::Native, Engine::Host).first()?.mean();
        let seats = self.of_seats(workload, condition, engine);
        let sum: f64 = seats.iter().map(|series| series.mean()).sum();
        let percent = match better {
            Better::Larger => 100.0 * sum / native,
            Better::Smaller => 100.0 * native / (sum / seats.len() as f64),
        };
        percent.is_finite().then_some(percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Figure, Step};

    fn series(condition: Condition, engine: Engine, seat: &str, rounds: &[f64]) -> Series {
        let seat = (!seat.is_empty()).then(|| seat.to_owned());
        Series { workload: "fill".into(), condition, engine, seat, rounds: rounds.to_vec() }
    }

    #[test]
    fn the_papers_table_comes_out_as_printed() {
        // Table 1: native 16541 points, two seats together 27388, which is 165.58 percent.
        let result = Result {
            series: vec![
                series(Condition::Native, Engine::Host, "", &[16541.0]),
                series(Condition::AllSeats, Engine::Allod, "one", &[13694.0]),
                series(Condition::AllSeats, Engine::Allod, "two", &[13694.0]),
            ],
            ..Result::default()
        };
        let percent = result.percent("fill", Better::Larger, Condition::AllSeats, Engine::Allod).unwrap();
        assert!((percent - 165.58).abs() < 0.01, "{percent}");
        assert_eq!(result.percent("fill", Better::Larger, Condition::OneSeat, Engine::Allod), Some(0.0));
        assert_eq!(result.percent("disk", Better::Larger, Condition::AllSeats, Engine::Allod), None);
    }

    #[test]
    fn what_was_made_is_gathered_by_place_and_what_was_not_is_named() {
        let made = |lap, figures: &[(&str, f64)], troubles: &[&str]| Made {
            step: Step {
                lap,
                round: 1,
                condition: Condition::AllSeats,
                engine: Engine::Qemu,
                workload: "fill".into(),
            },
            figures: figures
                .iter()
                .map(|(seat, figure)| Figure { seat: Some((*seat).into()), figure: *figure })
                .collect(),
            troubles: troubles.iter().map(|why| (*why).to_owned()).collect(),
        };
        let run = [
            made(1, &[("a", 1.0), ("b", 2.0)], &[]),
            made(2, &[("a", 3.0), ("b", 4.0)], &["broke off\nlong words"]),
            made(3, &[], &["broke off", "silent"]),
        ];
        let result = Result::of(&run, 5);
        let seats = result.of_seats("fill", Condition::AllSeats, Engine::Qemu);
        let rounds: Vec<&[f64]> = seats.iter().map(|series| series.rounds.as_slice()).collect();
        assert_eq!(rounds, [[1.0, 3.0], [2.0, 4.0]]);
        let at = "fill, all seats at once, QEMU, round 1 of lap";
        assert_eq!(result.made_again, [format!("{at} 2: broke off")]);
        assert_eq!(result.left_out, [format!("{at} 3: silent")]);
        assert_eq!(result.not_made, 2);
    }

    #[test]
    fn a_shorter_time_is_more_percent() {
        let result = Result {
            series: vec![
                series(Condition::Native, Engine::Host, "", &[50.0]),
                series(Condition::OneSeat, Engine::Qemu, "one", &[100.0]),
            ],
            ..Result::default()
        };
        assert_eq!(result.percent("fill", Better::Smaller, Condition::OneSeat, Engine::Qemu), Some(50.0));
        assert_eq!(result.percent("fill", Better::Smaller, Condition::AllSeats, Engine::Qemu), None);
    }

    #[test]
    fn spreads_are_those_of_a_sample() {
        let spread = series(Condition::Native, Engine::Host, "", &[9.0, 10.0, 11.0]).spread().unwrap();
        assert_eq!((spread.least, spread.greatest, spread.deviation_percent), (9.0, 11.0, 10.0));
        assert_eq!(series(Condition::Native, Engine::Host, "", &[]).spread(), None);
        assert_eq!(
            series(Condition::Native, Engine::Host, "", &[3.0]).spread().unwrap().deviation_percent,
            0.0
        );
    }
}
