//! The command response buffer interface: what the guest finds at a TPM's address.
//!
//! TCG PC Client Platform TPM Profile 1.05 (PTP), section 6.5.3; as Linux (drivers/char/tpm/tpm_crb.c) and OVMF
//! (SecurityPkg/Library/Tpm2DeviceLibDTpm/Tpm2Ptp.c) drive it. Not here: who carries commands out ([`super::service`]).

use std::sync::Arc;

use linux::EventFd;

use crate::bus::{Device, Effect};
use crate::layout;

/// Where the buffer for commands and their answers begins.
const BUFFER_AT: u64 = 0x80;
/// Bytes of the buffer: what is left of a locality's page.
pub(super) const BUFFER: usize = 0x1000 - BUFFER_AT as usize;

/// Bytes that every command and every answer begins with: tag, size, code (TPM 2.0 library, part 1, section 18).
pub(super) const HEADER: usize = 10;
/// The tag of what has no sessions.
const NO_SESSIONS: u16 = 0x8001;
/// The size of a command is not that of its bytes (`TPM_RC_COMMAND_SIZE`, TPM 2.0 library, part 2, section 6.6.3).
const WRONG_SIZE: u32 = 0x142;
/// The TPM cannot go on (`TPM_RC_FAILURE`).
const FAILURE: u32 = 0x101;

/// Offsets of registers.
mod at {
    pub(super) const LOCALITY_STATE: u64 = 0x00;
    pub(super) const LOCALITY_CONTROL: u64 = 0x08;
    pub(super) const LOCALITY_STATUS: u64 = 0x0c;
    pub(super) const INTERFACE: u64 = 0x30;
    pub(super) const VENDOR: u64 = 0x34;
    pub(super) const REQUEST: u64 = 0x40;
    pub(super) const STATUS: u64 = 0x44;
    pub(super) const CANCEL: u64 = 0x48;
    pub(super) const START: u64 = 0x4c;
    pub(super) const COMMAND_SIZE: u64 = 0x58;
    pub(super) const COMMAND_ADDRESS: u64 = 0x5c;
    pub(super) const RESPONSE_SIZE: u64 = 0x64;
    pub(super) const RESPONSE_ADDRESS: u64 = 0x68;
}

/// `TPM_LOC_STATE_x`: set unless a dynamic launch has been measured, which this board has none of.
const NOT_ESTABLISHED: u32 = 1 << 0;
/// A locality is in use; the number beside it stays 0.
const ASSIGNED: u32 = 1 << 1;
/// What the register says is so.
const VALID: u32 = 1 << 7;
/// `TPM_LOC_CTRL_x`: the guest wants the locality, and gives it back.
const WANT: u32 = 1 << 0;
const RELINQUISH: u32 = 1 << 1;
/// `TPM_CRB_CTRL_REQ_x`: the guest wants to write a command, and has nothing more to say.
const READY: u32 = 1 << 0;
const GO_IDLE: u32 = 1 << 1;
/// `TPM_CRB_CTRL_STS_x`: the TPM rests.
const IDLE: u32 = 1 << 1;

/// `TPM_CRB_INTF_ID_x`, lower half: this interface (bits 0-3) in its first version (4-7), locality 0 alone (8), no short cut
/// around the idle state (9), transfers of 64 bytes (11-12), a command response buffer (14), which is the one in use (17-18).
const INTERFACE: u32 = 1 | 1 << 4 | 3 << 11 | 1 << 14 | 1 << 17;
/// The upper half: the vendor by its PCI id. libtpms, which is behind swtpm, calls itself IBM's.
const VENDOR: u32 = 0x1014;

/// The registers of locality 0, the only one.
pub(super) struct Registers {
    granted: bool,
    idle: bool,
    cancel: bool,
    // From the guest's start until the answer is in the buffer.
    executing: bool,
    waiting: Option<Vec<u8>>,
    buffer: Box<[u8; BUFFER]>,
    bell: Arc<EventFd>,
}

