//! The event thread: everything that happens to a running machine from outside, and what the guest asks of it.

use std::fs::File;
use std::time::Instant;

use linux::event::{EventError, Interest, Poller, Signals, Timer, monotonic_ns};
use machine::{Event, LifeError, Machine};
use spec::{AssignedReport, ControlAnswer, ControlRequest, ExitCause, MachineSpec, MachineStatus};

use crate::console::{Console, Typed};
use crate::control::Control;
use crate::firmware_log::FirmwareLog;
use crate::input;
use crate::picture;

/// What the report counts, also when the session ends with an error.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) resets: u32,
    pub(crate) exits: u64,
    pub(crate) assigned: Vec<AssignedReport>,
}

/// A machine with all that is connected to it.
pub(crate) struct Session<'a> {
    pub(crate) spec: &'a MachineSpec,
    pub(crate) start: Instant,
    pub(crate) machine: Machine,
    pub(crate) console: Console,
    pub(crate) control: Control,
    pub(crate) signals: Signals,
    /// Where the pointer was put last.
    pub(crate) pointer: input::Pointer,
    pub(crate) counters: &'a mut Counters,
    /// Where what firmware writes to its debug port goes; a file, so that writing does not wait.
    pub(crate) firmware_log: Option<FirmwareLog<File>>,
    /// When the guest's output is looked at next, in nanoseconds of the monotonic clock.
    pub(crate) output_due: Option<u64>,
    /// When it was last looked at.
    pub(crate) output_written: u64,
}

/// A guest writes its console byte by byte. The first byte goes out at once; those that follow it wait this long for each
/// other, which makes one write of a line and saves a wake of this thread for each byte.
const OUTPUT_DELAY_NS: u64 = 2_000_000;

/// The session could not go on.
#[derive(Debug)]
pub(crate) enum SessionError {
    Event(EventError),
    Life(LifeError),
}

const MACHINE: u64 = 0;
const SIGNALS: u64 = 1;
const INPUT: u64 = 2;
const OUTPUT: u64 = 3;
const TIMER: u64 = 4;
const LISTENER: u64 = 5;
const ATTENTION: u64 = 6;
const FIRST_CLIENT: u64 = 7;

