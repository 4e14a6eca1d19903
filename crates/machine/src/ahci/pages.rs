//! What the drive tells of itself and of its disc, as bytes on their way to the host. Pure.

use super::drive::Sense;

/// Bytes of IDENTIFY PACKET DEVICE.
pub(super) const IDENTIFY: usize = 512;

/// A drive's model, as ATA (40 letters) and packets (8 and 16) have it.
const VENDOR: &str = "Allod";
const PRODUCT: &str = "CD-ROM";
const REVISION: &str = "1.0";

fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    for (place, byte) in bytes.iter_mut().skip(at).zip(what) {
        *place = *byte;
    }
}

fn letters(text: &str, len: usize) -> Vec<u8> {
    text.bytes().chain(std::iter::repeat(b' ')).take(len).collect()
}

/// IDENTIFY PACKET DEVICE (ATA8-ACS, section 7.17.6), for the drive of this number.
pub(super) fn identify(number: usize) -> Vec<u8> {
    let mut bytes = vec![0; IDENTIFY];
    for (word, value) in [
        // A packet device of type 5, removable, that asks for data at once; packets of 12 bytes.
        (0, 0x85c0_u16),
        // DMA, LBA, IORDY.
        (49, 0x0b00),
        // Words 64 to 70, and 88, say something.
        (53, 0x0006),
        (63, 0x0007),
        (64, 0x0003),
        (65, 120),
        (66, 120),
        (67, 120),
        (68, 120),
        // Serial ATA of 1.5 and 3 Gbit/s.
        (76, 0x0006),
        // ATA8-ACS and before.
        (80, 0x01f0),
        // Packets and device reset.
        (82, 0x0210),
        (83, 0x4000),
        (84, 0x4000),
        (85, 0x0210),
        (87, 0x4000),
        (88, 0x203f),
    ] {
        put(&mut bytes, word * 2, &value.to_le_bytes());
    }
    for (word, text, len) in [
        (10, format!("allod-cdrom{number}"), 20),
        (23, REVISION.to_owned(), 8),
        (27, format!("{VENDOR} {PRODUCT}"), 40),
    ] {
        // Letters stand in pairs, the first one in the upper half of the word.
        let swapped: Vec<u8> = letters(&text, len)
            .chunks(2)
            .flat_map(|pair| pair.iter().rev().copied().collect::<Vec<_>>())
            .collect();
        put(&mut bytes, word * 2, &swapped);
    }
    bytes
}

/// INQUIRY (SPC-4, section 6.6.2).
pub(super) fn inquiry() -> Vec<u8> {
    // An optical drive, removable, SPC-3, with the response format of packet devices.
    let mut bytes = vec![0x05, 0x80, 0x05, 0x32, 31, 0, 0, 0];
    bytes.extend(letters(&VENDOR.to_uppercase(), 8));
    bytes.extend(letters(PRODUCT, 16));
    bytes.extend(letters(REVISION, 4));
    bytes
}

/// REQUEST SENSE, fixed format (SPC-4, section 4.5.3).
pub(super) fn sense(sense: Sense) -> Vec<u8> {
    let mut bytes = vec![0; 18];
    for (at, value) in [(0, 0x70), (2, sense.key), (7, 10), (12, sense.code), (13, sense.qualifier)] {
        put(&mut bytes, at, &[value]);
    }
    bytes
}

/// READ CAPACITY: the last block, and a block's size.
pub(super) fn capacity(blocks: u32) -> Vec<u8> {
    [blocks.saturating_sub(1).to_be_bytes(), 2048_u32.to_be_bytes()].concat()
}

/// READ TOC (MMC-6, section 6.26): one data track, and what lies behind it. `None` for formats that it does not have.
pub(super) fn table_of_contents(format: u8, in_time: bool, first: u8, blocks: u32) -> Option<Vec<u8>> {
    /// The track that stands for what lies behind the last one.
    const LEAD_OUT: u8 = 0xaa;
    /// A data track.
    const CONTROL: u8 = 0x14;
    let address = |block: u32| match in_time {
        false => block.to_be_bytes(),
        true => {
            // Blocks are counted from the third second on.
            let frame = block.saturating_add(150);
            [0, (frame / 75 / 60).min(255) as u8, (frame / 75 % 60) as u8, (frame % 75) as u8]
        }
    };
    let entry = |track: u8, block: u32| [[0, CONTROL, track, 0], address(block)].concat();
    let entries = match (format, first) {
        (0, 0..=1) => [entry(1, 0), entry(LEAD_OUT, blocks)].concat(),
        (0, LEAD_OUT) => entry(LEAD_OUT, blocks),
        (1, _) => entry(1, 0),
        _ => return None,
    };
    let length = u16::try_from(entries.len() + 2).ok()?;
    Some([&length.to_be_bytes()[..], &[1, 1], &entries].concat())
}

/// What GET CONFIGURATION asks for.
pub(super) struct Configuration {
    /// 0 all, 1 those that hold now, 2 the one named.
    pub(super) kind: u8,
    /// The first feature.
    pub(super) first: u16,
    pub(super) is_dvd: bool,
    pub(super) present: bool,
}

