//! The process that looks after one seat: takes its devices, starts its machine, waits, and gives everything back.
//!
//! `allod up` starts one for each seat; it goes on without its parent. It keeps the claim: when it is killed, the machine
//! ends with it and the next start of `allod` gives the devices back. Which state follows which is `life`; here it is
//! done. Not here: planning, and the machine itself.

mod clients;
mod console;
mod ending;
mod hold;
mod listen;
mod log;
mod machine;
mod record;
mod starter;

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use linux::event::Signals;
use spec::{SeatEnding, SeatEvent, SeatOrder, SeatState};

use crate::life::{Action, Happening, next};
use crate::places::{Places, SeatPlaces};
use console::Console;
use hold::Hold;
use listen::Token;
use machine::RunningMachine;
use record::Record;
pub(crate) use starter::STAY;
use starter::Starter;

/// How long a machine that was told to end may take to leave its report.
const END_TIME: Duration = Duration::from_secs(3);
/// How often the power button is pressed again while the guest has not enabled it.
const PRESS_AGAIN: Duration = Duration::from_secs(1);

/// A supervisor could not begin its work. Nothing was changed on the host.
#[derive(Debug, thiserror::Error)]
pub enum SuperviseError {
    /// The order makes no sense.
    #[error("the order on standard input makes no sense: {0}")]
    Order(String),
    /// Another supervisor has the seat.
    #[error("seat `{0}` runs already; end it first: allod down {0}")]
    Runs(String),
    /// A file or socket of the seat could not be made.
    #[error("{what}: {error}")]
    Place {
        /// What was tried.
        what: String,
        /// What came back.
        #[source]
        error: std::io::Error,
    },
}

/// Looks after one seat until it is over. The order is read from `input`, on which the starter also says that the seat is
/// to stay; events go to `output` as long as somebody reads them.
///
/// # Errors
/// Why it could not begin.
pub fn supervise(input: OwnedFd, output: OwnedFd) -> Result<(), SuperviseError> {
    // A supervisor that was started by hand from a shell leads a group of its own already.
    let _ = rustix::process::setsid();
    let (starter, order) = Starter::read(input, output)?;
    let signals = Signals::of_termination()
        .map_err(|error| place("wait for signals", std::io::Error::other(error.to_string())))?;
    let mut supervisor = Supervisor::new(order, starter, signals)?;
    supervisor.live();
    Ok(())
}

fn place(what: &str, error: std::io::Error) -> SuperviseError {
    SuperviseError::Place { what: what.to_owned(), error }
}

struct Supervisor {
    state: SeatState,
    order: SeatOrder,
    places: SeatPlaces,
    signals: Signals,
    console: Console,
    record: Record,
    hold: Hold,
    machine: Option<RunningMachine>,
    /// Why the seat ends, once that is known.
    ending: Option<SeatEnding>,
    /// When the present state is over.
    deadline: Option<Instant>,
    /// When the power button is pressed again.
    press: Option<Instant>,
    /// How long the guest has after the power button.
    power_off: Duration,
}

impl Supervisor {
    fn new(order: SeatOrder, starter: Starter, signals: Signals) -> Result<Self, SuperviseError> {
        let unknown = || SuperviseError::Order(format!("the plan has no seat `{}`", order.seat));
        let seat = order.plan.seats.iter().find(|seat| seat.name == order.seat).ok_or_else(unknown)?.clone();
        let places = Places { run: order.run.clone(), state: order.state.clone() };
        let hold = Hold::new(&places, &order)?;
        let places = places.seat(&order.seat);
        let listener = |path: std::path::PathBuf| {
            crate::launch::listen(&path)
                .map_err(|error| place(&error.to_string(), std::io::Error::other("socket")))
        };
        let log = |path: &std::path::Path| {
            log::Log::begin(path).map_err(|error| place(&format!("write the log {}", path.display()), error))
        };
        let console = Console::new(listener(places.console())?, log(&places.console_log())?)
            .map_err(|error| place("make the console socket", error))?;
        let requests = clients::Clients::new(listener(places.requests())?)
            .map_err(|error| place("make the seat's socket", error))?;
        let power_off = Duration::from_secs(seat.power_off_seconds.into());
        let record =
            Record::new(&places, seat, hold.process(), starter, requests, log(&places.machine_log())?);
        Ok(Self {
            state: SeatState::Claiming,
            order,
            places,
            signals,
            console,
            record,
            hold,
            machine: None,
            ending: None,
            deadline: None,
            press: None,
            power_off,
        })
    }

    /// Goes through the whole life.
    fn live(&mut self) {
        self.record.enter(self.state);
        let mut happening = Some(self.claim());
        while self.state != SeatState::Ended {
            let now = happening.take().unwrap_or_else(|| self.wait());
            let (state, action) = next(self.state, now);
            if state != self.state {
                self.state = state;
                self.deadline = None;
                self.press = None;
                self.record.enter(state);
            }
            happening = self.act(action, now);
        }
    }

