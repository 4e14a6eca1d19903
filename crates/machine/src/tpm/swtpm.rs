//! The TPM behind the registers: swtpm, by its two sockets.
//!
//! One steers it (numbers, highest byte first; swtpm's `include/swtpm/tpm_ioctl.h` and swtpm_ioctls(3)), the other takes TPM
//! commands as they are. swtpm does one thing after another: while it works on a command it answers nothing else. Not here:
//! the registers, and threads ([`super::service`] has the one that waits).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use linux::EventFd;
use linux::event::monotonic_ns;
use linux::stream::{Stream, Waited};

use super::registers::{BUFFER, HEADER, size_of};
use super::service::{Emulator, Order, Trouble, Watch};

/// Requests by number.
mod request {
    pub(super) const CAPABILITIES: u32 = 0x01;
    pub(super) const INIT: u32 = 0x02;
    pub(super) const SHUT_DOWN: u32 = 0x03;
    pub(super) const CANCEL: u32 = 0x09;
    pub(super) const STOP: u32 = 0x0e;
    pub(super) const SET_DATA_FD: u32 = 0x10;
    pub(super) const SET_BUFFER_SIZE: u32 = 0x11;
}

/// Bits of the capabilities: to be started, shut down, stopped, given a socket for commands, and told how large they are.
const NEEDED: u64 = 1 << 0 | 1 << 1 | 1 << 10 | 1 << 12 | 1 << 13;
/// The bit for giving commands up.
const CANCELS: u64 = 1 << 5;

/// Bytes of an answer that is nothing but a result.
const RESULT: usize = 4;
const CAPABILITIES: usize = 8;
/// A result, then the size in use, the smallest and the largest one.
const BUFFER_SIZES: usize = 16;

/// How long swtpm may take over a request. It may have just been started, on a busy host.
const REQUEST_NS: u64 = 30_000_000_000;
/// How long it may take over a command. Keys of RSA are made in seconds, on slow hosts in minutes; guests give up first.
const COMMAND_NS: u64 = 600_000_000_000;
/// How long it may take to end.
const END_NS: u64 = 3_000_000_000;

/// The TPM cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TpmError {
    /// Nobody is there any more.
    #[error("swtpm has ended; what it said of that stands before this")]
    Closed,
    /// Nothing comes.
    #[error("swtpm does not answer")]
    Silent,
    /// A system call failed.
    #[error("speak with swtpm")]
    Socket(#[source] io::Error),
    /// It lacks something.
    #[error("this swtpm cannot be started and stopped from here (its capabilities are {0:#x}); Debian's can")]
    Unfit(u64),
    /// It does not do what it was asked for.
    #[error(
        "swtpm does not {what}: TPM result {code:#x}; its state may be broken, or another swtpm may use it"
    )]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// Its answer.
        code: u32,
    },
    /// An answer has a size that none has.
    #[error("swtpm gave an answer of {0} bytes, which no TPM gives")]
    Size(usize),
}

impl From<TpmError> for Trouble {
    fn from(error: TpmError) -> Self {
        Self::Broken(error)
    }
}

/// One of the two sockets.
#[derive(Clone, Copy)]
enum Line {
    Control,
    Data,
}

/// A swtpm that a TPM was started in.
pub(super) struct Swtpm {
    control: Stream,
    data: Stream,
    cancels: bool,
    // Started, and no life of the machine has had it yet.
    fresh: bool,
    broken: bool,
    // Bytes still to come of answers that nobody waits for any more.
    owed_results: usize,
    // What has come of the answer to a command that was left.
    left: Option<Vec<u8>>,
}

