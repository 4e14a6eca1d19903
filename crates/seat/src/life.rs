//! The table of a seat's life: which state follows what happens, and what is to be done then.
//!
//! Pure. Not here: doing it (`supervisor`).

use spec::SeatState;

/// Something that happened to a seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// Its devices are taken.
    Claimed,
    /// They could not be, and nothing of it is left.
    NotClaimed,
    /// The machine's process could not be started.
    NotStarted,
    /// The machine answers.
    Started,
    /// Somebody wants it to end.
    DownAsked,
    /// Somebody wants it to end at once.
    KillAsked,
    /// What started it gave up before all seats ran.
    Abandoned,
    /// The time for the present state is over.
    DeadlinePassed,
    /// The machine's process is gone.
    MachineGone,
    /// The devices are given back, as far as that goes.
    Released,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Wait,
    /// Start the machine.
    Start,
    /// Press the power button and set the guest's deadline.
    PressPowerButton,
    /// Tell the machine's process to end, and give it a moment to leave its report.
    EndMachine,
    /// Kill the machine's process.
    KillMachine,
    /// Give the devices back.
    Release,
    /// Leave the report and go.
    Finish,
}

/// The state after `happening` in `state`, and what it asks for.
pub const fn next(state: SeatState, happening: Happening) -> (SeatState, Action) {
    use Action as Do;
    use Happening as On;
    use SeatState as Is;
    match (state, happening) {
        (Is::Claiming, On::Claimed) => (Is::Starting, Do::Start),
        (Is::Claiming, On::NotClaimed) => (Is::Ended, Do::Finish),
        (Is::Starting, On::Started) => (Is::Running, Do::Wait),
        (Is::Starting, On::NotStarted) => (Is::Releasing, Do::Release),
        (Is::Running, On::DownAsked) | (Is::PoweringOff, On::DownAsked) => {
            (Is::PoweringOff, Do::PressPowerButton)
        }
        (Is::PoweringOff, On::DeadlinePassed) => (Is::Ending, Do::EndMachine),
        // A guest that does not run yet has nothing to lose.
        (Is::Starting, On::DownAsked | On::KillAsked | On::Abandoned)
        | (Is::Running | Is::PoweringOff, On::KillAsked | On::Abandoned)
        | (Is::Ending, On::DeadlinePassed | On::KillAsked) => (Is::Killing, Do::KillMachine),
        (Is::Starting | Is::Running | Is::PoweringOff | Is::Ending | Is::Killing, On::MachineGone) => {
            (Is::Releasing, Do::Release)
        }
        (Is::Releasing, On::Released) => (Is::Ended, Do::Finish),
        (state, _) => (state, Do::Wait),
    }
}

#[cfg(test)]
mod tests {
    use super::{Action as Do, Happening as On, next};
    use spec::SeatState as Is;

    const STATES: [Is; 8] = [
        Is::Claiming,
        Is::Starting,
        Is::Running,
        Is::PoweringOff,
        Is::Ending,
        Is::Killing,
        Is::Releasing,
        Is::Ended,
    ];
    const HAPPENINGS: [On; 10] = [
        On::Claimed,
        On::NotClaimed,
        On::NotStarted,
        On::Started,
        On::DownAsked,
        On::KillAsked,
        On::Abandoned,
        On::DeadlinePassed,
        On::MachineGone,
        On::Released,
    ];

    /// Goes through `happenings` from the beginning and tells the actions.
    fn told(happenings: &[On]) -> (Is, Vec<Do>) {
        let mut state = Is::Claiming;
        let actions = happenings.iter().map(|happening| {
            let (after, action) = next(state, *happening);
            state = after;
            action
        });
        let actions = actions.filter(|action| *action != Do::Wait).collect();
        (state, actions)
    }

    #[test]
    fn each_life_ends_with_its_devices_given_back() {
        for (life, actions) in [
            (
                &[On::Claimed, On::Started, On::MachineGone, On::Released][..],
                &[Do::Start, Do::Release, Do::Finish][..],
            ),
            (&[On::NotClaimed], &[Do::Finish]),
            (&[On::Claimed, On::NotStarted, On::Released], &[Do::Start, Do::Release, Do::Finish]),
            (&[On::Claimed, On::MachineGone, On::Released], &[Do::Start, Do::Release, Do::Finish]),
            (
                &[On::Claimed, On::Abandoned, On::MachineGone, On::Released],
                &[Do::Start, Do::KillMachine, Do::Release, Do::Finish],
            ),
            (
                &[On::Claimed, On::Started, On::DownAsked, On::MachineGone, On::Released],
                &[Do::Start, Do::PressPowerButton, Do::Release, Do::Finish],
            ),
            (
                &[
                    On::Claimed,
                    On::Started,
                    On::DownAsked,
                    On::DeadlinePassed,
                    On::DeadlinePassed,
                    On::MachineGone,
                    On::Released,
                ],
                &[Do::Start, Do::PressPowerButton, Do::EndMachine, Do::KillMachine, Do::Release, Do::Finish],
            ),
            (
                &[On::Claimed, On::Started, On::KillAsked, On::DownAsked, On::MachineGone, On::Released],
                &[Do::Start, Do::KillMachine, Do::Release, Do::Finish],
            ),
        ] {
            assert_eq!(told(life), (Is::Ended, actions.to_vec()), "{life:?}");
        }
    }

    #[test]
    fn no_state_goes_back() {
        for state in STATES {
            for happening in HAPPENINGS {
                let (after, action) = next(state, happening);
                assert!(after >= state, "{state:?} on {happening:?}");
                let again =
                    (state, after, action) == (Is::PoweringOff, Is::PoweringOff, Do::PressPowerButton);
                assert!(
                    after > state || action == Do::Wait || again,
                    "{state:?} on {happening:?}: {action:?}"
                );
            }
        }
    }

    #[test]
    fn a_machine_that_may_run_is_never_left_behind() {
        // Devices are given back only when the machine is gone or was never there.
        for state in STATES {
            for happening in HAPPENINGS {
                if next(state, happening).1 == Do::Release {
                    assert!(
                        matches!(happening, On::MachineGone | On::NotStarted),
                        "{state:?} on {happening:?}"
                    );
                }
            }
        }
    }
}
