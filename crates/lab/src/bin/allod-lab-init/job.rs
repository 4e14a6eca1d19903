//! One running command: its pipes or its terminal, and its end.

use crate::serve::Sender;
use lab::wire::{Exit, Frame, PAYLOAD_LIMIT, Request};
use rustix::process::{Pid, Signal, kill_process_group};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender as Queue};
use std::thread;
use std::time::{Duration, Instant};

/// What a login on this host has as its search path.
const PATH: &str = "/opt/allod:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How long output is awaited after the command itself ended: a daemon it left behind may hold the pipe for ever.
const DRAIN: Duration = Duration::from_millis(500);
/// The same when that daemon keeps writing.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);
/// Status of a terminal program's end that cannot be read.
const UNKNOWN_STATUS: i32 = 255;

/// A command that was started for a client; dropping it kills the command's process group.
pub(crate) struct Job {
    group: Pid,
    input: Option<Queue<Vec<u8>>>,
    over: Arc<AtomicBool>,
    terminal: Option<File>,
}

impl Job {
    /// Starts a command; its output and its end are sent as frames.
    pub(crate) fn start(request: &Request, sender: Sender) -> io::Result<Self> {
        match request.terminal {
            Some((columns, rows)) => Self::on_terminal(request, columns, rows, sender),
            None => Self::on_pipes(request, sender),
        }
    }

    /// Hands bytes to the command's standard input.
    pub(crate) fn input(&self, bytes: Vec<u8>) {
        if let Some(input) = &self.input {
            // The command may have closed its input; that is its right.
            let _ = input.send(bytes);
        }
    }

    /// Closes the command's standard input once all of it was taken.
    pub(crate) fn end_input(&mut self) {
        self.input = None;
    }

    /// Sends a signal to the command and its children.
    pub(crate) fn signal(&self, number: i32) {
        if let Some(signal) = Signal::from_named_raw(number) {
            let _ = kill_process_group(self.group, signal);
        }
    }

    /// Tells the command's terminal its new size.
    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        if let Some(terminal) = &self.terminal {
            let _ = tcsetwinsize(terminal, size(columns, rows));
        }
    }

    fn on_pipes(request: &Request, sender: Sender) -> io::Result<Self> {
        let mut command = prepare(request, &[])?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn()?;
        let input = child.stdin.take().map(feed);
        let (done, all_done) = mpsc::channel();
        let over = Arc::new(AtomicBool::new(false));
        if let Some(stream) = child.stdout.take() {
            forward(stream, sender.clone(), Frame::Output, over.clone(), done.clone());
        }
        if let Some(stream) = child.stderr.take() {
            forward(stream, sender.clone(), Frame::Error, over.clone(), done.clone());
        }
        drop(done);
        Ok(Self::supervise(child, input, sender, over, all_done))
    }

    fn on_terminal(request: &Request, columns: u16, rows: u16, sender: Sender) -> io::Result<Self> {
        let main = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&main)?;
        unlockpt(&main)?;
        tcsetwinsize(&main, size(columns, rows))?;
        let name = ptsname(&main, Vec::new())?;
        let end = OpenOptions::new().read(true).write(true).open(Path::new(&*name.to_string_lossy()))?;
        // setsid makes the terminal the controlling one, which needs a step between fork and exec.
        let mut command = prepare(request, &["setsid", "--ctty"])?;
        command.stdin(end.try_clone()?).stdout(end.try_clone()?).stderr(end);
        let child = command.spawn()?;
        // The command keeps copies of the terminal's end; it must be the last to hold them.
        drop(command);
        let main = File::from(main);
        let input = Some(feed(main.try_clone()?));
        let (done, all_done) = mpsc::channel();
        let over = Arc::new(AtomicBool::new(false));
        let terminal = Some(main.try_clone()?);
        forward(main, sender.clone(), Frame::Output, over.clone(), done);
        let mut job = Self::supervise(child, input, sender, over, all_done);
        job.terminal = terminal;
        Ok(job)
    }

    /// Waits for the end in a thread of its own and reports it.
    fn supervise(
        mut child: Child,
        input: Option<Queue<Vec<u8>>>,
        sender: Sender,
        over: Arc<AtomicBool>,
        all_done: Receiver<()>,
    ) -> Self {
        let group = Pid::from_child(&child);
        let job = Self { group, input, over: over.clone(), terminal: None };
        thread::spawn(move || {
            let status = child.wait();
            // Ends at once when both streams are closed: then the channel has no sender left.
            let deadline = Instant::now() + DRAIN_LIMIT;
            while all_done.recv_timeout(DRAIN).is_ok() && Instant::now() < deadline {}
            if !over.swap(true, Ordering::SeqCst) {
                let _ = sender.send(&Frame::Exit(exit_of(status)).to_bytes());
            }
        });
        job
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        // Only a job cut off by its client is killed; what a finished one left running stays.
        if !self.over.swap(true, Ordering::SeqCst) {
            let _ = kill_process_group(self.group, Signal::KILL);
        }
    }
}

fn prepare(request: &Request, before: &[&str]) -> io::Result<Command> {
    let mut words = before.iter().map(|word| (*word).to_owned()).chain(request.command.iter().cloned());
    let program = words.next().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no command"))?;
    let mut command = Command::new(program);
    let share = Path::new("/share");
    let directory = match &request.directory {
        Some(directory) => Path::new(directory),
        None => share,
    };
    command.args(words).current_dir(directory);
    command.env_clear().env("PATH", PATH).env("HOME", "/root").env("USER", "root").env("LANG", "C.UTF-8");
    command.env("TERM", "linux").envs(request.environment.iter().cloned());
    Ok(command)
}

/// Starts a thread that writes what it is sent; the stream closes when the queue is dropped.
fn feed(mut stream: impl Write + Send + 'static) -> Queue<Vec<u8>> {
    let (queue, bytes) = mpsc::channel::<Vec<u8>>();
    thread::spawn(move || {
        for piece in bytes {
            if stream.write_all(&piece).is_err() {
                return;
            }
        }
    });
    queue
}

/// Starts a thread that sends a stream as frames until it ends or the job is over.
fn forward(
    mut stream: impl Read + Send + 'static,
    sender: Sender,
    frame: fn(Vec<u8>) -> Frame,
    over: Arc<AtomicBool>,
    done: Queue<()>,
) {
    thread::spawn(move || {
        let mut buffer = vec![0; PAYLOAD_LIMIT];
        // A terminal reports the end of its last user as an error (EIO), a pipe as zero bytes.
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            // A daemon the command left behind may go on writing: it is read, so that it does not get stuck.
            if over.load(Ordering::SeqCst) {
                continue;
            }
            if sender.send(&frame(buffer[..count].to_vec()).to_bytes()).is_err() {
                return;
            }
            // Tells the supervisor that there is still something coming.
            let _ = done.send(());
        }
    });
}

fn size(columns: u16, rows: u16) -> Winsize {
    Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 }
}

fn exit_of(status: io::Result<ExitStatus>) -> Exit {
    match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => Exit::Status(code),
            (None, Some(signal)) => Exit::Signal(signal),
            (None, None) => Exit::Status(UNKNOWN_STATUS),
        },
        Err(_) => Exit::Status(UNKNOWN_STATUS),
    }
}
