//! Frames between host and device (Serial ATA 3.0, section 10.3): the one that brings a command, and those that end it.

/// The type of the frame that brings a command or the control register.
const FROM_HOST: u8 = 0x27;
const TO_HOST: u8 = 0x34;
const PIO_SETUP: u8 = 0x5f;

/// Flags of the second byte.
const IS_COMMAND: u8 = 0x80;
const INTERRUPT: u8 = 0x40;
const TOWARD_HOST: u8 = 0x20;

/// Bytes of a command's frame.
pub(super) const COMMAND_BYTES: usize = 20;

/// Where frames lie among those received (AHCI 1.3.1, section 4.2.1).
const PIO_SETUP_AT: u64 = 0x20;
const REGISTER_AT: u64 = 0x40;

/// Status bits (ATA8-ACS, section 6.2).
pub(super) mod status {
    pub(in super::super) const ERROR: u8 = 0x01;
    pub(super) const DATA_REQUEST: u8 = 0x08;
    /// Ready, and with a seek complete, which is always so.
    pub(in super::super) const READY: u8 = 0x50;
}

/// Interrupt reasons of packet commands: the command is complete.
pub(super) const COMPLETE: u8 = 0x03;

/// The registers of a device as it answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TaskFile {
    pub(super) status: u8,
    pub(super) error: u8,
    pub(super) count: u8,
    pub(super) lba: [u8; 3],
    pub(super) device: u8,
}

impl TaskFile {
    /// What a packet device shows after a reset: no error, and its signature.
    pub(super) const SIGNATURE: Self =
        Self { status: 0, error: 1, count: 1, lba: [0x01, 0x14, 0xeb], device: 0 };

    /// A command that went well.
    pub(super) fn done(count: u8) -> Self {
        Self { status: status::READY, count, ..Self::default() }
    }

    /// One that did not.
    pub(super) fn failed(error: u8, count: u8) -> Self {
        Self { status: status::READY | status::ERROR, error, count, ..Self::default() }
    }

    /// Whether it tells of an error.
    pub(super) fn is_error(&self) -> bool {
        self.status & status::ERROR != 0
    }
}

/// How a command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// By the device's registers.
    Register(TaskFile),
    /// With data that was announced, after which the registers are these.
    PioIn { task_file: TaskFile, bytes: u16 },
    /// Without a word: the control register was written.
    Silent,
}

impl Ending {
    /// The frame, and where it is received among the port's.
    pub(super) fn frame(&self) -> Option<(u64, [u8; 20])> {
        let mut frame = [0; 20];
        let (at, kind, flags, task_file) = match self {
            Self::Register(task_file) => (REGISTER_AT, TO_HOST, INTERRUPT, task_file),
            Self::PioIn { task_file, .. } => (PIO_SETUP_AT, PIO_SETUP, INTERRUPT | TOWARD_HOST, task_file),
            Self::Silent => return None,
        };
        let [low, middle, high] = task_file.lba;
        let mut first = task_file.status;
        if let Self::PioIn { bytes, .. } = self {
            // The status while data is asked for, and the one behind it.
            first |= status::DATA_REQUEST;
            let [count_low, count_high] = bytes.to_le_bytes();
            (frame[15], frame[16], frame[17]) = (task_file.status, count_low, count_high);
        }
        for (place, byte) in
            frame.iter_mut().zip([kind, flags, first, task_file.error, low, middle, high, task_file.device])
        {
            *place = byte;
        }
        frame[12] = task_file.count;
        Some((at, frame))
    }
}

/// What the host sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FromHost {
    /// A command with its features and sector count.
    Command { command: u8, features: u8, count: u8 },
    /// The control register; true while it resets the device.
    Control { reset: bool },
    /// A frame that hosts do not send.
    Nonsense,
}

/// Reads a frame.
pub(super) fn from_host(frame: [u8; COMMAND_BYTES]) -> FromHost {
    let [kind, flags, command, features, ..] = frame;
    let (count, control) = (frame[12], frame[15]);
    match (kind, flags & IS_COMMAND != 0) {
        (FROM_HOST, true) => FromHost::Command { command, features, count },
        (FROM_HOST, false) => FromHost::Control { reset: control & 0x04 != 0 },
        _ => FromHost::Nonsense,
    }
}
