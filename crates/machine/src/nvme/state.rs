//! The controller's registers and queues (NVM Express 1.4, section 3.1), and what writing to them begins and ends. Pure.

use super::command::{ANSWER_BYTES, COMMAND_BYTES, Result, Status};

/// Queue pairs beside the first one.
pub(super) const PAIRS: u16 = 8;
/// Entries of a queue at most.
const ENTRIES: u16 = 256;

/// Offsets of registers.
mod register {
    pub(super) const CAPABILITIES: u64 = 0x00;
    pub(super) const CAPABILITIES_HIGH: u64 = 0x04;
    pub(super) const VERSION: u64 = 0x08;
    pub(super) const CONFIGURATION: u64 = 0x14;
    pub(super) const STATUS: u64 = 0x1c;
    pub(super) const ADMIN_SIZES: u64 = 0x24;
    pub(super) const ADMIN_QUEUES: std::ops::Range<u64> = 0x28..0x38;
}
/// The first doorbell; each takes four bytes.
pub(super) const DOORBELLS: u64 = 0x1000;

/// Queues lie in one piece; half a second times ten is the longest wait.
const CAPABILITIES: u32 = (ENTRIES as u32 - 1) | 1 << 16 | 10 << 24;
/// The NVM command set; pages of 4 KiB alone.
const CAPABILITIES_HIGH: u32 = 1 << 5;
const VERSION: u32 = 0x0001_0400;

const ENABLE: u32 = 1 << 0;
const SHUTDOWN: u32 = 3 << 14;
/// Command set, page size and arbitration, of which there is one each.
const ONLY_ZERO: u32 = 0x3ff0;

const READY: u32 = 1 << 0;
const FATAL: u32 = 1 << 1;
const SHUT_DOWN: u32 = 2 << 2;
const SHUTTING_DOWN: u32 = 1 << 2;

#[derive(Clone, Copy, Debug)]
struct Submission {
    at: u64,
    entries: u16,
    head: u16,
    tail: u16,
    completion: u16,
}

#[derive(Clone, Copy, Debug)]
struct Completion {
    at: u64,
    entries: u16,
    head: u16,
    tail: u16,
    phase: bool,
    vector: Option<u16>,
}

impl Completion {
    fn is_full(&self) -> bool {
        (self.tail + 1) % self.entries == self.head
    }
}

/// A command to fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) queue: u16,
    pub(super) at: u64,
    /// Which run of the controller it belongs to.
    run: u32,
}

/// Where an answer goes, and what is in it besides the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) at: u64,
    pub(super) head: u16,
    pub(super) phase: bool,
    pub(super) vector: Option<u16>,
}

/// What a write asks of the controller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// There may be something to do.
    pub(super) work: bool,
    /// It has been switched off: the command at hand must have ended before the write has.
    pub(super) wait: bool,
}

/// Registers and queues.
#[derive(Debug, Default)]
pub(super) struct State {
    configuration: u32,
    status: u32,
    admin_sizes: u32,
    admin_queues: [u32; 4],
    submissions: [Option<Submission>; PAIRS as usize + 1],
    completions: [Option<Completion>; PAIRS as usize + 1],
    run: u32,
    last: u16,
}

impl State {
    /// Reads the register at `offset`, a multiple of 4.
    pub(super) fn read(&self, offset: u64) -> u32 {
        match offset {
            register::CAPABILITIES => CAPABILITIES,
            register::CAPABILITIES_HIGH => CAPABILITIES_HIGH,
            register::VERSION => VERSION,
            register::CONFIGURATION => self.configuration,
            register::STATUS => self.status,
            register::ADMIN_SIZES => self.admin_sizes,
            _ if register::ADMIN_QUEUES.contains(&offset) => {
                let index = (offset - register::ADMIN_QUEUES.start) / 4;
                self.admin_queues.get(index as usize).copied().unwrap_or(0)
            }
            _ => 0,
        }
    }

