//! Child processes: run one and let it talk, catch what it says, or follow it line by line.
//!
//! Not here: which processes to run. Every verb calls this. What a child writes to its standard output goes to our
//! standard error, because our own standard output carries results only.

use anyhow::{Context, Result, bail};
use std::fmt::Display;
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// Silence after which a line says that the child is still at work.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// The same where nobody watches: a record is read afterwards, and wants few lines.
const RECORDED_HEARTBEAT: Duration = Duration::from_secs(60);

/// Says a line of progress. A terminal that has gone away is no reason to end in the middle: what was begun is ended in
/// order, and the loss of the line is all that comes of it.
pub(crate) fn say(line: impl Display) {
    writeln!(std::io::stderr(), "{line}").ok();
}

/// Runs `command` with its output shown; fails when it cannot be started or does not exit with 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    say(format_args!("    $ {shown}"));
    command.stdin(Stdio::null()).stdout(std::io::stderr());
    // A terminal shows cargo's own progress bar, which our lines would break.
    let status =
        if std::io::stderr().is_terminal() { command.status() } else { with_heartbeat(|| command.status()) };
    let status = status.with_context(|| format!("cannot start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` ended with {status}");
    }
    Ok(())
}

/// Runs `command` silently and gives its status and standard output.
pub(crate) fn capture(command: &mut Command) -> Result<(ExitStatus, String)> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{}`", shown(command)))?;
    Ok((output.status, String::from_utf8_lossy(&output.stdout).into_owned()))
}

/// Tells whether `command` can be started and exits with 0.
pub(crate) fn works(command: &mut Command) -> bool {
    capture(command).is_ok_and(|(status, _)| status.success())
}

/// Runs `command` as `name`, writes each line of its two outputs to `log` and hands it to `on_line`, which says whether
/// to show it.
pub(crate) fn follow(
    name: &str,
    command: &mut Command,
    log: &mut impl Write,
    mut on_line: impl FnMut(&str) -> bool,
) -> Result<ExitStatus> {
    let shown = shown(command);
    writeln!(log, "$ {shown}").context("cannot write the log")?;
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.with_context(|| format!("cannot start `{shown}`"))?;
    let (sender, lines) = mpsc::channel();
    let outputs: [Option<Box<dyn Read + Send>>; 2] = [
        child.stdout.take().map(|out| Box::new(out) as _),
        child.stderr.take().map(|err| Box::new(err) as _),
    ];
    for output in outputs.into_iter().flatten() {
        let sender = sender.clone();
        thread::spawn(move || send_lines(output, &sender));
    }
    drop(sender);
    let started = Instant::now();
    let mut told = Instant::now();
    loop {
        match lines.recv_timeout(heartbeat().saturating_sub(told.elapsed())) {
            Ok(line) => {
                writeln!(log, "{line}").context("cannot write the log")?;
                if on_line(&line) {
                    say(format_args!("    {name}: {line}"));
                    told = Instant::now();
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if told.elapsed() >= heartbeat() {
            say(format_args!("    ... {name} still running, {} s", started.elapsed().as_secs()));
            told = Instant::now();
        }
    }
    child.wait().with_context(|| format!("cannot wait for `{shown}`"))
}

/// How long to stay silent: shorter where somebody watches.
fn heartbeat() -> Duration {
    if std::io::stderr().is_terminal() { HEARTBEAT } else { RECORDED_HEARTBEAT }
}

/// Does `work`, and says now and then that it is still being done.
pub(crate) fn with_heartbeat<T>(work: impl FnOnce() -> T) -> T {
    let (done, ended) = mpsc::channel::<()>();
    let beat = thread::spawn(move || {
        let started = Instant::now();
        while ended.recv_timeout(heartbeat()) == Err(RecvTimeoutError::Timeout) {
            say_alive(started);
        }
    });
    let result = work();
    drop(done);
    beat.join().ok();
    result
}

fn say_alive(started: Instant) {
    say(format_args!("    ... still running, {} s", started.elapsed().as_secs()));
}

/// Names the cargo that runs us, so that a chosen toolchain stays chosen.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments);
    command
}

fn send_lines(output: impl Read, sender: &mpsc::Sender<String>) {
    // Bytes, not text: a guest's console may print anything, and one odd byte must not end the stream.
    for line in BufReader::new(output).split(b'\n') {
        let Ok(line) = line else { return };
        let text = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
        if sender.send(text).is_err() {
            return;
        }
    }
}

/// Writes `command` as one would type it; `cargo` without the toolchain's path in front.
fn shown(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let program = program.rsplit('/').next().unwrap_or_default().to_owned();
    let settings = command.get_envs().filter_map(|(key, value)| Some((key, value?)));
    let mut words: Vec<String> = settings
        .map(|(key, value)| quoted(&format!("{}={}", key.to_string_lossy(), value.to_string_lossy())))
        .collect();
    words.push(program);
    words.extend(command.get_args().map(|word| quoted(&word.to_string_lossy())));
    words.join(" ")
}

fn quoted(word: &str) -> String {
    if word.contains([' ', '*', '(']) { format!("'{word}'") } else { word.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        let mut command = Command::new("/opt/rust/bin/cargo");
        command.args(["clippy", "--", "-D", "two words"]).env("RUSTDOCFLAGS", "-D warnings");
        assert_eq!(shown(&command), "'RUSTDOCFLAGS=-D warnings' cargo clippy -- -D 'two words'");
    }

    #[test]
    fn odd_bytes_do_not_end_the_stream() {
        let (sender, lines) = mpsc::channel();
        send_lines(&b"one\r\n\xff\xfe\nthree"[..], &sender);
        drop(sender);
        let lines: Vec<String> = lines.iter().collect();
        assert_eq!(lines, ["one", "\u{fffd}\u{fffd}", "three"]);
    }
}