impl Swtpm {
    /// Gives swtpm a socket for commands, and starts its TPM.
    pub(super) fn connect(control: OwnedFd) -> Result<Self, TpmError> {
        let alone = Alone(linux::event::new_event().map_err(TpmError::Socket)?);
        let (data, theirs) = Stream::pair().map_err(TpmError::Socket)?;
        let control = Stream::new(control).map_err(TpmError::Socket)?;
        let mut swtpm =
            Self { control, data, cancels: false, fresh: true, broken: false, owed_results: 0, left: None };
        swtpm.introduce(theirs.as_fd(), &alone).map_err(|trouble| match trouble {
            Trouble::Broken(error) => error,
            // Nobody is there to tell it so.
            Trouble::Left | Trouble::StillBroken => TpmError::Silent,
        })?;
        Ok(swtpm)
    }

    fn introduce(&mut self, theirs: BorrowedFd<'_>, watch: &dyn Watch) -> Result<(), Trouble> {
        self.say(request::CAPABILITIES, &[], None)?;
        let answer = self.hear(CAPABILITIES, REQUEST_NS, watch)?;
        let capabilities = answer.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        if capabilities & NEEDED != NEEDED {
            return Err(TpmError::Unfit(capabilities).into());
        }
        self.cancels = capabilities & CANCELS != 0;
        self.say(request::SET_DATA_FD, &[], Some(theirs))?;
        self.result("take a socket for commands", RESULT, watch)?;
        self.start(watch)
    }

    /// Starts the TPM anew, as power-on does; what it keeps, it reads from its state.
    fn start(&mut self, watch: &dyn Watch) -> Result<(), Trouble> {
        self.say(request::STOP, &[], None)?;
        self.result("stop its TPM", RESULT, watch)?;
        // No answer is larger than the guest's buffer then.
        self.say(request::SET_BUFFER_SIZE, &(BUFFER as u32).to_be_bytes(), None)?;
        self.result("take commands of the size that a guest writes", BUFFER_SIZES, watch)?;
        // No flags: what was kept over a suspension is not there.
        self.say(request::INIT, &0_u32.to_be_bytes(), None)?;
        self.result("start its TPM", RESULT, watch)
    }

    fn say(&self, request: u32, body: &[u8], file: Option<BorrowedFd<'_>>) -> Result<(), Trouble> {
        let message = [&request.to_be_bytes()[..], body].concat();
        self.control.send(&message, file).map_err(gone)
    }

    /// Hears an answer of `len` bytes that begins with a result, which must be success.
    fn result(&mut self, what: &'static str, len: usize, watch: &dyn Watch) -> Result<(), Trouble> {
        let answer = self.hear(len, REQUEST_NS, watch)?;
        match answer.first_chunk().map(|code| u32::from_be_bytes(*code)) {
            Some(0) => Ok(()),
            code => Err(TpmError::Refused { what, code: code.unwrap_or(u32::MAX) }.into()),
        }
    }

    /// Hears `len` bytes of the steering socket; what of them is still to come when it is left is not forgotten.
    fn hear(&mut self, len: usize, limit_ns: u64, watch: &dyn Watch) -> Result<Vec<u8>, Trouble> {
        let mut bytes = Vec::new();
        let heard = self.fill(Line::Control, &mut bytes, len, monotonic_ns().saturating_add(limit_ns), watch);
        if let Err(Trouble::Left) = heard {
            self.owed_results = len - bytes.len();
        }
        heard.map(|()| bytes)
    }

    /// Receives until there are `len` bytes.
    fn fill(
        &mut self,
        line: Line,
        bytes: &mut Vec<u8>,
        len: usize,
        until_ns: u64,
        watch: &dyn Watch,
    ) -> Result<(), Trouble> {
        let mut chunk = [0; BUFFER];
        while bytes.len() < len {
            let stream = match line {
                Line::Control => &self.control,
                Line::Data => &self.data,
            };
            let room = chunk.get_mut(..(len - bytes.len()).min(BUFFER)).unwrap_or_default();
            match stream.receive(room).map_err(gone)? {
                Some(0) => return Err(TpmError::Closed.into()),
                Some(read) => {
                    bytes.extend_from_slice(room.get(..read).unwrap_or_default());
                    continue;
                }
                None => {}
            }
            match stream.wait(watch.bell(), until_ns).map_err(gone)? {
                Waited::Readable => {}
                Waited::TimeUp => return Err(TpmError::Silent.into()),
                Waited::Rung => match (watch.order(), line) {
                    (Order::Leave, _) => return Err(Trouble::Left),
                    // Once for each command.
                    (Order::Cancel, Line::Data) if self.cancels && self.owed_results == 0 => {
                        self.say(request::CANCEL, &[], None)?;
                        self.owed_results = RESULT;
                    }
                    _ => {}
                },
            }
        }
        Ok(())
    }

