//! Bytes on their way from a device to the event thread: bounded, and never blocking a vCPU.
//!
//! Not here: the terminal or file they end in. A device offers bytes while its lock is held; the event thread
//! drains them, at leisure, into whatever may block.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a device calls to get the event thread's attention; an eventfd behind it must not block.
pub trait Wake: Send + Sync {
    /// Wakes the event thread.
    fn wake(&self);
}

impl<F: Fn() + Send + Sync> Wake for F {
    fn wake(&self) {
        self();
    }
}

/// A bounded buffer between a device that makes bytes and the event thread that takes them.
pub struct OutputBuffer {
    capacity: usize,
    wake: Arc<dyn Wake>,
    lost: AtomicU64,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    bytes: Vec<u8>,
    refused: bool,
}

impl OutputBuffer {
    /// Makes an empty buffer for at most `capacity` bytes; `wake` is called each time it stops being empty.
    ///
    /// After a wake the event thread may wait a few milliseconds before it drains: the rest of the line is
    /// then there as well, and no other wake follows in between.
    pub fn new(capacity: usize, wake: Arc<dyn Wake>) -> Arc<Self> {
        Arc::new(Self { capacity, wake, lost: AtomicU64::new(0), queue: Mutex::default() })
    }

    /// Takes one byte, or refuses it when full; the refusal is told to the next [`OutputBuffer::drain`].
    pub fn offer(&self, byte: u8) -> bool {
        let mut queue = self.lock();
        if queue.bytes.len() >= self.capacity {
            queue.refused = true;
            return false;
        }
        queue.bytes.push(byte);
        let first = queue.bytes.len() == 1;
        drop(queue);
        if first {
            self.wake.wake();
        }
        true
    }

    /// Moves everything into `taken`. True when the device was refused since the last time and now waits
    /// to be told that there is room.
    #[must_use = "a device that waits for room must be told"]
    pub fn drain(&self, taken: &mut Vec<u8>) -> bool {
        let mut queue = self.lock();
        taken.append(&mut queue.bytes);
        std::mem::take(&mut queue.refused)
    }

    /// Counts bytes that the device had to drop.
    pub fn count_lost(&self, bytes: u64) {
        self.lost.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Tells how many bytes were dropped so far.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// A panic elsewhere cannot leave the queue half-changed.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::OutputBuffer;
    use crate::board::testing::WakeCount;

    #[test]
    fn only_the_first_byte_of_an_empty_buffer_wakes() {
        let wakes = WakeCount::default();
        let buffer = OutputBuffer::new(8, wakes.wake());
        let mut taken = Vec::new();
        for (offered, wakes_so_far) in [(&b"abc"[..], 1), (b"de", 2), (b"f", 3)] {
            for byte in offered {
                assert!(buffer.offer(*byte));
            }
            assert_eq!(wakes.count(), wakes_so_far, "after {offered:?}");
            assert!(!buffer.drain(&mut taken));
        }
        assert_eq!(taken, b"abcdef");
    }

    #[test]
    fn a_full_buffer_refuses_and_says_so_once() {
        let buffer = OutputBuffer::new(2, WakeCount::default().wake());
        assert!(buffer.offer(b'a'));
        assert!(buffer.offer(b'b'));
        assert!(!buffer.offer(b'c'));
        let mut taken = Vec::new();
        assert!(buffer.drain(&mut taken));
        assert!(!buffer.drain(&mut taken));
        assert_eq!(taken, b"ab");
        assert!(buffer.offer(b'c'));
    }
}
