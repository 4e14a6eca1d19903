//! The thread of a network card: it waits for the guest's doorbell and for frames of the link, whichever comes first.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use linux::event::{EventError, Interest, Poller};

use super::Waits;
use crate::virtio::Engine;
use crate::worker::{Serve, Worker};

/// A frame of 64 KiB is copied on the stack once.
const STACK: usize = 256 << 10;

const DOORBELL: u64 = 0;
const FRAME: u64 = 1;

/// Begins to serve the card behind `engine` whenever its doorbell rings or `link` has a frame.
///
/// # Errors
/// When the kernel gives no thread.
pub(crate) fn serve_network(
    name: String,
    engine: Arc<Engine>,
    link: OwnedFd,
    waits: Waits,
) -> io::Result<Worker> {
    let doorbell = Arc::clone(engine.doorbell());
    Worker::run(name, STACK, doorbell, move |ended| {
        // Waiting for fds that are open cannot fail; if it did, nothing could be served any more.
        let _ = work(&engine, ended, &link, &waits);
    })
}

fn work(engine: &Engine, ended: &AtomicBool, link: &OwnedFd, waits: &Waits) -> Result<(), EventError> {
    let poller = Poller::new()?;
    poller.add_event(engine.doorbell(), DOORBELL)?;
    let mut listening = false;
    loop {
        // A link that nobody reads from would be ready for ever: it is left alone while the guest has no room, or no driver.
        let listen = engine.may_run() && waits.for_frame();
        if listen != listening {
            if listen {
                poller.add(link, Interest::Readable, FRAME)?;
            } else {
                poller.remove(link)?;
            }
            listening = listen;
        }
        for token in poller.wait()? {
            if token == DOORBELL {
                // Nothing to read means that it was taken already.
                let _ = engine.doorbell().read();
            }
        }
        while !ended.load(Ordering::Acquire) && engine.serve() {}
        if ended.load(Ordering::Acquire) {
            return Ok(());
        }
    }
}
