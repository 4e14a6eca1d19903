//! A running virtual host: commands inside, power from outside.
//!
//! Acting on its cards is [`crate::outside`]; starting it is [`crate::start`].

use crate::console::{self, Verdict};
use crate::emulator::Emulator;
use crate::failure::Failure;
use crate::line::{Line, LineSender};
use crate::machine::{Clock, Places};
use crate::outside::Hardware;
use crate::profile::Profile;
use crate::wire::{Exit, Frame, Hello, Request};
use std::fs::File;
use std::path::Path;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Without a sign of life for this long a host counts as hung. Init beats every second, but nested guests and a
/// loaded machine can hold it up for a while.
pub const SILENCE_LIMIT: Duration = Duration::from_secs(40);
/// The same where the clock counts instructions: a second of it takes many of ours when guests compute.
const COUNTED_SILENCE_LIMIT: Duration = Duration::from_secs(300);
/// Longest time from the start of the emulator to the first answer of init.
pub const BOOT_LIMIT: Duration = Duration::from_secs(120);
/// Longest wait for an orderly power-off.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(20);
/// Longest wait for the kernel's own messages.
const MESSAGES_LIMIT: Duration = Duration::from_secs(60);
/// How often the emulator and the console are looked at while waiting.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Time the emulator's end is awaited after its socket closed.
const END_LIMIT: Duration = Duration::from_secs(5);

/// A command's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its exit status; 128 and the signal's number when a signal ended it.
    pub status: i32,
    /// What it wrote on standard output.
    pub stdout: String,
    /// What it wrote on standard error.
    pub stderr: String,
}

impl Output {
    /// Says whether the status is 0.
    pub fn is_success(&self) -> bool {
        self.status == 0
    }
}