/// GET CONFIGURATION (MMC-6, section 5).
pub(super) fn configuration(which: &Configuration) -> Vec<u8> {
    const CD: u16 = 0x0008;
    const DVD: u16 = 0x0010;
    const CURRENT: u8 = 1;
    const PERSISTENT: u8 = 2;
    let on = |holds: bool| u8::from(holds && which.present) * CURRENT;
    let (cd, dvd) = (on(!which.is_dvd), on(which.is_dvd));
    let profile = |profile: u16, current: u8| {
        let [high, low] = profile.to_be_bytes();
        [high, low, current, 0]
    };
    let profiles = [profile(DVD, dvd), profile(CD, cd)].concat();
    // Number, version and flags, data.
    let features: [(u16, u8, Vec<u8>); 6] = [
        (0x0000, PERSISTENT | CURRENT, profiles),
        // Core: an ATAPI interface.
        (0x0001, 2 << 2 | PERSISTENT | CURRENT, vec![0, 0, 0, 2, 1, 0, 0, 0]),
        // Removable medium: a tray that opens, closes and locks.
        (0x0003, PERSISTENT | CURRENT, vec![0x29, 0, 0, 0]),
        // Random reading, in blocks of 2048 bytes.
        (0x0010, on(true), vec![0, 0, 8, 0, 0, 1, 0, 0]),
        (0x001e, 2 << 2 | cd, vec![0, 0, 0, 0]),
        (0x001f, 1 << 2 | dvd, vec![1, 0, 0, 0]),
    ];
    let wanted = |number: u16, flags: u8| match which.kind {
        2 => number == which.first,
        1 => number >= which.first && flags & CURRENT != 0,
        _ => number >= which.first,
    };
    let mut bytes = vec![0; 8];
    for (number, flags, data) in features.iter().filter(|(number, flags, _)| wanted(*number, *flags)) {
        bytes.extend(number.to_be_bytes());
        bytes.extend([*flags, data.len() as u8]);
        bytes.extend(data);
    }
    let length = bytes.len() as u32 - 4;
    put(&mut bytes, 0, &length.to_be_bytes());
    let current = if !which.present {
        0
    } else if which.is_dvd {
        DVD
    } else {
        CD
    };
    put(&mut bytes, 6, &current.to_be_bytes());
    bytes
}

/// GET EVENT STATUS NOTIFICATION (MMC-6, section 6.6): of the class of media, the only one there is.
pub(super) fn events(media: bool, event: u8, open: bool) -> Vec<u8> {
    const MEDIA: u8 = 4;
    const NONE_OF_THESE: u8 = 0x80;
    if !media {
        return vec![0, 2, NONE_OF_THESE, 1 << MEDIA];
    }
    // Bit 0 the tray is open, bit 1 a disc is in place.
    let status = if open { 1 } else { 2 };
    vec![0, 6, MEDIA, 1 << MEDIA, event, status, 0, 0]
}

/// READ DISC INFORMATION (MMC-6, section 6.22): finished, with one track in one session.
pub(super) fn disc_information() -> Vec<u8> {
    let mut bytes = vec![0; 34];
    put(&mut bytes, 0, &[0, 32, 0x0e, 1, 1, 1, 1, 0x20]);
    // Where nothing more can be written.
    put(&mut bytes, 16, &[0xff; 8]);
    bytes
}

/// MODE SENSE(10) (MMC-6, section 7): error recovery and capabilities; all zeros when asked what can be changed. `None`
/// for other pages.
pub(super) fn mode(page: u8, changeable: bool, locked: bool) -> Option<Vec<u8>> {
    const ALL: u8 = 0x3f;
    /// Speeds in kB/s: 32 times that of music.
    const SPEED: [u8; 2] = 5632_u16.to_be_bytes();
    let mut capabilities = vec![0x2a, 20, 0x3b, 0, 0x70, 0, 0x29 | u8::from(locked) << 1];
    capabilities.resize(22, 0);
    for at in [8, 14] {
        put(&mut capabilities, at, &SPEED);
    }
    // A buffer of 512 KiB.
    put(&mut capabilities, 12, &512_u16.to_be_bytes());
    let mut bytes = vec![0; 8];
    for known in [vec![0x01, 10, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0], capabilities] {
        let [number, length, ..] = known.as_slice() else { continue };
        if page == ALL || page == *number {
            let shown = if changeable {
                [&[*number, *length], &vec![0; known.len() - 2][..]].concat()
            } else {
                known
            };
            bytes.extend(shown);
        }
    }
    let length = u16::try_from(bytes.len() - 2).ok()?;
    put(&mut bytes, 0, &length.to_be_bytes());
    (bytes.len() > 8).then_some(bytes)
}

/// MECHANISM STATUS (MMC-6, section 6.11): no changer.
pub(super) fn mechanism(open: bool) -> Vec<u8> {
    vec![0, u8::from(open) << 4, 0, 0, 0, 0, 0, 0]
}
