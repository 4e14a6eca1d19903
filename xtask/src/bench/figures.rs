//! Samples as the measuring program prints them, gathered by VMM, measurement and figure.
//!
//! Pure. Not here: goals and the table; that is [`super::table`].

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// A VMM by the name the measuring program knows it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Vmm {
    Allod,
    Qemu,
}

impl Vmm {
    /// Both, in the order they are interleaved.
    pub(crate) const ALL: [Vmm; 2] = [Vmm::Allod, Vmm::Qemu];

    /// Returns its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Vmm::Allod => "allod",
            Vmm::Qemu => "qemu",
        }
    }
}

/// What one call of the measuring program found.
#[derive(Debug, Deserialize)]
pub(crate) struct Sample {
    /// Numbers, their unit at the end of the name.
    figures: BTreeMap<String, f64>,
    /// Whatever explains them.
    facts: Value,
}

impl Sample {
    /// Reads what the measuring program printed.
    pub(crate) fn parse(text: &str) -> Result<Sample> {
        serde_json::from_str(text.trim()).with_context(|| format!("not a sample: {text:?}"))
    }

    /// Returns the figures in a line, as a sign of life.
    pub(crate) fn brief(&self) -> String {
        let figures: Vec<_> = self.figures.iter().map(|(name, value)| format!("{name} {value:.1}")).collect();
        figures.join(", ")
    }
}

/// The spread of a figure over the repetitions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) count: usize,
}

impl Spread {
    /// Returns the spread of `values`; none of no value.
    pub(crate) fn of(values: &[f64]) -> Option<Spread> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let (low, high) = ((sorted.len() - 1) / 2, sorted.len() / 2);
        let median = f64::midpoint(*sorted.get(low)?, *sorted.get(high)?);
        Some(Spread { median, min, max, count: sorted.len() })
    }
}

/// All samples of a run.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// By VMM and by name: measurement, dot, figure.
    values: BTreeMap<(Vmm, String), Vec<f64>>,
    /// The latest facts by VMM and measurement.
    facts: BTreeMap<&'static str, BTreeMap<String, Value>>,
}

impl Figures {
    /// Takes the sample of a measurement.
    pub(crate) fn add(&mut self, vmm: Vmm, measurement: &str, sample: Sample) {
        for (figure, value) in sample.figures {
            self.values.entry((vmm, format!("{measurement}.{figure}"))).or_default().push(value);
        }
        self.facts.entry(vmm.name()).or_default().insert(measurement.to_owned(), sample.facts);
    }

    /// Returns the spread of a figure named `measurement.figure`.
    pub(crate) fn spread(&self, vmm: Vmm, name: &str) -> Option<Spread> {
        Spread::of(self.values.get(&(vmm, name.to_owned()))?)
    }

    /// Returns the facts as JSON.
    pub(crate) fn facts(&self) -> Value {
        serde_json::json!(self.facts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        let rows = [
            (vec![3.0], [3.0, 3.0, 3.0]),
            (vec![9.0, 1.0, 2.0], [2.0, 1.0, 9.0]),
            (vec![4.0, 1.0, 2.0, 9.0], [3.0, 1.0, 9.0]),
        ];
        for (values, expected) in rows {
            let Spread { median, min, max, .. } = Spread::of(&values).unwrap();
            assert_eq!([median, min, max], expected, "{values:?}");
        }
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn samples_of_two_vmms_do_not_mix() {
        let mut figures = Figures::default();
        for (vmm, text) in [
            (Vmm::Allod, r#"{"figures":{"entry_ms":3.0},"facts":{"mappings":39}}"#),
            (Vmm::Qemu, r#"{"figures":{"entry_ms":120},"facts":{}}"#),
        ] {
            figures.add(vmm, "start", Sample::parse(text).unwrap());
        }
        assert_eq!(figures.spread(Vmm::Allod, "start.entry_ms").unwrap().max, 3.0);
        assert_eq!(figures.spread(Vmm::Qemu, "start.entry_ms").unwrap().min, 120.0);
        assert_eq!(figures.spread(Vmm::Qemu, "start.byte_ms"), None);
        assert_eq!(figures.facts()["allod"]["start"]["mappings"], 39);
    }

    #[test]
    fn words_of_a_shell_are_no_sample() {
        assert!(Sample::parse("bash: no such file").is_err());
    }
}