/// A piece of a running command's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Of standard output, or of the terminal.
    Output(&'a [u8]),
    /// Of standard error.
    Error(&'a [u8]),
}

/// When the stages of a start were reached.
#[derive(Debug, Clone, Default)]
pub struct Timeline {
    /// Wall time from the start to the emulator's sockets being there.
    pub emulator: Duration,
    /// Wall time from the start to init's answer.
    pub ready: Duration,
    /// Processor time the emulator used until then.
    pub processor: Duration,
    /// Stages inside, with the kernel's uptime at each.
    pub stages: Vec<(String, Duration)>,
}

/// A running virtual host. Dropping it ends its emulator, unless it was started to stay.
#[derive(Debug)]
pub struct Host {
    hardware: Hardware,
    pub(crate) emulator: Emulator,
    line: Mutex<Line>,
    timeline: Timeline,
    silence_limit: Duration,
    /// Owns the folder of the run and its lock; none when the host stays.
    pub(crate) folder: Option<(tempfile::TempDir, File)>,
    /// Keeps other clients of a standing host off our port.
    pub(crate) port_lock: Option<File>,
}

impl Host {
    /// Takes a started emulator over and waits until init answers on port `number`.
    pub(crate) fn greet(
        (profile, clock): (Profile, Clock),
        places: Places,
        emulator: Emulator,
        number: usize,
        begin: Instant,
    ) -> Result<Self, Failure> {
        let socket = places.port(number);
        let line = connect(&socket, &emulator, &places)?;
        let line = Mutex::new(line);
        let connected = begin.elapsed();
        let hardware = Hardware { profile, places };
        let timeline = Timeline::default();
        let silence_limit = match clock {
            Clock::Wall => SILENCE_LIMIT,
            Clock::Instructions | Clock::InstructionsRealIdle => COUNTED_SILENCE_LIMIT,
        };
        let mut host =
            Self { hardware, emulator, line, timeline, silence_limit, folder: None, port_lock: None };
        let hello = host.await_hello(&host.lock_line())?;
        let stages = hello.stages.into_iter().map(|(name, at)| (name, Duration::from_millis(at))).collect();
        let processor = host.emulator.processor_time();
        host.timeline = Timeline { emulator: connected, ready: begin.elapsed(), processor, stages };
        Ok(host)
    }

    /// Returns the hardware it was started with.
    pub fn profile(&self) -> &Profile {
        &self.hardware.profile
    }

    /// Returns its hardware, to act on it from outside.
    pub fn hardware(&self) -> &Hardware {
        &self.hardware
    }

    /// Writes what a graphics card shows on one of its heads as a PNG file; see [`Hardware::screenshot`].
    pub fn screenshot(&self, card: &str, head: u32, file: &Path) -> Result<(), Failure> {
        self.hardware.screenshot(card, head, file)
    }

    /// Presses keys on the keyboard of a card; see [`Hardware::key`].
    pub fn key(&self, card: &str, chords: &str) -> Result<(), Failure> {
        self.hardware.key(card, chords)
    }

    /// Pulls a card out of its slot without asking; see [`Hardware::pull`].
    pub fn pull(&self, card: &str) -> Result<(), Failure> {
        self.hardware.pull(card)
    }

    /// Returns when the stages of its start were reached.
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// Changes how long the host may give no sign of life before it counts as hung, [`SILENCE_LIMIT`] at first.
    pub fn set_silence_limit(&mut self, limit: Duration) {
        self.silence_limit = limit;
    }

    /// Runs a shell command line as root and waits for its end without limit, as long as the host is alive.
    pub fn run(&self, script: &str) -> Result<Output, Failure> {
        self.run_within(script, Duration::MAX)
    }

    /// Runs a shell command line as root; it must end within `limit`.
    pub fn run_within(&self, script: &str, limit: Duration) -> Result<Output, Failure> {
        let command = ["bash", "-c", script].map(str::to_owned).to_vec();
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let exit =
            self.stream(&Request { command, ..Request::default() }, limit, &mut |piece| match piece {
                Piece::Output(bytes) => stdout.extend_from_slice(bytes),
                Piece::Error(bytes) => stderr.extend_from_slice(bytes),
            })?;
        Ok(Output {
            status: status_of(&exit)?,
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
        })
    }

    /// Runs a command with its output handed on as it comes.
    ///
    /// A request without an open input gets an empty one.
    pub fn stream(
        &self,
        request: &Request,
        limit: Duration,
        sink: &mut dyn FnMut(Piece),
    ) -> Result<Exit, Failure> {
        self.begin(request)?.finish(limit, sink)
    }

    /// Starts a command; input and signals can be sent to it until it is over.
    pub fn begin(&self, request: &Request) -> Result<Running<'_>, Failure> {
        let line = self.lock_line();
        self.send(&line, &Frame::Run(request.clone()))?;
        if !request.open_input {
            self.send(&line, &Frame::InputEnd)?;
        }
        Ok(Running { host: self, line })
    }

    /// Returns everything the kernel wrote on its console so far.
    pub fn console_log(&self) -> String {
        console::text(&self.hardware.places.console())
    }

    /// Returns what the kernel has complained of, from its first oops, bug or warning on.
    ///
    /// One that stands still is no complaint but a hang.
    pub fn complaint(&self) -> Result<Option<String>, Failure> {
        self.check_kernel()?;
        // Warnings are too little for the console. What went before, and all where nothing is wrong, stays inside.
        let search = format!("dmesg | sed -nE '/{}/,$p'", console::COMPLAINTS.join("|"));
        Ok(console::complaint(&self.run_within(&search, MESSAGES_LIMIT)?.stdout))
    }

    /// Returns the emulator's process number.
    pub fn process(&self) -> u32 {
        self.emulator.id()
    }

    /// Returns what the emulator said for itself so far.
    pub fn emulator_log(&self) -> String {
        console::text(&self.hardware.places.emulator_log())
    }

    /// Cuts the power: the emulator is killed, nothing is written back.
    pub fn power_cut(self) {
        self.emulator.kill();
    }

    /// Powers the host off in an orderly way; when it does not obey, cuts the power.
    pub fn shutdown(self) {
        let request = Request {
            command: vec!["poweroff".into(), "-f".into()],
            directory: Some("/".into()),
            ..Request::default()
        };
        // Whatever comes back, the wait below decides.
        let _ = self.lock_line().sender().send(&Frame::Run(request));
        if !self.emulator.wait(SHUTDOWN_LIMIT) {
            self.emulator.kill();
        }
    }

    fn lock_line(&self) -> MutexGuard<'_, Line> {
        // A panic of another user of the line leaves at worst frames of its command, which the next run passes over.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, line: &Line, frame: &Frame) -> Result<(), Failure> {
        line.sender().send(frame).map_err(|_| self.end())
    }

    fn await_hello(&self, line: &Line) -> Result<Hello, Failure> {
        let begin = Instant::now();
        loop {
            match line.receive(LOOK_EVERY) {
                Ok(frame) => {
                    if let Some(hello) = line.answer(frame) {
                        return Ok(hello);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.check_kernel()?;
                    if begin.elapsed() > BOOT_LIMIT {
                        let sign = format!("its init did not answer for {} s", BOOT_LIMIT.as_secs());
                        return Err(Failure::Hang {
                            sign,
                            tail: console::tail(&self.hardware.places.console()),
                        });
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Err(self.end()),
            }
        }
    }

    fn check_life(&self, heard: Instant) -> Result<(), Failure> {
        self.check_kernel()?;
        if heard.elapsed() > self.silence_limit {
            let sign = format!("no sign of life for {} s", self.silence_limit.as_secs());
            return Err(Failure::Hang { sign, tail: console::tail(&self.hardware.places.console()) });
        }
        Ok(())
    }

    fn check_kernel(&self) -> Result<(), Failure> {
        if !self.emulator.is_alive() {
            return Err(self.end());
        }
        match console::judge(&self.console_log()) {
            Verdict::Stalled => Err(Failure::Hang {
                sign: "its kernel reports a stall".to_owned(),
                tail: console::tail(&self.hardware.places.console()),
            }),
            // A panic ends the emulator in a moment: see there.
            Verdict::Panicked | Verdict::Sound => Ok(()),
        }
    }

    /// Explains why the emulator ended.
    fn end(&self) -> Failure {
        explain_end(&self.emulator, &self.hardware.places)
    }
}

/// A command that was started inside a host.
#[derive(Debug)]
pub struct Running<'a> {
    host: &'a Host,
    line: MutexGuard<'a, Line>,
}

impl Running<'_> {
    /// Returns a handle to send input and signals to the command.
    pub fn sender(&self) -> LineSender {
        self.line.sender().clone()
    }

    /// Waits for the end, with the output handed on as it comes. After `limit` the command is killed.
    pub fn finish(mut self, limit: Duration, sink: &mut dyn FnMut(Piece)) -> Result<Exit, Failure> {
        let deadline = Instant::now().checked_add(limit);
        let mut heard = Instant::now();
        loop {
            match self.line.receive(LOOK_EVERY) {
                Ok(Frame::Exit(exit)) => return Ok(exit),
                Ok(frame) => {
                    heard = Instant::now();
                    match frame {
                        Frame::Output(bytes) => sink(Piece::Output(&bytes)),
                        Frame::Error(bytes) => sink(Piece::Error(&bytes)),
                        _ => {}
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.host.check_life(heard)?,
                Err(RecvTimeoutError::Disconnected) => return Err(self.host.end()),
            }
            if deadline.is_some_and(|deadline| Instant::now() > deadline) {
                // Kills the command and leaves the line ready for the next one.
                self.line.greet_again().map_err(Failure::setup("greet the host again"))?;
                self.host.await_hello(&self.line)?;
                return Err(Failure::TimedOut {
                    limit,
                    tail: console::tail(&self.host.hardware.places.console()),
                });
            }
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if self.folder.is_some() {
            self.emulator.kill();
        }
    }
}

/// Turns a command's end into a status, 128 and more for signals as shells do.
pub fn status_of(exit: &Exit) -> Result<i32, Failure> {
    match exit {
        Exit::Status(status) => Ok(*status),
        Exit::Signal(signal) => Ok(128 + signal),
        Exit::NotStarted(reason) => Err(Failure::NotStarted { reason: reason.clone() }),
    }
}

fn connect(socket: &Path, emulator: &Emulator, places: &Places) -> Result<Line, Failure> {
    let begin = Instant::now();
    loop {
        match Line::connect(socket) {
            Ok(line) => return Ok(line),
            Err(_) if !emulator.is_alive() => return Err(explain_end(emulator, places)),
            Err(cause) if begin.elapsed() > BOOT_LIMIT => {
                return Err(Failure::Setup { operation: format!("connect to {}", socket.display()), cause });
            }
            // The emulator makes its sockets a moment after it starts.
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

fn explain_end(emulator: &Emulator, places: &Places) -> Failure {
    emulator.wait(END_LIMIT);
    let tail = console::tail(&places.console());
    if console::judge(&console::text(&places.console())) == Verdict::Panicked {
        return Failure::Panic { tail };
    }
    // The thread that collects the status runs beside us.
    let begin = Instant::now();
    while emulator.exit_status().is_none() && begin.elapsed() < END_LIMIT {
        std::thread::sleep(Duration::from_millis(10));
    }
    match emulator.exit_status() {
        Some(status) if !status.success() => Failure::EmulatorDied {
            status: status.to_string(),
            words: console::tail(&places.emulator_log()),
            tail,
        },
        _ => Failure::PoweredOff { tail },
    }
}
