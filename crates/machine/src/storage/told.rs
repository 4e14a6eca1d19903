//! A disk's store whose owner is told when it cannot be written: the guest gets an error and says so nowhere else.
//!
//! Told once, until a write goes well again. Not here: the guest's error, which is the disk's own.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use linux::memory::VolatileSlice;

use super::Storage;
use crate::events::{Event, Events};

/// The store.
pub(crate) struct Told {
    storage: Box<dyn Storage>,
    title: String,
    events: Arc<Events>,
    told: AtomicBool,
}

impl Told {
    /// Tells `events` of what becomes of the disk that its owner knows as `title`.
    pub(crate) fn boxed(storage: Box<dyn Storage>, title: &str, events: &Arc<Events>) -> Box<dyn Storage> {
        Box::new(Self {
            storage,
            title: title.to_owned(),
            events: Arc::clone(events),
            told: AtomicBool::new(false),
        })
    }

    fn tell(&self, done: io::Result<()>) -> io::Result<()> {
        let failed = done.is_err();
        if self.told.swap(failed, Ordering::Relaxed) != failed {
            let title = &self.title;
            self.events.post(Event::Note(match &done {
                Err(errno) => format!(
                    "{title} cannot be written: {errno}; its guest gets an error for each write until it can (make room where the image is, or see to the device)"
                ),
                Ok(()) => format!("{title} can be written again"),
            }));
        }
        done
    }
}

impl Storage for Told {
    fn len(&self) -> u64 {
        self.storage.len()
    }

    fn read_at(&self, offset: u64, parts: &[VolatileSlice<'_>]) -> io::Result<()> {
        self.storage.read_at(offset, parts)
    }

    fn write_at(&self, offset: u64, parts: &[VolatileSlice<'_>]) -> io::Result<()> {
        self.tell(self.storage.write_at(offset, parts))
    }

    fn flush(&self) -> io::Result<()> {
        // One that goes well says nothing of writes.
        let done = self.storage.flush();
        if done.is_err() { self.tell(done) } else { done }
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.storage.discard(offset, len)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use linux::memory::VolatileSlice;

    use super::{Storage, Told};
    use crate::events::{Event, Events};

    /// A store that can be full.
    struct Shelf(Arc<AtomicBool>);

    impl Storage for Shelf {
        fn len(&self) -> u64 {
            512
        }
        fn read_at(&self, _: u64, _: &[VolatileSlice<'_>]) -> io::Result<()> {
            Ok(())
        }
        fn write_at(&self, _: u64, _: &[VolatileSlice<'_>]) -> io::Result<()> {
            if self.0.load(Ordering::Relaxed) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
        fn discard(&self, _: u64, _: u64) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_store_is_told_once_and_when_it_is_no_longer_full() {
        let full = Arc::new(AtomicBool::new(false));
        let events = Arc::new(Events::new().unwrap());
        let disk = Told::boxed(Box::new(Shelf(Arc::clone(&full))), "disk 2 (/d)", &events);
        for (is_full, told) in [
            (false, None),
            (true, Some("disk 2 (/d) cannot be written: no storage space")),
            (true, None),
            (false, Some("disk 2 (/d) can be written again")),
            (false, None),
        ] {
            full.store(is_full, Ordering::Relaxed);
            assert_eq!(disk.write_at(0, &[]).is_err(), is_full);
            disk.flush().unwrap();
            let note = match events.take() {
                Some(Event::Note(text)) => Some(text),
                _ => None,
            };
            assert_eq!(note.as_deref().and_then(|note| note.split(';').next()), told);
        }
    }
}
