//! A leg of a run: the rounds of all workloads at one place, or in step at several, made until there are no more to make.
//!
//! A round that does not come out is made once more, and left out by name when that does not help: the others are worth
//! keeping. Pure but for what a [`Ground`] does.

use crate::journal::{Figure, Journal, Made, Step};
use crate::run::BenchError;
use crate::workload::Workload;

/// How often a step is tried.
const TRIES: u32 = 2;
/// How often in a row machines may fail to start before the leg is given up.
const START_TRIES: u32 = 3;

/// Why a workload gave no figures.
#[derive(Debug, PartialEq)]
pub(crate) enum Trouble {
    /// It may do so at another try.
    Failed {
        /// The reason.
        why: String,
        /// Whether what is measured in has to be started again.
        lost: bool,
    },
    /// We are asked to end.
    Interrupted,
}

/// What a leg is run on: the host, or seats.
pub(crate) trait Ground {
    /// Gets ready to measure; whatever was there before is gone.
    fn start(&mut self) -> Result<(), Trouble>;
    /// Runs a workload everywhere at once.
    fn measure(&mut self, workload: &Workload) -> Result<Vec<Figure>, Trouble>;
}

/// Makes the steps that the journal does not have, in their order; says each to `progress`.
///
/// # Errors
/// Nothing could be started, again and again; the journal cannot be written; or we are asked to end, and then the step that
/// was begun is as if it had not been.
pub(crate) fn run(
    ground: &mut dyn Ground,
    steps: &[(Step, &Workload)],
    journal: &mut Journal,
    progress: &mut dyn FnMut(&str),
) -> Result<(), BenchError> {
    let mut running = false;
    let mut begun = 0;
    for (step, workload) in steps {
        if journal.has(step) {
            continue;
        }
        if begun != step.round {
            begun = step.round;
            progress(&format!(
                "{}, {}, round {} of lap {}",
                step.engine.name(),
                step.condition.words(),
                step.round,
                step.lap
            ));
        }
        let mut made = Made { step: step.clone(), figures: Vec::new(), troubles: Vec::new() };
        for _ in 0..TRIES {
            if !running {
                start(ground, &mut made.troubles, progress)?;
                running = true;
            }
            match ground.measure(workload) {
                Ok(figures) => {
                    made.figures = figures;
                    break;
                }
                Err(Trouble::Interrupted) => return Err(BenchError::Interrupted),
                Err(Trouble::Failed { why, lost }) => {
                    progress(&format!("{step}: {why}"));
                    made.troubles.push(why);
                    running = !lost;
                }
            }
        }
        journal.add(made)?;
    }
    Ok(())
}

