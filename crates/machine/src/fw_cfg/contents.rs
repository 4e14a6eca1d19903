//! What an fw_cfg device holds: items by key, and files by name in a sorted directory.
//!
//! Not here: the ports. A group of files may be made anew when the guest is about to read it.

use std::collections::BTreeMap;

/// Keys that every device has (QEMU docs/specs/fw_cfg.rst).
const SIGNATURE: u16 = 0x00;
const ID: u16 = 0x01;
const DIRECTORY: u16 = 0x19;
/// The key of the first file.
const FIRST_FILE: u16 = 0x20;

/// The interface by ports, and DMA.
const FEATURES: u32 = 0b11;

/// Bytes of a file's name in the directory, the closing zero included.
const NAME_LEN: usize = 56;

/// One item's bytes.
pub(crate) type Item = Vec<u8>;

/// Makes files anew: names and bytes.
pub(crate) type MakeAnew = Box<dyn FnMut() -> Vec<(&'static str, Item)> + Send>;

/// All items.
#[derive(Default)]
pub(crate) struct Contents {
    keys: BTreeMap<u16, Item>,
    // Sorted by name: Windows and others search by halving.
    files: BTreeMap<String, Item>,
    live: Option<Live>,
    made: bool,
}

struct Live {
    trigger: &'static str,
    make: MakeAnew,
}

impl Contents {
    /// Adds an item that is known by its number alone.
    pub(crate) fn key(&mut self, key: u16, bytes: Item) {
        self.keys.insert(key, bytes);
        self.made = false;
    }

    /// Adds a file; its name has less than 56 bytes.
    pub(crate) fn file(&mut self, name: &str, bytes: Item) {
        debug_assert!(name.len() < NAME_LEN);
        self.files.insert(name.to_owned(), bytes);
        self.made = false;
    }

    /// Adds the files that `make` gives, and lets it make them anew whenever the guest selects `trigger`, one of them.
    /// Their sizes stay as they are first: the guest has read the directory by then.
    pub(crate) fn live_files(&mut self, trigger: &'static str, mut make: MakeAnew) {
        for (name, bytes) in make() {
            self.file(name, bytes);
        }
        self.live = Some(Live { trigger, make });
    }

    /// Makes files anew if the guest has selected the one that asks for it.
    pub(super) fn refresh(&mut self, key: u16) {
        self.index();
        let Some(live) = &mut self.live else { return };
        if key_of(&self.files, live.trigger) != Some(key) {
            return;
        }
        let made = (live.make)();
        // All or none of them, as they refer to each other.
        let fits = |(name, bytes): &(&str, Item)| {
            self.files.get(*name).is_some_and(|before| bytes.len() <= before.len())
        };
        if !made.iter().all(fits) {
            return;
        }
        for (name, mut bytes) in made {
            if let Some(place) = self.files.get_mut(name) {
                bytes.resize(place.len(), 0);
                *place = bytes;
            }
        }
    }

    /// The item's bytes; none where there is no such item.
    pub(super) fn item(&self, key: u16) -> &[u8] {
        let file = || self.files.values().nth(usize::from(key.checked_sub(FIRST_FILE)?));
        self.keys.get(&key).or_else(file).map_or(&[], Vec::as_slice)
    }

    /// Writes the items that tell of the others.
    fn index(&mut self) {
        if self.made {
            return;
        }
        let mut directory = (self.files.len() as u32).to_be_bytes().to_vec();
        for ((name, bytes), key) in self.files.iter().zip(FIRST_FILE..) {
            directory.extend((bytes.len() as u32).to_be_bytes());
            directory.extend(key.to_be_bytes());
            directory.extend([0; 2]);
            let mut field = name.as_bytes().to_vec();
            field.resize(NAME_LEN, 0);
            directory.extend(field);
        }
        self.keys.insert(SIGNATURE, b"QEMU".to_vec());
        self.keys.insert(ID, FEATURES.to_le_bytes().to_vec());
        self.keys.insert(DIRECTORY, directory);
        self.made = true;
    }
}

fn key_of(files: &BTreeMap<String, Item>, name: &str) -> Option<u16> {
    let index = files.keys().position(|other| other == name)?;
    FIRST_FILE.checked_add(u16::try_from(index).ok()?)
}

#[cfg(test)]
mod tests {
    use super::Contents;

    #[test]
    fn live_files_are_made_anew_when_their_trigger_is_selected_and_keep_their_sizes() {
        let mut contents = Contents::default();
        contents.file("a", vec![9]);
        let mut round = 0;
        contents.live_files(
            "script",
            Box::new(move || {
                round += 1;
                // The fourth round is too large to be told.
                let tables = if round == 4 { vec![4; 5] } else { vec![round; 4 - usize::from(round / 3)] };
                vec![("script", vec![round]), ("tables", tables)]
            }),
        );
        for (select, script, tables) in [
            (0x20, [1], [1, 1, 1, 1]),
            (0x21, [2], [2, 2, 2, 2]),
            (0x22, [2], [2, 2, 2, 2]),
            (0x21, [3], [3, 3, 3, 0]),
            (0x21, [3], [3, 3, 3, 0]),
        ] {
            contents.refresh(select);
            assert_eq!((contents.item(0x21), contents.item(0x22)), (&script[..], &tables[..]), "{select:#x}");
        }
        assert_eq!(contents.item(0x20), [9]);
    }
}