impl Registers {
    /// The registers as they are after a reset; `bell` is rung for whoever carries commands out.
    pub(super) fn new(bell: Arc<EventFd>) -> Self {
        Self {
            granted: false,
            idle: true,
            cancel: false,
            executing: false,
            waiting: None,
            buffer: Box::new([0; BUFFER]),
            bell,
        }
    }

    /// Takes the command that the guest has started.
    pub(super) fn take_command(&mut self) -> Option<Vec<u8>> {
        self.waiting.take()
    }

    /// Whether the guest wants the command given up.
    pub(super) fn is_cancelled(&self) -> bool {
        self.cancel
    }

    /// Puts the answer where the guest reads it. One longer than the buffer is cut.
    pub(super) fn answer(&mut self, answer: &[u8]) {
        self.buffer.fill(0);
        self.buffer.iter_mut().zip(answer).for_each(|(place, byte)| *place = *byte);
        self.executing = false;
    }

    /// Answers that the TPM cannot go on.
    pub(super) fn answer_failure(&mut self) {
        self.answer(&refusal(FAILURE));
    }

    /// The register at `offset`, a multiple of 4 below the buffer.
    fn register(&self, offset: u64) -> u32 {
        match offset {
            at::LOCALITY_STATE => NOT_ESTABLISHED | VALID | flag(self.granted, ASSIGNED),
            at::LOCALITY_STATUS => u32::from(self.granted),
            at::INTERFACE => INTERFACE,
            at::VENDOR => VENDOR,
            at::STATUS => flag(self.idle, IDLE),
            at::CANCEL => u32::from(self.cancel),
            at::START => u32::from(self.executing),
            at::COMMAND_SIZE | at::RESPONSE_SIZE => BUFFER as u32,
            at::COMMAND_ADDRESS | at::RESPONSE_ADDRESS => (layout::TPM.start + BUFFER_AT) as u32,
            // Requests are carried out at once and read as done. There are no interrupts.
            _ => 0,
        }
    }

    /// Writes `value` to the register at `offset`. Bits that are set ask for something; no register keeps them but cancel.
    fn set(&mut self, offset: u64, value: u32) {
        match offset {
            at::LOCALITY_CONTROL if value & RELINQUISH != 0 => self.granted = false,
            at::LOCALITY_CONTROL if value & WANT != 0 => self.granted = true,
            // In the midst of a command there is nothing to get ready for.
            at::REQUEST if !self.executing => match value & (READY | GO_IDLE) {
                READY => self.idle = false,
                GO_IDLE => self.idle = true,
                _ => {}
            },
            at::CANCEL => {
                self.cancel = value & 1 != 0;
                if self.cancel && self.executing {
                    self.ring();
                }
            }
            // SeaBIOS does not ask to be ready before its first command (src/hw/tpm_drivers.c, crb_senddata), and QEMU starts it.
            at::START if value & 1 != 0 && self.granted && !self.executing => {
                self.idle = false;
                self.start();
            }
            _ => {}
        }
    }

    /// Has the command in the buffer carried out, as far as it is one.
    fn start(&mut self) {
        let size = size_of(&*self.buffer).filter(|size| *size >= HEADER);
        match size.and_then(|size| self.buffer.get(..size)) {
            Some(command) => {
                self.waiting = Some(command.to_vec());
                self.executing = true;
                self.ring();
            }
            None => self.answer(&refusal(WRONG_SIZE)),
        }
    }

    fn ring(&self) {
        // The counter cannot overflow by adding one: it is read as soon as it is not zero.
        let _ = self.bell.write(1);
    }
}

/// These bits, if they are set.
fn flag(set: bool, bits: u32) -> u32 {
    if set { bits } else { 0 }
}

/// The size that a command or an answer says it has.
pub(super) fn size_of(bytes: &[u8]) -> Option<usize> {
    let size = bytes.get(2..6)?.first_chunk()?;
    usize::try_from(u32::from_be_bytes(*size)).ok()
}

/// An answer that says nothing but a code.
fn refusal(code: u32) -> [u8; HEADER] {
    let mut answer = [0; HEADER];
    let fields = NO_SESSIONS.to_be_bytes().into_iter().chain((HEADER as u32).to_be_bytes());
    answer.iter_mut().zip(fields.chain(code.to_be_bytes())).for_each(|(place, byte)| *place = byte);
    answer
}