impl Session<'_> {
    /// Lets the machine run to its end and says why it ended.
    pub(crate) fn run(mut self) -> Result<ExitCause, SessionError> {
        let result = self.until_the_end();
        self.machine.end();
        self.counters.exits = self.machine.exits();
        self.counters.assigned = self.machine.assigned_reports();
        result
    }

    fn until_the_end(&mut self) -> Result<ExitCause, SessionError> {
        let poller = Poller::new()?;
        let timer = Timer::new()?;
        poller.add_event(self.machine.events().fd(), MACHINE)?;
        poller.add(&self.signals, Interest::Readable, SIGNALS)?;
        poller.add(&timer, Interest::Readable, TIMER)?;
        for fd in self.machine.attention_fds() {
            poller.add(fd, Interest::Readable, ATTENTION)?;
        }
        self.control.watch(&poller, LISTENER, FIRST_CLIENT)?;
        self.console.watch_input(&poller, INPUT)?;
        self.machine.resume();
        let mut armed = None;
        loop {
            let due = [self.machine.next_deadline(), self.output_due].into_iter().flatten().min();
            if due != armed {
                timer.set(due)?;
                armed = due;
            }
            for token in poller.wait()? {
                let end = match token {
                    MACHINE => self.machine_event(&poller)?,
                    SIGNALS => self.signals.next().map(|_| ExitCause::Quit),
                    INPUT => match self.console.read(&self.machine, &poller, INPUT)? {
                        Typed::Quit => Some(ExitCause::Quit),
                        Typed::Keys => None,
                    },
                    OUTPUT => self.console.write(&self.machine, &poller, OUTPUT).map(|()| None)?,
                    TIMER => {
                        timer.clear();
                        armed = None;
                        self.machine.fire_deadlines();
                        self.write_due_output(&poller)?;
                        None
                    }
                    ATTENTION => {
                        self.machine.attend();
                        None
                    }
                    LISTENER => self.control.accept(&poller).map(|()| None)?,
                    client => self.client(client)?,
                };
                if let Some(end) = end {
                    // The guest's last words, as far as the terminal takes them.
                    self.console.write(&self.machine, &poller, OUTPUT)?;
                    self.write_firmware_log();
                    return Ok(end);
                }
            }
        }
    }

    /// Looks after everything that the machine's threads and devices may have woken us for.
    fn machine_event(&mut self, poller: &Poller) -> Result<Option<ExitCause>, SessionError> {
        self.machine.events().clear();
        self.machine.serve_devices();
        self.output_due.get_or_insert(self.output_written + OUTPUT_DELAY_NS);
        self.write_due_output(poller)?;
        self.console.hand_over(&self.machine, poller, INPUT)?;
        while let Some(event) = self.machine.events().take() {
            match event {
                Event::PowerOff => return Ok(Some(ExitCause::PowerOff)),
                Event::Fault(message) => return Ok(Some(ExitCause::Fault { message })),
                Event::Note(text) => eprintln!("allod-vmm: {text}"),
                Event::Reset(path) if self.spec.end_on_reset => {
                    return Ok(Some(ExitCause::Reset { path: path.to_string() }));
                }
                Event::Reset(_) => self.reset()?,
            }
        }
        Ok(None)
    }

    fn write_due_output(&mut self, poller: &Poller) -> Result<(), EventError> {
        let now = monotonic_ns();
        if self.output_due.is_some_and(|due| due <= now) {
            self.output_due = None;
            self.output_written = now;
            self.console.write(&self.machine, poller, OUTPUT)?;
            self.write_firmware_log();
        }
        Ok(())
    }

    /// Moves firmware's log on. Without a place for it, the buffer is emptied all the same: its end is what counts.
    fn write_firmware_log(&mut self) {
        let mut text = Vec::new();
        self.machine.take_firmware_log(&mut text);
        let Some(log) = &mut self.firmware_log else { return };
        if let Err(why) = log.write(&text) {
            eprintln!("allod-vmm: the firmware's log ends here: {why}");
            self.firmware_log = None;
        }
    }

    fn reset(&mut self) -> Result<(), LifeError> {
        self.counters.resets += 1;
        self.machine.reset()
    }

    fn client(&mut self, token: u64) -> Result<Option<ExitCause>, SessionError> {
        let mut requests = Vec::new();
        let (spec, start, resets) = (self.spec, self.start, self.counters.resets);
        let (machine, pointer) = (&mut self.machine, &mut self.pointer);
        self.control.serve(token, |request, file| match request {
            ControlRequest::Status => ControlAnswer::Status(MachineStatus {
                name: spec.name.clone(),
                state: machine.state(),
                resets,
                exits: machine.exits(),
                console_lost: machine.console_lost(),
                wall_ms: start.elapsed().as_millis() as u64,
            }),
            ControlRequest::PowerButton if machine.press_power_button() => ControlAnswer::Done,
            ControlRequest::PowerButton => ControlAnswer::NotNoticed,
            ControlRequest::Key { code, down } => input::key(machine, code, down),
            ControlRequest::Pointer { x, y, buttons, wheel } => {
                input::point(machine, pointer, (x, y), i32::from(wheel), buttons)
            }
            ControlRequest::Picture => {
                let answer = picture::hand_over(machine, file);
                if let ControlAnswer::Picture { width, height } = answer {
                    pointer.picture = (width, height);
                }
                answer
            }
            ControlRequest::Pause => {
                machine.pause();
                ControlAnswer::Done
            }
            ControlRequest::Resume => {
                machine.resume();
                ControlAnswer::Done
            }
            // These end what the answer goes out from: answered first, then done.
            ControlRequest::Reset | ControlRequest::Quit => {
                requests.push(request);
                ControlAnswer::Done
            }
        });
        for request in requests {
            match request {
                ControlRequest::Quit => return Ok(Some(ExitCause::Quit)),
                _ => self.reset()?,
            }
        }
        Ok(None)
    }
}

impl From<EventError> for SessionError {
    fn from(error: EventError) -> Self {
        Self::Event(error)
    }
}

impl From<LifeError> for SessionError {
    fn from(error: LifeError) -> Self {
        Self::Life(error)
    }
}

impl std::fmt::Display for SessionError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Event(_) => write!(f, "wait for events"),
            Self::Life(_) => write!(f, "start the machine anew after a reset"),
        }
    }
}

impl std::error::Error for SessionError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Event(error) => Some(error),
            Self::Life(error) => Some(error),
        }
    }
}