fn start(
    ground: &mut dyn Ground,
    troubles: &mut Vec<String>,
    progress: &mut dyn FnMut(&str),
) -> Result<(), BenchError> {
    let mut last = String::new();
    for _ in 0..START_TRIES {
        match ground.start() {
            Ok(()) => return Ok(()),
            Err(Trouble::Interrupted) => return Err(BenchError::Interrupted),
            Err(Trouble::Failed { why, .. }) => {
                progress(&format!("not started: {why}"));
                troubles.push(why.clone());
                last = why;
            }
        }
    }
    Err(BenchError::NotStarted { tries: START_TRIES, last })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::{Condition, Engine};
    use crate::workload::find_workload;
    use std::collections::VecDeque;

    /// Answers as it was told to, and is interrupted when there are no answers left; `false` is a start that fails.
    #[derive(Default)]
    struct Scripted {
        starts: VecDeque<bool>,
        answers: VecDeque<Result<f64, bool>>,
        started: u32,
    }

    impl Ground for Scripted {
        fn start(&mut self) -> Result<(), Trouble> {
            self.started += 1;
            let starts = self.starts.pop_front().unwrap_or(true);
            starts.then_some(()).ok_or(Trouble::Failed { why: "no boot".into(), lost: true })
        }

        fn measure(&mut self, _: &Workload) -> Result<Vec<Figure>, Trouble> {
            let Some(answer) = self.answers.pop_front() else { return Err(Trouble::Interrupted) };
            answer
                .map(|figure| vec![Figure { seat: None, figure }])
                .map_err(|lost| Trouble::Failed { why: "no figure".into(), lost })
        }
    }

    fn steps(rounds: u32) -> Vec<(Step, &'static Workload)> {
        let workload = find_workload("cpu").unwrap();
        let step = |round| Step {
            lap: 1,
            round,
            condition: Condition::OneSeat,
            engine: Engine::Allod,
            workload: "cpu".into(),
        };
        (1..=rounds).map(|round| (step(round), workload)).collect()
    }

    #[test]
    fn a_round_that_fails_is_made_again_and_then_left_out() {
        // What each measurement gives, or whether its machines are lost; what is kept; starts.
        type Row<'a> = (&'a [Result<f64, bool>], &'a [Option<f64>], u32);
        let rows: [Row; 4] = [
            (&[Ok(1.0), Ok(2.0)], &[Some(1.0), Some(2.0)], 1),
            (&[Err(false), Ok(1.0), Ok(2.0)], &[Some(1.0), Some(2.0)], 1),
            (&[Err(true), Ok(1.0), Ok(2.0)], &[Some(1.0), Some(2.0)], 2),
            (&[Err(true), Err(true), Ok(2.0)], &[None, Some(2.0)], 3),
        ];
        for (answers, kept, started) in rows {
            let mut ground = Scripted { answers: answers.iter().copied().collect(), ..Scripted::default() };
            let mut journal = Journal::in_memory();
            run(&mut ground, &steps(2), &mut journal, &mut |_| ()).unwrap();
            let figures: Vec<Option<f64>> =
                journal.made().iter().map(|made| made.figures.first().map(|figure| figure.figure)).collect();
            assert_eq!((figures.as_slice(), ground.started), (kept, started), "{answers:?}");
            let troubles: usize = journal.made().iter().map(|made| made.troubles.len()).sum();
            assert_eq!(troubles, answers.iter().filter(|answer| answer.is_err()).count());
        }
    }

    #[test]
    fn what_was_made_before_is_not_made_again() {
        let mut journal = Journal::in_memory();
        let mut first = Scripted { answers: [Ok(1.0)].into(), ..Scripted::default() };
        run(&mut first, &steps(1), &mut journal, &mut |_| ()).unwrap();
        let mut second = Scripted { answers: [Ok(2.0)].into(), ..Scripted::default() };
        run(&mut second, &steps(2), &mut journal, &mut |_| ()).unwrap();
        assert_eq!(journal.made().len(), 2);
        let mut third = Scripted::default();
        run(&mut third, &steps(2), &mut journal, &mut |_| ()).unwrap();
        assert_eq!(third.started, 0, "machines were started for nothing");
    }

    #[test]
    fn an_interrupted_round_is_neither_made_again_nor_kept() {
        let mut ground = Scripted { answers: [Ok(1.0)].into(), ..Scripted::default() };
        let mut journal = Journal::in_memory();
        let ended = run(&mut ground, &steps(3), &mut journal, &mut |_| ());
        assert!(matches!(ended, Err(BenchError::Interrupted)), "{ended:?}");
        assert_eq!((journal.made().len(), ground.started), (1, 1));
    }

    #[test]
    fn what_never_starts_ends_the_leg_and_keeps_what_was_made() {
        let mut ground = Scripted {
            starts: [true, false, false, false].into(),
            answers: [Ok(1.0), Err(true)].into(),
            ..Scripted::default()
        };
        let mut journal = Journal::in_memory();
        let ended = run(&mut ground, &steps(2), &mut journal, &mut |_| ());
        assert!(matches!(ended, Err(BenchError::NotStarted { tries: 3, .. })), "{ended:?}");
        assert_eq!(journal.made().len(), 1);
    }
}