    /// Writes it.
    pub(super) fn write(&mut self, offset: u64, value: u32) -> Asked {
        match offset {
            register::CONFIGURATION => return self.configure(value),
            register::ADMIN_SIZES => self.admin_sizes = value & 0x0fff_0fff,
            DOORBELLS.. => return self.ring((offset - DOORBELLS) / 4, value),
            _ if register::ADMIN_QUEUES.contains(&offset) => {
                let index = (offset - register::ADMIN_QUEUES.start) / 4;
                // Queues begin at pages.
                let value = if index.is_multiple_of(2) { value & !0xfff } else { value };
                if let Some(word) = self.admin_queues.get_mut(index as usize) {
                    *word = value;
                }
            }
            _ => {}
        }
        Asked::default()
    }

    /// Goes back to power-on; the command at hand finds its run ended.
    pub(super) fn reset(&mut self) {
        *self = Self { run: self.run.wrapping_add(1), ..Self::default() };
    }

    /// Something that cannot be gone on from: the driver resets the controller.
    pub(super) fn fail(&mut self) {
        self.status |= FATAL;
    }

    /// Whether all is to be made to last before the machine is switched off.
    pub(super) fn is_shutting_down(&self) -> bool {
        self.status & (SHUTTING_DOWN | FATAL) == SHUTTING_DOWN
    }

    /// All has been.
    pub(super) fn shut_down(&mut self) {
        self.status = self.status & !SHUTTING_DOWN | SHUT_DOWN;
    }

    fn configure(&mut self, value: u32) -> Asked {
        let (was, is) = (self.configuration & ENABLE != 0, value & ENABLE != 0);
        self.configuration = value & 0x00ff_fff1;
        if was && !is {
            // The admin queue's registers stay (section 7.3.1).
            let kept = (self.configuration, self.admin_sizes, self.admin_queues);
            self.reset();
            (self.configuration, self.admin_sizes, self.admin_queues) = kept;
            return Asked { wait: true, ..Asked::default() };
        }
        if is && !was {
            self.enable();
        }
        let asks = value & SHUTDOWN != 0 && self.status & (SHUTTING_DOWN | SHUT_DOWN) == 0;
        if asks {
            self.status |= SHUTTING_DOWN;
        }
        Asked { work: is || asks, wait: false }
    }

    fn enable(&mut self) {
        if self.configuration & ONLY_ZERO != 0 {
            return self.fail();
        }
        let [sq_low, sq_high, cq_low, cq_high] = self.admin_queues;
        let address = |low, high| u64::from(low) | u64::from(high) << 32;
        let entries = |bits: u32| (bits & 0xfff) as u16 + 1;
        let submissions = entries(self.admin_sizes);
        let completions = entries(self.admin_sizes >> 16);
        if submissions < 2 || completions < 2 {
            return self.fail();
        }
        self.submissions[0] = Some(Submission {
            at: address(sq_low, sq_high),
            entries: submissions,
            head: 0,
            tail: 0,
            completion: 0,
        });
        self.completions[0] = Some(Completion {
            at: address(cq_low, cq_high),
            entries: completions,
            head: 0,
            tail: 0,
            phase: true,
            vector: Some(0),
        });
        self.status |= READY;
    }

    /// Takes what was written to a doorbell; nonsense is nobody's.
    fn ring(&mut self, doorbell: u64, value: u32) -> Asked {
        let queue = (doorbell / 2) as usize;
        let Ok(value) = u16::try_from(value) else { return Asked::default() };
        if doorbell.is_multiple_of(2) {
            if let Some(Some(queue)) = self.submissions.get_mut(queue).filter(|_| self.status & READY != 0)
                && value < queue.entries
            {
                queue.tail = value;
                return Asked { work: true, wait: false };
            }
        } else if let Some(Some(queue)) = self.completions.get_mut(queue)
            && value < queue.entries
        {
            let was_full = queue.is_full();
            queue.head = value;
            return Asked { work: was_full, wait: false };
        }
        Asked::default()
    }

    /// The next command, from the first queue after the last one that has one and room for its answer.
    pub(super) fn next(&mut self) -> Option<Job> {
        if self.status & (READY | FATAL) != READY {
            return None;
        }
        let (count, last) = (PAIRS + 1, self.last);
        (1..=count).map(|step| (last + step) % count).find_map(|number| {
            let queue = self.submissions.get_mut(usize::from(number))?.as_mut()?;
            let completion = self.completions.get(usize::from(queue.completion))?.as_ref()?;
            if queue.head == queue.tail || completion.is_full() {
                return None;
            }
            let at = queue.at.wrapping_add(u64::from(queue.head) * COMMAND_BYTES);
            queue.head = (queue.head + 1) % queue.entries;
            self.last = number;
            Some(Job { queue: number, at, run: self.run })
        })
    }

