//! A disk's store whose owner is told when it cannot be written: the guest gets an error and says so nowhere else.
//!
//! Told once, until writes go well again. What a guest writes decides how often that changes, so there is an end to it. Not
//! here: the guest's error, which is the disk's own.

use std::cell::Cell;
use std::io;
use std::sync::Arc;

use linux::memory::VolatileSlice;

use super::Storage;
use crate::events::{Event, Events};

/// So many writes in a row go well before it is told that they do: on a full disk those to places that the file has already
/// do at any time.
const WELL: u32 = 3;
/// Notes of one disk in one life of the machine at most.
const MOST_NOTES: u32 = 32;

/// The store.
pub(crate) struct Told {
    storage: Box<dyn Storage>,
    title: String,
    events: Arc<Events>,
    // One thread writes: that of the disk.
    failing: Cell<bool>,
    well: Cell<u32>,
    notes: Cell<u32>,
}

impl Told {
    /// Tells `events` of what becomes of the disk that its owner knows as `title`.
    pub(crate) fn boxed(storage: Box<dyn Storage>, title: &str, events: &Arc<Events>) -> Box<dyn Storage> {
        Box::new(Self {
            storage,
            title: title.to_owned(),
            events: Arc::clone(events),
            failing: Cell::new(false),
            well: Cell::new(0),
            notes: Cell::new(0),
        })
    }

    fn tell(&self, done: io::Result<()>) -> io::Result<()> {
        let title = &self.title;
        self.well.set(if done.is_ok() { self.well.get().saturating_add(1) } else { 0 });
        match &done {
            Err(errno) if !self.failing.replace(true) => self.note(format!(
                "{title} cannot be written: {errno}; its guest gets an error for each write until it can (make room where the image is, or see to the device)"
            )),
            Ok(()) if self.failing.get() && self.well.get() >= WELL => {
                self.failing.set(false);
                self.note(format!("{title} can be written again"));
            }
            _ => {}
        }
        done
    }

    fn note(&self, text: String) {
        let notes = self.notes.get().saturating_add(1);
        self.notes.set(notes);
        match notes {
            ..MOST_NOTES => self.events.post(Event::Note(text)),
            MOST_NOTES => self.events.post(Event::Note(format!("{text}; this is told no more"))),
            _ => {}
        }
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

    use super::{MOST_NOTES, Storage, Told, WELL};
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
            // What the file has already can be written, which says nothing of the rest.
            (false, None),
            (true, None),
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
        full.store(false, Ordering::Relaxed);
        (1..WELL).for_each(|_| disk.write_at(0, &[]).unwrap());
        assert!(events.take().is_none());
        disk.write_at(0, &[]).unwrap();
        assert!(
            matches!(events.take(), Some(Event::Note(text)) if text == "disk 2 (/d) can be written again")
        );
    }

    #[test]
    fn a_guest_cannot_make_it_tell_without_end() {
        let full = Arc::new(AtomicBool::new(false));
        let events = Arc::new(Events::new().unwrap());
        let disk = Told::boxed(Box::new(Shelf(Arc::clone(&full))), "disk 2 (/d)", &events);
        for round in 0..MOST_NOTES * WELL * 2 {
            full.store(round % (WELL + 1) == 0, Ordering::Relaxed);
            let _ = disk.write_at(0, &[]);
        }
        let notes: Vec<_> = std::iter::from_fn(|| events.take()).collect();
        assert_eq!(notes.len(), MOST_NOTES as usize);
        assert!(matches!(notes.last(), Some(Event::Note(text)) if text.ends_with("told no more")));
    }
}
