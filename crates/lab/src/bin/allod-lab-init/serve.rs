//! Serves the lab's ports: one thread per port reads frames, one sends signs of life, one job at a time runs.

use crate::job::Job;
use crate::mounts::Stages;
use lab::wire::{BEAT_SECONDS, Decoder, Exit, Frame, Hello, PORT_COUNT, PORT_PREFIX, greeting};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Pause before looking again whether a client has come.
const IDLE_PAUSE: Duration = Duration::from_millis(20);
/// Times the ports are looked for; the driver may still be at work.
const OPEN_TRIES: usize = 200;

/// The sending side of a port; frames of several threads do not mix.
#[derive(Clone)]
pub(crate) struct Sender(Arc<Mutex<File>>);

impl Sender {
    /// Sends bytes that are one or more whole frames.
    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(bytes)
    }
}

/// Serves until the machine ends.
pub(crate) fn serve() -> ! {
    let threads: Vec<_> = (0..PORT_COUNT)
        .map(|number| thread::spawn(move || run_port(&format!("{PORT_PREFIX}{number}"))))
        .collect();
    for thread in threads {
        // A thread ends only when its port cannot be used; the others go on.
        if let Ok(Err(error)) = thread.join() {
            eprintln!("lab: a port failed: {error}");
        }
    }
    std::process::exit(1)
}

fn run_port(name: &str) -> io::Result<()> {
    let mut port = open_port(name)?;
    let sender = Sender(Arc::new(Mutex::new(port.try_clone()?)));
    let beating = sender.clone();
    thread::spawn(move || {
        loop {
            thread::sleep(Duration::from_secs(BEAT_SECONDS));
            // Blocks while no client is there; a failure shows on the reading side.
            let _ = beating.send(&Frame::Beat.to_bytes());
        }
    });
    let mut decoder = Decoder::new();
    let mut job = None;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match port.read(&mut buffer)? {
            0 => {
                // Nobody at the other end: what ran for them ends with them.
                job = None;
                thread::sleep(IDLE_PAUSE);
            }
            count => decoder.push(&buffer[..count]),
        }
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => act(frame, &sender, &mut job)?,
                Ok(None) => break,
                // The rest of a frame of a client that is gone.
                Err(error) => eprintln!("lab: {name}: {error}"),
            }
        }
    }
}

fn act(frame: Frame, sender: &Sender, job: &mut Option<Job>) -> io::Result<()> {
    match frame {
        Frame::Attach(number) => {
            *job = None;
            let mut stages = Stages::saved();
            stages.reached("answer");
            sender.send(&greeting(&Frame::Hello(Hello { number, stages: stages.into_list() })))
        }
        Frame::Run(request) => {
            *job = None;
            match Job::start(&request, sender.clone()) {
                Ok(started) => *job = Some(started),
                Err(error) => sender.send(&Frame::Exit(Exit::NotStarted(error.to_string())).to_bytes())?,
            }
            Ok(())
        }
        Frame::Input(bytes) => {
            if let Some(job) = job {
                job.input(bytes);
            }
            Ok(())
        }
        Frame::InputEnd => {
            if let Some(job) = job {
                job.end_input();
            }
            Ok(())
        }
        Frame::Signal(number) => {
            if let Some(job) = job {
                job.signal(number);
            }
            Ok(())
        }
        Frame::Resize(columns, rows) => {
            if let Some(job) = job {
                job.resize(columns, rows);
            }
            Ok(())
        }
        Frame::Hello(_) | Frame::Output(_) | Frame::Error(_) | Frame::Exit(_) | Frame::Beat => Ok(()),
    }
}

/// Opens the port of that name, waiting for its driver.
fn open_port(name: &str) -> io::Result<File> {
    for _ in 0..OPEN_TRIES {
        for entry in fs::read_dir("/sys/class/virtio-ports").into_iter().flatten().flatten() {
            let found = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
            if found.trim() == name {
                return OpenOptions::new()
                    .read(true)
                    .write(true)
                    .open(format!("/dev/{}", entry.file_name().display()));
            }
        }
        thread::sleep(IDLE_PAUSE);
    }
    Err(io::Error::new(io::ErrorKind::NotFound, format!("no port {name}")))
}