impl Device for Registers {
    fn name(&self) -> &str {
        "tpm"
    }

    fn read(&mut self, offset: u64, data: &mut [u8]) -> Vec<Effect> {
        for (at, byte) in (offset..).zip(data) {
            *byte = match at.checked_sub(BUFFER_AT) {
                Some(at) => self.buffer.get(at as usize).copied().unwrap_or(0xff),
                None => self.register(at & !3).to_le_bytes()[(at & 3) as usize],
            };
        }
        Vec::new()
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Vec<Effect> {
        let (mut at, mut rest) = (offset, data);
        while !rest.is_empty() {
            let lane = (at & 3) as usize;
            let (now, later) = rest.split_at(rest.len().min(4 - lane));
            match at.checked_sub(BUFFER_AT) {
                // What the TPM works on stays as it is.
                Some(_) if self.executing => {}
                Some(at) => {
                    self.buffer
                        .iter_mut()
                        .skip(at as usize)
                        .zip(now)
                        .for_each(|(place, byte)| *place = *byte);
                }
                None => {
                    let mut value = [0; 4];
                    value.iter_mut().skip(lane).zip(now).for_each(|(place, byte)| *place = *byte);
                    self.set(at & !3, u32::from_le_bytes(value));
                }
            }
            at += now.len() as u64;
            rest = later;
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{BUFFER, Registers, at};
    use crate::bus::Device;

    const BUFFER_AT: u64 = super::BUFFER_AT;
    const RANDOM: [u8; 12] = [0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x7b, 0, 8];

    fn registers() -> Registers {
        Registers::new(Arc::new(linux::event::new_event().unwrap()))
    }

    /// Registers of a guest that may write a command.
    fn ready() -> Registers {
        let mut tpm = registers();
        write(&mut tpm, at::LOCALITY_CONTROL, 1);
        write(&mut tpm, at::REQUEST, 1);
        tpm
    }

    fn read(tpm: &mut Registers, offset: u64) -> u32 {
        let mut data = [0; 4];
        tpm.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    fn write(tpm: &mut Registers, offset: u64, value: u32) {
        tpm.write(offset, &value.to_le_bytes());
    }

    fn buffer(tpm: &mut Registers, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        tpm.read(BUFFER_AT, &mut bytes);
        bytes
    }

    #[test]
    fn a_driver_finds_one_buffer_and_one_locality() {
        let mut tpm = registers();
        // As in QEMU hw/tpm/tpm_crb.c, but for chunks: type and version 1, 64 bytes, CRB there and chosen.
        for (offset, value) in [
            (0x00, 0x81),
            (0x04, 0),
            (0x08, 0),
            (0x0c, 0),
            (0x30, 0x0002_5811),
            (0x34, 0x1014),
            (0x40, 0),
            (0x44, 2),
            (0x48, 0),
            (0x4c, 0),
            (0x50, 0),
            (0x58, 0xf80),
            (0x5c, 0xfed4_0080),
            (0x60, 0),
            (0x64, 0xf80),
            (0x68, 0xfed4_0080),
            (0x6c, 0),
            (0x7c, 0),
        ] {
            assert_eq!(read(&mut tpm, offset), value, "{offset:#x}");
        }
        let mut byte = [0];
        tpm.read(0x31, &mut byte);
        assert_eq!(byte, [0x58]);
    }

    #[test]
    fn a_locality_is_wanted_and_given_back() {
        let mut tpm = registers();
        for (value, state, status) in [(1, 0x83, 1), (2, 0x81, 0), (4, 0x81, 0), (3, 0x81, 0), (1, 0x83, 1)] {
            write(&mut tpm, at::LOCALITY_CONTROL, value);
            assert_eq!((read(&mut tpm, 0), read(&mut tpm, 0x0c)), (state, status), "{value}");
        }
    }

    #[test]
    fn a_command_waits_until_it_is_answered() {
        let mut tpm = ready();
        for (index, byte) in (0..).zip(RANDOM) {
            tpm.write(BUFFER_AT + index, &[byte]);
        }
        write(&mut tpm, at::START, 1);
        assert_eq!((read(&mut tpm, at::START), tpm.take_command()), (1, Some(RANDOM.to_vec())));
        // Neither the buffer nor the state moves meanwhile, and nothing starts twice.
        write(&mut tpm, BUFFER_AT, 0);
        write(&mut tpm, at::REQUEST, 2);
        write(&mut tpm, at::START, 1);
        assert_eq!((tpm.take_command(), read(&mut tpm, at::STATUS)), (None, 0));
        assert_eq!(buffer(&mut tpm, 4), RANDOM[..4]);
        tpm.answer(&[9; 20]);
        assert_eq!((read(&mut tpm, at::START), buffer(&mut tpm, 21)), (0, [vec![9; 20], vec![0]].concat()));
        write(&mut tpm, at::REQUEST, 2);
        assert_eq!(read(&mut tpm, at::STATUS), 2);
    }

    #[test]
    fn sizes_that_no_command_has_are_refused_at_once() {
        for (size, code) in [
            (0_u32, Some(0x142_u32)),
            (9, Some(0x142)),
            (10, None),
            (BUFFER as u32, None),
            (BUFFER as u32 + 1, Some(0x142)),
            (u32::MAX, Some(0x142)),
        ] {
            let mut tpm = ready();
            let header = [&[0x80, 1][..], &size.to_be_bytes()[..], &[0, 0, 1, 0x7b]].concat();
            tpm.write(BUFFER_AT, &header);
            write(&mut tpm, at::START, 1);
            let command = tpm.take_command();
            match code {
                None => assert_eq!(command.map(|command| command.len()), Some(size as usize)),
                Some(code) => {
                    assert_eq!((command, read(&mut tpm, at::START)), (None, 0), "{size}");
                    let answer = [&[0x80, 1, 0, 0, 0, 10][..], &code.to_be_bytes()[..]].concat();
                    assert_eq!(buffer(&mut tpm, 10), answer, "{size}");
                }
            }
        }
    }

    #[test]
    fn nothing_starts_without_a_locality_and_all_that_does_ends_idling() {
        for (locality, request, starts) in
            [(0, 1, false), (1, 0, true), (1, 2, true), (1, 3, true), (1, 1, true)]
        {
            let mut tpm = registers();
            tpm.write(BUFFER_AT, &RANDOM);
            write(&mut tpm, at::LOCALITY_CONTROL, locality);
            write(&mut tpm, at::REQUEST, request);
            write(&mut tpm, at::START, 1);
            assert_eq!(tpm.take_command().is_some(), starts, "{locality} {request}");
            assert_eq!(read(&mut tpm, at::STATUS), 0, "{locality} {request}");
        }
    }

    #[test]
    fn any_access_of_any_width_anywhere_is_answered() {
        let mut tpm = ready();
        for offset in (0..0x90).chain(0xff0..0x1000) {
            for width in [1, 2, 4, 8] {
                tpm.write(offset, &[0xff; 8][..width]);
                let mut data = [0; 8];
                tpm.read(offset, &mut data[..width]);
            }
        }
        // Over the border of registers and buffer.
        let mut tpm = ready();
        tpm.write(BUFFER_AT - 4, &[1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(buffer(&mut tpm, 5), [5, 6, 7, 8, 0]);
        let mut data = [0; 8];
        tpm.read(BUFFER_AT - 4, &mut data);
        assert_eq!(data, [0, 0, 0, 0, 5, 6, 7, 8]);
    }

    #[test]
    fn a_cancelled_command_is_known_as_such_until_the_guest_takes_it_back() {
        let mut tpm = ready();
        tpm.write(BUFFER_AT, &RANDOM);
        write(&mut tpm, at::START, 1);
        let _ = tpm.bell.read();
        for (value, cancelled) in [(1, true), (0, false)] {
            write(&mut tpm, at::CANCEL, value);
            assert_eq!((tpm.is_cancelled(), read(&mut tpm, at::CANCEL)), (cancelled, value));
            assert_eq!(tpm.bell.read().is_ok(), cancelled);
        }
    }
}
