//! Joins a command inside the host with our own standard streams; shared by the verbs that run commands.

use lab::Failure;
use lab::host::{Host, Piece, status_of};
use lab::line::LineSender;
use lab::wire::{Frame, PAYLOAD_LIMIT, Request};
use rustix::termios::tcgetwinsize;
use std::io::{Read, Write};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

/// How often the terminal is asked whether its size changed.
const SIZE_EVERY: Duration = Duration::from_millis(500);

/// Runs a request with our output as its output, and our input as its input if it wants one.
pub(super) fn join(host: &Host, request: &Request, limit: Duration) -> Result<ExitCode, Failure> {
    let running = host.begin(request)?;
    if request.open_input {
        let sender = running.sender();
        // Ends with the process: a read from a terminal cannot be called off.
        thread::spawn(move || hand_on_input(&sender));
    }
    if let Some(size) = request.terminal {
        let sender = running.sender();
        thread::spawn(move || follow_size(&sender, size));
    }
    let exit = running.finish(limit, &mut |piece| match piece {
        Piece::Output(bytes) => write_out(std::io::stdout().lock(), bytes),
        Piece::Error(bytes) => write_out(std::io::stderr().lock(), bytes),
    })?;
    Ok(ExitCode::from(status_of(&exit)? as u8))
}

/// Makes a command of the words given: one word is for the shell, several are program and arguments.
pub(super) fn words(command: &[String]) -> Vec<String> {
    match command {
        [line] => vec!["bash".to_owned(), "-c".to_owned(), line.clone()],
        words => words.to_vec(),
    }
}

fn hand_on_input(sender: &LineSender) {
    let mut buffer = vec![0; PAYLOAD_LIMIT];
    let mut input = std::io::stdin().lock();
    while let Ok(count @ 1..) = input.read(&mut buffer) {
        if sender.send(&Frame::Input(buffer[..count].to_vec())).is_err() {
            return;
        }
    }
    let _ = sender.send(&Frame::InputEnd);
}

/// Tells the terminal inside when ours changes its size.
fn follow_size(sender: &LineSender, mut known: (u16, u16)) {
    loop {
        thread::sleep(SIZE_EVERY);
        let Ok(size) = tcgetwinsize(std::io::stdin()) else { return };
        let size = (size.ws_col, size.ws_row);
        if size != known && sender.send(&Frame::Resize(size.0, size.1)).is_err() {
            return;
        }
        known = size;
    }
}

fn write_out(mut stream: impl Write, bytes: &[u8]) {
    // The reader may have gone (a pipe into `head`); the command still runs to its end.
    let _ = stream.write_all(bytes).and_then(|()| stream.flush());
}
