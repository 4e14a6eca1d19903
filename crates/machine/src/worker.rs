//! A thread that serves one device, for those whose requests wait for the host.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use linux::EventFd;

/// A device that is served by a thread of its own.
pub(crate) trait Serve: Send + Sync + 'static {
    /// The event that says that there is something to serve.
    fn doorbell(&self) -> &Arc<EventFd>;

    /// Serves a turn of what is asked for; true when more is left.
    fn serve(&self) -> bool;
}

/// The thread. It ends, after the request at hand, when this is dropped.
pub(crate) struct Worker {
    doorbell: Arc<EventFd>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Requests are carried out in a few frames.
const STACK: usize = 128 << 10;

impl Worker {
    /// Begins to serve the device whenever its doorbell rings.
    ///
    /// # Errors
    /// When the kernel gives no thread.
    pub(crate) fn spawn(name: String, served: Arc<impl Serve>) -> io::Result<Self> {
        let doorbell = Arc::clone(served.doorbell());
        Self::run(name, STACK, doorbell, move |ended| work(&*served, ended))
    }

    /// Begins `work`, which is to end when it is told so and looks: the doorbell rings then.
    ///
    /// # Errors
    /// When the kernel gives no thread.
    pub(crate) fn run(
        name: String,
        stack: usize,
        doorbell: Arc<EventFd>,
        work: impl FnOnce(&AtomicBool) + Send + 'static,
    ) -> io::Result<Self> {
        let ended = Arc::<AtomicBool>::default();
        let told = Arc::clone(&ended);
        let thread = std::thread::Builder::new().name(name).stack_size(stack).spawn(move || work(&told))?;
        Ok(Self { doorbell, ended, thread: Some(thread) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        // The counter cannot overflow by adding one: it is read as soon as it is not zero.
        let _ = self.doorbell.write(1);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has ended as well; its message is on standard error.
            let _ = thread.join();
        }
    }
}

fn work(served: &impl Serve, ended: &AtomicBool) {
    // Waiting for an event fd that is open cannot fail; if it did, nothing could be served any more.
    while linux::event::wait_for(served.doorbell()).is_ok() {
        while !ended.load(Ordering::Acquire) && served.serve() {}
        if ended.load(Ordering::Acquire) {
            return;
        }
    }
}
