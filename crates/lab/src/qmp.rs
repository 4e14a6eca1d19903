//! The emulator's control socket: QEMU's machine protocol, one JSON object per line.
//!
//! Only what the lab asks of it: send a command, read its answer, pass over events.

use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Longest wait for an answer; the emulator answers from its main loop, which a busy processor thread may hold.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// Events passed over while waiting for one answer.
const EVENT_LIMIT: usize = 1000;

/// A control command that was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// The socket failed: the emulator is gone or stuck.
    #[error("the emulator does not answer `{command}`: {cause}")]
    Socket {
        /// What was asked.
        command: String,
        /// The system's reason.
        cause: io::Error,
    },
    /// The emulator refused.
    #[error("the emulator refused `{command}`: {reason}")]
    Refused {
        /// What was asked.
        command: String,
        /// In its own words.
        reason: String,
    },
}

/// A connection to the control socket.
#[derive(Debug)]
pub struct Qmp {
    reader: BufReader<UnixStream>,
}

impl Qmp {
    /// Connects and negotiates.
    pub fn connect(socket: &Path) -> Result<Self, QmpError> {
        let failed = |cause| QmpError::Socket { command: "connect".to_owned(), cause };
        let stream = UnixStream::connect(socket).map_err(failed)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT)).map_err(failed)?;
        stream.set_write_timeout(Some(ANSWER_LIMIT)).map_err(failed)?;
        let mut qmp = Self { reader: BufReader::new(stream) };
        qmp.read_line().map_err(failed)?;
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Sends a command, with arguments or null, and returns its answer.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        let failed = |cause| QmpError::Socket { command: command.to_owned(), cause };
        let mut request = json!({ "execute": command });
        if !arguments.is_null() {
            request["arguments"] = arguments;
        }
        let request = format!("{request}\n");
        self.reader.get_mut().write_all(request.as_bytes()).map_err(failed)?;
        for _ in 0..EVENT_LIMIT {
            let answer = self.read_line().map_err(failed)?;
            if let Some(value) = answer.get("return") {
                return Ok(value.clone());
            }
            if let Some(error) = answer.get("error") {
                let reason =
                    error.get("desc").and_then(Value::as_str).unwrap_or("no reason given").to_owned();
                return Err(QmpError::Refused { command: command.to_owned(), reason });
            }
        }
        Err(failed(io::Error::other("only events, no answer")))
    }

    /// Runs a command of the human monitor, for the few things only it can do, and returns what it prints.
    pub fn monitor(&mut self, line: &str) -> Result<String, QmpError> {
        let answer = self.execute("human-monitor-command", json!({ "command-line": line }))?;
        Ok(answer.as_str().unwrap_or_default().trim().to_owned())
    }

    fn read_line(&mut self) -> io::Result<Value> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        serde_json::from_str(&line).map_err(io::Error::other)
    }
}