    /// The place for a command's answer; none when it has been aborted by a reset, or its queue is gone.
    pub(super) fn place(&mut self, job: &Job) -> Option<Place> {
        if self.run != job.run {
            return None;
        }
        let queue = self.submissions.get(usize::from(job.queue))?.as_ref()?;
        let completion = self.completions.get_mut(usize::from(queue.completion))?.as_mut()?;
        if completion.is_full() {
            return None;
        }
        let at = completion.at.wrapping_add(u64::from(completion.tail) * ANSWER_BYTES);
        let place = Place { at, head: queue.head, phase: completion.phase, vector: completion.vector };
        completion.tail = (completion.tail + 1) % completion.entries;
        if completion.tail == 0 {
            completion.phase = !completion.phase;
        }
        Some(place)
    }

    /// Whether a job's run goes on.
    pub(super) fn goes_on(&self, job: &Job) -> bool {
        self.run == job.run
    }

    /// Makes an I/O completion queue. `words` are words 10 and 11 of the command.
    pub(super) fn create_completion(&mut self, at: u64, words: (u32, u32)) -> Result {
        let (number, entries) = sizes(words.0)?;
        let place =
            self.completions.get_mut(usize::from(number)).filter(|place| number > 0 && place.is_none());
        let place = place.ok_or(Status::QUEUE_ID)?;
        let vector = (words.1 >> 16) as u16;
        if words.1 & 1 == 0 || !at.is_multiple_of(4096) {
            return Err(Status::FIELD);
        }
        if vector > PAIRS {
            return Err(Status::VECTOR);
        }
        let vector = (words.1 & 2 != 0).then_some(vector);
        *place = Some(Completion { at, entries, head: 0, tail: 0, phase: true, vector });
        Ok(0)
    }

    /// Makes an I/O submission queue.
    pub(super) fn create_submission(&mut self, at: u64, words: (u32, u32)) -> Result {
        let (number, entries) = sizes(words.0)?;
        let completion = (words.1 >> 16) as u16;
        let is_there =
            completion > 0 && self.completions.get(usize::from(completion)).is_some_and(Option::is_some);
        let place =
            self.submissions.get_mut(usize::from(number)).filter(|place| number > 0 && place.is_none());
        let place = place.ok_or(Status::QUEUE_ID)?;
        if !is_there {
            return Err(Status::QUEUE_COMPLETION);
        }
        if words.1 & 1 == 0 || !at.is_multiple_of(4096) {
            return Err(Status::FIELD);
        }
        *place = Some(Submission { at, entries, head: 0, tail: 0, completion });
        Ok(0)
    }

    /// Takes a submission queue away, with what is in it.
    pub(super) fn delete_submission(&mut self, number: u32) -> Result {
        let number = usize::try_from(number & 0xffff).unwrap_or(usize::MAX);
        let place = self.submissions.get_mut(number).filter(|_| number > 0).ok_or(Status::QUEUE_ID)?;
        place.take().map(|_| 0).ok_or(Status::QUEUE_ID)
    }

    /// Takes a completion queue away, unless a submission queue needs it.
    pub(super) fn delete_completion(&mut self, number: u32) -> Result {
        let number = number as u16;
        if number > 0 && self.submissions.iter().flatten().any(|queue| queue.completion == number) {
            return Err(Status::QUEUE_DELETION);
        }
        let place = self.completions.get_mut(usize::from(number)).filter(|_| number > 0);
        place.and_then(Option::take).map(|_| 0).ok_or(Status::QUEUE_ID)
    }
}

/// A queue's number and its entries.
fn sizes(word: u32) -> std::result::Result<(u16, u16), Status> {
    let (number, entries) = (word as u16, (word >> 16) + 1);
    match u16::try_from(entries) {
        Ok(entries) if (2..=ENTRIES).contains(&entries) => Ok((number, entries)),
        _ => Err(Status::QUEUE_SIZE),
    }
}
