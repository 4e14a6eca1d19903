//! Carries the guest's commands out, on a thread of its own: a TPM thinks for milliseconds, and for seconds over a key.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use linux::EventFd;

use super::registers::Registers;
use super::swtpm::TpmError;

/// A command and its answer, and a chunk of it on its way.
pub(super) const STACK: usize = 128 << 10;

/// What carries commands out.
pub(super) trait Emulator {
    /// Resets the TPM for a life of the machine.
    fn begin(&mut self, watch: &dyn Watch) -> Result<(), Trouble>;

    /// Carries a command out and gives the answer.
    fn execute(&mut self, command: &[u8], watch: &dyn Watch) -> Result<Vec<u8>, Trouble>;
}

/// What may come between while an emulator is waited for.
pub(super) trait Watch {
    /// Rung when there may be something.
    fn bell(&self) -> &EventFd;

    /// What there is.
    fn order(&self) -> Order;
}

/// What an emulator is to do with what it is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Go on.
    GoOn,
    /// Give the command up, if it can.
    Cancel,
    /// Leave it: the machine's life is over.
    Leave,
}

/// An emulator has no answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It was told to leave.
    Left,
    /// It can do nothing any more, from now on.
    Broken(TpmError),
    /// It is broken, and has said so.
    StillBroken,
}

/// Serves the registers until `ended`. What goes wrong is told once, and the guest's commands fail from then on.
pub(super) fn work(
    emulator: &mut impl Emulator,
    registers: &Mutex<Registers>,
    bell: &EventFd,
    ended: &AtomicBool,
    tell: &dyn Fn(String),
) {
    let watch = Thread { registers, bell, ended };
    if let Err(trouble) = emulator.begin(&watch) {
        report(trouble, tell);
    }
    while !ended.load(Ordering::Acquire) {
        turn(emulator, registers, &watch, tell);
        // What rang meanwhile may have been the end: it is looked for before anything is waited for. Waiting for an event fd
        // that is open cannot fail; if it did, nothing could be served any more.
        if ended.load(Ordering::Acquire) || linux::event::wait_for(bell).is_err() {
            return;
        }
    }
}

/// Carries out the command that waits, if one does.
fn turn(
    emulator: &mut impl Emulator,
    registers: &Mutex<Registers>,
    watch: &dyn Watch,
    tell: &dyn Fn(String),
) {
    let Some(command) = lock(registers).take_command() else { return };
    match emulator.execute(&command, watch) {
        Ok(answer) => lock(registers).answer(&answer),
        // Nobody reads these registers any more.
        Err(Trouble::Left) => {}
        Err(trouble) => {
            report(trouble, tell);
            lock(registers).answer_failure();
        }
    }
}

fn report(trouble: Trouble, tell: &dyn Fn(String)) {
    if let Trouble::Broken(error) = trouble {
        tell(format!("the guest's TPM is gone until the machine is started again: {error}"));
    }
}

fn lock(registers: &Mutex<Registers>) -> MutexGuard<'_, Registers> {
    registers.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the serving thread watches for.
struct Thread<'a> {
    registers: &'a Mutex<Registers>,
    bell: &'a EventFd,
    ended: &'a AtomicBool,
}

impl Watch for Thread<'_> {
    fn bell(&self) -> &EventFd {
        self.bell
    }

    fn order(&self) -> Order {
        if self.ended.load(Ordering::Acquire) {
            return Order::Leave;
        }
        if lock(self.registers).is_cancelled() { Order::Cancel } else { Order::GoOn }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::atomic::AtomicBool;
    use std::sync::{Arc, Mutex};

    use super::{Emulator, Order, Trouble, Watch, lock, work};
    use crate::bus::Device;
    use crate::tpm::registers::Registers;
    use crate::tpm::swtpm::TpmError;

    /// An emulator that does as it is told, and rings the end after its last deed.
    struct Fake<'a> {
        deeds: Vec<Result<Vec<u8>, Trouble>>,
        begin: Result<(), Trouble>,
        ended: &'a AtomicBool,
        seen: Vec<(Vec<u8>, Order)>,
    }

    impl Emulator for Fake<'_> {
        fn begin(&mut self, _watch: &dyn Watch) -> Result<(), Trouble> {
            std::mem::replace(&mut self.begin, Ok(()))
        }

        fn execute(&mut self, command: &[u8], watch: &dyn Watch) -> Result<Vec<u8>, Trouble> {
            self.seen.push((command.to_vec(), watch.order()));
            self.ended.store(true, std::sync::atomic::Ordering::Release);
            self.deeds.remove(0)
        }
    }

    #[test]
    fn a_command_is_answered_by_the_emulator_or_fails() {
        let rows = [
            (Ok(()), Ok(vec![7; 12]), Some(vec![7; 12]), 0),
            (Ok(()), Err(Trouble::Broken(TpmError::Closed)), Some(vec![0x80, 1, 0, 0, 0, 10, 0, 0, 1, 1]), 1),
            (Ok(()), Err(Trouble::StillBroken), Some(vec![0x80, 1, 0, 0, 0, 10, 0, 0, 1, 1]), 0),
            (
                Err(Trouble::Broken(TpmError::Closed)),
                Err(Trouble::StillBroken),
                Some(vec![0x80, 1, 0, 0, 0, 10, 0, 0, 1, 1]),
                1,
            ),
            // The buffer keeps the command: the life is over.
            (Ok(()), Err(Trouble::Left), None, 0),
        ];
        for (begin, deed, answer, told) in rows {
            let bell = Arc::new(linux::event::new_event().unwrap());
            let registers = Mutex::new(Registers::new(Arc::clone(&bell)));
            let command = [0x80, 1, 0, 0, 0, 10, 0, 0, 1, 0x7b];
            for (offset, bytes) in
                [(0x08, &[1, 0, 0, 0][..]), (0x40, &[1, 0, 0, 0]), (0x80, &command), (0x4c, &[1])]
            {
                lock(&registers).write(offset, bytes);
            }
            let ended = AtomicBool::new(false);
            let mut fake = Fake { deeds: vec![deed], begin, ended: &ended, seen: Vec::new() };
            let said = RefCell::new(Vec::new());
            work(&mut fake, &registers, &bell, &ended, &|text| said.borrow_mut().push(text));
            assert_eq!(fake.seen, [(command.to_vec(), Order::GoOn)]);
            assert_eq!(said.borrow().len(), told, "{said:?}");
            let expected = answer.clone().unwrap_or(command.to_vec());
            let mut found = vec![0; expected.len()];
            let mut start = [0];
            lock(&registers).read(0x80, &mut found);
            lock(&registers).read(0x4c, &mut start);
            assert_eq!((found, start), (expected, [u8::from(answer.is_none())]));
        }
    }
}
