//! A thread that serves one device, for those whose requests wait for the host.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::Engine;

/// The thread. It ends, after the request at hand, when this is dropped.
pub(crate) struct Worker {
    engine: Arc<Engine>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Requests are carried out in a few frames.
const STACK: usize = 128 << 10;

impl Worker {
    /// Begins to serve the device behind `engine` whenever its doorbell rings.
    ///
    /// # Errors
    /// When the kernel gives no thread.
    pub(crate) fn spawn(name: String, engine: Arc<Engine>) -> io::Result<Self> {
        let ended = Arc::<AtomicBool>::default();
        let thread = {
            let (engine, ended) = (Arc::clone(&engine), Arc::clone(&ended));
            std::thread::Builder::new().name(name).stack_size(STACK).spawn(move || work(&engine, &ended))?
        };
        Ok(Self { engine, ended, thread: Some(thread) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        self.engine.ring_doorbell();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has ended as well; its message is on standard error.
            let _ = thread.join();
        }
    }
}

fn work(engine: &Engine, ended: &AtomicBool) {
    // Waiting for an event fd that is open cannot fail; if it did, nothing could be served any more.
    while linux::event::wait_for(engine.doorbell()).is_ok() {
        while !ended.load(Ordering::Acquire) && engine.serve() {}
        if ended.load(Ordering::Acquire) {
            return;
        }
    }
}