    /// Does what the table asks for; some of it is over at once and makes the next thing happen.
    fn act(&mut self, action: Action, cause: Happening) -> Option<Happening> {
        match action {
            Action::Wait => None,
            Action::Start => self.start(),
            Action::PressPowerButton => {
                self.deadline = Some(Instant::now() + self.power_off);
                self.press_power_button();
                None
            }
            Action::EndMachine => {
                self.ending.get_or_insert(SeatEnding::Forced);
                self.record
                    .note("the guest did not answer the power button in time, so its machine is ended");
                self.deadline = Some(Instant::now() + END_TIME);
                self.machine.iter().for_each(RunningMachine::end);
                None
            }
            Action::KillMachine => {
                let ending = match cause {
                    Happening::Abandoned => SeatEnding::Abandoned,
                    _ => SeatEnding::Killed,
                };
                self.ending.get_or_insert(ending);
                self.machine.iter_mut().for_each(RunningMachine::kill);
                None
            }
            Action::Release => Some(self.release()),
            Action::Finish => {
                self.finish();
                None
            }
        }
    }

    fn claim(&mut self) -> Happening {
        match self.hold.claim(&self.order, &mut self.record, &self.signals) {
            Ok(()) => Happening::Claimed,
            Err(ending) => {
                self.ending = Some(ending);
                Happening::NotClaimed
            }
        }
    }

    fn start(&mut self) -> Option<Happening> {
        let begin = Instant::now();
        let seat = self.record.seat.clone();
        let started =
            RunningMachine::start(&seat, &self.hold, &self.places, &mut self.console, &mut self.record);
        match started {
            Ok(machine) => {
                self.record.step("start the machine's process", begin.elapsed());
                self.deadline = None;
                self.machine = Some(machine);
                None
            }
            Err(error) => {
                self.ending = Some(SeatEnding::NotStarted { message: error });
                Some(Happening::NotStarted)
            }
        }
    }

    fn press_power_button(&mut self) {
        self.press = None;
        if let Some(machine) = &mut self.machine {
            machine.press_power_button();
        }
    }

    /// Reaps the machine and gives everything back.
    fn release(&mut self) -> Happening {
        let begin = Instant::now();
        if let Some(machine) = self.machine.take() {
            let gone = machine.wait();
            // Its last words may still be on their way.
            self.console.serve_machine();
            self.record.drain_errors(gone.errors);
            let ended = begin.elapsed();
            let cause =
                ending::ending(gone.outcome, self.ending.take(), gone.memory_kills, &self.record.seat);
            self.record.step("end the machine's process", ended);
            (self.ending, self.record.machine_report) = (Some(cause.0), cause.1);
        }
        self.hold.release(&mut self.record);
        Happening::Released
    }

    fn finish(&mut self) {
        let ending = self.ending.take().unwrap_or(SeatEnding::Killed);
        let report = self.record.report(ending);
        let text = serde_json::to_string_pretty(&report).unwrap_or_default() + "\n";
        // Whoever asks sees the report only when nothing of the seat is left to be in the way of the next start.
        let written = crate::documents::replace(&self.places.report(), text.as_bytes());
        self.hold.leave();
        if let Err(error) = written {
            self.record.note(&format!("the report cannot be written: {error}"));
        }
        self.record.tell(&SeatEvent::Ended { report: Box::new(report) });
        self.record.flush_for_good();
    }

    /// Waits until something happens that the table knows.
    fn wait(&mut self) -> Happening {
        loop {
            let due = [self.deadline, self.press].into_iter().flatten().min();
            let ready = self.poll(due);
            for token in ready {
                if let Some(happening) = self.serve(token) {
                    return happening;
                }
            }
            let past = |at: Option<Instant>| at.is_some_and(|at| at <= Instant::now());
            if past(self.press) {
                self.press_power_button();
            }
            if past(self.deadline) {
                self.deadline = None;
                return Happening::DeadlinePassed;
            }
        }
    }

    fn serve(&mut self, token: Token) -> Option<Happening> {
        match token {
            Token::Starter => self.record.starter.listen().then_some(Happening::Abandoned),
            Token::Signals => self.signals.next().map(|_| Happening::DownAsked),
            Token::Machine => Some(Happening::MachineGone),
            Token::Control => self.machine_says(),
            Token::Errors => {
                if let Some(machine) = &mut self.machine {
                    let text = machine.read_errors();
                    self.record.machine_log.write(&text);
                }
                None
            }
            Token::Guest => {
                self.console.serve_machine();
                None
            }
            Token::NewTerminal => {
                self.console.accept();
                None
            }
            Token::Terminal(index) => {
                self.console.serve_client(index);
                None
            }
            Token::NewClient => {
                self.record.accept();
                None
            }
            Token::Client(index) => self.request(index),
        }
    }

    fn machine_says(&mut self) -> Option<Happening> {
        match self.machine.as_mut()?.hear() {
            machine::Said::Nothing => None,
            machine::Said::Running => Some(Happening::Started),
            machine::Said::NotNoticed => {
                if self.press.is_none() && self.state == SeatState::PoweringOff {
                    self.press = Some(Instant::now() + PRESS_AGAIN);
                }
                None
            }
        }
    }

    fn request(&mut self, index: usize) -> Option<Happening> {
        match self.record.request(index)? {
            spec::SeatRequest::Down { seconds } => {
                if let Some(seconds) = seconds {
                    self.power_off = Duration::from_secs(seconds.into());
                }
                Some(Happening::DownAsked)
            }
            spec::SeatRequest::Kill => Some(Happening::KillAsked),
        }
    }
}