    /// Receives the answer to a command, of which some `bytes` have come.
    fn response(&mut self, mut bytes: Vec<u8>, watch: &dyn Watch) -> Result<Vec<u8>, Trouble> {
        let until_ns = monotonic_ns().saturating_add(COMMAND_NS);
        let mut heard = self.fill(Line::Data, &mut bytes, HEADER, until_ns, watch);
        if heard.is_ok() {
            let size = size_of(&bytes).unwrap_or(0);
            if !(HEADER..=BUFFER).contains(&size) {
                return Err(TpmError::Size(size).into());
            }
            heard = self.fill(Line::Data, &mut bytes, size, until_ns, watch);
        }
        match heard {
            Ok(()) => Ok(bytes),
            Err(Trouble::Left) => {
                self.left = Some(bytes);
                Err(Trouble::Left)
            }
            Err(trouble) => Err(trouble),
        }
    }

    /// Lets everything come that was asked for and that nobody wants any more.
    fn settle(&mut self, watch: &dyn Watch) -> Result<(), Trouble> {
        if let Some(bytes) = self.left.take() {
            self.response(bytes, watch)?;
        }
        let owed = std::mem::take(&mut self.owed_results);
        // Whether it has given a command up, the answer to the command says.
        self.hear(owed, REQUEST_NS, watch).map(drop)
    }

    /// Lets swtpm end in good order, if it does so soon.
    pub(super) fn end(&mut self) {
        if self.broken || self.left.is_some() || self.owed_results != 0 {
            return;
        }
        let Ok(bell) = linux::event::new_event() else { return };
        if self.say(request::SHUT_DOWN, &[], None).is_ok() {
            // It ends anyway, when its sockets are closed.
            let _ = self.hear(RESULT, END_NS, &Alone(bell));
        }
        self.broken = true;
    }

    /// Does something, unless it is broken; afterwards it may be.
    fn unless_broken<T>(&mut self, deed: impl FnOnce(&mut Self) -> Result<T, Trouble>) -> Result<T, Trouble> {
        if self.broken {
            return Err(Trouble::StillBroken);
        }
        let done = deed(self);
        self.broken = matches!(done, Err(Trouble::Broken(_)));
        done
    }
}

impl Emulator for Swtpm {
    fn begin(&mut self, watch: &dyn Watch) -> Result<(), Trouble> {
        if std::mem::take(&mut self.fresh) {
            return Ok(());
        }
        self.unless_broken(|swtpm| {
            swtpm.settle(watch)?;
            swtpm.start(watch)
        })
    }

    fn execute(&mut self, command: &[u8], watch: &dyn Watch) -> Result<Vec<u8>, Trouble> {
        self.unless_broken(|swtpm| {
            swtpm.data.send(command, None).map_err(gone)?;
            let answer = swtpm.response(Vec::new(), watch)?;
            swtpm.settle(watch)?;
            Ok(answer)
        })
    }
}

fn gone(error: io::Error) -> Trouble {
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => TpmError::Closed.into(),
        _ => TpmError::Socket(error).into(),
    }
}

/// Nobody who could come between.
struct Alone(EventFd);

impl Watch for Alone {
    fn bell(&self) -> &EventFd {
        &self.0
    }

    fn order(&self) -> Order {
        Order::GoOn
    }
}

#[cfg(test)]
mod tests;
